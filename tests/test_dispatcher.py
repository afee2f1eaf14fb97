"""The policy, as stories: what becomes of trials and workers when the world is kind, and when it is not."""

import pytest

from inbox_agent.share_layout import HostRecord, Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import standstill
from pipeline.core.facts import Rung, Settlement
from pipeline.core.farm import IllegalFact
from pipeline.core.limits import Limits
from pipeline.core.roster import TrialState, WorkerState
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


# --------------------------------------------------------------------------------------------- quarantine and ladder


def test_quarantine_probation_and_out() -> None:
    """Three losses in a row: quarantine; three failed probations: out; the farm says that it cannot go on."""
    table = Table("w0", genomes=1, limits=Limits(claim_limit_s=2, back_off_s=2, losses_per_trial_max=50))
    table.settle_in()
    facts = table.run(120)
    backs_off = [fact.back_off_s for fact in named(facts, f.WorkerQuarantined)]
    assert backs_off == [2, 4, 8]
    assert table.farm.workers["w0"].state is WorkerState.OUT
    assert "every worker is out" in standstill(table.farm, 1)


def test_probation_is_passed_by_one_good_attempt() -> None:
    """One attempt at a time on probation; when it is answered, the worker is as good as any."""
    table = Table("w0", genomes=6, limits=Limits(claim_limit_s=2, back_off_s=2))
    table.settle_in()
    while table.farm.workers["w0"].state is not WorkerState.PROBATION:
        table.tick(1.0)
    table.tick()
    (attempt,) = table.farm.workers["w0"].wanted
    table.answer(attempt)
    table.tick()
    assert table.farm.workers["w0"].state is WorkerState.READY
    table.play_all()


def test_the_ladder_is_climbed_rung_by_rung() -> None:
    """Each rung has its deadline; when none helps the worker is quarantined, and nothing is climbed twice at once."""
    table = Table("w0", genomes=2, machines=True, limits=Limits(rung_limit_s=10))
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, tuple(Rung))
    table.settle_in()
    table.shares["w0"].beating = False
    facts = table.run(31 + 4 * 11 + 2)
    assert [fact.rung for fact in named(facts, f.RungClimbed)] == list(Rung)
    assert [act.rung for act in table.orders] == list(Rung)
    assert named(facts, f.WorkerQuarantined)


def test_a_worker_that_answers_again_is_left_alone() -> None:
    """A sign of life ends the recovery, whatever rung it is on."""
    table = Table("w0", genomes=2, machines=True)
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, tuple(Rung))
    table.settle_in()
    table.shares["w0"].beating = False
    table.run(33)
    assert table.farm.workers["w0"].state is WorkerState.RECOVERING
    table.shares["w0"].beating = True
    table.tick()
    assert table.farm.workers["w0"].state is WorkerState.READY
    table.play_all()
    assert len(table.orders) == 1


def test_an_agent_that_ended_is_restarted_and_nothing_is_declared_lost() -> None:
    """Its attempts stay published: the new agent says itself what was interrupted."""
    table = Table("w0", genomes=2, machines=True)
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, (Rung.RESTART_AGENT,))
    table.settle_in()
    held = set(table.farm.workers["w0"].wanted)
    table.machines["w0"] = MachineSeen(MachineState.OFF, (Rung.RESTART_AGENT,), "signal SIGKILL")
    table.tick()
    assert [act.rung for act in table.orders] == [Rung.RESTART_AGENT]
    assert set(table.farm.workers["w0"].wanted) == held


def to_quarantine(table: Table, worker: str = "w0") -> None:
    """Its agent is well and beats, and yet three attempts in a row are lost on it."""
    while table.farm.workers[worker].state is not WorkerState.QUARANTINED:
        table.tick()
        for attempt in list(table.farm.workers[worker].wanted):
            table.answer(attempt, Outcome.INTERRUPTED)


def test_a_worker_that_was_heard_of_lately_is_not_restarted_after_its_quarantine() -> None:
    """A look that failed is not silence: the limit for silence holds at the end of a quarantine, too."""
    table = Table("w0", genomes=6, machines=True, limits=Limits(back_off_s=10))
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, tuple(Rung))
    table.settle_in()
    to_quarantine(table)
    table.shares["w0"].beating = False  # for a while no look shows a new beat

    while table.farm.workers["w0"].state is not WorkerState.PROBATION:
        table.tick(1.0)
    table.tick()

    assert table.orders == []


def test_a_machine_that_hangs_on_probation_climbs_the_whole_ladder() -> None:
    """Restarting its agent cannot help a frozen machine; another rung can, and must be tried before it is out."""
    table = Table("w0", genomes=6, machines=True, limits=Limits(back_off_s=40, rung_limit_s=10))
    table.machines["w0"] = MachineSeen(MachineState.RUNNING, tuple(Rung))
    table.settle_in()
    to_quarantine(table)
    table.shares["w0"].beating = False

    facts = table.run(40 + 4 * 11 + 3)

    assert [fact.rung for fact in named(facts, f.RungClimbed)] == list(Rung)
    assert "did not help" not in table.farm.workers["w0"].reason
    assert table.farm.workers["w0"].probations == 1


def test_a_genome_that_turns_out_poison_ends_what_else_of_it_is_overdue() -> None:
    """Two of its games are overdue in the same sweep; the first makes it poison, which ends the second."""
    table = Table("w0", genomes=1, trials=4, limits=Limits(attempts_max=1, grace_s=10))
    table.settle_in()
    held = {table.claim("w0"), table.claim("w0")}

    table.run(72)

    outcomes = [table.farm.attempts[attempt].outcome for attempt in held]
    assert sorted(str(outcome) for outcome in outcomes) == ["lost", "withdrawn"]


# ------------------------------------------------------------------------------------------------------- epochs, law 7


def test_first_contact_begins_epoch_one() -> None:
    """An untouched folder is made this farm's: epoch 1 is recorded, published, seen."""
    table = Table("w0")
    table.settle_in()
    assert (table.farm.workers["w0"].epoch, table.farm.workers["w0"].epoch_open) == (1, True)
    assert table.shares["w0"].owner == HostRecord(farm="f00d", worker="w0", epoch=1)


def test_a_start_signal_that_vanishes_begins_a_new_epoch() -> None:
    """Only the host deletes in inbox/, so the share went back in time: what it held is lost, and nobody is charged."""
    table = Table("w0", genomes=2)
    table.settle_in()
    held = list(table.farm.workers["w0"].wanted.values())
    table.shares["w0"].starts.clear()
    table.tick()
    assert table.farm.workers["w0"].epoch == 2
    assert {attempt.outcome for attempt in held} == {Outcome.LOST}
    assert not any(attempt.charged for attempt in held)
    for _ in range(2):
        table.tick()
    table.play_all()


def test_after_an_unclear_loss_a_trial_plays_alone() -> None:
    """Where the share cannot tell who was playing, every trial that was there is next played with nothing behind it."""
    table = Table("w0", genomes=3)
    table.settle_in()
    table.shares["w0"].starts.clear()
    for _ in range(3):
        table.tick()
    (alone,) = table.farm.workers["w0"].wanted.values()
    assert alone.alone


def test_an_older_host_json_begins_a_new_epoch() -> None:
    """The share shows epoch 1 where epoch 2 had been: reverted."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.shares["w0"].starts.clear()
    for _ in range(2):
        table.tick()
    table.shares["w0"].owner = HostRecord(farm="f00d", worker="w0", epoch=1)
    table.tick()
    assert table.farm.workers["w0"].epoch == 3


def test_a_falling_counter_begins_a_new_epoch() -> None:
    """One agent life never counts backwards."""
    table = Table("w0")
    table.settle_in()
    table.shares["w0"].counter -= 2
    table.tick()
    assert table.farm.workers["w0"].epoch == 2


def test_an_agent_life_that_returns_begins_a_new_epoch_and_two_agents_are_quarantined() -> None:
    """A, B, A is a checkpoint with memory; A, B, A, B are two agents that take turns."""
    table = Table("w0")
    table.settle_in()
    share = table.shares["w0"]
    share.run_id = "run-2"
    table.tick()
    assert table.farm.workers["w0"].epoch == 1
    share.run_id = "run-1"
    table.tick()
    assert table.farm.workers["w0"].epoch == 2
    for run_id in ("run-2", "run-1", "run-2", "run-1"):
        share.run_id = run_id
        table.tick()
        table.tick()
    assert table.farm.workers["w0"].state is WorkerState.QUARANTINED
    assert "two agents" in table.farm.workers["w0"].reason


def test_an_emptied_share_is_unknown() -> None:
    """No host.json where one was: not mounted, or wiped by hand. Nothing is concluded from its emptiness."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.shares["w0"].owner = None
    table.shares["w0"].starts.clear()
    table.shares["w0"].bare = True
    assert table.run(5) == []
    assert table.farm.workers["w0"].epoch == 1


@pytest.mark.parametrize(
    "owner",
    [
        HostRecord(farm="another", worker="w0", epoch=1),
        HostRecord(farm="f00d", worker="w1", epoch=1),
        HostRecord(farm="f00d", worker="w0", epoch=9),
    ],
)
def test_hands_off_a_share_that_is_somebody_elses(owner: HostRecord) -> None:
    """Another farm's, another worker's, or one with a younger epoch: the worker is out, with the cure, untouched."""
    table = Table("w0", "w2", genomes=2)
    table.settle_in()
    table.shares["w0"].owner = owner
    before = set(table.shares["w0"].starts)
    table.tick()
    assert table.farm.workers["w0"].state is WorkerState.OUT
    assert "pipeline take-over w0" in table.farm.workers["w0"].reason
    assert table.shares["w0"].starts == before
    table.play_all()


def test_a_start_signal_that_this_ledger_never_issued() -> None:
    """A second host, or an old ledger: hands off."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.shares["w0"].strangers.add("g0001-0001-t1-a1-zzzzzzzzzzzz")
    table.tick()
    assert table.farm.workers["w0"].state is WorkerState.OUT


# ------------------------------------------------------------------------------------------------------- publishing


def test_an_uncertain_publication_is_decided_by_the_next_listing() -> None:
    """Not there in full: the id is burnt, the trial gets a new one. There in full: it was published."""
    table = Table("w0", genomes=1)
    table.publish_fails = True
    table.settle_in()
    table.publish_fails = False
    table.tick()
    table.tick()
    outcomes = [attempt.outcome for attempt in table.farm.genomes[0].trials[0].attempts]
    assert outcomes[0] is Outcome.UNDELIVERED
    assert outcomes[-1] is None
    table.play_all()


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


def test_an_illegal_fact_is_refused_with_the_story() -> None:
    """The farm is a table of transitions: what is not in it is a defect, told with what led there."""
    table = Table("w0", genomes=1)
    table.settle_in()
    attempt = table.farm.genomes[0].trials[0].attempts[0]
    with pytest.raises(IllegalFact, match=attempt.id):
        table.farm.evolve(f.TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED, attempt=attempt.id), 0.0)
    assert table.farm.genomes[0].trials[0].state is TrialState.ASSIGNED
