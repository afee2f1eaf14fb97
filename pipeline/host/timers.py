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
HURRY_INTERVAL_S = 0.05  # while a worker is awaited, so that a start-up does not cost a whole poll

# A late beat is played, however late; beats that were missed are played once; a beat never overtakes itself.
_PATIENT = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}


#: APScheduler's records under a name of ours, without its warnings of jobs that are skipped because they still run.
log = logging.getLogger(__name__)
log.setLevel(logging.ERROR)


class Metronome:
    """Calls `sweep`, `poll` and, while hurried, `wake` at their intervals, from a thread of its own."""

    def __init__(
        self,
        sweep: Callable[[], None],
        poll: Callable[[], None],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sweep, self._poll, self._clock = sweep, poll, clock
        self._beaten_at = clock()
        self._scheduler = BackgroundScheduler(job_defaults=_PATIENT, logger=log)
        self._scheduler.add_job(self._beat, "interval", seconds=SWEEP_INTERVAL_S, id="sweep")
        self._scheduler.add_job(poll, "interval", seconds=POLL_INTERVAL_S, id="poll")
        self._hurry = self._scheduler.add_job(wake, "interval", seconds=HURRY_INTERVAL_S, id="hurry")
        self._hurried = True
        self._scheduler.start()

    def hurry(self, wanted: bool) -> None:
        """Beats quickly, or stops doing so."""
        if wanted != self._hurried:
            self._hurried = wanted
            if wanted:
                self._hurry.resume()
            else:
                self._hurry.pause()

    def make_up(self) -> None:
        """Plays a beat that is long overdue: no sweep and no poll may wait until the wall clock is right again."""
        if self._clock() - self._beaten_at > OVERDUE_S:
            self._poll()
            self._beat()

    def _beat(self) -> None:
        self._beaten_at = self._clock()
        self._sweep()

    def close(self) -> None:
        """Stops beating."""
        self._scheduler.shutdown(wait=False)
