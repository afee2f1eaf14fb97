"""Poll schedule: full scans of a share at every poll, or less often where that is enough.

A share that nothing is expected from is scanned for its heartbeat. One that is expected to answer is scanned at every
poll, unless its answers are notified: then a poll only finds what a notification missed.
Threads: all methods are called by the control loop.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from inbox_agent.system.folder_watcher import FolderWatcher
from pipeline.core.farm import Farm
from pipeline.core.model import Worker
from pipeline.core.observed import Observed, ObservedWorker

#: Longest pause while trials are played: results are notified, only claims and heartbeats wait for a poll.
BUSY_POLL_S = 5.0
#: Longest pause of an idle share: well below half of the silence limit, so that one scan may fail.
IDLE_POLL_S = 12.0
#: How long an evaluator that was sent is expected to be taken.
DEPLOYMENT_S = 30.0


class Notifying(Protocol):
    """A share that may send change notifications."""

    @property
    def notifies(self) -> bool:
        """Whether notifications are working now."""


class WatchedFolder:
    """A share by path. That its folder is watched says little: on network mounts changes of others are not seen."""

    def __init__(self, watcher: FolderWatcher, worker: str) -> None:
        self._watcher, self._worker = watcher, worker

    @property
    def notifies(self) -> bool:
        """Whether the agent's files were seen to arrive since the folder is watched."""
        return self._watcher.has_notified(self._worker)


class PollSchedule:
    """Knows when each of these shares was last scanned in full; all others are due at every poll."""

    def __init__(
        self, shares: Mapping[str, Notifying], silence_limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shares, self._clock = dict(shares), clock
        self._busy_s = min(BUSY_POLL_S, silence_limit_s / 6)
        self._idle_s = min(IDLE_POLL_S, silence_limit_s * 0.4)
        self._scanned_at: dict[str, float] = {}

    def add(self, worker: str, share: Notifying) -> None:
        """Adds a share that may be scanned less often."""
        self._shares[worker] = share

    def remove(self, worker: str) -> None:
        """Removes a share; does nothing if it has none."""
        self._shares.pop(worker, None)
        self._scanned_at.pop(worker, None)

    def due(self, farm: Farm, observed: Observed) -> set[str]:
        """Workers with shares that this poll must scan; it may skip those with a certain state and a recent scan."""
        now = self._clock()
        found = set(farm.workers)
        for name, share in self._shares.items():
            pause_s = self._pause_s(farm.workers[name], observed, share)
            if now - self._scanned_at.get(name, -pause_s) < pause_s:
                found.discard(name)
            else:  # jittered, so that shares are not polled together
                self._scanned_at[name] = now - pause_s * secrets.randbelow(256) / 1024
        return found

    def _pause_s(self, worker: Worker, observed: Observed, share: Notifying) -> float:
        seen = observed.workers[worker.name]
        if not (seen.readable and seen.alive) or seen.loading_since is not None or _takes_evaluator(observed, seen):
            return 0.0
        if worker.drained and not all(map(seen.may_be_playing, worker.wanted)):
            return 0.0  # a scan shows what it has begun, and the rest goes to others
        if share.notifies:
            return self._busy_s if worker.wanted or worker.left_published else self._idle_s
        return 0.0 if worker.wanted or worker.left_published or worker.given_up else self._idle_s


def _takes_evaluator(observed: Observed, seen: ObservedWorker) -> bool:
    """Whether its agent was sent an evaluator that its heartbeat does not name yet."""
    sent = seen.sent_deployment
    if sent is None or seen.heartbeat is None or observed.time >= sent.at + DEPLOYMENT_S:
        return False
    return seen.heartbeat.evaluator != sent.evaluator
