"""What an HTTP server answers to a client: status, JSON, problems."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from pipeline.control.operations import (
    GenerationState,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    GenomeStatus,
    ProjectStatus,
    SubmissionAnswer,
    SubmissionState,
    WorkerStatus,
)
from pipeline.errors import PipelineError
from pipeline.remote.http_connections import Reply
from pipeline.remote.pages import fitness_of, progress_of, table_of_results
from pipeline.remote.server import Server
from pipeline.remote.server_url import server_url
from pipeline.remote.texts import remote_progress_text, remote_status_text
from tests.fuzz.target import FuzzTarget

_KINDS: tuple[type[Any], ...] = (GenerationStatus, GenomePage, ProjectStatus, SubmissionAnswer)
_STATUSES = (200, 400, 404, 409, 422, 500)


class _Answering:
    """Connections on which every request has this answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self._reply = Reply(status, body, None)

    def request(self, *_request: object) -> Reply:
        return self._reply


def _decode(data: bytes) -> None:
    kind, status = (data[0] % len(_KINDS), data[1] % len(_STATUSES)) if len(data) > 1 else (0, 0)
    connections = cast(Any, _Answering(_STATUSES[status], data[2:]))
    server = Server(server_url("https://farm.example"), connections, threading.Event())
    found = server.ask(_KINDS[kind], "GET", "anything")
    if isinstance(found, GenomePage):
        assert all(fitness_of(result).files is None for result in found.items)
        assert len(table_of_results(found.items)["genome"]) == len(found.items)
    if isinstance(found, GenerationStatus):
        assert remote_progress_text(found).isprintable()
        assert progress_of(found, (), 1.0, 0).pending >= 0
    if isinstance(found, ProjectStatus):
        status_now = GenerationStatus(
            number=1, state=GenerationState.OPEN, genomes=0, completed=0, failed=0, trials=0, settled=0
        )
        assert all(line.isprintable() for line in remote_status_text(found, status_now).splitlines())


def _seeds() -> Iterator[bytes]:
    status = GenerationStatus(
        number=7, state=GenerationState.OPEN, genomes=2, completed=1, failed=0, trials=2, settled=1, best=1.5, mean=1.5
    )
    result = GenomeResult(
        name="a",
        status=GenomeStatus.COMPLETED,
        fitness=1.5,
        trials=[1.5, None],
        metrics={"fitness": 1},
        params={"x": 1},
    )
    worker = WorkerStatus(name="w", state="idle")
    project = ProjectStatus(
        name="p", version="1", is_controlled=True, open_generation=7, latest_generation=7, workers=[worker]
    )
    answer = SubmissionAnswer(name="a", state=SubmissionState.ACCEPTED)
    for number, value in enumerate((status, GenomePage(generation=7, items=[result], next=1), project, answer)):
        yield bytes([number, 0]) + msgspec.json.encode(value)
    yield b"\x00\x03" + b'{"type": "urn:genome-pipeline:conflict", "detail": "\\u001b[2J\\n"}'
    yield b"\x00\x00" + b'{"state": "\\u001b[2J"}'
    yield b"\x01\x00" + b"[" * 5000
    yield b"\x01\x05" + b"[" * 5000
    yield b"\x02\x00\xff"


TARGET = FuzzTarget(_decode, (PipelineError,), _seeds)
