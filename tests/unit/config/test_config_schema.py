"""The JSON Schema of settings files says what the reader says, where a schema can say it."""

import copy
import json
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from msgspec import inspect as types

from inbox_agent.arguments import AgentFile
from inbox_agent.settings import SettingsError, convert
from pipeline.cli.config_schema import agent_schema, config_schema, field_comments, struct_in
from pipeline.config import SET_ELSEWHERE, Config
from pipeline.core.limits import Limits
from tests.harness.command_line import pipeline
from tests.harness.source_tree import ROOT

SCHEMA = Draft7Validator(json.loads(config_schema()))
#: A file with every table; each key below is changed in it alone.
FULL: dict[str, Any] = {
    "generation": {"seeds": "fixed"},
    "settings": {"difficulty": "hard"},
    "evaluator": {"python": "game:play", "environment": {}},
    "local": {"workers": 1},
    "worker": [{"name": "vm-1", "share": r"\\vm-1\exchange", "machine": "vm-1"}],
    "hyperv": {"memory_min_mb": 512, "memory_max_mb": 1048576},
    "hooks": {"command": ["notify"]},
    "limits": {"losses_per_trial_max": 1000, "losses_max": 1},
}
HOSTS = FULL | {
    "hyperv": {
        "network": "192.168.77.0/24",
        "idle_action": "save",
        "lab-1": {"booting_max": 2},
        "lab-2": {"host": "hv2", "account": "farmer", "secret": "env:HV2"},
    },
    "worker": [{"name": "vm-1", "machine": "lab-1/vm-1"}, {"name": "vm-2", "machine": "lab-2/vm-1"}],
}
QEMU = {name: table for name, table in FULL.items() if name != "hyperv"} | {"qemu": {}}
WRONG_TYPES: list[Any] = ["text", 2.5, True, ["a"], [1], {"a": 1}, {"a": "b"}, []]
#: Texts that have the form of some key, and texts that have not.
TEXTS = [
    *("", "a", "vm-1", "a.b:c", "ä:ö", "a b", "a:b c", "x" * 64, "x" * 65, "1:2", "ä", "=", "\0"),
    *("env:A", "keyring:a/b", "file:", "other:a"),
]
#: What a schema cannot say: the reader's own reasons.
ONLY_READER = (
    "files: ",  # the form of a pattern
    "[hyperv] host needs an account",
    "[hyperv] guest_account needs",
    "[hyperv] network",
    "is for a UNC share",
    "losses_per_trial_max must not be below",
    "memory_min_mb must not be above",
    "{b}",
    "unknown placeholder",
    "has no share",  # a blank one
    "embedded null byte",
)


def refusal(table: dict[str, Any], kind: type[msgspec.Struct] = Config) -> str:
    """Why the reader refuses a file; empty if it accepts it."""
    try:
        convert(copy.deepcopy(table), kind, "file")
    except SettingsError as error:
        return str(error)
    return ""


def complaint(table: dict[str, Any], schema: Draft7Validator = SCHEMA) -> str:
    return "; ".join(f"{error.json_path}: {error.message}" for error in schema.iter_errors(table))


def values_of(kind: types.Type) -> Iterator[Any]:
    """Values at the limits of a type and beyond."""
    match kind:
        case types.Metadata(type=inner):
            yield from values_of(inner)
        case types.UnionType(types=members):
            for member in members:
                yield from values_of(member)
        case types.LiteralType(values=values):
            yield from values
        case types.IntType(ge=least, le=most):
            yield from (
                value for bound in (least, most) if bound is not None for value in (bound - 1, bound, bound + 1)
            )
        case types.FloatType(gt=above, ge=least, le=most):
            limits = [bound for bound in (above, least, most) if bound is not None]
            yield from (value for bound in limits for value in (bound - 0.5, bound, math.nextafter(bound, math.inf)))
        case types.StrType():
            yield from TEXTS
        case types.ListType(item_type=item):
            yield from ([], *([value] for value in values_of(item)), ["a", 1])
        case types.DictType():
            yield from ({}, *({text: "b"} for text in TEXTS), {"a": 1}, *({"a": text} for text in TEXTS))


def keys_of(kind: type[msgspec.Struct], *path: str | int) -> Iterator[tuple[tuple[str | int, ...], types.Type]]:
    """The path and type of every key."""
    shown = {field.name: field for field in types.type_info(kind).fields}  # type: ignore[attr-defined]
    for field in msgspec.structs.fields(kind):
        inner = struct_in(field.type)
        if inner is None:
            yield (*path, field.name), shown[field.name].type
        else:
            where = (*path, field.name, 0) if field.name == "worker" else (*path, field.name)
            yield from keys_of(inner, *where)


KEYS = list(keys_of(Config))


def with_value(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The full file with one value."""
    table: Any = copy.deepcopy(QEMU if path[0] == "qemu" else FULL)
    whole = table
    for part in path[:-1]:
        table = table[part]
    table[path[-1]] = value
    if path[-1] in ("command", "files") and path[0] == "evaluator":
        del table["python"]
    assert isinstance(whole, dict)
    return whole


def test_full_file_is_valid() -> None:
    for table in (FULL, QEMU, HOSTS, {}):
        assert (refusal(table), complaint(table)) == ("", "")
    assert len(KEYS) > 60


@pytest.mark.parametrize(
    ("path", "kind"), KEYS, ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else ""
)
def test_schema_agrees_with_reader(path: tuple[str | int, ...], kind: types.Type) -> None:
    """Each key with values of every type, at its limits and beyond: valid if accepted, and not if refused."""
    tried: list[str] = []
    for value in (*values_of(kind), *WRONG_TYPES):
        table = with_value(path, value)
        reason, said = refusal(table), complaint(table)
        tried.append(reason)
        if not reason:
            assert said == "", value
        elif not any(words in reason for words in ONLY_READER):
            assert said, (value, reason)
    assert any(tried), "no value is refused"
    assert not all(tried) or path[-1] in SET_ELSEWHERE, "no value is accepted"


@pytest.mark.parametrize("path", sorted({path[:-1] for path, _kind in KEYS}, key=str), ids=str)
def test_unknown_key_is_refused(path: tuple[str | int, ...]) -> None:
    """In every table; in `[settings]` any key is allowed."""
    table = with_value((*path, "no_such_key"), 1)
    assert refusal(table)
    assert "no_such_key" in complaint(table)


VALUES = st.sampled_from(KEYS).flatmap(
    lambda key: st.tuples(st.just(key[0]), st.sampled_from([*values_of(key[1])] or [0]))
)


@given(st.lists(VALUES, max_size=6))
def test_accepted_files_are_valid(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Also with several changed keys at once."""
    whole: dict[str, Any] = copy.deepcopy(FULL)
    for path, value in changes:
        table: Any = whole
        for part in path[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else table[part]
        table[path[-1]] = value
    if not refusal(whole):
        assert complaint(whole) == ""


BAD_FILES = [
    "[generation]\ntrails_per_genome = 3",
    "[evaluator]\ncommand = 'python play.py'",
    "[evaluator]\npython = 'play'",
    "[evaluator]\ncommand = ['a']\npython = 'a:b'",
    "[evaluator]\nfiles = ['a']\nversion = 'b'",
    "[evaluator]\ncommand = []",
    "[evaluator]\ntime_limit_s = 0",
    "[evaluator.environment]\nset = { A = 1 }",
    "[evaluator.environment]\nallow = ['A=B']",
    "[generation]\ndirection = 'up'",
    "[generation]\nseed = -1",
    "[generation]\nallow_mixed_evaluators = 'yes'",
    "[local]\nworkers = 513",
    "[[worker]]\nshare = '/x'",
    "[[worker]]\nname = 'a'",
    "[[worker]]\nname = 'a b'\nshare = '/x'",
    "[worker]\nname = 'a'\nshare = '/x'",
    "[[worker]]\nname = 'a'\nshare = '//h/s'\naccount = 'u'\nsecret = 'hunter2'",
    "[hyperv]\n[qemu]",
    "[hyperv.lab-1]\nbooting_max = 0",
    "[hyperv.lab-1]\nno_such_key = 1",
    "[hyperv.lab-1.inner]",
    "[hyperv.folder]",
    "[[worker]]\nname = 'a'\nmachine = 'lab-1/vm-1/x'\n[hyperv.lab-1]",
    "[limits]\nattempts_max = 4",
    "[limits]\nload_limit_s = 5.0",
    "[settings]\nmap = [1, 2]",
    f"[settings]\n{'x' * 65} = 1",
    "[hooks]\ncommand = 'notify'",
    "no_such_table = 1",
]


@pytest.mark.parametrize("text", BAD_FILES)
def test_bad_file_is_refused_by_both(text: str) -> None:
    table = tomllib.loads(text)
    assert refusal(table)
    assert complaint(table)


def test_files_of_this_repository_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `init` writes, every other `pipeline.toml`, and the blocks of the documents with one of its tables."""
    assert pipeline(capsys, "init", tmp_path)[0] == 0
    texts = [
        path.read_text(encoding="utf-8") for path in (tmp_path / "pipeline.toml", *ROOT.glob("tests/data/**/*.toml"))
    ]
    for document in (ROOT / "README.md", *ROOT.glob("docs/how-to/*.md")):
        texts += re.findall(r"^```toml\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    checked = 0
    for text in texts:
        table = tomllib.loads(text)
        if table.keys() <= FULL.keys() | QEMU.keys():
            assert complaint(table) == "", text
            checked += 1
    assert checked > 10


def test_project_names_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Editors read the first line; the file that it names is what `pipeline schema` prints."""
    pipeline(capsys, "init", tmp_path)
    first = (tmp_path / "pipeline.toml").read_text().splitlines()[0]
    named = tmp_path / first.removeprefix("#:schema ")
    assert named.read_text() == pipeline(capsys, "schema")[1]

    named.write_text("old")
    assert pipeline(capsys, "schema", "--out", named)[:2] == (0, "")
    assert json.loads(named.read_text()) == json.loads(config_schema())
    code, _, err = pipeline(capsys, "schema", "--out", tmp_path / "no/schema.json")
    assert (code, err.count("\n")) == (2, 1)


def test_schema_describes_every_key() -> None:
    """With the comment of its field, and the default."""
    properties = json.loads(config_schema())["properties"]
    assert properties["limits"]["properties"]["grace_s"] == {
        "description": field_comments(Limits)["grace_s"],
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 604800,
        "default": 20.0,
    }
    Draft7Validator.check_schema(json.loads(config_schema()))
    for path, _kind in KEYS:
        if len(path) > 1:
            shown: Any = {"properties": properties}
            for part in path:
                shown = shown["items"] if part == 0 else shown["properties"][part]
            assert shown["description"], path


def test_agent_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the file that `inbox-agent --config` takes: the same `[evaluator]`, which it must have."""
    schema = json.loads(pipeline(capsys, "schema", "--agent")[1])
    assert schema["properties"]["evaluator"] == json.loads(config_schema())["properties"]["evaluator"]
    validator = Draft7Validator(json.loads(agent_schema()))
    for text in ("", "[evaluator]\npython = 'a:b'", "[evaluator]\npython = 1", "[evaluator]\n[local]"):
        table = tomllib.loads(text)
        assert bool(refusal(table, AgentFile)) == bool(complaint(table, validator)), text
