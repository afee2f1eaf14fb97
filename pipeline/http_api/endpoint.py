"""What is said of one request: path, scope, parameters, bodies, statuses. The table of them is in `endpoints`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from pipeline.core.access import AccessScope
from pipeline.http_api.parameters import WAIT_S, Parameter

Handler = Callable[[Any], Awaitable[Response]]  #: of an `ApiCall`, which knows its endpoint


@dataclass(frozen=True, slots=True)
class ApiEndpoint:
    """One request."""

    method: str
    path: str  #: below `/v1`
    handler: Handler  #: its name is that of the operation
    scope: AccessScope | None  #: None: no token is needed
    answer: type | None  #: None: no body
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    body_type: str = ""  #: media type; empty: no body is expected
    statuses: tuple[int, ...] = (200,)  #: of success
    problems: tuple[int, ...] = ()  #: besides those that every request may have
    has_etag: bool = False
    streams: str = ""  #: another media type of the answer

    @property
    def operation(self) -> str:
        """Its name."""
        return self.handler.__name__

    @property
    def about(self) -> str:
        """What it does, in Markdown."""
        return " ".join((self.handler.__doc__ or "").split())

    @property
    def is_change(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    @property
    def waits(self) -> bool:
        """Whether a client may keep it waiting."""
        return WAIT_S in self.parameters
