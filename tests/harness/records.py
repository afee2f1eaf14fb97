"""Records as a host and an agent would write them, with defaults for all fields that a test does not set."""

import hashlib
from typing import Any

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentRecord, AgentState, HostRecord, Outcome, ResultRecord, StartRecord

FARM, WORKER = "farm-1", "vm-0"
GENOME = b"a genome"
VERSION = "0123456789abcdef"  #: of the evaluator


def attempt(number: int) -> str:
    """An attempt id, different for every number."""
    return f"g0007-0042-t1-a{number}-abcdefghijkl"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def host(epoch: int = 1, **other: Any) -> HostRecord:
    return HostRecord(**{"farm": FARM, "worker": WORKER, "epoch": epoch, **other})


def start(number: int = 1, genome: bytes = GENOME, **other: Any) -> StartRecord:
    """The start signal of `attempt(number)`, with this publication number."""
    fields = {
        "farm": FARM,
        "worker": WORKER,
        "epoch": 1,
        "publication": number,
        "attempt": attempt(number),
        "trial": 1,
        "seed": 7,
        "time_limit_s": 60.0,
        "genome_name": "genome.bin",
        "genome_suffix": ".bin",
        "genome_bytes": len(genome),
        "genome_sha256": sha256(genome),
        "evaluator": VERSION,
    }
    return StartRecord(**{**fields, **other})


def result(number: int = 1, **other: Any) -> ResultRecord:
    """A completed result that matches `start(number)`."""
    fields = {
        "farm": FARM,
        "worker": WORKER,
        "epoch": 1,
        "attempt": attempt(number),
        "trial": 1,
        "seed": 7,
        "genome_sha256": sha256(GENOME),
        "evaluator": VERSION,
        "outcome": Outcome.COMPLETED,
        "fitness": 2.5,
        "seconds": 1.0,
        "boot_id": "boot",
        "run_id": "run",
    }
    return ResultRecord(**{**fields, **other})


def beat(run_id: str = "run", counter: int = 1, **other: Any) -> AgentRecord:
    fields = {"boot_id": "boot", "run_id": run_id, "counter": counter, "state": AgentState.IDLE}
    return AgentRecord(**{**fields, **other})


def of_another_version(record: layout.Record) -> bytes:
    """A complete record of an unknown layout version."""
    return layout.encode(record).replace(b'"layout": 2', b'"layout": 1')
