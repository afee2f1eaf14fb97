"""The timers with a wrong wall clock."""

from pipeline.host.timers import OVERDUE_S, Timers
from pipeline.host.wakeups import Due, Wakeups


def test_catch_up_requests_sweep_after_wall_clock_was_set_back() -> None:
    """APScheduler would wait until the wall clock has caught up."""
    now, wakeups = [0.0], Wakeups()
    timers = Timers(wakeups, clock=lambda: now[0])
    timers.close()  # like a scheduler that waits for an hour
    wakeups.take()
    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=False, sweep=False)

    now[0] += OVERDUE_S + 1
    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=True, sweep=True)

    timers.catch_up()
    assert wakeups.take() == Due(frozenset(), poll=False, sweep=False)
