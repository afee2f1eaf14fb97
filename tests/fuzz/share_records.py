"""Records of a share, and the file that names its owner."""

from collections.abc import Iterator

from inbox_agent.conformance.vectors import load_vectors
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.layout import (
    AgentRecord,
    EvaluatorRecord,
    HostRecord,
    LayoutError,
    ResultRecord,
    StartedRecord,
    StartRecord,
    decode,
    encode,
)
from inbox_agent.protocol.readers import DamagedOwner, read_owner
from tests.fakes.memory_files import MemoryFiles
from tests.fuzz.target import FuzzTarget

KINDS = (HostRecord, StartRecord, StartedRecord, ResultRecord, AgentRecord, EvaluatorRecord, DeployRecord)


def _decode(data: bytes) -> None:
    files = MemoryFiles()
    files.folders.add("inbox")
    files.files["inbox/1.host.json"] = data
    assert isinstance(read_owner(files, ["1.host.json", "2.host"]), HostRecord | DamagedOwner)
    refused: list[LayoutError] = []
    for kind in KINDS:
        try:
            record = decode(kind, data, "record.json")
        except LayoutError as error:
            assert str(error).isprintable()
            refused.append(error)
        else:
            again = encode(record)  # LayoutError: compact, it was within the limit
            assert decode(kind, again, "record.json") == record
    if len(refused) == len(KINDS):
        raise refused[0]


def _seeds() -> Iterator[bytes]:
    for vector in load_vectors():
        yield vector.read()


TARGET = FuzzTarget(_decode, (LayoutError,), _seeds)
