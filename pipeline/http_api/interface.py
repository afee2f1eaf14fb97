"""The interface as an ASGI application: routing by the table of requests, and what surrounds every request.

Owns: the order of checks: name and site of the request, path and method, token, scope and rate, then the request.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.control.operations import FarmOperations, ReadOperations
from pipeline.core.access import TokenRecord
from pipeline.errors import PipelineError
from pipeline.http_api.call import JSON, ApiCall, Threads
from pipeline.http_api.changing import PREFIX
from pipeline.http_api.endpoint import ApiEndpoint
from pipeline.http_api.endpoints import ENDPOINTS
from pipeline.http_api.event_feed import EventFeed
from pipeline.http_api.gate import Gate, GateLimits
from pipeline.http_api.guard import Guard
from pipeline.http_api.openapi import openapi
from pipeline.http_api.parameters import Arguments
from pipeline.http_api.problems import Problem, internal_problem, problem_of, response_of
from pipeline.http_api.request_body import BodyMemory
from pipeline.http_api.submission_groups import SubmissionGroups
from pipeline.storage.audit_log import AuditLog, RequestedChange
from pipeline.storage.token_store import TokenStore


@dataclass(frozen=True, kw_only=True)
class InterfaceSettings:
    """What an interface is made for."""

    host: str  #: the address that it listens on
    names: Collection[str] = ()  #: further names of this computer
    genome_bytes_max: int
    limits: GateLimits = field(default_factory=GateLimits)
    bodies: BodyMemory = field(default_factory=BodyMemory)


class Interface:
    """The routes below `/v1` for one project."""

    def __init__(
        self,
        settings: InterfaceSettings,
        reading: ReadOperations,
        farm: FarmOperations | None,
        tokens: TokenStore,
        audit: AuditLog,
        is_ending: Callable[[], bool],
    ) -> None:
        """Creates it. `farm`: None if nothing can be changed here. `is_ending`: whether the server was stopped."""
        self._settings, self._reading, self._farm = settings, reading, farm
        self._audit, self._is_ending = audit, is_ending
        self._gate, self._threads = Gate(tokens, settings.limits), Threads()
        self._submissions = SubmissionGroups(farm.submit_together) if farm is not None else None
        self._feed = EventFeed(reading, is_ending)
        self._described = msgspec.json.encode(openapi(ENDPOINTS, PREFIX))
        description = ApiEndpoint("GET", "/openapi.json", self._description, None, dict)
        by_path: dict[str, dict[str, ApiEndpoint]] = defaultdict(dict)
        for endpoint in (*ENDPOINTS, description):
            by_path[f"{PREFIX}{endpoint.path}"][endpoint.method] = endpoint
        routes = [Route(path, _Resource(methods, self._serve)) for path, methods in by_path.items()]
        handlers = {HTTPException: _not_found, Exception: _internal}
        routed = Starlette(routes=routes, exception_handlers=handlers)
        routed.router.redirect_slashes = False
        self.app: ASGIApp = Guard(routed, settings.host, settings.names)

    @contextlib.asynccontextmanager
    async def _serve(self, endpoint: ApiEndpoint, request: Request) -> AsyncIterator[Response]:
        """The answer to a request, for a block that sends it; then what the request takes is given back."""
        with self._settings.bodies.share() as body:
            call = ApiCall(
                request=request,
                endpoint=endpoint,
                arguments=Arguments(request, endpoint.parameters),
                reading=self._reading,
                farm=self._farm,
                body=body,
                genome_bytes_max=self._settings.genome_bytes_max,
                feed=self._feed,
                threads=self._threads,
                submissions=self._submissions,
            )
            with self._gate.room(endpoint):
                yield await self._noted(call)

    async def _noted(self, call: ApiCall) -> Response:
        """The answer; of a change that a valid token asked for, the audit log has it."""
        outcome = internal_problem()
        try:
            response = await self._answered(call)
        except Problem as problem:
            outcome = problem
            raise
        except PipelineError as error:
            outcome = problem_of(error)
            raise outcome from error
        except ClientDisconnect:
            outcome = Problem(0, "disconnected", "")
            raise
        else:
            outcome = Problem(response.status_code, "done", "")
            return response
        finally:
            if call.endpoint.is_change and call.token is not None:
                self._note(call, call.token, outcome)

    async def _answered(self, call: ApiCall) -> Response:
        if call.endpoint.scope is not None:
            call.token = self._gate.token(call.request)
            self._gate.admit(call.token, call.endpoint.scope)
        if call.endpoint.is_change and self._farm is None:
            raise Problem(
                501, "not-controlled", "nothing can be changed here; start `pipeline serve --control` instead"
            )
        call.arguments.refuse_unknown()
        has_ended = self._gate.invalidity(call.token)
        call.is_over = lambda: self._is_ending() or has_ended()
        return await call.endpoint.handler(call)

    def _note(self, call: ApiCall, token: TokenRecord, outcome: Problem) -> None:
        client = call.request.client
        self._audit.write(
            RequestedChange(
                token=token.name,
                client=client.host if client is not None else "",
                operation=call.endpoint.operation,
                generation=call.generation,
                genomes=call.genomes,
                genome=call.genome,
                worker=call.worker,
                status=outcome.status,
                outcome=outcome.word,
            ),
            time.time(),
        )

    async def _description(self, _call: ApiCall) -> Response:
        return Response(self._described, media_type=JSON)


class _Resource:
    """One path, as an ASGI application."""

    def __init__(
        self,
        methods: Mapping[str, ApiEndpoint],
        serve: Callable[[ApiEndpoint, Request], contextlib.AbstractAsyncContextManager[Response]],
    ) -> None:
        self._methods, self._serve = methods, serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        endpoint = self._methods.get(method)
        if endpoint is None:
            allowed = ", ".join([*self._methods, *(["HEAD"] if "GET" in self._methods else [])])
            problem = Problem(405, "method", f"{allowed} are possible here", headers={"Allow": allowed})
            await response_of(problem)(scope, receive, send)
            return
        try:
            async with self._serve(endpoint, Request(scope, receive, send)) as answer:
                await answer(scope, receive, send)
        except Problem as problem:
            await response_of(problem)(scope, receive, send)
        except ClientDisconnect:
            return


async def _not_found(_request: Request, _error: Exception) -> Response:
    return response_of(Problem(404, "not-found", "there is no such path; /v1/openapi.json has all"))


async def _internal(_request: Request, _error: Exception) -> Response:
    return response_of(internal_problem())
