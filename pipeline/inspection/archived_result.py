"""What an audit reads besides the facts of a run: archived results, of any layout version that was ever archived,
outputs, and what the ledger has of results of earlier generations.

Pure.

Not here: the records of a share, which only the current layout version has (`inbox_agent.protocol.layout`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from pipeline.inspection.reuse_audit import AcceptedGame

NO_SNAPSHOT = "its snapshot is missing"  #: what is wrong with a genome's bytes that are not there
MISSING = "it is missing"  #: why a result cannot be read that is not there
LAYOUTS = (1, 2)  #: version 1 does not name the evaluator


class ArchivedResult(Struct, frozen=True, kw_only=True):
    """The fields of a result that are compared with the ledger; others are ignored."""

    layout: int
    attempt: str | None = None
    trial: int | None = None
    seed: int | None = None
    genome_sha256: str | None = None
    evaluator: str | None = None
    outcome: str
    fitness: float | None = None


_decode = msgspec.json.Decoder(ArchivedResult).decode


def read_archived_result(data: bytes) -> ArchivedResult | str:
    """The result in a record of the archive, or why it cannot be read."""
    try:
        result = _decode(data)
    except (ValueError, RecursionError) as error:
        return f"it cannot be read: {error}"
    if result.layout not in LAYOUTS:
        return f"it has layout {result.layout}, known are {' and '.join(map(str, LAYOUTS))}"
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedFiles:
    """What was removed on purpose, as the results say themselves: nothing of it is missing, and all else is."""

    date: str = ""  #: of the last time; empty: nothing was
    results: Collection[str] = ()  #: the attempts whose records were
    genomes: Collection[str] = ()  #: the digests whose snapshots may be
    problem: str = ""  #: why it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is on the disk besides the ledger."""

    archived: Mapping[str, ArchivedResult | str]  #: attempt -> its archived result, or why it cannot be read
    damaged_lines: Sequence[int] = ()  #: numbers of the lines of `results.jsonl` that are none
    missing: str = MISSING  #: what to say of a result that is not in `archived`
    snapshots: Mapping[str, str]  #: digest -> what is wrong with the genome's bytes, empty if nothing
    rows: Sequence[Mapping[str, str]] | None  #: of `results.csv`; None if it cannot be read
    summary: Mapping[str, Any] | None  #: `summary.json`; None if it cannot be read
    #: the attempts of earlier generations that count again: what the ledger has of them
    accepted: Mapping[str, AcceptedGame] = field(default_factory=dict)
    pruned: PrunedFiles = PrunedFiles()
