"""Couriers on a virtual clock: an order takes its time there and back, and everybody else goes on meanwhile.

As of a thread's, the loop hears of an order only by its report, and whatever it planned before may be out of date. They
end with their host, between any two operations.
"""

from collections.abc import Callable, Mapping

from pipeline.core.observation import ShareScan
from pipeline.core.requests import ShareRequest
from pipeline.shares.executor import RESPONSE_LIMIT_S
from pipeline.shares.share_client import ExecuteRequest, ShareResponse
from tests.simulator.world import Killed, World

PROMPT_S, LATE_S = (0.005, 0.3), (1.0, 40.0)
LAST_DELAY_S = 0.15  #: for so long a process that ends goes on; the next one begins later


class SimulatedExecutor:
    """Follows `Couriers`, for shares that are all distant."""

    def __init__(
        self,
        world: World,
        shares: Mapping[str, ExecuteRequest],
        *,
        seen: Callable[[ShareResponse], Callable[[], None]],
        wake: Callable[[], None],
        killed: Callable[[], None],
    ) -> None:
        self._world, self._shares = world, shares
        self._seen, self._wake, self._killed = seen, wake, killed
        self._since: dict[str, float] = {}
        self._arrived: list[ShareResponse] = []
        self._ended_at: float | None = None

    def is_busy(self, worker: str) -> bool:
        return worker in self._since

    def submit(self, request: ShareRequest) -> None:
        assert not self.is_busy(request.worker), request.worker
        self._since[request.worker] = self._world.now
        self._world.later(self._delay_s(), lambda: self._execute(request))

    def completed(self) -> list[ShareResponse]:
        responses, self._arrived = self._arrived, []
        for response in responses:
            del self._since[response.worker]
        return responses

    def timed_out(self) -> list[ShareScan]:
        now = self._world.now
        return [
            ShareScan(worker=worker, full=True, unknown=f"no answer for {now - since:.0f} s")
            for worker, since in self._since.items()
            if now - since > RESPONSE_LIMIT_S
        ]

    def end(self, *, in_order: bool) -> None:
        """Their host is gone, and they with it; one that ends in order may still do what it was sent for."""
        if self._ended_at is None:
            self._ended_at = self._world.now if in_order else -LAST_DELAY_S

    @property
    def _is_gone(self) -> bool:
        return self._ended_at is not None and self._world.now > self._ended_at + LAST_DELAY_S

    def _execute(self, request: ShareRequest) -> None:
        if self._is_gone:
            return
        try:
            response = self._shares[request.worker](request)
        except Killed:
            self._killed()
            return
        note = self._seen(response)
        self._world.later(self._delay_s(), lambda: self._complete(response, note))

    def _complete(self, response: ShareResponse, note: Callable[[], None]) -> None:
        if self._ended_at is None:
            note()
            self._arrived.append(response)
            self._wake()

    def _delay_s(self) -> float:
        late = self._world.strikes("late courier", self._world.options.late_courier)
        return self._world.dice.uniform(*(LATE_S if late else PROMPT_S))
