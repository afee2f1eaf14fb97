"""The protocol: examples, fields, names and numbers of `share_layout.md` agree with the code."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from inbox_agent import agent, deployments, evaluator_archive, results, share_scanner
from inbox_agent.evaluation import versioned
from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import archive_name, deployment_of, record_name, recorded_deployment
from inbox_agent.protocol.files import Unavailable
from inbox_agent.protocol.layout import (
    AGENT_LOCK,
    EVALUATOR,
    HEARTBEAT,
    INBOX,
    LAYOUT,
    OUTBOX,
    SAID_BY_AGENT,
    STAGING,
    STATUS,
    AgentRecord,
    AgentState,
    HostRecord,
    Kind,
    Outcome,
    PayloadRef,
    Record,
    ResultRecord,
    StartedRecord,
    StartRecord,
    encode,
    epoch_of,
    host_name,
    is_attempt,
    safe_suffix,
)
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.printable import has_hidden
from inbox_agent.share_scanner import AgentLimits
from inbox_agent.system import file_retry
from pipeline.core import deployment
from pipeline.core.echo import Echo, echo_problem
from pipeline.core.limits import Limits
from pipeline.core.model import trial_seed
from pipeline.host import timers
from pipeline.shares import executor, result_collector, share_client
from tests.harness.layout_document import (
    ATTEMPT_PATTERN,
    DOCUMENT,
    EXAMPLES,
    FIRST,
    GRAMMAR,
    KINDS,
    RECORDS,
    blocks,
    decoded,
    example,
    expected_rows,
    fields_of,
    prose,
    quick,
    rows,
    section,
    shown,
    survives,
)

pytestmark = pytest.mark.rules

# ----------------------------------------------------------------------------------------------- the document's records


def test_every_json_block_is_tested() -> None:
    """No example is left out of these tests, and every kind of record has one."""
    assert len(EXAMPLES) == len(blocks(DOCUMENT, "json"))
    assert FIRST.keys() == set(KINDS) == set(Record.__subclasses__())


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_examples_decode_and_encode_to_same_bytes(kind: type[Record], text: str) -> None:
    """Decoded, it has the documented fields; encoded again, the documented bytes."""
    record = decoded(kind, text.encode())

    assert msgspec.to_builtins(record) == json.loads(text)
    assert json.loads(encode(record)) == json.loads(text)
    assert encode(record).decode() == text


def test_alone_is_written_only_if_it_is_set() -> None:
    """So that start signals of older hosts, whose sizes are compared after an update, have the same bytes today."""
    start = decoded(StartRecord, FIRST[StartRecord])
    ordinary = msgspec.structs.replace(start, alone=False)

    assert b"alone" not in encode(ordinary)
    assert decoded(StartRecord, encode(ordinary)) == ordinary
    assert decoded(StartRecord, encode(start)) == start


def test_examples_are_consistent() -> None:
    """Result, claim and heartbeat match the start signal, and the digests are those of the payloads shown."""
    host, start = decoded(HostRecord, FIRST[HostRecord]), decoded(StartRecord, FIRST[StartRecord])
    result = decoded(ResultRecord, FIRST[ResultRecord])
    claim, beat = decoded(StartedRecord, FIRST[StartedRecord]), decoded(AgentRecord, FIRST[AgentRecord])
    (genome,) = blocks(section("`inbox/<attempt>.start.json`"), "text")
    (log,) = blocks(section("Payloads"), "text")

    assert (
        echo_problem(result, Echo(start.attempt, start.trial, start.seed, start.genome_sha256, start.evaluator)) == ""
    )
    assert {(r.farm, r.worker, r.epoch) for r in (host, start, claim, result, beat)} == {
        ("9f2c41d07be85a36", "vm-03", 3)
    }
    assert claim.attempt == beat.attempt == start.attempt
    assert claim.evaluator == beat.evaluator == result.evaluator == start.evaluator is not None
    assert (claim.boot_id, claim.run_id) == (result.boot_id, result.run_id) == (beat.boot_id, beat.run_id)
    assert (len(genome), hashlib.sha256(genome.encode()).hexdigest()) == (start.genome_bytes, start.genome_sha256)
    digest = hashlib.sha256(log.encode()).hexdigest()
    assert result.log == PayloadRef(name=Kind.LOG.of(start.attempt), size_bytes=len(log), sha256=digest)
    assert start.genome_suffix == safe_suffix(start.genome_name)


@quick
@given(st.integers(0, 2**53), st.integers(1, 999_999_999), st.integers(1, 1000))
def test_seed_example_computes_the_seeds_of_the_host(run_seed: int, generation: int, trial: int) -> None:
    """The documented program runs, and agrees with the host; its assertion is about the example's start signal."""
    (program,) = blocks(section("Seeds"), "python")
    documented: dict[str, Any] = {}
    exec(program, documented)

    start = decoded(StartRecord, FIRST[StartRecord])
    assert f"assert trial_seed(0, {int(start.attempt[1:5])}, {start.trial}) == {start.seed} " in program
    assert documented["trial_seed"](run_seed, generation, trial) == trial_seed(run_seed, generation, trial)


@pytest.mark.parametrize(("heading", "kind"), [*RECORDS.items(), ("Payloads", PayloadRef)])
def test_field_tables_match_records(heading: str, kind: type[msgspec.Struct]) -> None:
    """Type, limits and default of each row agree with the code, in the order in which fields are written."""
    table = rows(section(heading), "field")

    assert [row[:4] for row in table] == list(expected_rows(kind))
    assert all(row[4] for row in table), "every field has a meaning"


def worded_type(kind: inspect.Type) -> str:
    """A type in words, with its limits."""
    match kind:
        case inspect.StrType(max_length=None):
            return "a string"
        case inspect.StrType():
            return f"a string of {shown(kind)[1]}"
        case inspect.IntType(le=None):
            return "an integer"
        case inspect.IntType():
            return f"an integer of {shown(kind)[1]}"
        case inspect.FloatType(ge=None, gt=None, le=None, lt=None):
            return "a number"
        case inspect.BoolType():
            return "a boolean"
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "name", "noun"),
    [(StartRecord, "settings", "setting"), (ResultRecord, "metrics", "metric"), (AgentRecord, "versions", "version")],
)
def test_limits_of_object_members_are_documented(kind: type[Record], name: str, noun: str) -> None:
    """The limits of the members' names and values."""
    members = next(field.type for field in fields_of(kind) if field.name == name)
    assert isinstance(members, inspect.DictType)
    assert isinstance(members.key_type, inspect.StrType)
    values = members.value_type.types if isinstance(members.value_type, inspect.UnionType) else (members.value_type,)
    *words, last = map(worded_type, values)
    value = f"{', '.join(words)} or {last}" if words else last
    (heading,) = (heading for heading, its_kind in RECORDS.items() if its_kind is kind)

    sentence = f"The name of a {noun} has {shown(members.key_type)[1]}; its value is {value}."

    assert sentence in " ".join(section(heading).split())


def test_outcomes_and_states_are_documented() -> None:
    """The tables have exactly the values that an agent may write; the other outcomes are described as the host's."""
    result = section("`outbox/<attempt>.result.json`")

    assert [row[0] for row in rows(result, "outcome")] == [o for o in Outcome if o in SAID_BY_AGENT]
    assert [row[0] for row in rows(section("`status/agent.json`"), "state")] == list(AgentState)
    for outcome in set(Outcome) - SAID_BY_AGENT:
        assert f"`{outcome}`" in result


class Edge(NamedTuple):
    """Values at the limits of a field in a field table, and values beyond them."""

    kind: type[Record]
    field: str
    inside: list[Any]
    outside: list[Any]


def edges() -> Iterator[Edge]:
    """The documented limits, as values on both sides of them."""
    tables: list[tuple[str, type[Record]]] = [*RECORDS.items(), ("Payloads", ResultRecord)]
    for heading, kind in tables:
        for name, type_name, limits, *_ in rows(section(heading), "field"):
            found = re.match(r"(> )?([\d,]+) … ([\d,]+)", limits)
            if found is None:
                continue
            lowest, highest = (int(number.replace(",", "")) for number in found.groups()[1:])
            lowest += found[1] is not None
            inside = [of_size(name, type_name, size) for size in (lowest, highest)]
            # A length cannot be negative.
            below = [lowest - 1] if lowest > 0 or type_name.startswith(("integer", "number")) else []
            outside = [of_size(name, type_name, size) for size in (*below, highest + 1)]
            if heading == "Payloads":
                log = example(ResultRecord)["log"]
                yield Edge(kind, "log", [{**log, name: v} for v in inside], [{**log, name: v} for v in outside])
            else:
                yield Edge(kind, name, inside, outside)


def of_size(field: str, type_name: str, size: int) -> Any:
    match type_name.removesuffix(" or null"):
        case "integer" | "number":
            return size
        case "string":
            return "x" * size
        case "object":
            of_text: dict[str, Callable[[int], Any]] = {"versions": str, "files": lambda number: f"{number:016x}"}
            return {f"name {number}": of_text.get(field, int)(number) for number in range(size)}
        case "array":
            return [example(ResultRecord)["artifacts"][0] if field == "artifacts" else "x"] * size
    raise AssertionError(type_name)


@pytest.mark.parametrize("edge", list(edges()), ids=lambda edge: f"{edge.kind.__name__}.{edge.field}")
def test_documented_limits_are_enforced(edge: Edge) -> None:
    """The last value within a limit is accepted, the first one beyond it is not."""
    for value in edge.inside:
        assert survives(edge.kind, example(edge.kind, **{edge.field: value})), value
    for value in edge.outside:
        assert not survives(edge.kind, example(edge.kind, **{edge.field: value})), value


@pytest.mark.parametrize(
    ("inside", "outside"),
    [("x" * 1000, "x" * 1001), (2**53, 2**53 + 1), (-(2**53), -(2**53) - 1), (2**53, 2**64), (1e308, 10**400)],
    ids=["text", "largest", "smallest", "beyond 64 bits", "beyond a double"],
)
def test_setting_limits_are_enforced(inside: Any, outside: Any) -> None:
    """The last value within the limits is returned unchanged; the first one beyond is refused."""
    arrived = decoded(StartRecord, example(StartRecord, settings={"x": inside})).settings["x"]

    assert (arrived, type(arrived)) == (inside, type(inside))
    assert not survives(StartRecord, example(StartRecord, settings={"x": outside}))


# ------------------------------------------------------------------------------------- the document's names and numbers


def test_layout_tree_matches_names_of_code() -> None:
    """Each folder of the tree has exactly the names that the code defines."""
    folder, tree = "", set()
    for line in blocks(section("Layout tree"), "")[0].splitlines()[1:]:
        name = line.split("── ")[1].split()[0]
        folder = name if "    " not in line.split("──")[0] and "│" not in line else folder
        tree.add((folder, name) if folder != name else (name, ""))
    attempt = "<attempt>"

    assert tree == {
        (f"{INBOX}/", ""),
        (f"{INBOX}/", f"{STAGING}/"),
        (f"{INBOX}/", "<epoch>.host.json"),
        (f"{INBOX}/", Kind.GENOME.of(attempt)),
        (f"{INBOX}/", Kind.START.of(attempt)),
        (f"{INBOX}/", record_name(1).replace("1", "<number>")),
        (f"{INBOX}/", archive_name(1).replace("1", "<number>")),
        (f"{OUTBOX}/", ""),
        (f"{OUTBOX}/", f"{STAGING}/"),
        (f"{OUTBOX}/", Kind.STARTED.of(attempt)),
        (f"{OUTBOX}/", Kind.LOG.of(attempt)),
        (f"{OUTBOX}/", Kind.FILES.of(attempt) + "/"),
        (f"{OUTBOX}/", Kind.RESULT.of(attempt)),
        (f"{STATUS}/", ""),
        (f"{STATUS}/", HEARTBEAT),
        (f"{STATUS}/", AGENT_LOCK),
        (f"{STATUS}/", EVALUATOR),
        (f"{STATUS}/", f"{HEARTBEAT}.new"),
    }
    assert host_name(7) == "<epoch>.host.json".replace("<epoch>", "7")


def test_layout_tree_matches_created_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted heartbeat leaves the file that the tree names."""
    files = LocalFiles(tmp_path)
    files.make_folders()
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}

    def cut_off(*_: object, **__: object) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(Unavailable):
        files.replace(f"{STATUS}/{HEARTBEAT}", b"{}")

    assert made == {INBOX, f"{INBOX}/{STAGING}", OUTBOX, f"{OUTBOX}/{STAGING}", STATUS}
    assert os.listdir(tmp_path / STATUS) == [f"{HEARTBEAT}.new"]


def test_suffix_table_matches_kinds() -> None:
    """Every kind of file, in the folder of the side that writes it."""
    by_host = {Kind.START, Kind.GENOME}
    table = {row[0]: (row[1], row[3]) for row in rows(section("Names"), "suffix")}

    assert table == {kind.value: (f"{INBOX}/", "host") if kind in by_host else (f"{OUTBOX}/", "agent") for kind in Kind}


CHECKS: dict[str, Callable[[str], bool]] = {
    "attempt id": is_attempt,
    "host record": lambda name: epoch_of(name) is not None,
    "deployment record": lambda name: recorded_deployment(name) is not None,
    "deployment archive": lambda name: deployment_of(name) is not None and recorded_deployment(name) is None,
}
NAMES = st.one_of(
    st.text(max_size=40),
    st.text("g0123456789-ta.hostjn\n٣Gé", max_size=40),
    *(st.from_regex(grammar, fullmatch=True) for grammar in GRAMMAR.values()),
    *(st.from_regex(grammar) for grammar in GRAMMAR.values()),
)


@pytest.mark.parametrize("name", CHECKS)
@given(text=NAMES)
@quick
def test_name_grammar_matches_code(name: str, text: str) -> None:
    """A text is a valid name for the code exactly when it is one for the document."""
    assert CHECKS[name](text) == (GRAMMAR[name].fullmatch(text) is not None)


def test_attempt_id_grammar_matches_records() -> None:
    assert rf"\A{GRAMMAR['attempt id'].pattern}\Z" == ATTEMPT_PATTERN


SOURCES: dict[str, Any] = {
    "layout": layout,
    "evaluator_archive": evaluator_archive,
    "file_retry": file_retry,
    "agent": agent,
    "AgentLimits": AgentLimits(),
    "Limits": Limits(),
    "timers": timers,
    "executor": executor,
    "share_client": share_client,
    "result_collector": result_collector,
    "share_scanner": share_scanner,
    "results": results,
    "versioned": versioned,
    "deployments": deployments,
    "deployment": deployment,
}


def worded(name: str, value: float) -> str:
    if "BYTES" in name.upper():
        mebi, rest = divmod(value, 1024 * 1024)
        if mebi >= 1024:
            return f"{mebi // 1024} GiB"
        return f"{value // 1024} KiB" if rest else f"{mebi} MiB"
    return f"{value:g} s" if name.lower().removesuffix("_max").endswith("_s") else f"{value:,}"


NUMBERS = [(row[1], row[2]) for row in rows(section("Numbers"), "what")]


@pytest.mark.parametrize(("value", "source"), NUMBERS)
def test_documented_numbers_match_constants(value: str, source: str) -> None:
    """The table of numbers, constant by constant."""
    place, name = source.split(".")

    assert worded(name, getattr(SOURCES[place], name)) == value


def test_every_limit_is_documented() -> None:
    named = {source for _value, source in NUMBERS}

    assert {f"layout.{name}" for name in dir(layout) if name.endswith("_MAX")} <= named
    assert {f"AgentLimits.{name}" for name in AgentLimits.__dataclass_fields__} <= named


def test_numbers_in_prose_match_table() -> None:
    """Every duration, size and count in the text is in the table."""
    known = {value for value, _source in NUMBERS}
    stated = re.findall(r"(?<![\w.…])(\d[\d,.]*) (s|KiB|MiB)\b", prose())
    counted = re.findall(r"(?<![\w.…])(\d[\d,]*) (?:times|looks|readings|names|results)\b", prose())

    assert stated
    assert {f"{number} {unit}" for number, unit in stated} <= known
    assert counted
    assert set(counted) <= known
    assert f"{AgentLimits().newcomer_beats} × {AgentLimits().beat_s:g} s" in prose()


def test_document_has_valid_lines_links_and_version() -> None:
    """Lines are short enough, links lead to headings, and the version is that of the code."""
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", DOCUMENT, re.M)
    }

    assert max(map(len, DOCUMENT.splitlines())) <= 120
    assert set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT)) <= slugs
    assert f"This is layout version {LAYOUT}." in DOCUMENT
    assert re.findall(r"^\*\*(\d+)\*\* – ", section("Changes per version"), re.M)[-1] == str(LAYOUT)
    assert re.findall(r"^### Law (\d):", DOCUMENT, re.M) == list("1234567")


def test_characters_of_metric_names_are_documented() -> None:
    """The document lists those that the reader refuses."""
    text = section("`outbox/<attempt>.result.json`").partition("because the name heads a column:")[2]
    ranges = re.findall(r"U\+([0-9A-F]+)(?:–U\+([0-9A-F]+))?", text.partition("\n\n")[0])
    listed = {n for first, last in ranges for n in range(int(first, 16), int(last or first, 16) + 1)}

    assert listed == {n for n in range(sys.maxunicode + 1) if has_hidden(chr(n))}
