"""The wire protocol: `share_layout.md` is executed, then `share_layout.py` is shown what a hostile peer might send."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from inbox_agent import share_files, share_layout
from inbox_agent.look import AgentLimits
from inbox_agent.share_files import LocalFiles, Unavailable
from inbox_agent.share_layout import (
    HEARTBEAT,
    INBOX,
    LAYOUT,
    METRICS_MAX,
    OUTBOX,
    RECORD_BYTES_MAX,
    SAID_BY_AGENT,
    STAGING,
    STATUS,
    AgentRecord,
    AgentState,
    Echo,
    HostRecord,
    Kind,
    LayoutError,
    Outcome,
    PayloadRef,
    Record,
    ResultRecord,
    StartedRecord,
    StartRecord,
    UnknownLayout,
    attempt_id,
    attempt_of,
    clean,
    decode,
    echo_problem,
    encode,
    epoch_of,
    finite,
    finite_metrics,
    host_name,
    is_artifact,
    is_attempt,
    safe_suffix,
)
from pipeline import metronome
from pipeline.core.limits import Limits
from pipeline.edges import couriers, shares

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# ---------------------------------------------------------------------------------------------- reading the document

DOCUMENT = (Path(__file__).parent.parent / "share_layout.md").read_text(encoding="utf-8")
RECORDS: dict[str, type[Record]] = {
    "`inbox/<epoch>.host.json`": HostRecord,
    "`inbox/<attempt>.start.json`": StartRecord,
    "`outbox/<attempt>.started.json`": StartedRecord,
    "`outbox/<attempt>.result.json`": ResultRecord,
    "`status/agent.json`": AgentRecord,
}


def section(heading: str) -> str:
    """The text below a heading, down to the next one of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", DOCUMENT, re.S | re.M)
    assert found is not None, heading
    if found[1] == "##":
        found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.S | re.M)
        assert found is not None
        return found[1]
    return found[2]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose first column has that title; code marks are dropped."""
    _before, _title, table = text.partition(f"| {first} |")
    lines = table.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def prose() -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", DOCUMENT, flags=re.S | re.M)


EXAMPLES = [(kind, text) for heading, kind in RECORDS.items() for text in blocks(section(heading), "json")]
FIRST = {kind: text.encode() for kind, text in reversed(EXAMPLES)}
KINDS = list(RECORDS.values())


def example(kind: type[Record], **changes: Any) -> dict[str, Any]:
    """The first example of a kind as a JSON object, changed."""
    return {**json.loads(FIRST[kind]), **changes}


def decoded(kind: type[Any], content: Any) -> Any:
    """The record in some JSON, or in bytes as they are."""
    return decode(kind, content if isinstance(content, bytes) else json.dumps(content).encode(), "its name")


def survives(kind: type[Any], content: Any) -> bool:
    """Whether something hostile is a valid record; anything but a LayoutError otherwise is a failure."""
    try:
        record = decoded(kind, content)
    except LayoutError:
        return False
    assert type(record) is kind
    assert record.layout == LAYOUT
    return True


# ----------------------------------------------------------------------------------------------- the document's records


def test_every_json_block_belongs_to_a_record() -> None:
    """No example is left out of these tests, and every kind of record has one."""
    assert len(EXAMPLES) == len(blocks(DOCUMENT, "json"))
    assert FIRST.keys() == set(KINDS) == set(share_layout._decoders)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_an_example_reads_and_writes_as_it_stands_there(kind: type[Record], text: str) -> None:
    """Decoded it has the documented fields; encoded again it has the documented bytes."""
    record = decoded(kind, text.encode())

    assert msgspec.to_builtins(record) == json.loads(text)
    assert json.loads(encode(record)) == json.loads(text)
    assert encode(record).decode() == text


def test_the_examples_tell_one_story() -> None:
    """Result, claim and heartbeat answer the start signal, and the digests are those of the payloads shown."""
    host, start = decoded(HostRecord, FIRST[HostRecord]), decoded(StartRecord, FIRST[StartRecord])
    result = decoded(ResultRecord, FIRST[ResultRecord])
    claim, beat = decoded(StartedRecord, FIRST[StartedRecord]), decoded(AgentRecord, FIRST[AgentRecord])
    (genome,) = blocks(section("`inbox/<attempt>.start.json`"), "text")
    (log,) = blocks(section("Payloads"), "text")

    assert echo_problem(result, Echo(start.attempt, start.trial, start.seed, start.genome_sha256)) == ""
    assert {(r.farm, r.worker, r.epoch) for r in (host, start, claim, result, beat)} == {
        ("9f2c41d07be85a36", "vm-03", 3)
    }
    assert claim.attempt == beat.attempt == start.attempt
    assert (claim.boot_id, claim.run_id) == (result.boot_id, result.run_id) == (beat.boot_id, beat.run_id)
    assert (len(genome), hashlib.sha256(genome.encode()).hexdigest()) == (start.genome_bytes, start.genome_sha256)
    digest = hashlib.sha256(log.encode()).hexdigest()
    assert result.log == PayloadRef(name=Kind.LOG.of(start.attempt), size_bytes=len(log), sha256=digest)
    assert start.genome_suffix == safe_suffix(start.genome_name)


SEE_BELOW = {Outcome: "an outcome, see below", AgentState: "a state, see below"}
ATTEMPT_PATTERN = r"\Ag[0-9]{4,9}-[0-9]{4,9}-t[0-9]{1,6}-a[0-9]{1,6}-[0-9a-z]{12}\Z"


def bounds(lowest: float | None, highest: float | None) -> str:
    return f"{lowest or 0:,} … {highest:,}" if highest is not None else "–"


def shown(kind: inspect.Type) -> tuple[str, str]:
    """How the document shows a field's type and its limits."""
    match kind:
        case inspect.UnionType(types=(one, inspect.NoneType())):
            name, limits = shown(one)
            return f"{name} or null", limits
        case inspect.IntType():
            return "integer", bounds(kind.ge, kind.le)
        case inspect.FloatType(gt=0):
            return "number", f"> {bounds(kind.gt, kind.le)}"
        case inspect.FloatType():
            return "number", bounds(kind.ge, kind.le)
        case inspect.StrType(pattern=None):
            return "string", f"{bounds(kind.min_length, kind.max_length)} characters"
        case inspect.StrType():
            assert kind.pattern is not None
            is_id = kind.pattern == ATTEMPT_PATTERN
            return "string", "an attempt id" if is_id else kind.pattern.removeprefix(r"\A").removesuffix(r"\Z")
        case inspect.EnumType():
            return "string", SEE_BELOW[kind.cls]
        case inspect.DictType():
            return "object", f"{bounds(kind.min_length, kind.max_length)} members, see below"
        case inspect.ListType():
            return "array", f"{bounds(kind.min_length, kind.max_length)} payloads"
        case inspect.StructType():
            return "payload", "–"
    raise AssertionError(kind)


def fields_of(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return described.fields


def expected_rows(kind: type[msgspec.Struct]) -> Iterator[list[str]]:
    for field in fields_of(kind):
        name, limits = shown(field.type)
        if field.required:
            absent = "required"
        else:
            absent = json.dumps(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
        yield [field.name, name, str(LAYOUT) if field.name == "layout" else limits, absent]


@pytest.mark.parametrize(("heading", "kind"), [*RECORDS.items(), ("Payloads", PayloadRef)])
def test_a_field_table_names_every_field_with_its_limits_and_no_other(heading: str, kind: type[msgspec.Struct]) -> None:
    """Type, limits and default of each row are those of the code, in the order in which records are written."""
    table = rows(section(heading), "field")

    assert [row[:4] for row in table] == list(expected_rows(kind))
    assert all(row[4] for row in table), "every field has a meaning"


def worded_type(kind: inspect.Type) -> str:
    """A type in words, with its limits if it has any."""
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
def test_what_an_object_may_hold_is_said_below_its_table(kind: type[Record], name: str, noun: str) -> None:
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


def test_outcomes_and_states_are_all_there() -> None:
    """The tables hold exactly what an agent may say; the other outcomes are named as the host's."""
    result = section("`outbox/<attempt>.result.json`")

    assert [row[0] for row in rows(result, "outcome")] == [o for o in Outcome if o in SAID_BY_AGENT]
    assert [row[0] for row in rows(section("`status/agent.json`"), "state")] == list(AgentState)
    for outcome in set(Outcome) - SAID_BY_AGENT:
        assert f"`{outcome}`" in result


class Edge(NamedTuple):
    """What a field table allows at the edges of a field's limits, and what it does not."""

    kind: type[Record]
    field: str
    inside: list[Any]
    outside: list[Any]


def edges() -> Iterator[Edge]:
    """The limits that the document states, as values on both sides of them."""
    for heading, kind in [*RECORDS.items(), ("Payloads", ResultRecord)]:
        for name, type_name, limits, *_ in rows(section(heading), "field"):
            found = re.match(r"(> )?([\d,]+) … ([\d,]+)", limits)
            if found is None:
                continue
            lowest, highest = (int(number.replace(",", "")) for number in found.groups()[1:])
            lowest += found[1] is not None
            inside = [of_size(name, type_name, size) for size in (lowest, highest)]
            # Nothing has fewer than no characters.
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
            return {f"name {number}": str(number) if field == "versions" else number for number in range(size)}
        case "array":
            return [example(ResultRecord)["artifacts"][0]] * size
    raise AssertionError(type_name)


@pytest.mark.parametrize("edge", list(edges()), ids=lambda edge: f"{edge.kind.__name__}.{edge.field}")
def test_a_limit_holds_where_the_document_says(edge: Edge) -> None:
    """The last value within it is read, the first one beyond it is not."""
    for value in edge.inside:
        assert survives(edge.kind, example(edge.kind, **{edge.field: value})), value
    for value in edge.outside:
        assert not survives(edge.kind, example(edge.kind, **{edge.field: value})), value


@pytest.mark.parametrize(
    ("inside", "outside"),
    [("x" * 1000, "x" * 1001), (2**53, 2**53 + 1), (-(2**53), -(2**53) - 1), (2**53, 2**64), (1e308, 10**400)],
    ids=["text", "largest", "smallest", "beyond 64 bits", "beyond a double"],
)
def test_a_setting_holds_what_every_reader_keeps_exactly(inside: Any, outside: Any) -> None:
    """The last value within the limits arrives as it is; the first one beyond is refused."""
    arrived = decoded(StartRecord, example(StartRecord, settings={"x": inside})).settings["x"]

    assert (arrived, type(arrived)) == (inside, type(inside))
    assert not survives(StartRecord, example(StartRecord, settings={"x": outside}))


# ------------------------------------------------------------------------------------- the document's names and numbers


def test_the_layout_tree_has_the_names_that_the_code_produces() -> None:
    """Each folder of the tree holds what `Kind` and the other names say, and nothing else."""
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
        (f"{OUTBOX}/", ""),
        (f"{OUTBOX}/", f"{STAGING}/"),
        (f"{OUTBOX}/", Kind.STARTED.of(attempt)),
        (f"{OUTBOX}/", Kind.LOG.of(attempt)),
        (f"{OUTBOX}/", Kind.FILES.of(attempt) + "/"),
        (f"{OUTBOX}/", Kind.RESULT.of(attempt)),
        (f"{STATUS}/", ""),
        (f"{STATUS}/", HEARTBEAT),
        (f"{STATUS}/", f"{HEARTBEAT}.new"),
    }
    assert host_name(7) == "<epoch>.host.json".replace("<epoch>", "7")


def test_the_folders_of_the_tree_are_those_that_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a heartbeat that is cut off leaves the file that the tree names."""
    files = LocalFiles(tmp_path)
    files.make_folders()
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}

    def cut_off(*_: object) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(Unavailable):
        files.replace(f"{STATUS}/{HEARTBEAT}", b"{}")

    assert made == {INBOX, f"{INBOX}/{STAGING}", OUTBOX, f"{OUTBOX}/{STAGING}", STATUS}
    assert os.listdir(tmp_path / STATUS) == [f"{HEARTBEAT}.new"]


def test_the_table_of_suffixes_is_that_of_the_code() -> None:
    """Every kind of file, in the folder of the side that writes it."""
    by_host = {Kind.START, Kind.GENOME}
    table = {row[0]: (row[1], row[3]) for row in rows(section("Names"), "suffix")}

    assert table == {kind.value: (f"{INBOX}/", "host") if kind in by_host else (f"{OUTBOX}/", "agent") for kind in Kind}


GRAMMAR = {row[0]: re.compile(row[1]) for row in rows(section("Names"), "name")}
CHECKS = {"attempt id": is_attempt, "host record": lambda name: epoch_of(name) is not None}
NAMES = st.one_of(
    st.text(max_size=40),
    st.text("g0123456789-ta.hostjn\n٣Gé", max_size=40),
    *(st.from_regex(grammar, fullmatch=True) for grammar in GRAMMAR.values()),
    *(st.from_regex(grammar) for grammar in GRAMMAR.values()),
)


@pytest.mark.parametrize("name", CHECKS)
@given(text=NAMES)
@quick
def test_the_grammar_of_names_is_that_of_the_code(name: str, text: str) -> None:
    """A text is a name for the code exactly when it is one for the document."""
    assert CHECKS[name](text) == (GRAMMAR[name].fullmatch(text) is not None)


def test_the_grammar_of_attempt_ids_is_the_same_inside_records() -> None:
    assert rf"\A{GRAMMAR['attempt id'].pattern}\Z" == ATTEMPT_PATTERN


SOURCES: dict[str, Any] = {
    "share_layout": share_layout,
    "share_files": share_files,
    "AgentLimits": AgentLimits(),
    "Limits": Limits(),
    "metronome": metronome,
    "couriers": couriers,
    "shares": shares,
}


def worded(name: str, value: float) -> str:
    if "BYTES" in name:
        mebi, rest = divmod(value, 1024 * 1024)
        return f"{value // 1024} KiB" if rest else f"{mebi} MiB"
    return f"{value:g} s" if name.lower().removesuffix("_max").endswith("_s") else f"{value:,}"


NUMBERS = [(row[1], row[2]) for row in rows(section("Numbers"), "what")]


@pytest.mark.parametrize(("value", "source"), NUMBERS)
def test_a_number_is_the_one_in_the_code(value: str, source: str) -> None:
    """The table of numbers, constant by constant."""
    place, name = source.split(".")

    assert worded(name, getattr(SOURCES[place], name)) == value


def test_no_limit_of_the_protocol_is_missing_from_the_table() -> None:
    named = {source for _value, source in NUMBERS}

    assert {f"share_layout.{name}" for name in dir(share_layout) if name.endswith("_MAX")} <= named
    assert {f"AgentLimits.{name}" for name in AgentLimits.__dataclass_fields__} <= named


def test_numbers_in_sentences_are_those_of_the_table() -> None:
    """Every duration, size and count that the text mentions is one that the table has."""
    known = {value for value, _source in NUMBERS}
    said = re.findall(r"(?<![\w.…])(\d[\d,.]*) (s|KiB|MiB)\b", prose())
    counted = re.findall(r"(?<![\w.…])(\d[\d,]*) (?:times|looks|readings|names|results)\b", prose())

    assert said
    assert {f"{number} {unit}" for number, unit in said} <= known
    assert counted
    assert set(counted) <= known
    assert f"{AgentLimits().newcomer_beats} × {AgentLimits().beat_s:g} s" in prose()


def test_the_document_is_fit_to_be_read() -> None:
    """Lines are not too long, links lead to headings, and the version it describes is the code's."""
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", DOCUMENT, re.M)
    }

    assert max(map(len, DOCUMENT.splitlines())) <= 120
    assert set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT)) <= slugs
    assert f"This is layout version {LAYOUT}." in DOCUMENT
    assert re.findall(r"^\*\*(\d+)\*\* – ", section("Changes per version"), re.M)[-1] == str(LAYOUT)
    assert re.findall(r"^### Law (\d):", DOCUMENT, re.M) == list("1234567")


# ---------------------------------------------------------------------------------------------------------- names

ATTEMPT = "g0007-0042-t1-a2-4kq7zt0m0003"
NONCES = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=12, max_size=12)


@given(
    generation=st.integers(0, 999_999_999),
    genome=st.integers(1, 999_999_999),
    trial=st.integers(1, 999_999),
    number=st.integers(1, 999_999),
    nonce=NONCES,
    kind=st.sampled_from(Kind),
)
@quick
def test_an_attempt_id_comes_back_from_the_names_of_its_files(
    generation: int, genome: int, trial: int, number: int, nonce: str, kind: Kind
) -> None:
    """Whatever the numbers; and an id is never taken for the name of a file."""
    attempt = attempt_id(generation, genome, trial, number, nonce)

    assert attempt_of(kind.of(attempt)) == (attempt, kind)
    assert attempt_of(attempt) is None


def test_an_attempt_id_is_readable() -> None:
    """Generation and genome are padded, so that a listing is in their order; the document explains the same id."""
    assert blocks(section("Names"), "")[0].splitlines()[0] == ATTEMPT
    assert attempt_id(7, 42, 1, 2, "4kq7zt0m0003") == ATTEMPT
    assert attempt_id(12345, 67890, 10, 11, "000000000000") == "g12345-67890-t10-a11-000000000000"


@pytest.mark.parametrize(
    ("numbers", "nonce"),
    [
        ((-1, 1, 1, 1), "0" * 12),
        ((1, 10**9, 1, 1), "0" * 12),
        ((1, 1, 10**6, 1), "0" * 12),
        ((1, 1, 1, 1), "0" * 11),
        ((1, 1, 1, 1), "A" * 12),
        ((1, 1, 1, 1), "../../../etc"),
    ],
)
def test_an_id_that_would_not_be_one_is_never_issued(numbers: tuple[int, int, int, int], nonce: str) -> None:
    """Numbers beyond the grammar and odd nonces are defects of the caller."""
    with pytest.raises(AssertionError):
        attempt_id(*numbers, nonce)


HOSTILE_STEMS = [
    "",
    ".",
    "..",
    "../" + ATTEMPT,
    "..\\" + ATTEMPT,
    "/" + ATTEMPT,
    "/etc/passwd",
    "C:x",
    "C:" + ATTEMPT,
    "a:b",
    "\\\\host\\share",
    "con",
    "nul",
    "LPT1",
    ATTEMPT.upper(),
    ATTEMPT.replace("g", "G", 1),
    ATTEMPT[:-1] + "K",
    ATTEMPT + "\n",
    "\n" + ATTEMPT,
    ATTEMPT + " ",
    " " + ATTEMPT,
    ATTEMPT + ".",
    ATTEMPT + "\0",
    ATTEMPT + "0",
    ATTEMPT[:-1],
    ATTEMPT + ":stream",
    ATTEMPT + "/..",
    ATTEMPT.replace("0007", "٠٠٠٧"),
    ATTEMPT.replace("0007", "000７"),
    ATTEMPT.replace("-", "–"),
    ATTEMPT.replace("0042", "-042"),
    ATTEMPT.replace("0042", "42"),
    ATTEMPT.replace("t1", "t"),
    ATTEMPT.replace("t1", "t1234567"),
    "\udc80" + ATTEMPT[1:],
]


@pytest.mark.parametrize("stem", HOSTILE_STEMS)
def test_a_hostile_name_is_nobodys(stem: str) -> None:
    """Nothing but an attempt id in its one spelling is ever made part of a path."""
    assert not is_attempt(stem)
    for kind in Kind:
        assert attempt_of(kind.of(stem)) is None


@pytest.mark.parametrize(
    "tail",
    [
        "",
        ".",
        ".json",
        ".start",
        ".START.JSON",
        ".start.json\n",
        ".start.json ",
        ".start.json.",
        ".start.json:x",
        ".start.json.new",
        "..start.json",
        ".genome/..",
        "/.genome",
        ".ｇenome",
        ".log\0",
        ".genome~",
        "start.json",
    ],
)
def test_a_strange_suffix_is_nobodys(tail: str) -> None:
    """A suffix counts in its one spelling, and only at the end."""
    assert attempt_of(ATTEMPT + tail) is None


@given(epoch=st.integers(1, 999_999_999))
@quick
def test_an_epoch_comes_back_from_its_file_name(epoch: int) -> None:
    assert epoch_of(host_name(epoch)) == epoch


@pytest.mark.parametrize(
    "name",
    [
        "0.host.json",
        "01.host.json",
        "-1.host.json",
        "+1.host.json",
        "1.0.host.json",
        "1e3.host.json",
        ".host.json",
        "1.host.json\n",
        "1.host.json ",
        "1.host.json.",
        "1.HOST.JSON",
        "1_0.host.json",
        "٣.host.json",
        "1٣.host.json",
        "².host.json",
        "1234567890.host.json",
        "host.json",
        "1host.json",
        "../1.host.json",
        "1.host.json:x",
        f"{ATTEMPT}.start.json",
    ],
)
def test_a_strange_host_record_says_nothing(name: str) -> None:
    assert epoch_of(name) is None


@pytest.mark.parametrize(
    "name", ["a", "7", "replay.rep", "screen-01_final.png", "x" * 64, "a..b", "console", "com", "com10.x"]
)
def test_a_harmless_artifact_keeps_its_name(name: str) -> None:
    assert is_artifact(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "_x",
        "a/b",
        "a\\b",
        "../a",
        "/a",
        "c:x",
        "a:b",
        "A",
        "Replay.rep",
        "a b",
        " a",
        "a ",
        "a.",
        "a\n",
        "a\0",
        "é",
        "٣",
        "x" * 65,
        "con",
        "nul.txt",
        "aux.tar.gz",
        "com0",
        "com1",
        "lpt9.log",
        "prn.",
    ],
)
def test_an_artifact_with_another_name_is_stored_by_number(name: str) -> None:
    """Every name that is a path, a device, two files on another system, or not visible as it is."""
    assert not is_artifact(name)


@given(st.text())
@quick
def test_an_artifact_name_is_harmless_everywhere(name: str) -> None:
    """Whatever is accepted is a plain lower-case name without a path, and fits the document's grammar."""
    if is_artifact(name):
        assert GRAMMAR["artifact"].fullmatch(name)
        assert os.path.basename(name) == name.lower() == name.strip(" .") == name
        assert name.split(".", maxsplit=1)[0] not in {"con", "prn", "aux", "nul"}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("elite.json", ".json"),
        ("ELITE.JSON", ".json"),
        ("a.tar.gz", ".gz"),
        ("a.", ""),
        ("noext", ""),
        (".json", ""),
        ("", ""),
        ("a.b c", ""),
        ("a.json\n", ""),
        ("a.json ", ""),
        ("a.é", ""),
        ("a.٣", ""),
        ("a./../x", ""),
        ("a.x:y", ""),
        ("a." + "x" * 16, "." + "x" * 16),
        ("a." + "x" * 17, ""),
    ],
)
def test_a_genome_keeps_a_harmless_suffix_and_no_other(name: str, suffix: str) -> None:
    assert safe_suffix(name) == suffix


@given(st.text())
@quick
def test_every_safe_suffix_may_stand_in_a_start_signal(name: str) -> None:
    assert survives(StartRecord, example(StartRecord, genome_suffix=safe_suffix(name)))


# --------------------------------------------------------------------------------------------------- the version rule


@pytest.mark.parametrize("kind", KINDS)
def test_another_layout_is_told_apart_from_damage(kind: type[Record]) -> None:
    """Also when nothing else in the record is as it should be."""
    for version in (0, -1, LAYOUT + 1, 2**63, 10**400):
        for other in (example(kind, layout=version), {"layout": version}, {"layout": version, "farm": [7], "new": {}}):
            with pytest.raises(UnknownLayout):
                decoded(kind, other)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_record_of_another_layout_is_damaged(kind: type[Record]) -> None:
    """Only a complete record is ever rejected for its version."""
    data = json.dumps(example(kind, layout=LAYOUT + 1)).encode()

    for cut in range(len(data)):
        with pytest.raises(LayoutError) as caught:
            decoded(kind, data[:cut])
        assert not isinstance(caught.value, UnknownLayout)


@pytest.mark.parametrize("version", ["1", 1.0, 2.5, True, None, [1], {}])
def test_a_version_that_is_no_integer_is_damage(version: Any) -> None:
    for kind in KINDS:
        with pytest.raises(LayoutError) as caught:
            decoded(kind, example(kind, layout=version))
        assert not isinstance(caught.value, UnknownLayout)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_without_a_version_is_of_the_first(kind: type[Record]) -> None:
    content = example(kind)
    del content["layout"]

    assert decoded(kind, content) == decoded(kind, FIRST[kind])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON_VALUES)
@quick
def test_a_field_of_a_later_version_is_ignored(value: Any) -> None:
    """Whatever it holds."""
    for kind in KINDS:
        assert decoded(kind, example(kind, field_of_tomorrow=value)) == decoded(kind, FIRST[kind])


# ------------------------------------------------------------------------------------------------------ hostile bytes

DEEP = RECORD_BYTES_MAX - 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"\n",
        b"\0",
        b"\0" * 1024,
        b"null",
        b"true",
        b"1",
        b'"text"',
        b"[]",
        b"{}",
        b"{",
        b"}",
        b"{} {}",
        b"not json",
        b"<html>",
        b"\xff\xfe{\0}\0",
        b"\x80abc",
        b"[" * RECORD_BYTES_MAX,
        b'{"a":' * (RECORD_BYTES_MAX // 5),
        b'{"layout":' + b"[" * DEEP,
        b'{"layout":' + b"9" * DEEP + b"}",
        b'{"layout":-' + b"9" * 4300 + b".5}",
        b'{"layout":1e999}',
        b'{"layout":NaN}',
        b'{"layout":Infinity}',
        b" " * RECORD_BYTES_MAX,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_bytes_that_are_no_record_are_a_layout_error(data: bytes) -> None:
    for kind in KINDS:
        assert not survives(kind, data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_torn_at_any_byte_is_damaged(kind: type[Record]) -> None:
    """Cut off, or filled up with zeros as some file systems do after a power cut."""
    whole = FIRST[kind].rstrip()

    for cut in range(len(whole)):
        assert not survives(kind, whole[:cut])
        assert not survives(kind, whole[:cut].ljust(len(whole), b"\0"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_surrounds_a_record_must_be_white_space(kind: type[Record]) -> None:
    """A byte order mark, a second record or zeros make it invalid."""
    data = FIRST[kind]

    assert survives(kind, b"\r\n\t " + data + b" \n")
    for strange in (b"\xef\xbb\xbf" + data, data + data, data + b"\0", data + b"x", b"\0" + data):
        assert not survives(kind, strange)
    assert not survives(kind, data.decode().encode("utf-16"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_read_up_to_its_size_limit(kind: type[Record]) -> None:
    """White space counts; one byte more and it is not even parsed."""
    assert survives(kind, FIRST[kind].ljust(RECORD_BYTES_MAX))
    with pytest.raises(LayoutError, match=f"allowed are {RECORD_BYTES_MAX}"):
        decoded(kind, FIRST[kind].ljust(RECORD_BYTES_MAX + 1))


WRONG = [None, True, False, 0, -1, 10**30, 1.5, "", "x", "\0", "x" * 1000, [], [[]], {}, {"": None}, {"x": []}, [{}]]
RAW = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400, b"-0", b"0x1", b"01"]
RAW += [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x"', b'"\n"', b"'x'", b"tru", b""]


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_may_hold_anything_and_nothing_breaks(kind: type[Record]) -> None:
    """Any wrong value in any field: a valid record, or a LayoutError."""
    mark = '"put it here"'
    for name in example(kind):
        for value in WRONG:
            survives(kind, example(kind, **{name: value}))
        before, after = json.dumps(example(kind, **{name: "put it here"})).encode().split(mark.encode())
        for raw in RAW:
            valid = survives(kind, before + raw + after)
            assert not (
                valid and raw in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b'"\xff"', b'"\\ud800"')
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_boolean_is_not_a_number(kind: type[Record]) -> None:
    """Nor is a text that looks like one, nor a fraction an integer."""
    for field in fields_of(kind):
        name = shown(field.type)[0]
        if name.startswith(("integer", "number")):
            for value in (True, False, "1", [1]):
                assert not survives(kind, example(kind, **{field.name: value}))
        if name.startswith("integer"):
            assert not survives(kind, example(kind, **{field.name: 1.0}))
        if "null" not in name:
            assert not survives(kind, example(kind, **{field.name: None}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_required_field_is_required_and_the_others_have_their_default(kind: type[Record]) -> None:
    required = {field.name: example(kind)[field.name] for field in fields_of(kind) if field.required}
    if kind is ResultRecord:
        required |= {"outcome": "failed"}

    record = decoded(kind, required)

    for field in fields_of(kind):
        if field.required:
            without = {name: value for name, value in required.items() if name != field.name}
            assert not survives(kind, without)
        else:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            assert getattr(record, field.name) == default


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_field_that_is_there_twice_the_last_one_counts(kind: type[Record]) -> None:
    """The version is no exception; and what does not count must be valid all the same."""
    rest = FIRST[kind].lstrip(b"{")
    unknown = b'{"layout": 2,'

    assert decoded(kind, unknown + rest) == decoded(kind, FIRST[kind])
    with pytest.raises(UnknownLayout):
        decoded(kind, FIRST[kind].rstrip().rstrip(b"}") + b', "layout": 2}')
    assert not survives(kind, b'{"layout": "1",' + rest)


def test_of_a_setting_that_is_there_twice_the_last_one_counts() -> None:
    start = FIRST[StartRecord].replace(b'"map": 3', b'"map": 3, "map": 4')

    assert decoded(StartRecord, start).settings["map"] == 4


@given(where=st.floats(0, 1), lost=st.integers(0, 8), added=st.binary(max_size=8))
@quick
def test_a_damaged_byte_breaks_nothing(where: float, lost: int, added: bytes) -> None:
    """Bytes replaced, lost or added anywhere in a record: a valid record, or a LayoutError."""
    for kind in KINDS:
        whole = FIRST[kind]
        start = int(where * len(whole))
        survives(kind, whole[:start] + added + whole[start + lost :])


@given(data=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@quick
def test_noise_breaks_nothing(data: bytes) -> None:
    assert not any(survives(kind, data) for kind in KINDS)


def test_what_is_wrong_is_told_in_one_printable_line() -> None:
    """The name of the file, and a reason of bounded length whatever was in it."""
    hostile = json.dumps(example(ResultRecord, outcome="\x1b[2J\n" * 99)).encode()

    with pytest.raises(LayoutError) as caught:
        decode(ResultRecord, hostile, "its name")

    assert caught.value.name == "its name"
    assert str(caught.value) == f"its name: {caught.value.reason}"
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) <= 200


# --------------------------------------------------------------------------------------------- what a result may say

COMPLETED = decoded(ResultRecord, FIRST[ResultRecord])
EXPECTED = Echo(COMPLETED.attempt, COMPLETED.trial, COMPLETED.seed, COMPLETED.genome_sha256)
OTHERS = Echo("g0007-0042-t1-a3-4kq7zt0m0003", 2, COMPLETED.seed + 1, "0" * 64)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_an_agent_may_say_is_believed(outcome: Outcome) -> None:
    """`lost`, `corrupt` and `withdrawn` are the host's own words."""
    fitness = 1.0 if outcome is Outcome.COMPLETED else None

    assert survives(ResultRecord, example(ResultRecord, outcome=outcome, fitness=fitness)) is (outcome in SAID_BY_AGENT)


@pytest.mark.parametrize("outcome", sorted(SAID_BY_AGENT))
def test_a_fitness_belongs_to_completed_and_to_nothing_else(outcome: Outcome) -> None:
    other = None if outcome is Outcome.COMPLETED else 0.0

    assert not survives(ResultRecord, example(ResultRecord, outcome=outcome, fitness=other))


@pytest.mark.parametrize("name", ["trial", "seed", "genome_sha256"])
def test_completed_must_say_what_was_played(name: str) -> None:
    """Other outcomes may not know, since their start signal could not be read."""
    assert not survives(ResultRecord, example(ResultRecord, **{name: None}))
    assert survives(ResultRecord, example(ResultRecord, outcome="undelivered", fitness=None, **{name: None}))


def test_a_result_that_fits_its_start_signal_has_no_problem() -> None:
    assert echo_problem(COMPLETED, EXPECTED) == ""


@pytest.mark.parametrize("name", Echo._fields)
@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED])
def test_an_echo_of_something_else_is_a_problem_that_names_it(name: str, outcome: Outcome) -> None:
    """Whatever the outcome: an echo that is there must be the right one."""
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    result = decoded(ResultRecord, example(ResultRecord, outcome=outcome, fitness=fitness))

    assert name in echo_problem(result, EXPECTED._replace(**{name: getattr(OTHERS, name)}))


def test_echoes_that_could_not_be_known_may_be_missing() -> None:
    """The second example of a result: the start signal could not be read."""
    undelivered = decoded(ResultRecord, EXAMPLES[[kind for kind, _ in EXAMPLES].index(ResultRecord) + 1][1].encode())

    assert undelivered.trial is None
    assert echo_problem(undelivered, EXPECTED._replace(attempt=undelivered.attempt)) == ""
    assert "attempt" in echo_problem(undelivered, EXPECTED)


# ------------------------------------------------------------------------------------------------------------ encode


def test_the_largest_result_and_heartbeat_still_fit() -> None:
    """Every text at its limit, in characters that take the most room in JSON; larger settings are never written."""
    worst = "\x01"
    names = [worst * 62 + f"{number:02d}" for number in range(METRICS_MAX)]
    payload = PayloadRef(name=worst * 64, size_bytes=share_layout.ARTIFACT_BYTES_MAX, sha256="f" * 64)
    result = msgspec.structs.replace(
        COMPLETED,
        metrics=dict.fromkeys(names, -1.2345678901234567e-300),
        reason=worst * share_layout.REASON_CHARS_MAX,
        artifacts=[payload] * share_layout.ARTIFACTS_MAX,
        log=payload,
    )
    beat = msgspec.structs.replace(
        decoded(AgentRecord, FIRST[AgentRecord]),
        progress=worst * share_layout.PROGRESS_CHARS_MAX,
        versions=dict.fromkeys(names[:16], worst * 64),
    )
    start = decoded(StartRecord, FIRST[StartRecord])

    assert decoded(ResultRecord, encode(result)) == result
    assert decoded(AgentRecord, encode(beat)) == beat
    with pytest.raises(LayoutError):
        encode(msgspec.structs.replace(start, settings={"long": "x" * RECORD_BYTES_MAX}))


@pytest.mark.parametrize("character", ["x", "\x01", '"', "é", "\u2028", "🎮"])
def test_the_largest_table_of_settings_still_fits(character: str) -> None:
    """What is 32 KiB as JSON in ASCII, which is how the host's configuration counts, whatever it is made of."""
    table = {f"setting {number:02d}": "" for number in range(share_layout.SETTINGS_MAX)}
    for name in table:
        room = share_layout.SETTINGS_BYTES_MAX - len(json.dumps(table))
        table[name] = character * min(1000, room // (len(json.dumps(character)) - 2))
    start = msgspec.structs.replace(
        decoded(StartRecord, FIRST[StartRecord]), worker="\x01" * 64, genome_name="\x01" * 255, settings=table
    )

    assert share_layout.SETTINGS_BYTES_MAX - 12 < len(json.dumps(table)) <= share_layout.SETTINGS_BYTES_MAX
    assert decoded(StartRecord, encode(start)) == start


SETTINGS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
    st.text(st.characters(codec="utf-8"), max_size=50)
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans(),
    max_size=8,
)


@given(SETTINGS)
@quick
def test_settings_arrive_as_they_were_given(given_settings: dict[str, Any]) -> None:
    """Value and type, whatever the characters: `1`, `1.0`, `True` and `"1"` stay apart."""
    start = msgspec.structs.replace(decoded(StartRecord, FIRST[StartRecord]), settings=given_settings)

    arrived = decoded(StartRecord, encode(start)).settings

    assert arrived == given_settings
    assert {name: type(value) for name, value in arrived.items()} == {n: type(v) for n, v in given_settings.items()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_refused_before_they_are_written(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        msgspec.structs.replace(COMPLETED, fitness=value)
    with pytest.raises(ValueError, match="not finite"):
        msgspec.structs.replace(COMPLETED, seconds=value)
    for name in ("score", "fitness", "seconds"):
        with pytest.raises(ValueError, match="not finite"):
            msgspec.structs.replace(COMPLETED, metrics={name: value})
    start = decoded(StartRecord, FIRST[StartRecord])
    for name in ("speed", "time_limit_s"):
        with pytest.raises(ValueError, match="not finite"):
            msgspec.structs.replace(start, settings={name: value})
    with pytest.raises(ValueError, match="not finite"):
        msgspec.structs.replace(start, time_limit_s=value)


# ------------------------------------------------------------------------------------------- words from the other side


@given(text=st.text(), chars_max=st.integers(1, 50))
@quick
def test_cleaned_text_is_one_printable_line_of_bounded_length(text: str, chars_max: int) -> None:
    """And cleaning it again changes nothing."""
    line = clean(text, chars_max)

    assert len(line) <= chars_max
    assert line.isprintable()
    assert line == line.strip()
    assert clean(line, chars_max) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as it is", "as it is"),
        ("  two\r\nlines\t ", "two lines"),
        ("\x1b[2J\x07red", "[2J red"),
        ("right\u202eto left", "right to left"),
        ("\ud800", ""),
        ("über 🎮", "über 🎮"),
        ("x" * 21, "x" * 19 + "…"),
        ("x" * 20, "x" * 20),
        (" " * 10**6 + "far away", ""),
    ],
)
def test_clean_text_by_example(text: str, line: str) -> None:
    assert clean(text, 20) == line


@pytest.mark.parametrize(("value", "number"), [(0, 0.0), (3, 3.0), (-1.5, -1.5), (2**60, 2.0**60), (5e-324, 5e-324)])
def test_a_finite_number_is_a_float(value: float, number: float) -> None:
    assert finite(value, "fitness") == number
    assert type(finite(value, "fitness")) is float


@pytest.mark.parametrize("value", [True, None, "1", [], {}, 1j, math.nan, math.inf, -math.inf, 10**400])
def test_anything_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^fitness must be "):
        finite(value, "fitness")


def test_metrics_become_floats() -> None:
    assert finite_metrics({}) == {}
    assert finite_metrics({"kills": 4, "accuracy": 0.5}) == {"kills": 4.0, "accuracy": 0.5}
    assert len(finite_metrics({str(number): number for number in range(METRICS_MAX)})) == METRICS_MAX


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        [],
        "x",
        [("a", 1)],
        {str(number): number for number in range(METRICS_MAX + 1)},
        {"": 1},
        {"x" * 65: 1},
        {7: 1},
        {"a\n": 1},
        {"\x1b[2J": 1},
        {"\ud800": 1},
        {"a": True},
        {"a": None},
        {"a": "1"},
        {"a": math.nan},
        {"a": math.inf},
        {"a": 10**400},
        {"a": {"b": 1}},
    ],
    ids=lambda metrics: repr(metrics)[:20],
)
def test_metrics_that_no_record_may_hold_are_refused(metrics: object) -> None:
    with pytest.raises(ValueError, match="metric"):
        finite_metrics(metrics)


@given(st.dictionaries(st.text(max_size=70), st.integers() | st.floats() | st.booleans(), max_size=METRICS_MAX + 2))
@quick
def test_accepted_metrics_fit_into_a_result(metrics: dict[str, Any]) -> None:
    """Whatever an evaluator hands in: it is refused, or the host can read it."""
    try:
        accepted = finite_metrics(metrics)
    except ValueError:
        return
    result = msgspec.structs.replace(COMPLETED, metrics=accepted)

    assert decoded(ResultRecord, encode(result)).metrics == accepted
