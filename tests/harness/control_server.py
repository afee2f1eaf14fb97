"""A control server in its own process, over `ProjectOperations`: `python -m tests.harness.control_server ROOT PORT`."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.control.operations import SubmittedGenome
from pipeline.control.project_operations import ProjectOperations
from pipeline.errors import ConflictError, GenomeError, InputError, NotFoundError, PipelineError, QueueFullError
from tests.harness.samba import free_port
from tests.harness.waiting import eventually

TOKEN = "test-token-of-twenty-characters"


class _Submitted(msgspec.Struct):
    genomes: list[SubmittedGenome]


def json_of(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def application(operations: ProjectOperations) -> Starlette:
    """The requests of the contract that the client makes."""

    def answered(carry_out: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return json_of({"detail": "no token"}, 401)
            body = await request.body()
            try:
                return await run_in_threadpool(carry_out, request, body)
            except PipelineError as error:
                kinds = [(NotFoundError, 404), (QueueFullError, 429), (ConflictError, 409), (GenomeError, 422)]
                kinds += [(InputError, 400), (PipelineError, 503)]
                status = next(status for kind, status in kinds if isinstance(error, kind))
                return json_of({"type": "urn:genome-pipeline:x", "detail": str(error)}, status)

        return answer

    def number(request: Request) -> int:
        return int(request.path_params["number"])

    def paging(request: Request) -> dict[str, int]:
        return {key: int(request.query_params[key]) for key in ("after", "limit") if key in request.query_params}

    def opening(request: Request, body: bytes) -> Response:
        key = request.headers["idempotency-key"]
        return json_of(operations.open_generation(json.loads(body).get("number"), key=key), 201)

    def submitting(request: Request, body: bytes) -> Response:
        genomes = msgspec.json.decode(body, type=_Submitted).genomes
        return json_of({"answers": operations.submit(number(request), genomes)})

    def putting(request: Request, body: bytes) -> Response:
        name, params = request.path_params["name"], json.loads(request.headers.get("genome-params", "{}"))
        (answer,) = operations.submit(number(request), [SubmittedGenome(name=name, content=body, params=params)])
        return json_of(answer, 422 if answer.state == "refused" else 201)

    def withdrawing(request: Request, body: bytes) -> Response:
        operations.cancel(number(request), request.path_params["name"])
        return Response(status_code=204)

    def settled(request: Request, body: bytes) -> Response:
        wait_s = float(request.query_params.get("wait_s", 0))
        return json_of(operations.settled(number(request), wait_s=wait_s, **paging(request)))

    async def health(_request: Request) -> Response:
        return json_of({"status": "ok", "version": "0"})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        from anyio import to_thread

        to_thread.current_default_thread_limiter().total_tokens = 200
        yield

    def route(path: str, method: str, carry_out: Callable[[Request, bytes], Response]) -> Route:
        return Route(f"/v1{path}", answered(carry_out), methods=[method])

    one, genomes = "/generations/{number:int}", "/generations/{number:int}/genomes"
    routes = [
        Route("/v1/health", health),
        route("/project", "GET", lambda request, body: json_of(operations.project())),
        route("/generations", "POST", opening),
        route(one, "GET", lambda request, body: json_of(operations.generation(number(request)))),
        route(genomes, "POST", submitting),
        route(f"{genomes}/{{name}}", "PUT", putting),
        route(f"{genomes}/{{name}}", "DELETE", withdrawing),
        route(
            f"{genomes}/{{name}}", "GET", lambda r, body: json_of(operations.genome(number(r), r.path_params["name"]))
        ),
        route(genomes, "GET", lambda r, body: json_of(operations.genomes(number(r), **paging(r)))),
        route(f"{one}/settled", "GET", settled),
        route(f"{one}/close", "POST", lambda request, body: json_of(operations.close_generation(number(request)))),
        route(f"{one}/stop", "POST", lambda request, body: json_of(operations.stop_generation(number(request)))),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class ControlServer:
    """A server of a project, which can be killed and started again at the same address."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.port = root, free_port()
        self._options = options
        self.process = self._started()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Kills it and starts it again; does not wait until it answers."""
        self.kill()
        self.process = self._started()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self) -> None:
        import httpcore2

        def answers() -> bool:
            try:
                return httpcore2.request("GET", f"{self.url}/v1/health").status == 200
            except (httpcore2.NetworkError, httpcore2.ProtocolError):
                return False

        assert eventually(answers), "the server does not answer"

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.harness.control_server", str(self.root), str(self.port)]
        return subprocess.Popen([*command, *self._options], env={**os.environ, "PYTHONDEVMODE": "0"})


@contextmanager
def control_server(root: Path, *options: str) -> Iterator[ControlServer]:
    """Serves a project until the block ends."""
    server = ControlServer(root, *options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


def main(root: str, port: str, *tls: str) -> None:
    operations = ProjectOperations(Path(root))
    operations.open_project()
    files: dict[str, Any] = dict(zip(("ssl_certfile", "ssl_keyfile"), tls, strict=False))
    config = uvicorn.Config(application(operations), port=int(port), log_level="warning", **files)
    try:
        asyncio.run(uvicorn.Server(config).serve())
    finally:
        operations.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
