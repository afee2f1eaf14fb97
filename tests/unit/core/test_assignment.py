"""Assignment of trials to workers, and local workers after a host's end."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Settlement
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.observed import REMOVE_AGAIN_S
from pipeline.core.reconcile import plan
from pipeline.core.requests import ShareAction
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules

# ------------------------------------------------------------------------------------------------------ without faults


def test_run_without_faults_settles_all_trials() -> None:
    """pending -> assigned -> settled for every trial, and the run is finished."""
    core = CoreHarness(genomes=5, trials=2)
    core.run_until_ready()
    core.play_all()
    assert core.settlements() == [Settlement.COMPLETED] * 10
    assert not any(share.starts for share in core.shares.values())


def test_queues_are_filled_emptiest_first() -> None:
    """Three genomes go to three workers."""
    core = CoreHarness("w0", "w1", "w2", genomes=3)
    core.run_until_ready()
    assert [len(worker.wanted) for worker in core.farm.workers.values()] == [1, 1, 1]


def test_queue_depth_is_not_exceeded() -> None:
    """A worker holds no more attempts than its queue is deep."""
    core = CoreHarness("w0", genomes=9, depth=3)
    core.run_until_ready()
    assert len(core.farm.workers["w0"].wanted) == 3


def test_worker_without_heartbeat_gets_no_attempt() -> None:
    """Without a heartbeat of this epoch the attempt would exceed its claim limit."""
    core = CoreHarness("w0")
    core.shares["w0"].sends_heartbeats = False
    core.run_until_ready()
    assert core.farm.workers["w0"].wanted == {}


def test_queued_attempt_moves_to_idle_worker() -> None:
    """It is withdrawn without a loss and issued again to the idle worker."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.shares["w1"].sends_heartbeats = False
    core.run_until_ready()
    core.claim("w0")
    core.tick(1.0)
    core.shares["w1"].sends_heartbeats = True
    core.run(3)
    assert [len(worker.wanted) for worker in core.farm.workers.values()] == [1, 1]
    second = core.farm.genomes[1].trials[0]
    assert [attempt.outcome for attempt in second.attempts] == [Outcome.WITHDRAWN, None]
    assert (second.blamed, second.losses) == (0, 0)


def test_attempt_already_tried_by_idle_worker_is_not_moved() -> None:
    """The idle worker would not get the trial, and the attempt would be moved back and forth."""
    core = CoreHarness("w0", "w1", genomes=2, depth=1)
    core.run_until_ready()
    (tried,) = core.farm.workers["w1"].wanted.values()
    core.claim("w0")
    core.publish_result(tried.id, Outcome.FAILED)
    core.queues.depth.update(w0=2)
    facts = core.run(20)

    issued = [fact for fact in facts if isinstance(fact, f.AttemptIssued) and fact.genome == tried.trial.genome.number]
    assert [fact.worker for fact in issued] == ["w0"]
    assert core.farm.workers["w1"].wanted == {}


def test_removal_of_open_genome_is_retried_later() -> None:
    """Each removal of an open file takes seconds on Windows; without its start signal it has no effect."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (done,) = core.farm.workers["w0"].wanted
    core.publish_result(done)
    tx = core.decide(["w0"])
    core.facts += [(fact, core.now) for fact in tx.facts]
    (action,) = plan(core.farm, core.observed, core.limits, ["w0"])
    assert isinstance(action, ShareAction)
    assert action.remove == (done,)

    core.observed.note_held_open("w0", frozenset({done}))

    assert plan(core.farm, core.observed, core.limits, ["w0"]) == []
    core.observed.time += REMOVE_AGAIN_S + 1
    assert plan(core.farm, core.observed, core.limits, ["w0"]) == [action]
    core.observed.note_removed("w0", frozenset({done}))
    assert core.observed.workers["w0"].held_open == {}


# ----------------------------------------------------------------------------------------------------- local workers


def test_attempts_of_dead_host_on_local_workers_are_withdrawn() -> None:
    """Their agents ended with the host; the next host collects results first, then withdraws."""
    core = CoreHarness("w0", genomes=1, local=True, machines=True)
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.machines["w0"] = MachineStatus(MachineState.OFF, ())

    core.restart_host()
    core.tick()

    held = core.farm.attempts[held.id]
    assert (held.outcome, held.reason) == (Outcome.WITHDRAWN, "host ended")
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, ())
    core.play_all()


def test_attempts_of_running_local_agent_are_kept() -> None:
    """An agent that runs at the first scan belongs to this host."""
    core = CoreHarness("w0", genomes=1, local=True, machines=True)
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted

    core.restart_host()
    core.tick()

    assert core.farm.attempts[held].outcome is None


# -------------------------------------------------------------------------------------------------------- assigning


def test_run_alone_trial_waits_for_empty_queue() -> None:
    """It is neither queued behind another attempt, nor is another queued behind it."""
    core = CoreHarness("w0", genomes=3, limits=Limits(claim_limit_s=1000))
    core.run_until_ready()
    first, second = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].starts.clear()
    for _ in range(3):
        core.tick()
    (attempt,) = core.farm.workers["w0"].wanted.values()
    assert attempt.trial in (first.trial, second.trial)

    core.publish_result(attempt.id)
    core.tick()

    assert all(len(core.farm.workers["w0"].wanted) == 1 for _ in [core.tick()])
    core.play_all()


def test_run_alone_trial_is_not_queued_behind_other_attempt() -> None:
    """Its worker was lost; the busy one gets it after its game."""
    core = CoreHarness("w0", "w1", genomes=2, machines=True)
    core.run_until_ready()
    (lost,) = core.farm.workers["w1"].wanted.values()
    claimed = core.claim("w0")
    core.shares["w1"].unknown = "network down"
    core.run(32)
    assert list(core.farm.workers["w0"].wanted) == [claimed]

    core.publish_result(claimed)
    core.tick()

    (next_attempt,) = core.farm.workers["w0"].wanted.values()
    assert next_attempt.run_alone
    assert next_attempt.trial is lost.trial


def test_probation_uses_genome_without_losses() -> None:
    """With the genome that crashes it, which is first in the queue, every probation would fail."""
    core = CoreHarness("w0", genomes=3, trials=3, limits=Limits(losses_max=1))
    core.run_until_ready()
    core.publish_result(core.claim("w0"), Outcome.INTERRUPTED)
    core.tick()
    assert core.state("w0") is WorkerState.QUARANTINED

    core.run(16)

    assert core.state("w0") is WorkerState.PROBATION
    (tried,) = core.farm.workers["w0"].wanted.values()
    assert tried.trial.genome.number == 2
    core.publish_result(tried.id)
    core.tick()
    assert core.state("w0") is WorkerState.READY


def test_probation_uses_lost_genome_if_no_other_waits() -> None:
    """If every pending genome has losses, probation uses one of them."""
    core = CoreHarness("w0", genomes=1, trials=2, limits=Limits(losses_max=1))
    core.run_until_ready()
    core.publish_result(core.claim("w0"), Outcome.INTERRUPTED)

    core.run(17)

    assert len(core.farm.workers["w0"].wanted) == 1
    core.play_all()


def test_last_try_waits_for_worker_that_has_not_failed_trial() -> None:
    """The idle worker has failed it before; the last try waits for the busy one."""
    core = CoreHarness("w0", "w1", genomes=8, machines=True)
    core.run_until_ready()
    core.claim("w1")
    for _ in range(60):
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.FAILED)
        core.tick(0.5)

    assert [trial for genome in core.farm.genomes for trial in genome.trials if trial.settlement] == []
    assert core.farm.workers["w0"].wanted == {}
    core.play_all()
    assert core.settlements() == [Settlement.COMPLETED] * 8


def test_last_try_does_not_wait_for_worker_that_is_out() -> None:
    """The remaining worker gets it."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.shares["w1"].sends_heartbeats = False
    core.run_until_ready()
    for _ in range(2):
        core.publish_result(core.claim("w0"), Outcome.FAILED)
        core.tick()

    assert core.settlements() == [Settlement.FAILED]


def test_worker_that_lost_trial_may_get_last_try() -> None:
    """A loss is no judgement: the last try waits for the worker that lost the trial, not for the one that failed it."""
    core = CoreHarness("w0", "w1", genomes=4, depth=1)
    core.run_until_ready()
    (lost,) = core.farm.workers["w1"].wanted.values()
    core.publish_result(lost.id, Outcome.INTERRUPTED)
    core.publish_result(core.claim("w0"))
    core.tick()
    core.claim("w1")
    for _ in range(40):
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.FAILED)
        core.tick()

    assert (lost.trial.blamed, lost.trial.settlement) == (1, None)


def test_waiting_last_tries_do_not_hide_fresh_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many last tries wait for a busy worker, an idle one finds a trial that it may play."""
    monkeypatch.setattr("pipeline.core.assignment._SEARCHED_MAX", 3)
    core = CoreHarness("w0", "w1", genomes=20, depth=1)
    core.run_until_ready()
    core.claim("w1")
    for _ in range(40):
        for attempt in list(core.farm.workers["w0"].wanted.values()):
            failing = attempt.trial.genome.number < 10
            core.publish_result(attempt.id, Outcome.FAILED if failing else Outcome.COMPLETED)
        core.tick(0.01)

    assert len(core.farm.pending.retries) == 8  # w1 plays one of those that fail
    assert not core.farm.pending.fresh


def test_queued_attempt_moves_although_last_try_is_pending() -> None:
    """The last try waits for the busy worker; idle workers get the attempt queued behind it."""
    core = CoreHarness("w0", "w1", "w2", genomes=4, limits=Limits(failures_max=3))
    core.run_until_ready()
    failing, behind = (core.farm.genomes[number - 1].trials[0] for number in (2, 4))
    core.claim("w0")
    core.publish_result(core.claim("w2"))
    for _ in range(2):
        assert failing.open_attempt is not None
        core.publish_result(failing.open_attempt.id, Outcome.FAILED)
        core.tick()
    assert behind.open_attempt is not None
    assert behind.open_attempt.worker == "w0"

    core.run(3)

    assert behind.open_attempt.worker in ("w1", "w2")
    assert failing.open_attempt is not None
    assert failing.open_attempt.worker == "w0"


def test_busy_probation_worker_is_not_waited_for() -> None:
    """On probation a worker holds one attempt, however deep its queue is otherwise."""
    core = CoreHarness("w0", "w1", genomes=2, limits=Limits(losses_max=1))
    core.run_until_ready()
    core.publish_result(core.claim("w0"), Outcome.INTERRUPTED)
    core.tick()
    core.publish_result(core.claim("w1"), Outcome.FAILED)
    core.run(17)
    assert core.state("w0") is WorkerState.PROBATION
    assert len(core.farm.workers["w0"].wanted) == 1

    assert len(core.farm.workers["w1"].wanted) == 1


def test_search_for_trial_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick examines only a few trials, however many wait for another worker."""
    monkeypatch.setattr("pipeline.core.assignment._SEARCHED_MAX", 0)
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    assert core.farm.workers["w0"].wanted == {}


def test_rejected_result_excludes_worker() -> None:
    """The result counts as no failure; the worker is excluded with advice, and the trial is retried elsewhere."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.publish_result(first.id, Outcome.REJECTED, trial=None, seed=None, genome_sha256=None)
    core.tick()
    assert core.farm.workers[first.worker].state is WorkerState.OUT
    assert "install the same version" in core.farm.workers[first.worker].reason
    core.play_all()


def test_last_attempt_waits_for_worker_that_has_not_lost_trial() -> None:
    """Two workers lose everything at once; the third one plays a long game. No innocent genome is given up."""
    core = CoreHarness("good", "bad-0", "bad-1", genomes=2, depth=1, limits=Limits(probations_max=100, back_off_s=0.1))
    core.run_until_ready()
    core.claim("good")

    for _ in range(100):
        for name in ("bad-0", "bad-1"):
            for attempt in list(core.farm.workers[name].wanted):
                core.publish_result(attempt, farm="another")
        core.tick(0.5)

    losses = [genome.trials[0].losses for genome in core.farm.genomes]
    assert losses == [0, core.limits.losses_per_trial_max - 1]
    assert core.settlements() == [None] * 2


def test_workers_that_failed_and_that_lost_a_trial_do_not_wait_for_each_other() -> None:
    """One has failed it, the other one has lost it, each as often as it may but once: it is played again."""
    core = CoreHarness("failing", "losing", genomes=1, depth=1, limits=Limits(losses_max=5, losses_per_trial_max=5))

    for _ in range(100):
        for worker in core.farm.workers.values():
            for attempt in list(worker.wanted):
                if worker.name == "losing":
                    core.publish_result(attempt, farm="another")
                else:
                    core.publish_result(core.claim("failing"), Outcome.FAILED)
        core.tick(0.5)

    assert core.settlements() == [Settlement.FAILED]
