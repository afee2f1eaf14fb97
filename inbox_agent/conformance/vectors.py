"""Records with the verdict of a reader: files for implementers in any language, see records/README.md.

Owns: where they are and how their index is read.
"""

from pathlib import Path
from typing import Literal

import msgspec

RECORDS = Path(__file__).with_name("records")

VectorKind = Literal["any", "host", "start", "claim", "result", "heartbeat", "evaluator", "deployment"]
Verdict = Literal["valid", "invalid", "other layout", "either"]


class Vector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record, and what a reader says of it."""

    file: str  #: its path below `RECORDS`, with `/`
    kind: VectorKind  #: `any`: the same for each kind
    verdict: Verdict
    reason: str  #: a part of the message of this project's reader; empty if there is none, or several
    note: str  #: what is special about it

    def read(self) -> bytes:
        """Its bytes."""
        return (RECORDS / self.file).read_bytes()


def load_vectors() -> list[Vector]:
    """All records of the index, in its order."""
    return msgspec.json.decode((RECORDS / "index.json").read_bytes(), type=list[Vector])
