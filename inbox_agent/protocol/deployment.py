"""Deployments: the records and names by which a host brings an evaluator to an agent through its share. Pure.

Owns: the names and the record of a deployment. Not here: the archive (inbox_agent.evaluator_archive).
See: share_layout.md, which describes the same.
"""

import re
from typing import Annotated

from msgspec import Meta

from inbox_agent.protocol.layout import ARCHIVE_BYTES_MAX, FILES_MAX, Digest, Name, Positive, Record, Token

_NAME = re.compile(r"([1-9]\d{0,8})\.deploy\.(json|zip)", re.ASCII)

_Argument = Annotated[str, Meta(max_length=1000)]


class DeployRecord(Record, frozen=True, kw_only=True):
    """`inbox/<number>.deploy.json`: the evaluator that the agent must play; the highest number counts."""

    farm: Token
    worker: Name
    number: Positive  #: as in the name
    evaluator: Token  #: the version that it must have when it is unpacked
    archive_bytes: Annotated[int, Meta(ge=1, le=ARCHIVE_BYTES_MAX)]
    archive_sha256: Digest
    # Fields of `[evaluator]`; the others are those of the agent.
    command: Annotated[list[_Argument], Meta(min_length=1, max_length=100)] | None = None
    python: _Argument | None = None
    files: Annotated[list[_Argument], Meta(min_length=1, max_length=FILES_MAX)] | None = None
    stall_limit_s: Annotated[float, Meta(gt=0, le=7 * 86400)] | None = None
    load_limit_s: Annotated[float, Meta(gt=0, le=86400)] = 300.0
    memory_limit_mb: Annotated[int, Meta(ge=16, le=2**24)] | None = None
    games_per_process: Positive | None = None
    result_is_final: bool = False


def record_name(number: int) -> str:
    """The name of a deployment's record."""
    return f"{number}.deploy.json"


def archive_name(number: int) -> str:
    """The name of a deployment's archive."""
    return f"{number}.deploy.zip"


def deployment_of(name: str) -> int | None:
    """The number in the name of a record or an archive; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def recorded_deployment(name: str) -> int | None:
    """The number in the name of a record; None for any other name."""
    return deployment_of(name) if name.endswith(".json") else None
