"""The metronome, when the clock that it goes by is wrong."""

from pipeline.host.timers import OVERDUE_S, Timers


def test_catch_up_runs_sweep_after_wall_clock_was_set_back() -> None:
    """It was set back by an hour: APScheduler waits until it is right again, deadlines and shares do not."""
    now, asked = [0.0], []
    timers = Timers(lambda: asked.append("sweep"), lambda: asked.append("poll"), lambda: None, clock=lambda: now[0])
    timers.close()  # as good as waiting for an hour
    timers.catch_up()
    assert asked == []

    now[0] += OVERDUE_S + 1
    timers.catch_up()
    timers.catch_up()

    assert asked == ["poll", "sweep"]
