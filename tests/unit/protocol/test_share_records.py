"""Records from a hostile peer, and texts of the other side in displays."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox_agent.evaluation.answer import finite, finite_metrics
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import (
    LAYOUT,
    METRICS_MAX,
    RECORD_BYTES_MAX,
    VALUE_MAX,
    AgentRecord,
    HostRecord,
    LayoutError,
    Outcome,
    PayloadRef,
    Record,
    ResultRecord,
    StartRecord,
    UnknownLayout,
    clean,
    decode,
    encode,
    epoch_of,
    host_name,
)
from pipeline.core.echo import Echo, echo_problem
from tests.harness.layout_document import EXAMPLES, FIRST, KINDS, decoded, example, fields_of, quick, shown, survives

pytestmark = pytest.mark.rules

# --------------------------------------------------------------------------------------------------- the version rule


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_layout_is_distinguished_from_damage(kind: type[Record]) -> None:
    """Also when nothing else in the record is valid."""
    for version in (0, -1, LAYOUT + 1, 2**63, 10**400):
        for other in (example(kind, layout=version), {"layout": version}, {"layout": version, "farm": [7], "new": {}}):
            with pytest.raises(UnknownLayout):
                decoded(kind, other)


@pytest.mark.parametrize("kind", KINDS)
def test_incomplete_record_of_unknown_layout_is_damaged(kind: type[Record]) -> None:
    """Only a complete record is rejected for its version."""
    data = json.dumps(example(kind, layout=LAYOUT + 1)).encode()

    for cut in range(len(data)):
        with pytest.raises(LayoutError) as caught:
            decoded(kind, data[:cut])
        assert not isinstance(caught.value, UnknownLayout)


@pytest.mark.parametrize("kind", KINDS)
def test_record_without_layout_is_invalid(kind: type[Record]) -> None:
    """And not of another version: nothing is concluded from an empty object."""
    content = example(kind)
    del content["layout"]

    for incomplete in (content, {}):
        with pytest.raises(LayoutError) as caught:
            decoded(kind, incomplete)
        assert not isinstance(caught.value, UnknownLayout)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON_VALUES)
@quick
def test_unknown_field_is_ignored(value: Any) -> None:
    """Whatever its value."""
    for kind in KINDS:
        assert decoded(kind, example(kind, field_of_tomorrow=value)) == decoded(kind, FIRST[kind])


# ------------------------------------------------------------------------------------------------------ hostile bytes

DEEP = RECORD_BYTES_MAX - 100


@pytest.mark.parametrize(
    "data",
    [
        b"[" * RECORD_BYTES_MAX,
        b'{"a":' * (RECORD_BYTES_MAX // 5),
        b'{"layout":' + b"[" * DEEP,
        b'{"layout":' + b"9" * DEEP + b"}",
        b'{"layout":-' + b"9" * 4300 + b".5}",
        b" " * RECORD_BYTES_MAX,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_invalid_bytes_raise_layout_error(data: bytes) -> None:
    """Those that are too large to be files of the conformance kit's records."""
    for kind in KINDS:
        assert not survives(kind, data)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_or_zeroed_record_is_damaged(kind: type[Record]) -> None:
    """Truncated, or padded with zeros as by some file systems after a power cut."""
    whole = FIRST[kind].rstrip()

    for cut in range(len(whole)):
        assert not survives(kind, whole[:cut])
        assert not survives(kind, whole[:cut].ljust(len(whole), b"\0"))


@pytest.mark.parametrize("kind", KINDS)
def test_only_white_space_may_surround_record(kind: type[Record]) -> None:
    """A byte order mark, a second record or zeros make the record invalid."""
    data = FIRST[kind]

    assert survives(kind, b"\r\n\t " + data + b" \n")
    for strange in (b"\xef\xbb\xbf" + data, data + data, data + b"\0", data + b"x", b"\0" + data):
        assert not survives(kind, strange)
    assert not survives(kind, data.decode().encode("utf-16"))


@pytest.mark.parametrize("kind", KINDS)
def test_record_size_limit_is_enforced(kind: type[Record]) -> None:
    """White space counts; a record one byte longer is not parsed."""
    assert survives(kind, FIRST[kind].ljust(RECORD_BYTES_MAX))
    with pytest.raises(LayoutError, match=f"allowed are {RECORD_BYTES_MAX}"):
        decoded(kind, FIRST[kind].ljust(RECORD_BYTES_MAX + 1))


WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**30,
    1.5,
    "",
    "x",
    "\0",
    "x" * 1000,
    [],
    [[]],
    {},
    {"": None},
    {"x": []},
    [{}],
]
RAW = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400, b"-0", b"0x1", b"01"]
RAW += [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x"', b'"\n"', b"'x'", b"tru", b""]


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_field_value_raises_layout_error(kind: type[Record]) -> None:
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
def test_boolean_is_not_number(kind: type[Record]) -> None:
    """Neither is a text that looks like a number, and a fraction is no integer."""
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
def test_required_fields_and_defaults(kind: type[Record]) -> None:
    required = {
        field.name: example(kind)[field.name] for field in fields_of(kind) if field.required or field.name == "layout"
    }
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
def test_last_duplicate_field_counts(kind: type[Record]) -> None:
    """Also for the version; the earlier values must be valid, too."""
    rest = FIRST[kind].lstrip(b"{")
    unknown = b'{"layout": 1,'

    assert decoded(kind, unknown + rest) == decoded(kind, FIRST[kind])
    with pytest.raises(UnknownLayout):
        decoded(kind, FIRST[kind].rstrip().rstrip(b"}") + b', "layout": 1}')
    assert not survives(kind, b'{"layout": "1",' + rest)


def test_last_duplicate_setting_counts() -> None:
    start = FIRST[StartRecord].replace(b'"map": 3', b'"map": 3, "map": 4')

    assert decoded(StartRecord, start).settings["map"] == 4


@given(where=st.floats(0, 1), lost=st.integers(0, 8), added=st.binary(max_size=8))
@quick
def test_changed_bytes_decode_or_raise_layout_error(where: float, lost: int, added: bytes) -> None:
    """Bytes replaced, lost or added anywhere in a record: a valid record, or a LayoutError."""
    for kind in KINDS:
        whole = FIRST[kind]
        start = int(where * len(whole))
        survives(kind, whole[:start] + added + whole[start + lost :])


@given(data=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@quick
def test_random_bytes_decode_or_raise_layout_error(data: bytes) -> None:
    assert not any(survives(kind, data) for kind in KINDS)


def test_layout_error_is_one_printable_line() -> None:
    """The name of the file, and a reason of bounded length whatever was in it."""
    hostile = json.dumps(example(ResultRecord, outcome="\x1b[2J\n" * 99)).encode()

    with pytest.raises(LayoutError) as caught:
        decode(ResultRecord, hostile, "its name")

    assert caught.value.name == "its name"
    assert str(caught.value) == f"its name: {caught.value.reason}"
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) <= 200


# ----------------------------------------------------------------------------------------------------- valid results

COMPLETED = decoded(ResultRecord, FIRST[ResultRecord])
EXPECTED = Echo(COMPLETED.attempt, COMPLETED.trial, COMPLETED.seed, COMPLETED.genome_sha256, COMPLETED.evaluator)
OTHERS = Echo("g0007-0042-t1-a3-4kq7zt0m0003", 2, COMPLETED.seed + 1, "0" * 64, "another")


def test_matching_result_has_no_echo_problem() -> None:
    assert echo_problem(COMPLETED, EXPECTED) == ""


@pytest.mark.parametrize("name", Echo._fields)
@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED])
def test_wrong_echo_is_named(name: str, outcome: Outcome) -> None:
    """Whatever the outcome: an existing echo must be right."""
    fitness = 1.0 if outcome is Outcome.COMPLETED else None
    result = decoded(ResultRecord, example(ResultRecord, outcome=outcome, fitness=fitness))

    assert name in echo_problem(result, EXPECTED._replace(**{name: getattr(OTHERS, name)}))


def test_echoes_may_be_missing_if_start_signal_was_unreadable() -> None:
    """The second example of a result: the start signal could not be read."""
    undelivered = decoded(ResultRecord, EXAMPLES[[kind for kind, _ in EXAMPLES].index(ResultRecord) + 1][1].encode())

    assert undelivered.trial is None
    assert echo_problem(undelivered, EXPECTED._replace(attempt=undelivered.attempt)) == ""
    assert "attempt" in echo_problem(undelivered, EXPECTED)


# ------------------------------------------------------------------------------------------------------------ encode


def test_largest_result_and_heartbeat_fit_size_limit() -> None:
    """Every text at its limit, in characters that take the most room in JSON; larger settings are never written."""
    worst = "\x01"
    names = [worst * 62 + f"{number:02d}" for number in range(METRICS_MAX)]
    metrics = ["🏁" * 62 + f"{number:02d}" for number in range(METRICS_MAX)]
    payload = PayloadRef(name=worst * 64, size_bytes=layout.ARTIFACT_BYTES_MAX, sha256="f" * 64)
    result = msgspec.structs.replace(
        COMPLETED,
        metrics=dict.fromkeys(metrics, -1.2345678901234567e-300),
        reason=worst * layout.REASON_CHARS_MAX,
        artifacts=[payload] * layout.ARTIFACTS_MAX,
        log=payload,
    )
    beat = msgspec.structs.replace(
        decoded(AgentRecord, FIRST[AgentRecord]),
        progress=worst * layout.PROGRESS_CHARS_MAX,
        versions=dict.fromkeys(names[:16], worst * 64),
    )
    start = decoded(StartRecord, FIRST[StartRecord])

    assert decoded(ResultRecord, encode(result)) == result
    assert decoded(AgentRecord, encode(beat)) == beat
    with pytest.raises(LayoutError):
        encode(msgspec.structs.replace(start, settings={"long": "x" * RECORD_BYTES_MAX}))


@pytest.mark.parametrize("character", ["x", "\x01", '"', "é", "\u2028", "🎮"])
def test_largest_settings_fit_size_limit(character: str) -> None:
    """Up to 32 KiB of JSON in ASCII, which is how the host's configuration counts, with any content."""
    table = {f"setting {number:02d}": "" for number in range(layout.SETTINGS_MAX)}
    for name in table:
        room = layout.SETTINGS_BYTES_MAX - len(json.dumps(table))
        table[name] = character * min(1000, room // (len(json.dumps(character)) - 2))
    start = msgspec.structs.replace(
        decoded(StartRecord, FIRST[StartRecord]), worker="\x01" * 64, genome_name="\x01" * 255, settings=table
    )

    assert layout.SETTINGS_BYTES_MAX - 12 < len(json.dumps(table)) <= layout.SETTINGS_BYTES_MAX
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
def test_settings_round_trip_with_types(given_settings: dict[str, Any]) -> None:
    """Value and type, with any characters: `1`, `1.0`, `True` and `"1"` are distinguished."""
    start = msgspec.structs.replace(decoded(StartRecord, FIRST[StartRecord]), settings=given_settings)

    arrived = decoded(StartRecord, encode(start)).settings

    assert arrived == given_settings
    assert {name: type(value) for name, value in arrived.items()} == {n: type(v) for n, v in given_settings.items()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_not_encoded(value: float) -> None:
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


@pytest.mark.parametrize("value", [VALUE_MAX * (1 + 1e-15), -1.7e308])
def test_fitness_and_metrics_beyond_the_limit_are_not_encoded(value: float) -> None:
    """They are finite, and their sum would not be."""
    with pytest.raises(ValueError, match="allowed is at most 1e\\+300"):
        msgspec.structs.replace(COMPLETED, fitness=value)
    with pytest.raises(ValueError, match="score is"):
        msgspec.structs.replace(COMPLETED, metrics={"score": value})
    assert msgspec.structs.replace(COMPLETED, fitness=-VALUE_MAX, metrics={"score": VALUE_MAX}).fitness == -VALUE_MAX


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, -(2**63) - 1])
def test_integers_beyond_2_53_are_refused(number: int) -> None:
    """Not every JSON reader supports larger ones."""
    start = json.loads(FIRST[StartRecord])
    with pytest.raises(LayoutError):
        decoded(StartRecord, {**start, "settings": {"x": number}})


def test_epoch_limit_of_names_holds_in_records() -> None:
    """The last epoch within the limit has a name, and the first one beyond it is refused."""
    last = 10**9 - 1
    host, start = json.loads(FIRST[HostRecord]), json.loads(FIRST[StartRecord])

    assert epoch_of(host_name(last)) == last
    assert decoded(HostRecord, {**host, "epoch": last}).epoch == last
    with pytest.raises(LayoutError):
        decoded(HostRecord, {**host, "epoch": last + 1})
    with pytest.raises(LayoutError):
        decoded(StartRecord, {**start, "epoch": last + 1})


# --------------------------------------------------------------------------------------------- texts of the other side


@given(text=st.text(), chars_max=st.integers(1, 50))
@quick
def test_clean_returns_bounded_printable_line(text: str, chars_max: int) -> None:
    """Cleaning it again changes nothing."""
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
def test_clean_examples(text: str, line: str) -> None:
    assert clean(text, 20) == line


@pytest.mark.parametrize(("value", "number"), [(0, 0.0), (3, 3.0), (-1.5, -1.5), (2**60, 2.0**60), (5e-324, 5e-324)])
def test_finite_accepts_numbers(value: float, number: float) -> None:
    assert finite(value, "fitness") == number
    assert type(finite(value, "fitness")) is float


@pytest.mark.parametrize("value", [True, None, "1", [], {}, 1j, math.nan, math.inf, -math.inf, 10**400, 1.7e308])
def test_finite_refuses_other_values(value: object) -> None:
    with pytest.raises(ValueError, match=r"^fitness must be "):
        finite(value, "fitness")


def test_metrics_are_converted_to_floats() -> None:
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
        {"a": -1.7e308},
        {"a": {"b": 1}},
    ],
    ids=lambda metrics: repr(metrics)[:20],
)
def test_invalid_metrics_are_refused(metrics: object) -> None:
    with pytest.raises(ValueError, match="metric"):
        finite_metrics(metrics)


@given(st.dictionaries(st.text(max_size=70), st.integers() | st.floats() | st.booleans(), max_size=METRICS_MAX + 2))
@quick
def test_accepted_metrics_decode_in_result(metrics: dict[str, Any]) -> None:
    """Metrics of an evaluator are either refused or readable by the host."""
    try:
        accepted = finite_metrics(metrics)
    except ValueError:
        return
    result = msgspec.structs.replace(COMPLETED, metrics=accepted)

    assert decoded(ResultRecord, encode(result)).metrics == accepted
