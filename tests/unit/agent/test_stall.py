"""Progress of a running game, by a clock of the test."""

from inbox_agent.evaluation.stall import ProgressWatch


class Game:
    """A game with a clock and a progress text."""

    def __init__(self, limit_s: float | None) -> None:
        self.now, self.progress = 100.0, ""
        self.watch = ProgressWatch(lambda: self.progress, limit_s, lambda: self.now)

    def after(self, seconds: float) -> str:
        self.now += seconds
        return self.watch.stall_reason()


def test_time_counts_from_the_last_change_of_the_text() -> None:
    game = Game(10.0)
    game.progress = "lap 1"
    assert game.after(9.0) == ""

    assert game.after(9.9) == ""
    assert game.watch.until_due_s() > 0
    assert game.after(0.2) == 'stalled: no new progress for stall_limit_s = 10; the last was "lap 1"'


def test_text_that_changes_at_the_last_moment_counts() -> None:
    game = Game(10.0)
    game.progress = "lap 1"

    assert game.after(10.5) == ""


def test_without_limit_nothing_stalls() -> None:
    game = Game(None)

    assert game.after(1e9) == ""
    assert game.watch.until_due_s() == float("inf")
