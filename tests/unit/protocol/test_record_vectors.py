"""The records of the conformance kit have the verdicts that their index states."""

import pytest

from inbox_agent.conformance.vectors import RECORDS, Vector, load_vectors
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.layout import (
    AgentRecord,
    EvaluatorRecord,
    HostRecord,
    LayoutError,
    Record,
    ResultRecord,
    StartedRecord,
    StartRecord,
    UnknownLayout,
    decode,
)

pytestmark = pytest.mark.rules

KINDS: dict[str, type[Record]] = {
    "host": HostRecord,
    "start": StartRecord,
    "claim": StartedRecord,
    "result": ResultRecord,
    "heartbeat": AgentRecord,
    "evaluator": EvaluatorRecord,
    "deployment": DeployRecord,
}
VECTORS = load_vectors()


def verdict_of(kind: type[Record], vector: Vector) -> tuple[str, str]:
    """Verdict and reason of this project's reader."""
    try:
        decode(kind, vector.read(), vector.file)
    except UnknownLayout as error:
        return "other layout", error.reason
    except LayoutError as error:
        return "invalid", error.reason
    return "valid", ""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.file)
def test_record_has_stated_verdict(vector: Vector) -> None:
    """A vector of every kind is read as each of them; one with the verdict `either` raises nothing else."""
    for kind in KINDS.values() if vector.kind == "any" else [KINDS[vector.kind]]:
        verdict, reason = verdict_of(kind, vector)
        assert verdict == vector.verdict or vector.verdict == "either"
        assert vector.reason in reason


def test_index_lists_each_file_once() -> None:
    """And every kind has valid and invalid records."""
    files = {path.relative_to(RECORDS).as_posix() for path in RECORDS.glob("*/*")}

    assert sorted(vector.file for vector in VECTORS) == sorted(files)
    for verdict in ("valid", "invalid"):
        assert {vector.kind for vector in VECTORS if vector.verdict == verdict} >= KINDS.keys()
