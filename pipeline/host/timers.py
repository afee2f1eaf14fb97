"""Timers: APScheduler jobs that request sweeps and polls. The control loop does the work.

APScheduler uses the wall clock, which may be set back, so `catch_up` requests what is overdue by the monotonic clock.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC

from apscheduler.schedulers.background import BackgroundScheduler

from pipeline.host.wakeups import Wakeups

SWEEP_INTERVAL_S = 1.0  # deadlines and machines
POLL_INTERVAL_S = 1.0  # delay of a lost notification, at most, and of claims, which are not notified
OVERDUE_S = 3 * SWEEP_INTERVAL_S
FAST_POLL_INTERVAL_S = 0.05  # while a worker is starting, so that it is seen before the next poll

# Run however late; run missed runs once; never overlap.
_JOB_DEFAULTS = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


#: APScheduler logs here; level ERROR hides its warnings of jobs skipped because they still run.
log = logging.getLogger(__name__)
log.setLevel(logging.ERROR)


class Timers:
    """Requests sweeps, polls and, while polling fast, ticks at their intervals, from the scheduler's threads."""

    def __init__(self, wakeups: Wakeups, clock: Callable[[], float] = time.monotonic) -> None:
        self._wakeups, self._clock = wakeups, clock
        self._swept_at = clock()
        # Without a zone it would ask the library tzlocal, which refuses many values of TZ; intervals need none.
        self._scheduler = BackgroundScheduler(job_defaults=_JOB_DEFAULTS, logger=log, timezone=UTC)
        self._scheduler.add_job(self._request_sweep, "interval", seconds=SWEEP_INTERVAL_S, id="sweep")
        self._scheduler.add_job(wakeups.request_poll, "interval", seconds=POLL_INTERVAL_S, id="poll")
        self._fast_job = self._scheduler.add_job(wakeups.wake, "interval", seconds=FAST_POLL_INTERVAL_S, id="fast-poll")
        self._is_fast = True
        self._scheduler.start()

    def poll_fast(self, wanted: bool) -> None:
        """Starts or stops the fast wake-ups."""
        if wanted != self._is_fast:
            self._is_fast = wanted
            if wanted:
                self._fast_job.resume()
            else:
                self._fast_job.pause()

    def catch_up(self) -> None:
        """Requests a poll and a sweep if the last sweep is long overdue: neither may depend on the wall clock."""
        if self._clock() - self._swept_at > OVERDUE_S:
            self._wakeups.request_poll()
            self._request_sweep()

    def _request_sweep(self) -> None:
        self._swept_at = self._clock()
        self._wakeups.request_sweep()

    def close(self) -> None:
        """Stops the timers."""
        self._scheduler.shutdown(wait=False)
