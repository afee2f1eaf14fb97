"""Which result counts and what is overdue, as stories."""

import pytest

from inbox_agent.protocol.layout import HostRecord, Outcome
from pipeline.core import facts as f
from pipeline.core.facts import RecoveryAction
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus
from tests.harness.core_table import Table, named

pytestmark = pytest.mark.rules

# --------------------------------------------------------------------------------------------------------- the fence


def test_a_late_result_is_noted_once_and_never_counted() -> None:
    """lost, retried elsewhere, completed there; the first result comes after all: late, once."""
    table = Table("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.run(8)
    assert first.outcome is Outcome.LOST
    table.answer(table.farm.genomes[0].trials[0].attempts[1].id, fitness=2.0)
    table.tick()
    table.answer(first.id, fitness=3.0)
    facts = table.tick() + table.tick()
    assert [late.attempt for late in named(facts, f.ResultLate)] == [first.id]
    assert table.farm.genomes[0].fitness == 2.0


def test_work_that_comes_back_is_not_thrown_away() -> None:
    """A completed result of a given-up attempt is counted while its trial is open; the sibling is withdrawn."""
    table = Table("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.run(8)
    assert first.outcome is Outcome.LOST
    table.answer(first.id, fitness=3.0)
    table.tick()
    trial = table.farm.genomes[0].trials[0]
    assert (trial.fitness, trial.decided_by) == (3.0, first.id)
    assert trial.attempts[1].outcome is Outcome.WITHDRAWN


@pytest.mark.parametrize(
    "lie",
    [
        {"seed": 1},
        {"trial": 2},
        {"genome_sha256": "f" * 64},
        {"farm": "another"},
        {"worker": "w1"},
        {"attempt": "g0001-0001-t1-a9-000000000000"},
    ],
)
def test_a_result_that_does_not_fit_is_corrupt(lie: dict[str, object]) -> None:
    """Each echo is checked; what does not fit blames the worker, and the trial is tried again."""
    table = Table("w0", genomes=1)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    table.answer(attempt.id, **lie)
    table.tick()
    assert attempt.outcome is Outcome.CORRUPT
    assert table.farm.workers["w0"].losses == 1
    table.play_all()


def test_a_result_in_another_workers_share_is_not_believed() -> None:
    """A result counts only where its attempt was published; elsewhere it is not even evidence."""
    table = Table("w0", "w1", genomes=1)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    other = next(name for name in table.shares if name != attempt.worker)
    table.shares[other].results[attempt.id] = CollectedResult(attempt=attempt.id, record=table.record(attempt))
    table.tick()
    assert attempt.outcome is None
    table.play_all()


def test_an_id_that_was_never_issued_is_unexpected() -> None:
    """A stranger's result is noted once and counts for nobody."""
    table = Table("w0", genomes=1)
    table.settle_in()
    known = table.farm.genomes[0].trials[0].attempts[0]
    stranger = "g0001-0001-t1-a7-zzzzzzzzzzzz"
    table.shares["w0"].starts.add(stranger)  # keeps the table from cleaning it up
    table.shares["w0"].results[stranger] = CollectedResult(
        attempt=stranger, record=table.record(known, attempt=stranger)
    )
    table.watch.workers["w0"].delivered.discard(stranger)
    facts = table.tick(full=False) + table.tick(full=False)
    assert [fact.attempt for fact in named(facts, f.ResultUnexpected)] == [stranger]
    assert table.farm.settled.total() == 0


# ------------------------------------------------------------------------------------------------- silence and loss


def test_a_silent_worker_on_a_readable_share_is_wedged() -> None:
    """What it was playing is lost and charged, what waits is taken back, and its agent is restarted."""
    table = Table("w0", "w1", genomes=4, machines=True)
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT, RecoveryAction.RESTORE))
    table.settle_in()
    playing = table.claim("w0")
    table.tick()
    table.shares["w0"].beating = False
    facts = table.run(40)
    attempt = table.farm.attempts[playing]
    assert attempt.outcome is Outcome.LOST
    assert attempt.charged
    assert next(action.recovery for action in table.orders if action.worker == "w0") is RecoveryAction.RESTART_AGENT
    waiting = [fact for fact in named(facts, f.AttemptEnded) if fact.outcome is Outcome.WITHDRAWN]
    assert waiting


def test_an_outage_below_the_limit_costs_nothing() -> None:
    """A share that cannot be read for a while is unknown, not empty: no attempt ends, no epoch begins."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.claim("w0")
    table.tick()
    table.shares["w0"].unknown = "network down"
    assert table.run(20) == []
    table.shares["w0"].unknown = ""
    table.play_all()
    assert all(len(genome.trials[0].attempts) == 1 for genome in table.farm.genomes)


def test_beyond_the_limit_an_unreadable_share_blames_nobody_and_keeps_its_start_signals() -> None:
    """The trial is retried elsewhere, alone; the first of the two to complete wins."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.claim(first.worker)
    table.tick()
    table.shares[first.worker].unknown = "network down"
    table.run(40)
    assert (first.outcome, first.left_published, first.charged) == (Outcome.LOST, True, False)
    assert table.shares[first.worker].starts == {first.id}
    table.shares[first.worker].unknown = ""
    table.answer(first.id, fitness=4.0)
    table.tick()
    assert table.farm.genomes[0].fitness == 4.0


def test_a_night_of_suspend_kills_nobody() -> None:
    """However long a tick was away, the fair clock advances by at most a quarter of the silence limit."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.claim("w0")
    table.shares["w0"].beating = False
    facts = table.tick(8 * 3600.0)
    assert named(facts, f.AttemptEnded) == []


def test_a_game_that_outlives_limit_and_grace_is_lost() -> None:
    """The agent beats but does not end the game: after time limit and grace the host does."""
    table = Table("w0", genomes=1, limits=Limits(grace_s=10))
    table.settle_in()
    playing = table.claim("w0")
    table.run(60, step=5)
    assert table.farm.attempts[playing].outcome is None
    table.run(30, step=5)
    assert table.farm.attempts[playing].outcome is Outcome.LOST


def test_a_result_beats_a_deadline_of_the_same_tick() -> None:
    """Judged first, the result counts, however late it is."""
    table = Table("w0", genomes=1, limits=Limits(grace_s=10))
    table.settle_in()
    playing = table.claim("w0")
    table.run(65, step=5)
    table.answer(playing)
    table.tick(7.0)
    assert table.farm.attempts[playing].outcome is Outcome.COMPLETED


def test_a_result_that_is_being_read_is_not_overdue() -> None:
    """Its log is not whole yet, and is asked for at the next looks: nobody pays for that, however late it is."""
    table = Table("w0", genomes=1, limits=Limits(grace_s=10))
    table.settle_in()
    playing = table.claim("w0")
    table.run(65, step=5)
    table.shares["w0"].unread = {playing}
    assert named(table.run(20), f.AttemptEnded) == []
    table.shares["w0"].unread = set()
    table.answer(playing)
    table.tick()
    assert table.farm.attempts[playing].outcome is Outcome.COMPLETED


def test_a_result_that_is_being_read_was_its_workers_last_word() -> None:
    """The agent ended right after it: what waits there is taken back, what it says is heard."""
    table = Table("w0", "w1", genomes=4, machines=True)
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT, RecoveryAction.RESTORE))
    table.settle_in()
    playing = table.claim("w0")
    table.tick()
    table.shares["w0"].beating = False
    table.shares["w0"].unread = {playing}
    table.run(40)
    assert set(table.farm.workers["w0"].wanted) == {playing}
    table.shares["w0"].unread = set()
    table.answer(playing, fitness=2.0)
    table.tick()
    assert table.farm.attempts[playing].outcome is Outcome.COMPLETED
    assert not table.farm.attempts[playing].charged


def test_an_idle_worker_that_claims_nothing_loses_the_first() -> None:
    """Whatever state it reports: an agent that does not claim what waits is of no use."""
    table = Table("w0", genomes=2, limits=Limits(claim_limit_s=5))
    table.settle_in()
    first, second = table.farm.workers["w0"].wanted.values()
    table.run(7)
    assert (first.outcome, second.outcome) == (Outcome.LOST, None)


def test_what_was_published_late_has_its_whole_time_to_be_claimed() -> None:
    """Its share took nothing for almost as long as an idle worker may wait; that is not the agent's fault."""
    table = Table("w0", genomes=1, limits=Limits(claim_limit_s=10))
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.watch.note_removed("w0", frozenset({held.id}))  # as it was before anything was sent
    for _ in range(9):
        table.now += 1
        tx = table.minutes(["w0"])
        table.facts += [(fact, table.now) for fact in tx.facts]

    table.run(9)
    assert held.outcome is None
    table.run(5)
    assert held.outcome is Outcome.LOST


def test_what_a_share_does_not_take_goes_to_another() -> None:
    """It can be read and its agent beats, but every publication fails before anything is sent."""
    table = Table("w0", "w1", genomes=1, limits=Limits(claim_limit_s=5))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.watch.note_removed(first.worker, frozenset({first.id}))  # as it was before anything was sent
    for _ in range(7):
        table.now += 1
        tx = table.minutes([*table.shares])
        table.facts += [(fact, table.now) for fact in tx.facts]

    assert first.outcome is Outcome.UNDELIVERED
    assert "takes nothing" in first.reason


# ------------------------------------------------------------------------------------------------------ after an outage


def test_what_was_kept_and_is_not_played_is_let_go() -> None:
    """The share can be read again and nobody claims it: its start signal is removed, and the worker is free."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.outage(first.worker, 40)

    table.run(3)

    assert table.farm.workers[first.worker].left_published == {}
    assert first.id not in table.shares[first.worker].starts
    table.play_all()


def test_whatever_result_comes_back_of_what_was_kept_frees_its_worker() -> None:
    """Not only one that completes it."""
    table = Table("w0", genomes=2, machines=True)
    table.settle_in()
    held = set(table.farm.workers["w0"].wanted)
    table.shares["w0"].unknown = "network down"
    table.run(60)
    assert set(table.farm.workers["w0"].left_published) == held
    table.shares["w0"].unknown = ""
    for attempt in held:
        table.answer(attempt, Outcome.FAILED)

    table.run(3)

    assert table.farm.workers["w0"].left_published == {}
    table.play_all()


def test_what_was_kept_and_is_played_is_waited_for() -> None:
    """The share can be read again and shows its claim: its result may still come, and then it counts."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.claim_by_name(first)
    table.outage(first.worker, 40)

    table.run(10)
    assert set(table.farm.workers[first.worker].left_published) == {first.id}
    table.answer(first.id, fitness=7.0)
    table.tick()

    assert table.farm.genomes[0].fitness == 7.0


# -------------------------------------------------------------------------- results and claims that mean something else


def test_a_result_of_an_earlier_run_is_late_and_noted_once() -> None:
    """The ledger issued its id, another run of the generation did: not unexpected, and not counted."""
    table = Table("w0", genomes=1)
    table.settle_in()
    known = table.farm.genomes[0].trials[0].attempts[0]
    older = "g0001-0001-t1-a7-000000000000"
    table.shares["w0"].starts.add(older)
    seen = CollectedResult(attempt=older, record=table.record(known, attempt=older), issued_in_other_run=True)
    table.shares["w0"].results[older] = seen

    facts = table.tick(full=False) + table.tick(full=False)

    assert [fact.attempt for fact in named(facts, f.ResultLate)] == [older]
    assert table.farm.settled.total() == 0


def test_a_result_that_another_process_noted_is_not_noted_again() -> None:
    """The ledger has heard of it."""
    table = Table("w0", genomes=1)
    table.settle_in()
    known = table.farm.genomes[0].trials[0].attempts[0]
    older = "g0001-0001-t1-a7-000000000000"
    seen = CollectedResult(
        attempt=older, record=table.record(known, attempt=older), issued_in_other_run=True, collected_in_other_run=True
    )
    table.shares["w0"].starts.add(older)
    table.shares["w0"].results[older] = seen

    assert table.tick(full=False) == []


def test_a_collected_result_that_still_lies_there_means_nothing_to_the_next_host() -> None:
    """It was counted before its host died, and its file was not cleaned up."""
    table = Table("w0", genomes=2)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    table.answer(attempt.id, fitness=2.0)
    table.tick()
    share = table.shares["w0"]
    share.starts.add(attempt.id)
    share.results[attempt.id] = CollectedResult(attempt=attempt.id, record=table.record(attempt, fitness=2.0))
    table.restart_host()

    facts = table.tick(full=False)

    assert not named(facts, f.AttemptEnded) + named(facts, f.ResultLate)


def test_a_result_of_an_unknown_layout_puts_its_worker_out() -> None:
    """The host cannot read what its agent writes; what waits there is taken back and goes to another."""
    table = Table("w0", "w1", genomes=3)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    seen = CollectedResult(attempt=first.id, record=None, problem="layout 9, this program knows 1", unknown_layout=True)
    table.shares[first.worker].results[first.id] = seen

    table.tick()

    assert first.outcome is Outcome.REJECTED
    assert table.farm.workers[first.worker].state is WorkerState.OUT
    assert table.farm.workers[first.worker].wanted == {}
    table.play_all()


def test_what_is_archived_is_what_was_judged() -> None:
    """Two shares show a result of one attempt in the same tick; the one that counts is its own worker's."""
    table = Table("w0", "w1", genomes=2)
    table.settle_in()
    (mine,) = table.farm.workers["w1"].wanted.values()
    table.answer(mine.id, fitness=2.0)
    table.shares["w0"].results[mine.id] = CollectedResult(attempt=mine.id, record=table.record(mine, fitness=1e9))

    for name in ("w0", "w1"):
        tx = table.minutes(order=[name, *(other for other in table.shares if other != name)])
        worker, seen = tx.results[mine.id]
        assert worker == "w1"
        assert seen.record is not None
        assert seen.record.fitness == 2.0
        table.restart_host()


def test_a_result_that_cannot_be_read_is_corrupt() -> None:
    """The edge has tried often enough; the worker is blamed, and the trial is tried again."""
    table = Table("w0", genomes=1)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    table.shares["w0"].results[attempt.id] = CollectedResult(attempt=attempt.id, record=None, problem="not JSON")

    table.tick()

    assert (attempt.outcome, attempt.reason) == (Outcome.CORRUPT, "not JSON")
    table.play_all()


def test_claims_that_mean_nothing_change_nothing() -> None:
    """Of an id nobody issued, of another worker's attempt, of one that is claimed already."""
    table = Table("w0", "w1", genomes=2)
    table.settle_in()
    mine = table.claim("w0")
    table.tick()
    (others,) = table.farm.workers["w1"].wanted
    table.shares["w0"].starts |= {others, "g0001-0001-t1-a7-zzzzzzzzzzzz"}
    table.shares["w0"].claims |= {others, "g0001-0001-t1-a7-zzzzzzzzzzzz"}

    assert table.tick(full=False) == []
    assert table.farm.attempts[mine].claimed_at is not None
    assert table.farm.attempts[others].claimed_at is None


def test_a_worker_that_is_out_is_not_listened_to() -> None:
    """Whatever still lies in its outbox is somebody else's, or of another version."""
    table = Table("w0", "w1", genomes=2)
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted
    table.shares["w0"].owner = HostRecord(farm="another", worker="w0", epoch=1)
    table.tick()
    table.answer(held)

    assert table.tick() == []
