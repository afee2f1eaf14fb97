"""A share whose server tells of news is looked at rarely, every other one at every poll."""

from dataclasses import dataclass

from pipeline.host.poll_schedule import BUSY_POLL_S, IDLE_POLL_S, PollSchedule


@dataclass
class FakeNotifying:
    notifies: bool = True


def looks(rhythm: PollSchedule, clock: list[float], seconds: int, *, unsure: bool = False, busy: bool = False) -> int:
    """How often the one share is looked at in so many polls, a second apart."""
    count = 0
    for _ in range(seconds):
        clock[0] += 1.0
        count += not rhythm.not_due({"vm-0"} if unsure else set(), {"vm-0"} if busy else set())
    return count


def test_poll_interval_of_share() -> None:
    """Rarely while its server tells of news, less rarely while something is played there, else at every poll."""
    clock, server = [0.0], FakeNotifying()
    rhythm = PollSchedule({"vm-0": server}, 30.0, lambda: clock[0])

    assert 120 / IDLE_POLL_S <= looks(rhythm, clock, 120) <= 1 + 120 / (0.75 * IDLE_POLL_S)
    assert 120 / BUSY_POLL_S <= looks(rhythm, clock, 120, busy=True) <= 1 + 120 / (0.75 * BUSY_POLL_S - 1)
    assert looks(rhythm, clock, 20, unsure=True) == 20
    server.notifies = False
    assert looks(rhythm, clock, 20) == 20


def test_polls_of_shares_are_spread() -> None:
    """A thousand of them would otherwise be due in the same second."""
    clock = [0.0]
    rhythm = PollSchedule({f"vm-{number}": FakeNotifying() for number in range(100)}, 30.0, lambda: clock[0])
    rhythm.not_due(set(), set())
    due = []
    for _ in range(12):
        clock[0] += 1.0
        due.append(100 - len(rhythm.not_due(set(), set())))

    assert max(due) < 80


def test_short_silence_limit_shortens_poll_interval() -> None:
    """A short silence limit shortens the pauses: a beat must not wait longer for a look than silence may last."""
    clock = [0.0]
    rhythm = PollSchedule({"vm-0": FakeNotifying()}, 5.0, lambda: clock[0])

    assert looks(rhythm, clock, 20) >= 20 / 2
    assert looks(rhythm, clock, 20, busy=True) == 20
