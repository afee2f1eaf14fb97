"""Who may make which request now: tokens and their scopes, rates, and how many requests at once."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from pipeline.core.access import AccessScope, TokenRecord, TokenState, may, token_state
from pipeline.core.request_rate import RequestBucket, RequestRate
from pipeline.errors import PipelineError
from pipeline.http_api.endpoints import Endpoint
from pipeline.http_api.problems import Problem, busy
from pipeline.storage.token_store import TokenStore
from pipeline.ui.own_names import bearer_in

RATE_PER_S = 1000.0  #: requests of a token in the long run
BURST_MAX = 2000  #: requests of a token at once
REQUESTS_MAX = 128  #: at once, of all tokens together
STREAMS_MAX = 256  #: clients that wait, and streams of events, of all tokens together
_LOOK_S = 5.0  #: after which the token of a stream is looked up again


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How much is let in."""

    rate: RequestRate = field(default_factory=lambda: RequestRate(RATE_PER_S, BURST_MAX))
    requests: int = REQUESTS_MAX
    streams: int = STREAMS_MAX


@dataclass(slots=True)
class Gate:
    """Lets requests in. All methods belong to the server's event loop."""

    tokens: TokenStore
    limits: GateLimits
    _buckets: dict[str, RequestBucket] = field(default_factory=dict)  #: by name of the token
    _inside: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})  #: by whether they wait

    def token(self, request: Request) -> TokenRecord:
        """The valid token of a request. Raises Problem: there is none."""
        secret = bearer_in(request.headers.get("authorization"))
        if secret is None:
            raise _unauthorized("send a token as `Authorization: Bearer TOKEN`; `pipeline token make` makes one")
        try:
            token = self.tokens.find(secret)
        except PipelineError as error:
            raise busy(f"the tokens cannot be read: {error}", word="unavailable") from error
        if token is None:
            raise _unauthorized("the token is wrong; `pipeline token list` shows which there are", is_invalid=True)
        if (state := token_state(token, time.time())) is not TokenState.VALID:
            raise _unauthorized(
                f"the token {token.name} is {state}; `pipeline token make` makes another", is_invalid=True
            )
        return token

    def admit(self, token: TokenRecord, scope: AccessScope) -> None:
        """Counts a request of a token. Raises Problem: its scope is too small, or it has made too many."""
        now = time.monotonic()
        if not may(token, scope, time.time()):
            reason = f"the token {token.name} has the scope {token.scope}, and this needs {scope}"
            raise Problem(403, "forbidden", reason)
        bucket = self._buckets.setdefault(token.name, RequestBucket.full(self.limits.rate, now))
        if wait_s := bucket.take(now):
            reason = f"the token {token.name} makes more than {self.limits.rate.per_s:g} requests a second"
            raise busy(f"{reason}; wait, or submit more genomes in a request", status=429, word="rate", wait_s=wait_s)

    @contextlib.contextmanager
    def room(self, endpoint: Endpoint) -> Iterator[None]:
        """Around a request and its answer. Raises Problem: there are too many."""
        waits = endpoint.waits
        if self._inside[waits] >= (self.limits.streams if waits else self.limits.requests):
            raise busy(f"{self._inside[waits]} {'clients wait' if waits else 'requests are being answered'}; try again")
        self._inside[waits] += 1
        try:
            yield
        finally:
            self._inside[waits] -= 1

    def invalidity(self, token: TokenRecord | None) -> Callable[[], bool]:
        """Whether a token has become invalid, for a request that takes long; it is looked up every few seconds."""
        looked_at, is_invalid = time.monotonic(), False

        def has_ended() -> bool:
            nonlocal looked_at, is_invalid
            if token is not None and time.monotonic() >= looked_at + _LOOK_S:
                looked_at, is_invalid = time.monotonic(), not self._is_valid(token)
            return is_invalid

        return has_ended

    def _is_valid(self, token: TokenRecord) -> bool:
        try:
            known = [each for each in self.tokens.read() if each.sha256 == token.sha256]
        except PipelineError:
            return False
        return any(token_state(each, time.time()) is TokenState.VALID for each in known)


def _unauthorized(reason: str, *, is_invalid: bool = False) -> Problem:
    challenge = 'Bearer realm="genome-pipeline"' + (', error="invalid_token"' if is_invalid else "")
    return Problem(401, "unauthorized", reason, headers={"WWW-Authenticate": challenge})
