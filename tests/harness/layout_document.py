"""`share_layout.md` as the tests read it: sections, blocks and tables, the example and the fields of each record."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from msgspec import inspect

from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.layout import (
    LAYOUT,
    AgentRecord,
    AgentState,
    EvaluatorRecord,
    HostRecord,
    LayoutError,
    Outcome,
    Record,
    ResultRecord,
    StartedRecord,
    StartRecord,
    decode,
)
from tests.harness.source_tree import ROOT

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

DOCUMENT = (ROOT / "share_layout.md").read_text(encoding="utf-8")
RECORDS: dict[str, type[Record]] = {
    "`inbox/<epoch>.host.json`": HostRecord,
    "`inbox/<attempt>.start.json`": StartRecord,
    "`inbox/<number>.deploy.json`": DeployRecord,
    "`outbox/<attempt>.started.json`": StartedRecord,
    "`outbox/<attempt>.result.json`": ResultRecord,
    "`status/agent.json`": AgentRecord,
    "`status/evaluator.json`": EvaluatorRecord,
}


def section(heading: str) -> str:
    """The text below a heading, up to the next heading of the same or a higher level."""
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
    """The cells of the table whose first column has that title, without code marks."""
    _before, _title, table = text.partition(f"| {first} |")
    lines = table.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def prose() -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", DOCUMENT, flags=re.S | re.M)


EXAMPLES = [(kind, text) for heading, kind in RECORDS.items() for text in blocks(section(heading), "json")]
FIRST = {kind: text.encode() for kind, text in reversed(EXAMPLES)}
KINDS = list(RECORDS.values())
GRAMMAR = {row[0]: re.compile(row[1]) for row in rows(section("Names"), "name")}


def example(kind: type[Record], **changes: Any) -> dict[str, Any]:
    """The first example of a kind as a JSON object, changed."""
    return {**json.loads(FIRST[kind]), **changes}


def decoded(kind: type[Any], content: Any) -> Any:
    """The record in JSON data, or in raw bytes."""
    return decode(kind, content if isinstance(content, bytes) else json.dumps(content).encode(), "its name")


def survives(kind: type[Any], content: Any) -> bool:
    """Whether hostile data is a valid record. Any error other than LayoutError fails the test."""
    try:
        record = decoded(kind, content)
    except LayoutError:
        return False
    assert type(record) is kind
    assert record.layout == LAYOUT
    return True


SEE_BELOW: dict[type[Enum], str] = {Outcome: "an outcome, see below", AgentState: "a state, see below"}
ATTEMPT_PATTERN = r"\Ag[0-9]{4,9}-[0-9]{4,9}-t[0-9]{1,6}-a[0-9]{1,6}-[0-9a-z]{12}\Z"


def bounds(lowest: float | None, highest: float | None) -> str:
    return f"{lowest or 0:,} … {highest:,}" if highest is not None else "–"


def shown(kind: inspect.Type) -> tuple[str, str]:
    """The type and the limits of a field as the document shows them."""
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
        case inspect.ListType(item_type=inspect.StrType(max_length=most)):
            return "array", f"{bounds(kind.min_length, kind.max_length)} strings of at most {most:,} characters"
        case inspect.ListType():
            return "array", f"{bounds(kind.min_length, kind.max_length)} payloads"
        case inspect.BoolType():
            return "boolean", "–"
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
        if field.required or field.name == "layout":
            absent = "required"
        else:
            absent = json.dumps(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
        yield [field.name, name, str(LAYOUT) if field.name == "layout" else limits, absent]
