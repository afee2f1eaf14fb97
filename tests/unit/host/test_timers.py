"""The timers, when the wall clock is wrong."""

from pipeline.host.timers import OVERDUE_S, Timers
from pipeline.host.wakeups import Due, Wakeups


def test_catch_up_requests_sweep_after_wall_clock_was_set_back() -> None:
    """After it was set back by an hour APScheduler waits for that hour; deadlines and shares do not."""
    now, wakeups = [0.0], Wakeups()
    timers = Timers(wakeups, clock=lambda: now[0])
    timers.close()  # as good as waiting for an hour
    wakeups.take()
    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=False, sweep=False)

    now[0] += OVERDUE_S + 1
    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=True, sweep=True)

    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=False, sweep=False)
