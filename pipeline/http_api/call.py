"""One request that was let in: what its handler reads, asks and answers.

Owns: in which threads operations run, and ETags.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pipeline.control.operations import FarmOperations, ReadOperations, SubmissionAnswer, SubmittedGenome
from pipeline.core.access import TokenRecord
from pipeline.errors import GenomeError
from pipeline.http_api.endpoint import ApiEndpoint
from pipeline.http_api.event_feed import EventFeed
from pipeline.http_api.parameters import Arguments
from pipeline.http_api.problems import Problem, bad_input
from pipeline.http_api.request_body import BodyShare
from pipeline.http_api.submission_groups import SubmissionGroups
from pipeline.storage.submitted_genomes import refuse_names

JSON = "application/json"
BYTES = "application/octet-stream"

Answer = TypeVar("Answer")
Decoded = TypeVar("Decoded")


@dataclass(slots=True)
class Threads:
    """Where operations run: those that change something have threads of their own, so that readers cannot take them."""

    reading: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    changing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))


@dataclass(slots=True, kw_only=True)
class ApiCall:
    """A request with the rights of its token."""

    request: Request
    endpoint: ApiEndpoint
    arguments: Arguments
    reading: ReadOperations
    farm: FarmOperations | None  #: None: nothing can be changed here
    body: BodyShare
    genome_bytes_max: int
    feed: EventFeed
    threads: Threads
    submissions: SubmissionGroups | None  #: as `farm`
    token: TokenRecord | None = None
    is_over: Callable[[], bool] = lambda: False  #: whether what takes long is to end
    generation: int | None = None  #: for the audit log, as the next three
    genomes: int = 0
    genome: str = ""
    worker: str = ""

    @property
    def control(self) -> FarmOperations:
        """The operations that change something; a request that changes something is refused where they are off."""
        assert self.farm is not None
        return self.farm

    async def submit(self, number: int, genomes: Sequence[SubmittedGenome]) -> list[SubmissionAnswer]:
        """Submits genomes, as `change` does, together with what other clients submit at the time."""
        assert self.submissions is not None
        return await self.submissions.submit(number, genomes)

    async def read(self, operation: Callable[[], Answer]) -> Answer:
        """Runs an operation that reads. It raises PipelineError."""
        return await anyio.to_thread.run_sync(operation, limiter=self.threads.reading)

    async def change(self, operation: Callable[[], Answer]) -> Answer:
        """Runs an operation that changes something, to its end, also if the client goes away. Raises PipelineError."""
        return await anyio.to_thread.run_sync(operation, limiter=self.threads.changing)

    # -------------------------------------------------------------------------------------------------- the request

    def number(self) -> int:
        """The generation in the path."""
        self.generation = self.arguments.number()
        return self.generation

    def worker_name(self) -> str:
        """The worker in the path."""
        self.worker = self.arguments.worker()
        return self.worker

    def new_name(self) -> str:
        """A name in the path that a new genome may have. Raises Problem."""
        name = self.arguments.name()
        try:
            refuse_names([name], windows=os.name == "nt")
        except GenomeError as error:
            raise bad_input(str(error)) from error
        self.genome = name
        return name

    async def json(self, kind: type[Decoded], bytes_max: int) -> Decoded:
        """The body. Raises Problem: it is too large, or not JSON of this form."""
        self._refuse_type(JSON, is_needed=True)
        data = await self.body.read(self.request, bytes_max)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise bad_input(f"the body: {error}") from error

    async def bytes(self, bytes_max: int) -> bytes:
        """The body. Raises Problem: it is too large."""
        self._refuse_type(BYTES, is_needed=False)
        return await self.body.read(self.request, bytes_max)

    def _refuse_type(self, wanted: str, *, is_needed: bool) -> None:
        given = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != wanted and (given or is_needed):
            raise Problem(415, "media-type", f"Content-Type: expected {wanted}, found {given[:64] or 'none'}")

    # --------------------------------------------------------------------------------------------------- the answer

    def answer(self, value: Any, status: int = 200, **headers: str) -> Response:
        """An answer in JSON."""
        return Response(msgspec.json.encode(value), status, media_type=JSON, headers=headers)

    def known_answer(self, value: Any) -> Response:
        """An answer in JSON with its ETag; 304 without a body if the client has it already."""
        data = msgspec.json.encode(value)
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        known = [each.strip().removeprefix("W/") for each in self.request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=JSON, headers=headers)
