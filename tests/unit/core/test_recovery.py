"""What is done about a worker that is not well: the ladder, quarantine, probation."""

from dataclasses import replace

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import RecoveryAction
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import MachineState, MachineStatus
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules


def test_losses_lead_to_quarantine_then_exclusion() -> None:
    """Three losses in a row: quarantine; three failed probations: out; the farm says that it cannot go on."""
    core = CoreHarness("w0", genomes=1, limits=Limits(claim_limit_s=2, back_off_s=2, losses_per_trial_max=50))
    core.run_until_ready()
    facts = core.run(120)
    backs_off = [fact.back_off_s for fact in facts_of(facts, f.WorkerQuarantined)]
    assert backs_off == [2, 4, 8]
    assert core.farm.workers["w0"].state is WorkerState.OUT
    assert "every worker is out" in stuck_reason(core.farm, 1)


def test_one_completed_attempt_ends_probation() -> None:
    """One attempt at a time on probation; when it is answered, the worker is as good as any."""
    core = CoreHarness("w0", genomes=6, limits=Limits(claim_limit_s=2, back_off_s=2))
    core.run_until_ready()
    while core.farm.workers["w0"].state is not WorkerState.PROBATION:
        core.tick(1.0)
    core.tick()
    (attempt,) = core.farm.workers["w0"].wanted
    core.publish_result(attempt)
    core.tick()
    assert core.farm.workers["w0"].state is WorkerState.READY
    core.play_all()


def test_recovery_actions_escalate_in_order() -> None:
    """Each rung has its deadline; when none helps the worker is quarantined, and nothing is climbed twice at once."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(agent_restart_limit_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].sends_heartbeats = False
    facts = core.run(31 + 4 * 11 + 2)
    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert [action.recovery for action in core.machine_actions] == list(RecoveryAction)
    assert facts_of(facts, f.WorkerQuarantined)


def test_heartbeat_ends_recovery() -> None:
    """A sign of life ends the recovery, whatever rung it is on."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].sends_heartbeats = False
    core.run(33)
    assert core.farm.workers["w0"].state is WorkerState.RECOVERING
    core.shares["w0"].sends_heartbeats = True
    core.tick()
    assert core.farm.workers["w0"].state is WorkerState.READY
    core.play_all()
    assert len(core.machine_actions) == 1


def test_restart_of_ended_agent_keeps_attempts_published() -> None:
    """Its attempts stay published: the new agent says itself what was interrupted."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT,))
    core.run_until_ready()
    held = set(core.farm.workers["w0"].wanted)
    core.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "signal SIGKILL")
    core.tick()
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    assert set(core.farm.workers["w0"].wanted) == held


def quarantine(core: CoreHarness, worker: str = "w0") -> None:
    """Its agent is well and beats, and yet three attempts in a row are lost on it."""
    while core.farm.workers[worker].state is not WorkerState.QUARANTINED:
        core.tick()
        for attempt in list(core.farm.workers[worker].wanted):
            core.publish_result(attempt, Outcome.INTERRUPTED)


def test_recently_seen_worker_is_not_restarted_after_quarantine() -> None:
    """A look that failed is not silence: the limit for silence holds at the end of a quarantine, too."""
    core = CoreHarness("w0", genomes=6, machines=True, limits=Limits(back_off_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    quarantine(core)
    core.shares["w0"].sends_heartbeats = False  # for a while no look shows a new beat

    while core.farm.workers["w0"].state is not WorkerState.PROBATION:
        core.tick(1.0)
    core.tick()

    assert core.machine_actions == []


def test_hung_machine_on_probation_escalates_through_all_actions() -> None:
    """Restarting its agent cannot help a frozen machine; another rung can, and must be tried before it is out."""
    core = CoreHarness("w0", genomes=6, machines=True, limits=Limits(back_off_s=40, agent_restart_limit_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    quarantine(core)
    core.shares["w0"].sends_heartbeats = False

    facts = core.run(40 + 4 * 11 + 3)

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert "did not help" not in core.farm.workers["w0"].reason
    assert core.farm.workers["w0"].probations == 1


def test_unreadable_share_does_not_start_recovery_at_once() -> None:
    """A share blames the share: as long as a game may still be going on there, nothing is restarted (law 5)."""
    core = CoreHarness("w0", genomes=1, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.claim("w0")
    core.shares["w0"].unknown = "no route"

    core.run(60)
    assert core.machine_actions == []
    core.run(30)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    assert "could not be read" in core.farm.workers["w0"].reason


def test_silence_starts_at_first_successful_scan() -> None:
    """An agent whose share is read for the first time has its time to answer, and not longer (seed 147977)."""
    settings = replace_struct(SETTINGS, time_limit_s=20.0)
    core = CoreHarness("w0", genomes=1, machines=True, settings=settings, limits=Limits(grace_s=10.0))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.record(f.EpochRaised(worker="w0", epoch=1, reason="first contact"))  # and its host.json was not published yet
    core.restart_host()
    share = core.shares["w0"]
    share.unknown = "no route"
    core.run(25)
    share.unknown = ""
    core.tick()
    share.unknown = "names failed"

    core.run(29)
    assert core.machine_actions == []
    core.run(3)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]


def test_unhealthy_machine_with_unreadable_share_is_restarted() -> None:
    """The machine layer knows better than the share."""
    core = CoreHarness("w0", genomes=1, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.UNHEALTHY, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].unknown = "no route"

    core.run(32)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]


def test_worker_without_machine_is_quarantined() -> None:
    """There is nothing to restart: it is quarantined, and tried again."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.shares["w0"].unknown = "no route"

    facts = core.run(32)

    assert facts_of(facts, f.RecoveryStarted) == []
    assert core.farm.workers["w0"].state is WorkerState.QUARANTINED


def test_repeatedly_ending_agent_is_quarantined() -> None:
    """The same rung, as long as the budget of restarts lasts."""
    core = CoreHarness("w0", genomes=1, machines=True, limits=Limits(restarts_max=3))
    core.run_until_ready()
    core.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "exit code 1")
    core.shares["w0"].sends_heartbeats = False

    facts = core.run(5)

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == [RecoveryAction.RESTART_AGENT] * 3
    assert core.farm.workers["w0"].state is WorkerState.QUARANTINED
    assert "its agent ended again: exit code 1" in core.farm.workers["w0"].reason


def test_loss_on_probation_ends_probation() -> None:
    """The one attempt that was to show that the worker is well was lost; each time, that is text once."""
    core = CoreHarness("w0", genomes=6, limits=Limits(back_off_s=2))
    core.run_until_ready()
    quarantine(core)
    worker = core.farm.workers["w0"]
    for failed in (1, 2):
        while worker.state is not WorkerState.PROBATION:
            core.tick(1.0)
        core.tick()
        (attempt,) = worker.wanted

        core.publish_result(attempt, Outcome.INTERRUPTED)
        core.tick()

        assert (worker.state, worker.probations) == (WorkerState.QUARANTINED, failed)
        assert worker.reason.count("it lost its attempt on probation") == 1


# ----------------------------------------------------------------------------------------------------- computers


def machine_status(
    state: MachineState = MachineState.RUNNING, *, uptime_s: float = 10_000.0, busy: bool = False
) -> MachineStatus:
    return MachineStatus(state, tuple(RecoveryAction), "Hyper-V says so", boots=True, uptime_s=uptime_s, busy=busy)


def silent_core(seen: MachineStatus, **limits: float) -> CoreHarness:
    """A worker on a computer, at home for a while and then silent."""
    core = CoreHarness(
        "w0", genomes=2, machines=True, limits=Limits(agent_restart_limit_s=10, boot_limit_s=100, **limits)
    )
    core.machines["w0"] = machine_status()
    core.run_until_ready()
    core.machines["w0"] = seen
    core.shares["w0"].sends_heartbeats = False
    return core


def recovery_actions(facts: list[f.Fact]) -> list[RecoveryAction]:
    return [fact.action for fact in facts_of(facts, f.RecoveryStarted)]


def test_useless_recovery_actions_are_skipped() -> None:
    """What is off has no agent to restart; who has lost its heartbeat cannot be asked to shut down."""
    for state, first in (
        (MachineState.OFF, RecoveryAction.REBOOT),
        (MachineState.UNHEALTHY, RecoveryAction.POWER_CYCLE),
    ):
        core = silent_core(machine_status(state))
        facts = core.run(35)
        assert recovery_actions(facts)[:1] == [first]


def test_machine_gets_boot_limit_to_recover() -> None:
    """Only the restart of its agent is over in seconds."""
    core = silent_core(machine_status())

    facts = core.run(31 + 11 + 101 + 101 + 50)

    assert recovery_actions(facts) == list(RecoveryAction)
    assert [action.recovery for action in core.machine_actions] == list(RecoveryAction)


def test_action_limit_starts_when_action_is_done() -> None:
    """A machine that waits for its turn to boot is not late; its time begins when the order is done."""
    core = silent_core(machine_status(MachineState.UNHEALTHY))
    core.run(32)
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)
    assert recovery_actions(core.run(300)) == []

    core.machines["w0"] = machine_status(uptime_s=1)
    assert recovery_actions(core.run(90)) == []
    core.shares["w0"].sends_heartbeats = True
    core.run(2)

    assert core.farm.workers["w0"].state is WorkerState.READY
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.POWER_CYCLE]


def test_booting_machine_is_not_silent() -> None:
    """A host that has only just begun finds it booting: the hypervisor's clock says so, not the host's."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    core.shares["w0"].sends_heartbeats = False
    core.shares["w0"].unknown = "no route"
    core.machines["w0"] = machine_status(uptime_s=5)

    assert recovery_actions(core.run(60)) == []
    core.machines["w0"] = machine_status(uptime_s=101)
    core.run(40)

    assert core.farm.workers["w0"].state is not WorkerState.READY


def test_attempts_of_booting_machine_are_retried_elsewhere() -> None:
    """It may boot for minutes; its share is inside of it, so what it played may come back and count even so."""
    core = CoreHarness("w0", "w1", genomes=2, machines=True)
    core.machines = dict.fromkeys(core.machines, machine_status(uptime_s=500))
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(uptime_s=1)

    core.run(40)

    assert (held.outcome, held.left_published) == (Outcome.LOST, True)
    assert core.farm.workers["w0"].state is WorkerState.READY
    assert held.trial.open_attempt is not None
    assert held.trial.open_attempt.worker == "w1"


def test_booting_machine_is_not_quarantined_for_losses() -> None:
    """Its games went to others, as many as its queue is deep; it still has all its time to boot."""
    core = CoreHarness("w0", genomes=5, depth=3, machines=True)
    core.machines["w0"] = machine_status(uptime_s=500)
    core.run_until_ready()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(uptime_s=1)

    facts = core.run(200)

    assert core.farm.workers["w0"].losses == 3
    assert core.farm.workers["w0"].state is WorkerState.READY
    assert recovery_actions(facts) == []


@pytest.mark.parametrize(
    ("action", "state"), [(RecoveryAction.RESTORE, "recovering"), (RecoveryAction.REBOOT, "ready")]
)
def test_scan_requested_before_restore_shows_no_recovery(
    monkeypatch: pytest.MonkeyPatch, action: RecoveryAction, state: str
) -> None:
    """It took its time, and shows a beat of a share that has been emptied since. No other rung does that to a share,
    and where looks take long, a worker that is well must not be restarted again.
    """
    seen = MachineStatus(MachineState.RUNNING, (action,), boots=True, uptime_s=10_000.0)
    core = silent_core(seen)
    core.run(31)
    assert core.farm.workers["w0"].state is WorkerState.RECOVERING
    action_at, scan = core.observed.workers["w0"].recovery_at, core.scan
    monkeypatch.setattr(core, "scan", lambda name, **how: replace(scan(name, **how), requested_at=action_at - 1))
    core.shares["w0"].sends_heartbeats = True

    core.tick()
    assert core.farm.workers["w0"].state == state
    monkeypatch.undo()
    core.tick()

    assert core.farm.workers["w0"].state is WorkerState.READY


def test_losing_machine_is_quarantined_while_action_runs() -> None:
    """An order may be under way for minutes after the agent is back; till then it would lose trial after trial."""
    core = CoreHarness("w0", "w1", genomes=12, machines=True)
    core.run_until_ready()
    core.claim("w1")
    core.machines["w0"] = machine_status(busy=True)
    for _ in range(30):
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.UNDELIVERED)
        core.tick(0.5)

    assert core.farm.workers["w0"].state is not WorkerState.READY
    assert core.settlements() == [None] * 12


def test_attempts_of_busy_probation_machine_are_given_up() -> None:
    """The hypervisor is busy with it for minutes, and its share is gone."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = machine_status(uptime_s=500)
    core.run_until_ready()
    quarantine(core)
    core.run(17)
    assert core.farm.workers["w0"].state is WorkerState.PROBATION
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)

    core.run(32)

    assert held.outcome is Outcome.LOST
    assert core.farm.workers["w0"].state is WorkerState.QUARANTINED


def test_attempts_of_restarting_machine_are_given_up() -> None:
    """Nobody waits for it through every rung of the ladder."""
    core = CoreHarness("w0", "w1", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    core.machines = dict.fromkeys(core.machines, machine_status(uptime_s=500))
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(MachineState.OFF, uptime_s=0)
    core.tick()
    assert core.farm.workers["w0"].state is WorkerState.RECOVERING
    assert held.outcome is None
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)

    core.run(40)

    assert held.outcome is Outcome.LOST
    assert core.farm.workers["w0"].state is WorkerState.RECOVERING


def test_machine_seen_since_boot_has_normal_silence_limit() -> None:
    """It hangs a minute after its first beat: nobody waits until it is old."""
    core = silent_core(machine_status(uptime_s=60))
    assert core.observed.workers["w0"].alive

    core.run(32)

    assert core.farm.workers["w0"].state is WorkerState.RECOVERING


def test_endlessly_rebooting_machine_is_escalated() -> None:
    """It is always young and never says a word."""
    core = silent_core(machine_status(uptime_s=3))
    core.observed.workers["w0"].alive = False

    assert recovery_actions(core.run(190)) == []
    assert recovery_actions(core.run(30))[:1] == [RecoveryAction.RESTART_AGENT]


def test_machine_that_is_off_is_started_first() -> None:
    """Its share is inside of it: nobody can look at it first."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.shares["w0"].unknown = "no route"
    core.machines["w0"] = machine_status(MachineState.OFF, uptime_s=0)

    core.tick()
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)
    core.run(60)

    assert [action.recovery for action in core.machine_actions] == [None]


def test_probation_waits_for_running_action() -> None:
    """On probation, too, an order that is under way is waited for."""
    core = CoreHarness(
        "w0", genomes=6, machines=True, limits=Limits(back_off_s=40, agent_restart_limit_s=10, boot_limit_s=50)
    )
    core.machines["w0"] = machine_status()
    core.run_until_ready()
    quarantine(core)
    core.shares["w0"].sends_heartbeats = False
    core.machines["w0"] = machine_status(busy=True)

    facts = core.run(200)

    assert recovery_actions(facts) == []
    assert core.farm.workers["w0"].state is WorkerState.PROBATION


# ----------------------------------------------------------------------------------------------------------- desktops


def test_worker_without_desktop_gets_no_attempt() -> None:
    """A game that draws into nothing does not fail, it scores wrongly; so it is never begun."""
    core = CoreHarness("service", "player", genomes=4, limits=Limits(needs_desktop=True))
    core.shares["player"].desktop = "Default, 1280x720"
    core.run_until_ready()
    core.play_all()
    assert {attempt.worker for attempt in core.farm.attempts.values()} == {"player"}
    assert "no desktop" in core.farm.workers["service"].reason


def test_agent_without_desktop_is_restarted() -> None:
    """Its logon task does that; as soon as it tells of a desktop it gets work."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(needs_desktop=True))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.run(2)
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    core.shares["w0"].desktop = "Default"
    core.play_all()
    assert len(core.machine_actions) == 1


def test_attempts_of_worker_without_desktop_are_withdrawn() -> None:
    """What it plays and what waits there is taken back: nothing it says of them counts, and no genome pays."""
    core = CoreHarness("w0", "w1", genomes=4, machines=True, limits=Limits(needs_desktop=True))
    core.machines = {name: MachineStatus(MachineState.RUNNING, tuple(RecoveryAction)) for name in ("w0", "w1")}
    for share in core.shares.values():
        share.desktop = "Default"
    core.run_until_ready()
    held = list(core.farm.workers["w0"].wanted.values())
    core.claim("w0")
    core.tick()
    assert len(held) == 2

    core.shares["w0"].desktop = ""
    core.tick()

    assert {attempt.outcome for attempt in held} == {Outcome.WITHDRAWN}
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    assert core.shares["w0"].starts == set()


def test_farm_stops_if_no_worker_has_desktop() -> None:
    """The farm says so and stops, instead of waiting for ever."""
    core = CoreHarness("w0", genomes=1, limits=Limits(needs_desktop=True, back_off_s=2))
    core.run_until_ready()
    core.run(120)
    assert not core.farm.attempts
    assert "no desktop" in stuck_reason(core.farm, 1)


def test_desktop_is_required_only_if_configured() -> None:
    """Most evaluators need none."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    core.play_all()
