"""The simulator itself: a seed is a history, histories keep the promise, and a planted bug is seen.

Long runs: `python -m tests.simulator --seed 1 --count 10000`.
"""

import dataclasses

import pytest

from pipeline.core import verdicts
from pipeline.edges.archive import Archive
from pipeline.loop import Loop
from tests.simulator import host as simulated_host
from tests.simulator.history import History, play

SEEDS = range(1, 41)


def broken(history: History | None) -> bool:
    """Whether the checkers, or the program's own assertions, saw that something is wrong."""
    return history is None or not history.verdict.kept


def play_with_assertions(seed: int) -> History | None:
    """A history, or None if the program itself said that it is broken."""
    try:
        return play(seed)
    except AssertionError:
        return None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_the_promise(seed: int) -> None:
    """Faults at will, then none: every trial is settled once, with the fitness of its own genome and seed."""
    history = play(seed)
    assert history.verdict.kept, f"seed {seed}: {history.verdict}\n{history.world.options}"


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same operations, faults and facts, so that a failure can be looked at again."""
    first, second = play(7), play(7)
    assert first.host.ledger.rows == second.host.ledger.rows
    assert first.world.fired == second.world.fired
    assert first.world.operations == second.world.operations


def test_the_worlds_are_wild_enough() -> None:
    """A seed that meets no trouble proves little: on average there are workers, trials, operations and faults."""
    histories = [play(seed) for seed in range(50, 60)]
    count = len(histories)
    assert sum(h.world.options.workers for h in histories) / count >= 3
    assert sum(h.trials for h in histories) / count >= 10
    assert sum(h.world.operations for h in histories) / count >= 500
    assert sum(h.world.fired.total() for h in histories) / count >= 5


@pytest.mark.parametrize("bug", ["archive", "fence", "record"])
def test_a_planted_bug_is_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one rule broken on purpose, some seed breaks the promise; unbroken code passes the same seeds."""
    plant(bug, monkeypatch)
    assert any(broken(play_with_assertions(seed)) for seed in range(1, 60))


def plant(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks one rule of the shipped code."""
    match bug:
        case "archive":  # a result is recorded and never archived
            monkeypatch.setattr(simulated_host.MemoryArchive, "keep", lambda self, seen: None)
        case "fence":  # no result is believed, so everything is given up
            monkeypatch.setattr(verdicts, "echo_problem", lambda *args: "never fits")
        case "record":  # acts are done, facts are not recorded
            monkeypatch.setattr(Loop, "_append", lambda self, facts, at: None)


def test_the_archive_of_the_simulator_has_the_verbs_of_the_real_one() -> None:
    """What the loop calls on the pretended archive exists on the shipped one."""
    verbs = {name for name in vars(simulated_host.MemoryArchive) if not name.startswith("_")}
    assert verbs <= set(vars(Archive))
    assert dataclasses.is_dataclass(History)
