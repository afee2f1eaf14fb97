"""`pruned.json` in the results of a generation: what was removed of them on purpose, so that it is not missed.

Owns: the form of the file, and that it is on the disk before anything is removed: after a kill it may name what is
still there, and never lacks what is gone. Each kind has the time when it was removed and the number of the last fact of
the ledger then: what was archived later is not excused.
Not here: which kinds there are (`core.retention`). Kinds of later versions of this program are kept and ignored.
"""

import os
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from inbox_agent.system.atomic_file import replace_file
from inbox_agent.system.file_kind import open_regular
from pipeline.paths import PRUNED_JSON

PRUNED_BYTES_MAX = 64 * 1024


class Pruning(Struct, frozen=True):
    """When a kind of files was removed."""

    at: Annotated[datetime, Meta(tz=True)]
    facts: Annotated[int, Meta(ge=0, le=2**53)]  #: the number of the ledger's last fact

    def __post_init__(self) -> None:
        if self.at.utcoffset():
            raise ValueError("its times are in UTC")


_decode = msgspec.json.Decoder(dict[str, Pruning]).decode


class UnreadableRecord(Exception):
    """`pruned.json` cannot be used; the message says in which folder, why, and what to do."""


def read_pruned(results: Path) -> dict[str, Pruning]:
    """What was removed of a generation's results, by kind; empty if nothing was. Raises UnreadableRecord."""
    path = results / PRUNED_JSON
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(PRUNED_BYTES_MAX + 1)
        if len(data) > PRUNED_BYTES_MAX:
            raise ValueError(f"larger than {PRUNED_BYTES_MAX} bytes")
        return _decode(data)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        why = error.strerror if isinstance(error, OSError) else error
        raise UnreadableRecord(f"{path}: it cannot be read: {why}; move it away and prune again") from error


def record_pruned(results: Path, kinds: Collection[str], last_fact: int, ledger_facts: int, at: datetime) -> None:
    """Records that these kinds are removed now. A kind that was removed since the run's `last_fact` keeps its time.

    Raises:
        UnreadableRecord: the earlier record cannot be read.
        OSError: it cannot be written; nothing may be removed then.
    """
    before = read_pruned(results)
    now = Pruning(at.replace(microsecond=0), ledger_facts)
    new = {kind: now for kind in sorted(kinds) if kind not in before or before[kind].facts < last_fact}
    if new:
        os.makedirs(results, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode({**before, **new}), indent=2) + b"\n"
        replace_file(results / PRUNED_JSON, text, durable=True)


def last_facts(pruned: Mapping[str, Pruning]) -> dict[str, int]:
    """Kind -> the number of the last fact when it was removed."""
    return {kind: pruning.facts for kind, pruning in pruned.items()}
