"""The answers of a site to its host, and what of them is about something else than it was asked."""

from collections.abc import Iterator

from inbox_agent.protocol import layout
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus, ShareScan
from pipeline.core.requests import ScanRequest
from pipeline.machines.sites.messages import (
    AnswerError,
    Chunk,
    Executed,
    Lacks,
    NotOpen,
    Refused,
    SiteChanges,
    SiteOpened,
    checked_response,
    decode_answer,
    encode,
)
from pipeline.shares.share_client import ShareResponse
from tests.fuzz.target import FuzzTarget
from tests.harness import records
from tests.harness.records import WORKER, attempt

_REQUEST = ScanRequest(worker=WORKER, full=True, wanted=frozenset({attempt(1)}))


def _decode(data: bytes) -> None:
    answer = decode_answer(data)
    if isinstance(answer, Executed):
        response = checked_response(_REQUEST, answer.response)
        assert response.worker == WORKER
        assert response.scan is not None
        assert all(layout.is_attempt(result.attempt) for result in response.scan.results)
        assert all(layout.is_artifact(name) for result in response.scan.results for name in result.artifacts)


def _seeds() -> Iterator[bytes]:
    result = CollectedResult(attempt=attempt(1), record=None, data=layout.encode(records.result()))
    names = frozenset({attempt(1)})
    scan = ShareScan(
        worker=WORKER, full=True, owner=records.host(), heartbeat=records.beat(), answers=names, results=(result,)
    )
    yield encode(Executed(response=ShareResponse(worker=WORKER, scan=scan)))
    yield encode(Executed(response=ShareResponse(worker=WORKER, error="it failed", sent={attempt(1): True})))
    yield encode(Lacks(digests=frozenset({"0" * 64})))
    yield encode(Chunk(data=b"part"))
    yield encode(NotOpen())
    yield encode(SiteOpened(host_name="a", folder="/b", python="3.11"))
    yield encode(Refused(reason="no", is_final=True))
    machines = {WORKER: MachineStatus(MachineState.OFF, (), "exit code 1")}
    yield encode(SiteChanges(changes=3, results=frozenset({WORKER}), machines=machines, restores={WORKER: 1}))
    yield b"\x81\xa4type\xa8Executed"


TARGET = FuzzTarget(_decode, (AnswerError,), _seeds)
