"""Couriers take orders to shares and bring reports back: at once for a disk of this host, by a thread for any other.

It decides that at most one order is under way per share, and when a share that does not answer is *unknown*. A share
that hangs holds up its own courier and nobody else.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping

from pipeline.core.observation import ShareScan
from pipeline.shares.share_client import CarryOut, Order, Report

ANSWER_LIMIT_S = 20.0


class Couriers:
    """Carries orders for many shares."""

    def __init__(
        self,
        shares: Mapping[str, CarryOut],
        distant: Collection[str],
        wake: Callable[[], None],
        *,
        answer_limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        self._shares = dict(shares)
        self._wake = wake
        self._answer_limit_s = answer_limit_s
        self._arrived: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._since: dict[str, float] = {}
        self._inboxes: dict[str, queue.SimpleQueue[Order | None]] = {}
        for worker in distant:
            inbox: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
            self._inboxes[worker] = inbox
            threading.Thread(target=self._travel, args=(worker, inbox), name=f"courier-{worker}", daemon=True).start()

    def is_away(self, worker: str) -> bool:
        """Whether an order for this share is still under way; another one must wait for its report."""
        return worker in self._since

    def send(self, order: Order) -> None:
        """Sends an order off; the report comes with `arrivals`."""
        inbox = self._inboxes.get(order.worker)
        if inbox is None:
            self._arrived.put(self._shares[order.worker](order))
        else:
            assert not self.is_away(order.worker), order.worker
            self._since[order.worker] = time.monotonic()
            inbox.put(order)

    def arrivals(self) -> list[Report]:
        """The reports that have come in since the last call."""
        reports = []
        while not self._arrived.empty():
            report = self._arrived.get()
            self._since.pop(report.worker, None)
            reports.append(report)
        return reports

    def overdue(self) -> list[ShareScan]:
        """Shares that have not answered for too long, as looks that saw nothing; their orders stay under way."""
        now = time.monotonic()
        return [
            ShareScan(worker=worker, full=True, unknown=f"no answer for {now - since:.0f} s")
            for worker, since in self._since.items()
            if now - since > self._answer_limit_s
        ]

    def close(self) -> None:
        """Lets every courier go home; one that hangs is a daemon and ends with the process."""
        for inbox in self._inboxes.values():
            inbox.put(None)

    def _travel(self, worker: str, inbox: "queue.SimpleQueue[Order | None]") -> None:
        while (order := inbox.get()) is not None:
            report = Report(worker=worker, damage="its courier ended by a defect of this program")
            try:
                report = self._shares[worker](order)
            finally:  # the loop hears of it in any case, and cannot go on
                self._arrived.put(report)
                self._wake()
