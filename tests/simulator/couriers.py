"""Couriers on a virtual clock: an order takes its time there and back, and everybody else goes on meanwhile.

As of a thread's, the loop hears of an order only by its report, and whatever it planned before may be out of date. They
end with their host, between any two operations.
"""

from collections.abc import Callable, Mapping

from pipeline.core.observation import ShareScan
from pipeline.shares.executor import ANSWER_LIMIT_S
from pipeline.shares.share_client import CarryOut, Order, Report
from tests.simulator.world import Killed, World

PROMPT_S, LATE_S = (0.005, 0.3), (1.0, 40.0)
LAST_WAY_S = 0.15  #: for so long a process that ends goes on; the next one begins later


class DistantCouriers:
    """Follows `Couriers`, for shares that are all distant."""

    def __init__(
        self,
        world: World,
        shares: Mapping[str, CarryOut],
        *,
        seen: Callable[[Report], Callable[[], None]],
        wake: Callable[[], None],
        killed: Callable[[], None],
    ) -> None:
        self._world, self._shares = world, shares
        self._seen, self._wake, self._killed = seen, wake, killed
        self._since: dict[str, float] = {}
        self._arrived: list[Report] = []
        self._ended_at: float | None = None

    def is_away(self, worker: str) -> bool:
        return worker in self._since

    def send(self, order: Order) -> None:
        assert not self.is_away(order.worker), order.worker
        self._since[order.worker] = self._world.now
        self._world.later(self._way_s(), lambda: self._carry_out(order))

    def arrivals(self) -> list[Report]:
        reports, self._arrived = self._arrived, []
        for report in reports:
            del self._since[report.worker]
        return reports

    def overdue(self) -> list[ShareScan]:
        now = self._world.now
        return [
            ShareScan(worker=worker, full=True, unknown=f"no answer for {now - since:.0f} s")
            for worker, since in self._since.items()
            if now - since > ANSWER_LIMIT_S
        ]

    def end(self, *, in_order: bool) -> None:
        """Their host is gone, and they with it; one that ends in order may still do what it was sent for."""
        if self._ended_at is None:
            self._ended_at = self._world.now if in_order else -LAST_WAY_S

    @property
    def _is_gone(self) -> bool:
        return self._ended_at is not None and self._world.now > self._ended_at + LAST_WAY_S

    def _carry_out(self, order: Order) -> None:
        if self._is_gone:
            return
        try:
            report = self._shares[order.worker](order)
        except Killed:
            self._killed()
            return
        note = self._seen(report)
        self._world.later(self._way_s(), lambda: self._arrive(report, note))

    def _arrive(self, report: Report, note: Callable[[], None]) -> None:
        if self._ended_at is None:
            note()
            self._arrived.append(report)
            self._wake()

    def _way_s(self) -> float:
        late = self._world.strikes("late courier", self._world.options.late_courier)
        return self._world.dice.uniform(*(LATE_S if late else PROMPT_S))
