"""A share executor on the virtual clock: request and response take time, and other processes run meanwhile.

As with threads, the loop gets the result of a request only from its response, and actions planned before may be out of
date. Requests in progress end with their host, between any two operations.
"""

from collections.abc import Callable, Mapping

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ShareRequest
from pipeline.shares.executor import RESPONSE_LIMIT_S
from pipeline.shares.share_client import ExecuteRequest, ShareResponse
from tests.simulator.world import Killed, World

DELAY_S, LATE_DELAY_S = (0.005, 0.3), (1.0, 40.0)
LAST_DELAY_S = 0.15  #: for so long a process that ends continues its requests; the next one starts later


class SimulatedExecutor:
    """Implements the executor port, for shares that are all remote."""

    def __init__(
        self,
        world: World,
        shares: Mapping[str, ExecuteRequest],
        *,
        on_executed: Callable[[ShareResponse], Callable[[], None]],
        wake: Callable[[], None],
        on_killed: Callable[[], None],
    ) -> None:
        self._world, self._shares = world, shares
        self._on_executed, self._wake, self._on_killed = on_executed, wake, on_killed
        self._since: dict[str, float] = {}
        self._completed: list[ShareResponse] = []
        self._ended_at: float | None = None

    def is_busy(self, worker: str) -> bool:
        return worker in self._since

    def submit(self, request: ShareRequest) -> None:
        assert not self.is_busy(request.worker), request.worker
        self._since[request.worker] = self._world.now
        self._world.schedule(self._delay_s(), lambda: self._execute(request))

    def completed(self) -> list[ShareResponse]:
        responses, self._completed = self._completed, []
        for response in responses:
            took_s = self._world.now - self._since.pop(response.worker)
            self._world.longest_request_s = max(self._world.longest_request_s, took_s)
        return responses

    def timed_out(self) -> list[ShareScan]:
        now = self._world.now
        return [
            ShareScan(worker=worker, full=True, unknown=f"no answer for {now - since:.0f} s")
            for worker, since in self._since.items()
            if now - since > RESPONSE_LIMIT_S
        ]

    def end(self, *, graceful: bool) -> None:
        """The host has ended; requests of one that ended gracefully may still be executed."""
        if self._ended_at is None:
            self._ended_at = self._world.now if graceful else -LAST_DELAY_S

    @property
    def _has_ended(self) -> bool:
        return self._ended_at is not None and self._world.now > self._ended_at + LAST_DELAY_S

    def _execute(self, request: ShareRequest) -> None:
        if self._has_ended:
            return
        try:
            response = self._shares[request.worker](request)
        except Killed:
            self._on_killed()
            return
        on_completed = self._on_executed(response)
        self._world.schedule(self._delay_s(), lambda: self._complete(response, on_completed))

    def _complete(self, response: ShareResponse, on_completed: Callable[[], None]) -> None:
        if self._ended_at is None:
            on_completed()
            self._completed.append(response)
            self._wake()

    def _delay_s(self) -> float:
        is_late = self._world.draw_fault("late response", self._world.options.late_response)
        return self._world.rng.uniform(*(LATE_DELAY_S if is_late else DELAY_S))
