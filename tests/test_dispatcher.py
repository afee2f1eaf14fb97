"""The policy, as stories: what becomes of trials and workers when the world is kind, and when it is not."""

import pytest

from inbox_agent.share_layout import HostRecord, Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import standstill
from pipeline.core.facts import Rung, Settlement
from pipeline.core.limits import Limits
from pipeline.core.roster import WorkerState
from pipeline.core.view import MachineSeen, MachineState, ResultSeen
from tests.core_bed import SETTINGS, Table, named, replace_struct


def settled(table: Table) -> list[Settlement | None]:
    """How each trial ended, in the order of the roster."""
    return [trial.settlement for genome in table.farm.genomes for trial in genome.trials]


# ------------------------------------------------------------------------------------------------ the way it should be


def test_a_kind_world() -> None:
    """pending -> assigned -> settled for every trial, and the run is finished."""
    table = Table(genomes=5, trials=2)
    table.settle_in()
    table.play_all()
    assert settled(table) == [Settlement.COMPLETED] * 10
    assert not any(share.starts for share in table.shares.values())


def test_every_worker_plays_before_any_waits() -> None:
    """Queues are filled emptiest first: two genomes go to two workers, not to one."""
    table = Table("w0", "w1", "w2", genomes=3)
    table.settle_in()
    assert [len(worker.wanted) for worker in table.farm.workers.values()] == [1, 1, 1]


def test_queue_depth_is_a_bound() -> None:
    """A worker holds no more attempts than its queue is deep."""
    table = Table("w0", genomes=9, depth=3)
    table.settle_in()
    assert len(table.farm.workers["w0"].wanted) == 3


def test_nothing_is_given_to_a_worker_that_never_showed_itself() -> None:
    """Without a beat of this epoch an attempt would only wait for its claim limit."""
    table = Table("w0")
    table.shares["w0"].beating = False
    table.settle_in()
    assert table.farm.workers["w0"].wanted == {}


def test_an_idle_worker_gets_what_waits_behind_a_long_game() -> None:
    """The waiting attempt is withdrawn, spends nothing, and goes to the worker that has nothing to do."""
    table = Table("w0", "w1", genomes=2)
    table.shares["w1"].beating = False
    table.settle_in()
    table.claim("w0")
    table.tick(1.0)
    table.shares["w1"].beating = True
    table.run(3)
    assert [len(worker.wanted) for worker in table.farm.workers.values()] == [1, 1]
    second = table.farm.genomes[1].trials[0]
    assert [attempt.outcome for attempt in second.attempts] == [Outcome.WITHDRAWN, None]
    assert (second.blamed, second.losses) == (0, 0)


def test_what_the_idle_worker_has_tried_already_is_not_taken_back_for_it() -> None:
    """It would not be given it, and the attempt would come back at once, again and again."""
    table = Table("w0", "w1", genomes=2, depth=1)
    table.settle_in()
    (tried,) = table.farm.workers["w1"].wanted.values()
    table.claim("w0")
    table.answer(tried.id, Outcome.FAILED)
    table.queues.depth.update(w0=2)
    facts = table.run(20)

    again = [fact for fact in facts if isinstance(fact, f.AttemptIssued) and fact.genome == tried.trial.genome.number]
    assert [fact.worker for fact in again] == ["w0"]
    assert table.farm.workers["w1"].wanted == {}


# ---------------------------------------------------------------------------------------------- the genome's fault


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_a_failing_genome_is_given_up_after_attempts_max(outcome: Outcome) -> None:
    """failed or timed out three times: settled with that outcome, without a fitness, with its reason."""
    table = Table(genomes=1)
    table.settle_in()
    for _ in range(3):
        (attempt,) = [a for w in table.farm.workers.values() for a in w.wanted]
        table.answer(attempt, outcome, reason="no such level")
        table.tick()
    trial = table.farm.genomes[0].trials[0]
    assert trial.settlement == outcome
    assert (trial.fitness, trial.reason) == (None, "no such level")
    assert len({attempt.worker for attempt in trial.attempts}) == 2, "a retry prefers a worker that has not tried it"


def test_a_time_out_may_have_a_score() -> None:
    """With timed_out_fitness set, a trial that times out to the end is settled with that fitness."""
    table = Table(genomes=1, settings=replace_struct(SETTINGS, timed_out_fitness=-5.0))
    table.settle_in()
    for _ in range(3):
        (attempt,) = [a for w in table.farm.workers.values() for a in w.wanted]
        table.answer(attempt, Outcome.TIMED_OUT)
        table.tick()
    assert table.farm.genomes[0].fitness == -5.0


def test_one_failed_trial_skips_the_others_of_its_genome() -> None:
    """No fitness can come of the genome any more, so its open trials are skipped and taken back; others go on."""
    table = Table(genomes=2, trials=3, limits=Limits(attempts_max=1))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].open_attempt
    assert first is not None
    table.answer(first.id, Outcome.FAILED)
    table.tick()
    assert settled(table)[:3] == [Settlement.FAILED, Settlement.SKIPPED, Settlement.SKIPPED]
    table.play_all()
    assert settled(table)[3:] == [Settlement.COMPLETED] * 3


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
    table.shares[other].results[attempt.id] = ResultSeen(attempt=attempt.id, record=table.record(attempt))
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
    table.shares["w0"].results[stranger] = ResultSeen(attempt=stranger, record=table.record(known, attempt=stranger))
    table.watch.workers["w0"].delivered.discard(stranger)
    facts = table.tick(full=False) + table.tick(full=False)
    assert [fact.attempt for fact in named(facts, f.ResultUnexpected)] == [stranger]
    assert table.farm.settled.total() == 0


# ------------------------------------------------------------------------------------------------- silence and loss


def test_a_silent_worker_on_a_readable_share_is_wedged() -> None:
    """What it was playing is lost and charged, what waits is taken back, and its agent is restarted."""
    table = Table("w0", "w1", genomes=4, machines=True)
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, (Rung.RESTART_AGENT, Rung.RESTORE))
    table.settle_in()
    playing = table.claim("w0")
    table.tick()
    table.shares["w0"].beating = False
    facts = table.run(40)
    attempt = table.farm.attempts[playing]
    assert attempt.outcome is Outcome.LOST
    assert attempt.charged
    assert next(act.rung for act in table.orders if act.worker == "w0") is Rung.RESTART_AGENT
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
    assert (first.outcome, first.kept, first.charged) == (Outcome.LOST, True, False)
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


def test_an_idle_worker_that_claims_nothing_loses_the_first() -> None:
    """Whatever state it reports: an agent that does not claim what waits is of no use."""
    table = Table("w0", genomes=2, limits=Limits(claim_limit_s=5))
    table.settle_in()
    first, second = table.farm.workers["w0"].wanted.values()
    table.run(7)
    assert (first.outcome, second.outcome) == (Outcome.LOST, None)


# ------------------------------------------------------------------------------------------------------------ poison


def test_poison_needs_two_workers_if_there_are_two() -> None:
    """Three interruptions on two workers: the genome is poison, its worker is forgiven, the neighbour not charged."""
    table = Table("w0", "w1", genomes=2, limits=Limits(losses_max=3))
    table.settle_in()
    poison = table.farm.genomes[0].trials[0]
    for _ in range(3):
        attempt = poison.open_attempt
        assert attempt is not None
        table.answer(attempt.id, Outcome.INTERRUPTED)
        table.tick()
    assert poison.settlement is Settlement.FAILED
    assert "poison" in poison.reason
    assert all(worker.losses == 0 for worker in table.farm.workers.values())
    assert table.farm.genomes[1].charges == []


def test_a_genome_is_not_charged_twice_for_one_attempt() -> None:
    """Lost and charged, then the restarted agent says `interrupted` as well: one charge."""
    table = Table("w0", "w1", genomes=1, limits=Limits(grace_s=10))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.claim(first.worker)
    table.run(90, step=5)
    assert first.charged
    table.answer(first.id, Outcome.INTERRUPTED)
    table.tick()
    assert len(table.farm.genomes[0].charges) == 1


def test_a_trial_is_given_up_after_too_many_losses() -> None:
    """Nothing waits for ever: losses that are nobody's in particular have their own cap."""
    limits = Limits(losses_per_trial_max=4, losses_max=4, claim_limit_s=2, back_off_s=1)
    table = Table("w0", "w1", "w2", genomes=1, limits=limits)
    table.settle_in()
    table.run(60)
    trial = table.farm.genomes[0].trials[0]
    assert trial.settlement is Settlement.FAILED
    assert "gave up after 4 lost attempts" in trial.reason


def test_a_genome_that_turns_out_poison_ends_what_else_of_it_is_overdue() -> None:
    """Two of its games are overdue in the same sweep; the first makes it poison, which ends the second."""
    table = Table("w0", genomes=1, trials=4, limits=Limits(attempts_max=1, grace_s=10))
    table.settle_in()
    held = {table.claim("w0"), table.claim("w0")}

    table.run(72)

    outcomes = [table.farm.attempts[attempt].outcome for attempt in held]
    assert sorted(str(outcome) for outcome in outcomes) == ["lost", "withdrawn"]


# ------------------------------------------------------------------------------------------------ loss and its charge


def test_a_claim_that_shows_after_an_outage_charges_its_genome() -> None:
    """Its machine was restarted while nobody could say what it did; then a claim stands there without a result."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.machines = {name: MachineSeen(MachineState.RUNNING, (Rung.REBOOT,)) for name in ("w0", "w1")}
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    share = table.shares[first.worker]
    share.unknown = "network down"
    table.run(90)
    assert (first.outcome, first.charged) == (Outcome.LOST, False)
    assert [act.rung for act in table.orders] == [Rung.REBOOT]

    share.unknown = ""
    table.claim_by_name(first)
    table.tick()

    assert first.charged


def test_what_was_kept_and_is_not_played_is_let_go() -> None:
    """The share can be read again and nobody claims it: its start signal is removed, and the worker is free."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.shares[first.worker].unknown = "network down"
    table.run(40)
    table.shares[first.worker].unknown = ""

    table.run(3)

    assert table.farm.workers[first.worker].kept == {}
    assert first.id not in table.shares[first.worker].starts
    table.play_all()


def test_what_was_kept_and_is_played_is_waited_for() -> None:
    """The share can be read again and shows its claim: its result may still come, and then it counts."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.claim_by_name(first)
    table.shares[first.worker].unknown = "network down"
    table.run(40)
    table.shares[first.worker].unknown = ""

    table.run(10)
    assert set(table.farm.workers[first.worker].kept) == {first.id}
    table.answer(first.id, fitness=7.0)
    table.tick()

    assert table.farm.genomes[0].fitness == 7.0


def test_an_agent_that_says_so_itself_is_believed() -> None:
    """Lost on a share that could not be read; then the restarted agent reports `interrupted`: charged, once."""
    table = Table("w0", "w1", genomes=1, machines=True)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.shares[first.worker].unknown = "network down"
    table.run(40)
    table.shares[first.worker].unknown = ""
    table.answer(first.id, Outcome.INTERRUPTED)

    facts = table.tick() + table.tick()

    assert [fact.attempt for fact in named(facts, f.ResultLate)] == [first.id]
    assert [fact.attempt for fact in named(facts, f.GenomeCharged)] == [first.id]


def test_a_result_of_an_earlier_run_is_late_and_noted_once() -> None:
    """The ledger issued its id, another run of the generation did: not unexpected, and not counted."""
    table = Table("w0", genomes=1)
    table.settle_in()
    known = table.farm.genomes[0].trials[0].attempts[0]
    older = "g0001-0001-t1-a7-000000000000"
    table.shares["w0"].starts.add(older)
    seen = ResultSeen(attempt=older, record=table.record(known, attempt=older), known_elsewhere=True)
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
    seen = ResultSeen(
        attempt=older, record=table.record(known, attempt=older), known_elsewhere=True, heard_elsewhere=True
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
    share.results[attempt.id] = ResultSeen(attempt=attempt.id, record=table.record(attempt, fitness=2.0))
    table.restart_host()

    facts = table.tick(full=False)

    assert not named(facts, f.AttemptEnded) + named(facts, f.ResultLate)


def test_a_result_of_an_unknown_layout_puts_its_worker_out() -> None:
    """The host cannot read what its agent writes; what waits there is taken back and goes to another."""
    table = Table("w0", "w1", genomes=3)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    seen = ResultSeen(attempt=first.id, record=None, problem="layout 9, this program knows 1", unknown_layout=True)
    table.shares[first.worker].results[first.id] = seen

    table.tick()

    assert first.outcome is Outcome.REJECTED
    assert table.farm.workers[first.worker].state is WorkerState.OUT
    assert table.farm.workers[first.worker].wanted == {}
    table.play_all()


def test_a_claim_of_what_was_taken_back_charges_nobody() -> None:
    """Only what was lost may be charged."""
    table = Table("w0", genomes=1)
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.state(f.AttemptEnded(attempt=held.id, outcome=Outcome.WITHDRAWN, ordered=True))
    table.claim_by_name(held)

    facts = table.tick(full=False)

    assert named(facts, f.GenomeCharged) == []


def test_a_claim_that_crosses_the_hosts_verdict_charges_nobody() -> None:
    """Lost because nobody claimed it; its agent claims it in the moment before its start signal is removed."""
    table = Table("w0", "w1", genomes=2, limits=Limits(claim_limit_s=5))
    table.settle_in()
    facts = table.run(7)
    (lost, *_) = [fact.attempt for fact in named(facts, f.AttemptEnded) if fact.outcome is Outcome.LOST]
    table.claim_by_name(table.farm.attempts[lost])

    facts = table.tick()

    assert named(facts, f.GenomeCharged) == []


def test_what_is_archived_is_what_was_judged() -> None:
    """Two shares show a result of one attempt in the same tick; the one that counts is its own worker's."""
    table = Table("w0", "w1", genomes=2)
    table.settle_in()
    (mine,) = table.farm.workers["w1"].wanted.values()
    table.answer(mine.id, fitness=2.0)
    table.shares["w0"].results[mine.id] = ResultSeen(attempt=mine.id, record=table.record(mine, fitness=1e9))

    for name in ("w0", "w1"):
        minutes = table.minutes(order=[name, *(other for other in table.shares if other != name)])
        worker, seen = minutes.judged[mine.id]
        assert worker == "w1"
        assert seen.record is not None
        assert seen.record.fitness == 2.0
        table.restart_host()


def test_a_result_that_cannot_be_read_is_corrupt() -> None:
    """The edge has tried often enough; the worker is blamed, and the trial is tried again."""
    table = Table("w0", genomes=1)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    table.shares["w0"].results[attempt.id] = ResultSeen(attempt=attempt.id, record=None, problem="not JSON")

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


def test_poison_leaves_the_fitness_of_a_finished_trial() -> None:
    """Its open trials fail; what was played before stays what it was."""
    table = Table("w0", genomes=1, trials=3, limits=Limits(attempts_max=1))
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.answer(first.id)
    table.tick()

    table.answer(table.farm.genomes[0].trials[1].attempts[0].id, Outcome.INTERRUPTED)
    table.tick()

    assert settled(table) == [Settlement.COMPLETED, Settlement.FAILED, Settlement.FAILED]


def test_a_failure_leaves_the_fitness_of_a_finished_trial() -> None:
    """The others are skipped, the finished one keeps its fitness."""
    table = Table("w0", genomes=1, trials=3, depth=1, limits=Limits(attempts_max=1))
    table.settle_in()
    table.answer(table.farm.genomes[0].trials[0].attempts[0].id)
    table.tick()

    table.answer(table.farm.genomes[0].trials[1].attempts[0].id, Outcome.FAILED)
    table.tick()

    assert settled(table) == [Settlement.COMPLETED, Settlement.FAILED, Settlement.SKIPPED]


# ----------------------------------------------------------------------------------------------------- local workers


def test_what_a_dead_host_gave_its_local_workers_is_taken_back() -> None:
    """Their agents ended with it; the next host collects, then says so, and gives it out again."""
    table = Table("w0", genomes=1, local=True, machines=True)
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.machines["w0"] = MachineSeen(MachineState.OFF, ())

    table.restart_host()
    table.tick()

    held = table.farm.attempts[held.id]
    assert (held.outcome, held.reason) == (Outcome.WITHDRAWN, "host ended")
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, ())
    table.play_all()


def test_what_a_running_agent_holds_is_not_taken_back() -> None:
    """The first look came while its agent was running already: it is this host's."""
    table = Table("w0", genomes=1, local=True, machines=True)
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted

    table.restart_host()
    table.tick()

    assert table.farm.attempts[held].outcome is None


# -------------------------------------------------------------------------------------------------------- assigning


def test_a_trial_that_is_to_be_played_alone_waits_for_an_empty_queue() -> None:
    """It is neither put behind another, nor is another put behind it."""
    table = Table("w0", genomes=3, limits=Limits(claim_limit_s=1000))
    table.settle_in()
    one, other = table.farm.workers["w0"].wanted.values()
    table.shares["w0"].starts.clear()
    for _ in range(3):
        table.tick()
    (alone,) = table.farm.workers["w0"].wanted.values()
    assert alone.trial in (one.trial, other.trial)

    table.answer(alone.id)
    table.tick()

    assert all(len(table.farm.workers["w0"].wanted) == 1 for _ in [table.tick()])
    table.play_all()


def test_a_trial_that_is_to_be_played_alone_is_not_put_behind_another() -> None:
    """Its worker was lost; the other one has a game in hand, and takes it when that is over."""
    table = Table("w0", "w1", genomes=2, machines=True)
    table.settle_in()
    (lost,) = table.farm.workers["w1"].wanted.values()
    mine = table.claim("w0")
    table.shares["w1"].unknown = "network down"
    table.run(32)
    assert list(table.farm.workers["w0"].wanted) == [mine]

    table.answer(mine)
    table.tick()

    (next_one,) = table.farm.workers["w0"].wanted.values()
    assert next_one.alone
    assert next_one.trial is lost.trial


def test_a_search_for_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many trials wait for another worker, a tick looks at a few of them only."""
    monkeypatch.setattr("pipeline.core.dispatcher._RETRIES_SEARCHED_MAX", 0)
    table = Table("w0", genomes=1)
    table.settle_in()
    assert table.farm.workers["w0"].wanted == {}


# -------------------------------------------------------------------------------------------------------- standstill


def test_an_agent_of_another_layout_puts_its_worker_out() -> None:
    """`rejected` spends nothing; the worker is out with the cure, and the trial goes to another."""
    table = Table("w0", "w1", genomes=1)
    table.settle_in()
    first = table.farm.genomes[0].trials[0].attempts[0]
    table.answer(first.id, Outcome.REJECTED, trial=None, seed=None, genome_sha256=None)
    table.tick()
    assert table.farm.workers[first.worker].state is WorkerState.OUT
    assert "install the same version" in table.farm.workers[first.worker].reason
    table.play_all()


def test_a_finished_run_does_not_stand_still() -> None:
    """There is nothing to complain of."""
    table = Table("w0", genomes=1)
    table.settle_in()
    assert standstill(table.farm, 1) == ""
    table.play_all()
    assert standstill(table.farm, 1) == ""


def test_everything_failing_from_the_start_is_a_standstill() -> None:
    """The first five trials all failed: more likely the evaluator than the genomes."""
    table = Table("w0", genomes=9, limits=Limits(attempts_max=1))
    table.settle_in()
    for _ in range(9):
        for attempt_id in list(table.farm.workers["w0"].wanted):
            table.answer(attempt_id, Outcome.FAILED)
        table.tick()
        if standstill(table.farm, 1):
            break
    assert "all failed" in standstill(table.farm, 1)
    assert table.farm.open_trials
