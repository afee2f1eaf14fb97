"""Readers of a share's records, for agent, host and doctors: each is one read through `ShareFiles`.

Owns: which file of `inbox/` names the owner, and what counts as damage there. Not here: what follows from a damaged
or missing record, which differs between agent and host.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from inbox_agent.protocol.files import FileInvalid, FileMissing, ShareFiles
from inbox_agent.protocol.layout import (
    EVALUATOR,
    HEARTBEAT,
    INBOX,
    RECORD_BYTES_MAX,
    STATUS,
    AgentRecord,
    EvaluatorRecord,
    HostRecord,
    LayoutError,
    Record,
    decode,
    epoch_of,
    host_name,
)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class DamagedOwner:
    """The `host.json` of the highest epoch is listed, but gone, invalid, or of another epoch than its name."""

    epoch: int
    error: FileMissing | FileInvalid | LayoutError


def newest_epoch(names: Iterable[str]) -> int:
    """The highest epoch among the names in `inbox/`; 0 if there is no `host.json`."""
    return max((epoch for name in names if (epoch := epoch_of(name)) is not None), default=0)


def read_owner(files: ShareFiles, names: Iterable[str]) -> HostRecord | DamagedOwner | None:
    """The `host.json` of the highest epoch among the names in `inbox/`; None if there is none. Raises Unavailable."""
    epoch = newest_epoch(names)
    if not epoch:
        return None
    name = host_name(epoch)
    try:
        owner = read_record(files, HostRecord, INBOX, name)
        if owner.epoch != epoch:
            raise LayoutError(name, f"speaks of epoch {owner.epoch}")
    except (FileMissing, FileInvalid, LayoutError) as error:
        return DamagedOwner(epoch, error)
    return owner


def read_heartbeat(files: ShareFiles) -> AgentRecord:
    """The agent's heartbeat. Raises as `read_record`."""
    return read_record(files, AgentRecord, STATUS, HEARTBEAT)


def read_evaluator(files: ShareFiles) -> EvaluatorRecord:
    """What the agent's evaluator consists of. Raises as `read_record`."""
    return read_record(files, EvaluatorRecord, STATUS, EVALUATOR)


def read_record(files: ShareFiles, kind: type[R], folder: str, name: str) -> R:
    """One record.

    Raises:
        FileMissing, FileInvalid, Unavailable: as `ShareFiles.read`.
        LayoutError, UnknownLayout: as `decode`.
    """
    return decode(kind, files.read(f"{folder}/{name}", RECORD_BYTES_MAX), name)
