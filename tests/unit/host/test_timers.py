"""The metronome, when the clock that it goes by is wrong."""

from pipeline.host.timers import OVERDUE_S, Metronome


def test_what_the_wall_clock_owes_is_made_up_for() -> None:
    """It was set back by an hour: APScheduler waits until it is right again, deadlines and shares do not."""
    now, asked = [0.0], []
    metronome = Metronome(
        lambda: asked.append("sweep"), lambda: asked.append("poll"), lambda: None, clock=lambda: now[0]
    )
    metronome.close()  # as good as waiting for an hour
    metronome.make_up()
    assert asked == []

    now[0] += OVERDUE_S + 1
    metronome.make_up()
    metronome.make_up()

    assert asked == ["poll", "sweep"]
