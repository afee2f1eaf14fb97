"""Workers that are drained, restarted at the user's request, removed, and that join."""

from dataclasses import replace

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import Entry, RecoveryAction
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.queues import room_for_trials
from pipeline.core.requests import scan_request
from pipeline.core.runs import replay, withdrawals
from pipeline.core.worker_requests import (
    REJOINED,
    SITE_GONE,
    WorkerRequests,
    joining_worker,
    restart_problem,
    restored_workers,
)
from pipeline.views.progress import measure_progress
from tests.harness.core import FARM, SETTINGS, VERSION, CoreHarness, FakeShare, facts_of, replace_struct

pytestmark = pytest.mark.rules

MACHINE = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction), boots=True, uptime_s=1000.0)


def drained(*workers: str) -> WorkerRequests:
    return WorkerRequests(drained=frozenset(workers))


def states(core: CoreHarness) -> list[str]:
    """The states of the workers, as every display shows them."""
    return [row.state for row in measure_progress(core.farm, core.observed, core.now).workers]


def with_machines(*workers: str, genomes: int = 4, limits: Limits | None = None) -> CoreHarness:
    core = CoreHarness(*workers, genomes=genomes, machines=True, limits=limits)
    core.machines = dict.fromkeys(workers, MACHINE)
    return core


# -------------------------------------------------------------------------------------------------------------- drain


def test_drained_worker_plays_on_and_its_queue_goes_to_others() -> None:
    """What it has begun counts; its queued attempt is withdrawn, which blames neither worker nor genome."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    playing = core.claim("w0")
    (queued,) = core.farm.workers["w0"].wanted.keys() - {playing}
    core.requests = drained("w0")
    facts = core.tick() + core.tick()

    assert facts_of(facts, f.WorkerDrained) == [f.WorkerDrained(worker="w0")]
    assert core.farm.attempts[queued].outcome is Outcome.WITHDRAWN
    assert core.farm.attempts[queued].reason == "w0 is drained"
    assert [*core.farm.workers["w0"].wanted] == [playing]
    assert states(core) == ["draining", "idle"]
    core.publish_result(playing)
    core.play_all()
    assert core.farm.attempts[playing].outcome is Outcome.COMPLETED
    assert {a.worker for a in core.farm.attempts.values() if a.outcome is Outcome.COMPLETED} == {"w0", "w1"}
    assert core.farm.workers["w0"].losses == 0


def test_game_that_began_after_the_last_scan_is_not_withdrawn_by_a_drain() -> None:
    """A share is scanned every few seconds: the first scan after the drain shows what the agent had begun."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.tick()
    playing = core.claim("w0")
    core.requests = drained("w0")
    core.tick(scan=False)
    assert [attempt.outcome for attempt in core.farm.attempts.values()] == [None, None]

    core.tick()
    assert [*core.farm.workers["w0"].wanted] == [playing]


def test_new_host_returns_the_queue_of_a_drained_worker() -> None:
    """The one before ended between the drain and its next scan."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    playing = core.claim("w0")
    core.requests = drained("w0")
    core.tick(scan=False)
    core.restart_host()
    core.tick(scan=False)
    assert len(core.farm.workers["w0"].wanted) == 2

    core.tick()
    assert [*core.farm.workers["w0"].wanted] == [playing]


def test_result_that_is_being_read_is_not_withdrawn_by_a_drain() -> None:
    """Its claim is gone already, and the game is over."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (attempt,) = core.farm.workers["w0"].wanted
    core.shares["w0"].unread.add(attempt)
    core.requests = drained("w0")
    core.tick()

    assert core.farm.attempts[attempt].outcome is None


def test_drained_worker_gets_no_work_until_it_returns() -> None:
    """Also over a restart of the host, for as long as it is asked for."""
    core = CoreHarness("w0", genomes=2)
    core.requests = drained("w0")
    core.run(5)
    core.restart_host()
    core.run(5)
    assert core.farm.attempts == {}
    assert states(core) == ["drained"]
    assert stuck_reason(core.farm, 1) == ""

    core.requests = drained()
    facts = core.run(2)
    assert facts_of(facts, f.WorkerReturned) == [f.WorkerReturned(worker="w0")]
    core.play_all()


def test_machine_of_drained_worker_is_left_to_the_user() -> None:
    """It may be switched off for an hour: nothing is started, recovered or quarantined; its time counts anew after."""
    core = with_machines("w0")
    core.run_until_ready()
    core.requests = drained("w0")
    core.tick()
    core.shares["w0"].unknown, core.machines["w0"] = "off", replace(MACHINE, state=MachineState.OFF, uptime_s=None)
    facts = core.run(3600)
    assert core.machine_actions == []
    assert not facts_of(facts, f.RecoveryStarted) + facts_of(facts, f.WorkerQuarantined)

    core.shares["w0"].unknown, core.machines["w0"] = "", MACHINE
    core.requests = drained()
    facts = core.run(5)
    assert not facts_of(facts, f.RecoveryStarted)
    assert core.state("w0") is WorkerState.READY


def test_machine_of_drained_worker_is_not_started_by_a_new_host() -> None:
    """It is off because the user has switched it off."""
    core = with_machines("w0")
    core.machines["w0"] = replace(MACHINE, state=MachineState.OFF, uptime_s=None)
    core.shares["w0"].unknown = "off"
    core.requests = drained("w0")
    core.run(5)
    assert core.machine_actions == []

    core.requests = drained()
    core.run(2)
    assert {action.worker for action in core.machine_actions} == {"w0"}


def test_silent_drained_worker_loses_what_it_played() -> None:
    """The trial is tried on another worker."""
    core = with_machines("w0", "w1", genomes=2)
    core.run_until_ready()
    attempt = core.claim("w0")
    core.requests = drained("w0")
    core.tick()
    core.shares["w0"].sends_heartbeats = False
    core.run(40)

    assert core.farm.attempts[attempt].outcome is Outcome.LOST
    assert core.state("w0") is WorkerState.READY


def test_trial_does_not_wait_for_a_drained_worker() -> None:
    """A trial that failed goes back to the worker on which it failed if no other one gets work."""
    core = CoreHarness("w0", "w1", genomes=1)
    core.run_until_ready()
    (attempt,) = core.farm.attempts.values()
    other = next(name for name in core.farm.workers if name != attempt.worker)
    core.requests = drained(other)
    core.publish_result(attempt.id, Outcome.FAILED, reason="it crashed")
    core.run(3)

    assert [a.worker for a in core.farm.attempts.values()] == [attempt.worker] * 2


def test_submitted_genomes_find_no_room_on_a_drained_worker() -> None:
    """They would be read long before a worker is there for them."""
    core = CoreHarness("w0", "w1")
    core.run_until_ready()
    both = room_for_trials(core.farm, core.observed, core.queues)
    core.requests = drained("w0")
    core.tick()

    assert room_for_trials(core.farm, core.observed, core.queues) == both // 2


# ------------------------------------------------------------------------------------------------------------- restart


def test_restart_is_no_loss_and_worker_plays_again() -> None:
    """The guest is rebooted; what it held is withdrawn."""
    core = with_machines("w0", "w1")
    core.run_until_ready()
    attempt = core.claim("w0")
    core.requests = WorkerRequests(restart=frozenset({"w0"}))
    facts = core.tick()
    core.requests = WorkerRequests()

    started = f.RecoveryStarted(worker="w0", action=RecoveryAction.REBOOT, reason="asked for by the user")
    assert facts_of(facts, f.RecoveryStarted) == [started]
    assert core.farm.attempts[attempt].outcome is Outcome.WITHDRAWN
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.REBOOT]
    core.run(3)
    assert core.state("w0") is WorkerState.READY
    core.play_all()


def test_restart_of_a_machine_that_is_off_takes_an_action_that_helps() -> None:
    """No guest can be asked to shut down."""
    core = with_machines("w0")
    core.run_until_ready()
    core.machines["w0"] = replace(MACHINE, state=MachineState.UNHEALTHY)
    core.requests = WorkerRequests(restart=frozenset({"w0"}))
    facts = core.tick()

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == [RecoveryAction.POWER_CYCLE]


def test_restart_of_a_machine_without_a_useful_action_takes_the_first_one() -> None:
    """Whether it helps is the user's matter."""
    core = with_machines("w0")
    core.run_until_ready()
    core.machines["w0"] = replace(MACHINE, state=MachineState.UNHEALTHY, actions=(RecoveryAction.RESTART_AGENT,))
    core.requests = WorkerRequests(restart=frozenset({"w0"}))
    facts = core.tick()

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == [RecoveryAction.RESTART_AGENT]


def test_quarantined_worker_goes_on_probation_with_its_restart() -> None:
    """Otherwise it would wait for the end of its back-off."""
    core = with_machines("w0", "w1")
    core.run_until_ready()
    core.record(f.WorkerQuarantined(worker="w1", back_off_s=1000.0, reason="it was stuck"))
    core.requests = WorkerRequests(restart=frozenset({"w1"}))
    core.tick()
    core.requests = WorkerRequests()
    core.run(3)
    assert core.state("w1") is WorkerState.PROBATION


def test_drained_worker_can_be_restarted() -> None:
    """As after an update of its machine; it is ready, and still drained."""
    core = with_machines("w0", "w1")
    core.run_until_ready()
    core.requests = replace(drained("w0"), restart=frozenset({"w0"}))
    core.tick()
    core.requests = drained("w0")
    core.run(3)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.REBOOT]
    assert core.state("w0") is WorkerState.READY
    assert core.farm.workers["w0"].drained
    assert not core.farm.workers["w0"].wanted


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        (None, "w0 has no machine that could be restarted from here"),
        (replace(MACHINE, actions=()), "w0 has no machine that could be restarted from here"),
        (replace(MACHINE, busy=True), "the machine of w0 is busy with another action"),
    ],
)
def test_machine_that_cannot_be_restarted_is_left(machine: MachineStatus | None, problem: str) -> None:
    """And the reason is said."""
    core = with_machines("w0")
    core.run_until_ready()
    core.machines = {"w0": machine} if machine is not None else {}
    core.observed.workers["w0"].machine = machine
    core.requests = WorkerRequests(restart=frozenset({"w0"}))
    core.run(2)

    assert restart_problem(core.farm.workers["w0"], core.observed.workers["w0"]) == problem
    assert core.machine_actions == []


def test_worker_that_is_out_is_not_restarted() -> None:
    """It takes no further part in this run."""
    core = with_machines("w0", "w1")
    core.run_until_ready()
    core.record(f.WorkerOut(worker="w0", reason="its share belongs to another farm"))
    problem = restart_problem(core.farm.workers["w0"], core.observed.workers["w0"])
    assert problem == "w0 is out of this run: its share belongs to another farm"


def test_machine_at_rest_is_not_restarted() -> None:
    """It is woken when there is work."""
    core = with_machines("w0")
    core.run_until_ready()
    core.observed.workers["w0"].at_rest = True
    problem = restart_problem(core.farm.workers["w0"], core.observed.workers["w0"])
    assert problem == "the machine of w0 is at rest, or is just being woken"


def test_machine_that_a_new_host_finds_at_rest_is_not_restarted() -> None:
    """The request is there at its first look."""
    core = with_machines("w0", limits=Limits(idle_after_s=10.0), genomes=0)
    core.machines["w0"] = replace(MACHINE, state=MachineState.OFF)
    core.shares["w0"].unknown = "its machine is off"
    core.requests = WorkerRequests(restart={"w0"})

    facts = core.tick()

    assert core.observed.workers["w0"].at_rest
    assert facts_of(facts, f.RecoveryStarted) == []


# ------------------------------------------------------------------------------------------------------ leave and join


def test_removed_worker_leaves_its_trials_to_others() -> None:
    """Also the one that it was playing; its share is not scanned any more."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    attempt = core.claim("w0")
    core.requests = WorkerRequests(leaving={"w0": "removed by the user"})
    facts = core.tick()

    assert facts_of(facts, f.WorkerLeft) == [f.WorkerLeft(worker="w0", reason="removed by the user")]
    assert core.farm.attempts[attempt].outcome is Outcome.WITHDRAWN
    assert [*core.farm.workers] == ["w1"]
    core.play_all()
    assert {a.worker for a in core.farm.attempts.values() if a.outcome is Outcome.COMPLETED} == {"w1"}


def farm_with_charged_genome(*workers: str) -> tuple[CoreHarness, str]:
    """A farm in which the only genome has taken one worker down as often as is allowed, and that worker."""
    core = CoreHarness(*workers, genomes=1, limits=Limits(attempts_max=2))
    core.run_until_ready()
    (attempt,) = core.farm.attempts.values()
    core.record(f.AttemptEnded(attempt=attempt.id, outcome=Outcome.LOST))
    for number in (2, 3):
        again = f.AttemptIssued(
            attempt=f"a{number}",
            genome=1,
            trial=1,
            number=number,
            epoch=1,
            publication=number,
            worker=attempt.worker,
        )
        core.record(again, f.AttemptEnded(attempt=again.attempt, outcome=Outcome.LOST))
        core.record(f.GenomeCharged(attempt=again.attempt, genome=1, worker=attempt.worker))
    return core, attempt.worker


def test_genome_that_took_the_only_worker_left_down_is_poison_when_the_other_leaves() -> None:
    """No other worker is there any more to tell whether the genome or the worker is the cause."""
    core, charged_on = farm_with_charged_genome("w0", "w1")
    core.requests = WorkerRequests(leaving=dict.fromkeys(core.farm.workers.keys() - {charged_on}, "removed"))

    assert facts_of(core.decide([], sweep=True).facts, f.GenomePoisoned)


def test_no_genome_is_poison_because_all_workers_leave() -> None:
    """Those that join later can tell."""
    core, _charged_on = farm_with_charged_genome("w0", "w1", "w2")
    core.requests = WorkerRequests(leaving=dict.fromkeys(core.farm.workers, "removed"))

    facts = core.decide([], sweep=True).facts

    assert len(facts_of(facts, f.WorkerLeft)) == 3
    assert not facts_of(facts, f.GenomePoisoned)


def test_new_worker_joins_and_plays() -> None:
    """Its share is empty."""
    core = CoreHarness("w0", genomes=6)
    core.run_until_ready()
    core.join("w1")
    core.run(3)
    assert len(core.farm.workers["w1"].wanted) == 2
    core.play_all()


def test_worker_joins_again_with_another_share() -> None:
    """A new epoch begins, so an empty share is not taken for one that is not mounted; it counts as no revert."""
    core = CoreHarness("w0", "w1", genomes=8)
    core.run_until_ready()
    core.requests = WorkerRequests(leaving={"w1": "removed"})
    core.tick()
    core.requests = WorkerRequests()
    core.join("w1", FakeShare(no_folders=False))
    core.run(3)

    worker = core.farm.workers["w1"]
    assert (worker.epoch, worker.epoch_open, worker.reverts) == (2, True, 0)
    assert len(worker.wanted) == 2


def test_worker_joins_again_with_what_it_left_on_its_share() -> None:
    """Its game was played to the end meanwhile: the result counts, because its trial is still open (law 6)."""
    core = CoreHarness("w0", "w1", genomes=8)
    core.run_until_ready()
    attempt = core.claim("w1")
    core.requests = WorkerRequests(leaving={"w1": "removed"})
    core.tick()
    core.requests = WorkerRequests()
    core.join("w1")
    core.publish_result(attempt)
    core.run(3)

    assert core.farm.attempts[attempt].outcome is Outcome.COMPLETED
    core.play_all()


def test_excluded_worker_that_joins_again_is_ready() -> None:
    """The user has fixed what was wrong."""
    core = CoreHarness("w0", "w1")
    core.run_until_ready()
    core.record(f.WorkerOut(worker="w1", reason="its share belongs to another farm"))
    core.requests = WorkerRequests(leaving={"w1": "removed"})
    core.tick()
    core.requests = WorkerRequests()
    core.join("w1")
    assert core.state("w1") is WorkerState.READY


def test_next_host_has_the_workers_that_are_configured_then() -> None:
    """One that left and was added again joins; one that was removed meanwhile is retired without a fact."""
    farm = Farm(FARM, ["w0", "w1"])
    for fact in (
        f.EpochRaised(worker="w0", epoch=1, reason="first contact"),
        f.WorkerLeft(worker="w0", reason="removed"),
        f.WorkerJoined(worker="w2"),
    ):
        farm.evolve(fact, 0.0)
    facts = restored_workers(farm, ["w0", "w1"])

    assert [*farm.workers] == ["w1"]
    assert [*farm.retired] == ["w0", "w2"]
    again = f.EpochRaised(worker="w0", epoch=2, reason="the worker has joined again")
    assert facts == [again, f.WorkerJoined(worker="w0")]


def test_next_host_has_the_workers_of_the_sites_that_are_there_then() -> None:
    """Those of new sites join; those of sites that are away leave, and what they hold is withdrawn first."""
    core = CoreHarness("w0", "bob-0", "bob-1", genomes=6)
    core.record(*joining_worker(core.farm, "bob-0", "bob"), *joining_worker(core.farm, "bob-1", "bob"))
    core.run_until_ready()
    held = [*core.farm.workers["bob-0"].wanted]
    assert held
    facts = restored_workers(core.farm, ["w0", "bob-1", "carol-0"], {"bob-1": "bob", "carol-0": "carol"})

    withdrawn = [fact for fact in facts if isinstance(fact, f.AttemptEnded)]
    assert [fact.attempt for fact in withdrawn] == held
    left = f.WorkerLeft(worker="bob-0", reason=SITE_GONE)
    assert facts == [*withdrawn, left, f.WorkerJoined(worker="carol-0", site="carol")]


def test_worker_that_is_back_holds_nothing_of_a_generation_that_is_opened_again() -> None:
    """It left in another generation, and its share is of another epoch now."""
    core = CoreHarness("w0", "bob-0", genomes=4)
    core.record(*joining_worker(core.farm, "bob-0", "bob"))
    core.run_until_ready()
    held = [*core.farm.workers["bob-0"].wanted]
    assert held
    core.farm.evolve(f.WorkerLeft(worker="bob-0", reason=SITE_GONE), core.now)
    facts = restored_workers(core.farm, ["w0", "bob-0"], {"bob-0": "bob"})

    assert [fact.attempt for fact in facts if isinstance(fact, f.AttemptEnded)] == held
    assert facts[-1] == f.WorkerJoined(worker="bob-0", site="bob")


def test_attempts_of_an_epoch_that_ended_in_another_generation_are_withdrawn() -> None:
    """Its agent would not play them, and neither the worker nor a genome is to blame."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    held = [*core.farm.workers["w0"].wanted]
    core.farm.evolve(f.EpochRaised(worker="w0", epoch=2, reason="its share went back in time"), core.now)

    facts = restored_workers(core.farm, ["w0", "w1"])

    assert [(fact.attempt, fact.outcome, fact.by_host) for fact in facts if isinstance(fact, f.AttemptEnded)] == [
        (attempt, Outcome.WITHDRAWN, True) for attempt in held
    ]


def test_worker_that_was_described_and_is_on_a_site_now_joins_again() -> None:
    """The same name has another disk."""
    core = CoreHarness("bob-0", genomes=1)
    core.run_until_ready()

    facts = restored_workers(core.farm, ["bob-0"], {"bob-0": "bob"})

    assert [type(fact) for fact in facts] == [f.AttemptEnded, f.WorkerLeft, f.EpochRaised, f.WorkerJoined]


def test_worker_that_is_on_another_site_now_joins_again() -> None:
    """Its share is another one, so an epoch begins there."""
    farm = Farm(FARM, [])
    for fact in (
        f.WorkerJoined(worker="a-b-0", site="a-b"),
        f.EpochRaised(worker="a-b-0", epoch=1, reason="first contact"),
    ):
        farm.evolve(fact, 0.0)
    facts = restored_workers(farm, ["a-b-0"])

    assert facts == [
        f.WorkerLeft(worker="a-b-0", reason=SITE_GONE),
        f.EpochRaised(worker="a-b-0", epoch=2, reason=REJOINED),
        f.WorkerJoined(worker="a-b-0"),
    ]


def test_generation_that_was_stopped_can_be_opened_after_a_worker_left_in_another_one() -> None:
    """What the worker held there is withdrawn by the next run of that generation."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    held = [*core.farm.workers["w1"].wanted]
    entries = [Entry(seq, at, 1, 1, fact) for seq, (fact, at) in enumerate(core.facts, 1)]
    entries.append(Entry(len(entries) + 1, core.now, 2, 1, f.WorkerLeft(worker="w1", reason="removed")))
    farm = Farm(FARM, ["w0", "w1"])
    replay(entries, farm, 1)
    restored_workers(farm, ["w0"])

    assert [*farm.workers] == ["w0"]
    assert [fact.attempt for fact in withdrawals(farm, "no longer configured", farm.retired)] == held  # type: ignore[attr-defined]


def test_result_of_a_worker_that_left_is_read_with_its_files_when_it_is_back() -> None:
    """It may count, so its log and artifacts are asked for."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    attempt = core.claim("w1")
    core.requests = WorkerRequests(leaving={"w1": "removed"})
    core.tick()
    core.requests = WorkerRequests()
    core.join("w1")

    assert attempt in scan_request(core.farm, core.observed, "w1", full=True).wanted


def test_drained_worker_does_not_hide_a_broken_evaluator() -> None:
    """Every trial fails on the others, and the run ends as it would without it."""
    core = CoreHarness("w0", "w1", genomes=12)
    core.run_until_ready()
    core.requests = drained("w1")
    core.tick()
    while len(core.farm.settled) == 0 or core.farm.settled.total() < 8:
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.FAILED, reason="it crashed")
        core.tick()

    assert stuck_reason(core.farm, 2) != ""


def test_drained_worker_does_not_decide_about_the_evaluator() -> None:
    """It may just be updated to another one."""
    core = CoreHarness("w0", "w1", settings=replace_struct(SETTINGS, evaluator_version=""))
    core.requests = drained("w0")
    core.shares["w0"].evaluator = "another"
    facts = core.run(3)

    assert facts_of(facts, f.EvaluatorFixed) == [f.EvaluatorFixed(version=VERSION, worker="w1")]


def test_restart_waits_until_the_share_was_read() -> None:
    """An agent that starts before would clean up what the one before it has left."""
    core = with_machines("w0")
    core.machines = {"w0": replace(MACHINE, boots=False)}
    core.shares["w0"].unknown = "not reached yet"
    core.requests = WorkerRequests(restart=frozenset({"w0"}))
    core.run(2)
    assert core.machine_actions == []

    core.shares["w0"].unknown = ""
    core.run(2)
    assert core.machine_actions[0].recovery is RecoveryAction.REBOOT
