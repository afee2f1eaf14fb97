"""The metronome: APScheduler asks the loop for sweeps and polls. It never works itself.

APScheduler goes by the wall clock, which may be set back; whoever waits for the metronome plays what it owes.
"""

import logging
import time
from collections.abc import Callable

from apscheduler.schedulers.background import BackgroundScheduler

SWEEP_INTERVAL_S = 1.0  # deadlines and machines
POLL_INTERVAL_S = 1.0  # a lost notification costs at most this much; claims, which make no sound, are seen so late
OVERDUE_S = 3 * SWEEP_INTERVAL_S
FAST_POLL_INTERVAL_S = 0.05  # while a worker is awaited, so that a start-up does not cost a whole poll

# A late beat is played, however late; beats that were missed are played once; a beat never overtakes itself.
_JOB_DEFAULTS = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


#: APScheduler's records under a name of ours, without its warnings of jobs that are skipped because they still run.
log = logging.getLogger(__name__)
log.setLevel(logging.ERROR)


class Timers:
    """Calls `sweep`, `poll` and, while hurried, `wake` at their intervals, from a thread of its own."""

    def __init__(
        self,
        sweep: Callable[[], None],
        poll: Callable[[], None],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_sweep, self._on_poll, self._clock = sweep, poll, clock
        self._swept_at = clock()
        self._scheduler = BackgroundScheduler(job_defaults=_JOB_DEFAULTS, logger=log)
        self._scheduler.add_job(self._run_sweep, "interval", seconds=SWEEP_INTERVAL_S, id="sweep")
        self._scheduler.add_job(poll, "interval", seconds=POLL_INTERVAL_S, id="poll")
        self._fast_job = self._scheduler.add_job(wake, "interval", seconds=FAST_POLL_INTERVAL_S, id="hurry")
        self._is_fast = True
        self._scheduler.start()

    def poll_fast(self, wanted: bool) -> None:
        """Beats quickly, or stops doing so."""
        if wanted != self._is_fast:
            self._is_fast = wanted
            if wanted:
                self._fast_job.resume()
            else:
                self._fast_job.pause()

    def catch_up(self) -> None:
        """Plays a beat that is long overdue: no sweep and no poll may wait until the wall clock is right again."""
        if self._clock() - self._swept_at > OVERDUE_S:
            self._on_poll()
            self._run_sweep()

    def _run_sweep(self) -> None:
        self._swept_at = self._clock()
        self._on_sweep()

    def close(self) -> None:
        """Stops beating."""
        self._scheduler.shutdown(wait=False)
