"""Errors as `application/problem+json` (RFC 9457), with the meaning of our exit codes.

Owns: which error has which status, and after how long a client may try again.
"""

import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct
from starlette.responses import Response

from pipeline.errors import (
    ConfigError,
    ConflictError,
    ExitCode,
    FarmClosed,
    GenomeError,
    HostError,
    InputError,
    LedgerError,
    NotFoundError,
    PipelineError,
    ProjectBusyError,
    QueueFullError,
    SecretError,
    StalledError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_S = 2  #: when the disk or the ledger cannot be used
_BUSY_S = 1  #: when there are too many requests or genomes
_URN = "urn:genome-pipeline:"


class ProblemDetails(Struct, frozen=True, kw_only=True):
    """Why a request was not carried out."""

    type: str  #: `urn:genome-pipeline:` and a word
    title: str
    status: int
    detail: str  #: what is wrong, where, and what to do
    exit_code: int  #: with which a command of `pipeline` would end


class Problem(Exception):
    """Ends a request with an error."""

    def __init__(
        self,
        status: int,
        word: str,
        detail: str,
        *,
        exit_code: int = ExitCode.BAD_INPUT,
        headers: Mapping[str, str] = {},
    ) -> None:
        super().__init__(detail)
        self.status, self.word, self.detail, self.exit_code = status, word, detail, exit_code
        self.headers = headers


def bad_input(detail: str) -> Problem:
    """The request cannot be understood."""
    return Problem(400, "bad-input", detail)


def busy(detail: str, *, status: int = 503, word: str = "busy", wait_s: float = _BUSY_S) -> Problem:
    """There is no room for the request now."""
    return Problem(
        status, word, detail, exit_code=ExitCode.STOPPED, headers={"Retry-After": str(max(1, math.ceil(wait_s)))}
    )


#: Status and word of each error; the first that fits counts.
_STATUSES: tuple[tuple[type[PipelineError], int, str], ...] = (
    (NotFoundError, 404, "not-found"),
    (QueueFullError, 429, "queue-full"),
    (ConflictError, 409, "conflict"),
    (ProjectBusyError, 409, "conflict"),
    (FarmClosed, 409, "conflict"),
    (StalledError, 409, "stalled"),
    (GenomeError, 422, "genome-refused"),
    (ConfigError, 503, "unavailable"),
    (SecretError, 503, "unavailable"),
    (InputError, 400, "bad-input"),
    (HostError, 503, "unavailable"),
    (LedgerError, 503, "unavailable"),
    (PipelineError, 500, "internal"),
)


def problem_of(error: PipelineError) -> Problem:
    """The problem that stands for an error of an operation."""
    status, word = next((status, word) for kind, status, word in _STATUSES if isinstance(error, kind))
    wait_s = {429: _BUSY_S, 503: RETRY_S}.get(status)
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return Problem(status, word, str(error), exit_code=error.exit_code, headers=headers)


#: What a status means in general.
TITLES = {
    400: "The request cannot be understood",
    401: "A valid token is needed",
    403: "The request is not allowed",
    404: "There is no such thing",
    405: "The method is not allowed here",
    408: "The body took too long",
    409: "It cannot be done now",
    413: "The body is too large",
    415: "The body is of another type than this takes",
    421: "The name is not one of this server",
    422: "The genome was refused",
    429: "There is no room for it now",
    431: "The headers are too large",
    500: "A defect of this program",
    501: "The project is not controlled here",
    503: "It cannot be answered now",
}


def response_of(problem: Problem) -> Response:
    """The answer for a problem."""
    details = ProblemDetails(
        type=f"{_URN}{problem.word}",
        title=TITLES[problem.status],
        status=problem.status,
        detail=problem.detail,
        exit_code=problem.exit_code,
    )
    return Response(msgspec.json.encode(details), problem.status, media_type=MEDIA_TYPE, headers=dict(problem.headers))


def internal_problem() -> Problem:
    """For what no operation should raise."""
    reason = "a defect of this program; the server's output has its traceback"
    return Problem(500, "internal", reason, exit_code=ExitCode.INTERNAL_ERROR)
