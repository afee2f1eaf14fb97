"""Recovery actions, quarantine and probation."""

from dataclasses import replace
from typing import Any

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
    """After three losses in a row it is quarantined, after three failed probations excluded."""
    core = CoreHarness("w0", genomes=1, limits=Limits(claim_limit_s=2, back_off_s=2, losses_per_trial_max=50))
    core.run_until_ready()
    facts = core.run(120)
    backs_off = [fact.back_off_s for fact in facts_of(facts, f.WorkerQuarantined)]
    assert backs_off == [2, 4, 8]
    assert core.state("w0") is WorkerState.OUT
    assert "every worker is out" in stuck_reason(core.farm, 1)


def test_one_completed_attempt_ends_probation() -> None:
    """On probation a worker holds one attempt; its result makes the worker ready."""
    core = CoreHarness("w0", genomes=6, limits=Limits(claim_limit_s=2, back_off_s=2))
    core.run_until_ready()
    while core.state("w0") is not WorkerState.PROBATION:
        core.tick(1.0)
    core.tick()
    (attempt,) = core.farm.workers["w0"].wanted
    core.publish_result(attempt)
    core.tick()
    assert core.state("w0") is WorkerState.READY
    core.play_all()


def test_recovery_actions_escalate_in_order() -> None:
    """Each action has a deadline and runs once; after the last one the worker is quarantined."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(agent_restart_limit_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].sends_heartbeats = False
    facts = core.run(31 + 4 * 11 + 2)
    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert [action.recovery for action in core.machine_actions] == list(RecoveryAction)
    assert facts_of(facts, f.WorkerQuarantined)


def test_heartbeat_ends_recovery() -> None:
    """During any action."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].sends_heartbeats = False
    core.run(33)
    assert core.state("w0") is WorkerState.RECOVERING
    core.shares["w0"].sends_heartbeats = True
    core.tick()
    assert core.state("w0") is WorkerState.READY
    core.play_all()
    assert len(core.machine_actions) == 1


def test_restart_of_ended_agent_keeps_attempts_published() -> None:
    """The new agent reports which of them was interrupted."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT,))
    core.run_until_ready()
    held = set(core.farm.workers["w0"].wanted)
    core.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "signal SIGKILL")
    core.tick()
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    assert set(core.farm.workers["w0"].wanted) == held


def quarantine(core: CoreHarness, worker: str = "w0") -> None:
    """Loses three attempts in a row although the agent sends heartbeats."""
    while core.farm.workers[worker].state is not WorkerState.QUARANTINED:
        core.tick()
        for attempt in list(core.farm.workers[worker].wanted):
            core.publish_result(attempt, Outcome.INTERRUPTED)


def test_recently_seen_worker_is_not_restarted_after_quarantine() -> None:
    """The silence limit applies at the end of a quarantine, too."""
    core = CoreHarness("w0", genomes=6, machines=True, limits=Limits(back_off_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    quarantine(core)
    core.shares["w0"].sends_heartbeats = False  # for a while no scan shows a new heartbeat

    while core.state("w0") is not WorkerState.PROBATION:
        core.tick(1.0)
    core.tick()

    assert core.machine_actions == []


def test_hung_machine_on_probation_escalates_through_all_actions() -> None:
    """A restart of the agent does not help a frozen machine; a later action may."""
    core = CoreHarness("w0", genomes=6, machines=True, limits=Limits(back_off_s=40, agent_restart_limit_s=10))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    quarantine(core)
    core.shares["w0"].sends_heartbeats = False

    facts = core.run(40 + 4 * 11 + 3)

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert "did not help" not in core.farm.workers["w0"].reason
    assert core.farm.workers["w0"].probations == 1


def test_unreadable_heartbeat_is_the_reason_of_silence() -> None:
    """It is no sign of life, and it says more than how long there was none."""
    core = CoreHarness("w0")
    core.run_until_ready()
    core.shares["w0"].heartbeat_problem = "status/agent.json cannot be read (no JSON)"

    core.run(33)

    assert core.state("w0") is WorkerState.QUARANTINED
    assert core.farm.workers["w0"].reason == "status/agent.json cannot be read (no JSON)"


def test_agent_that_never_came_is_the_reason_of_silence() -> None:
    """The user must start it; the agent on a machine of this farm is started by the host."""
    core = CoreHarness("w0", "w1")
    core.machines = {"w1": MachineStatus(MachineState.RUNNING, ())}
    for share in core.shares.values():
        share.sends_heartbeats = False

    core.run(33)

    assert core.farm.workers["w0"].reason.startswith("no agent has ever written a heartbeat there; start")
    assert core.farm.workers["w1"].reason == "its agent was silent for 31 s"


WRITE_PROBLEM = "inbox/ cannot be written: access denied; give this host's account the right"


def test_inbox_that_cannot_be_written_is_the_reason_of_silence() -> None:
    """Without the `host.json` the agent sends no heartbeat of this epoch. In an open one the agent is silent itself."""
    core = CoreHarness("w0", "w1")
    core.tick()
    core.shares["w0"].owner = None
    core.shares["w0"].sends_heartbeats = core.shares["w1"].sends_heartbeats = False
    for _ in range(34):
        core.now += 1
        core.observed.note_written("w0", WRITE_PROBLEM)
        core.observed.note_written("w1", WRITE_PROBLEM)
        core.shares["w1"].counter = core.shares["w0"].counter = 1
        tx = core.decide(["w0", "w1"])
        core.facts += [(fact, core.now) for fact in tx.facts]

    assert core.farm.workers["w0"].reason == WRITE_PROBLEM
    assert core.farm.workers["w1"].reason == "its agent was silent for 31 s"


def test_inbox_that_cannot_be_written_is_the_reason_of_losses() -> None:
    """The attempts say so, and the quarantine after them."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.publish_fails = True
    core.observed.note_written("w0", WRITE_PROBLEM)
    core.observed.workers["w0"].delivered.clear()
    trial = core.farm.genomes[0].trials[0]
    core.shares["w0"].starts.clear()
    core.shares["w0"].payloads.clear()
    core.observed.note_removed("w0", frozenset({trial.attempts[0].id}))

    core.run(10)

    reason = "its publication did not arrive in full: inbox/ cannot be written: access denied"
    assert {attempt.reason for attempt in trial.attempts} == {reason}
    assert core.state("w0") is WorkerState.QUARANTINED
    assert core.farm.workers["w0"].reason == WRITE_PROBLEM


def test_unreadable_share_does_not_start_recovery_at_once() -> None:
    """No action interrupts a game that may be running (law 5)."""
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
    """The silence limit of a share starts at its first scan (seed 147977)."""
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
    """The machine layer reports the failure."""
    core = CoreHarness("w0", genomes=1, machines=True)
    core.machines["w0"] = MachineStatus(MachineState.UNHEALTHY, tuple(RecoveryAction))
    core.run_until_ready()
    core.shares["w0"].unknown = "no route"

    core.run(32)

    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]


def test_worker_without_machine_is_quarantined() -> None:
    """It has no recovery action; it gets a probation later."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.shares["w0"].unknown = "no route"

    facts = core.run(32)

    assert facts_of(facts, f.RecoveryStarted) == []
    assert core.state("w0") is WorkerState.QUARANTINED


def test_repeatedly_ending_agent_is_quarantined() -> None:
    """After as many restarts as the limit allows."""
    core = CoreHarness("w0", genomes=1, machines=True, limits=Limits(restarts_max=3))
    core.run_until_ready()
    core.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "exit code 1")
    core.shares["w0"].sends_heartbeats = False

    facts = core.run(5)

    assert [fact.action for fact in facts_of(facts, f.RecoveryStarted)] == [RecoveryAction.RESTART_AGENT] * 3
    assert core.state("w0") is WorkerState.QUARANTINED
    assert "its agent ended again: exit code 1" in core.farm.workers["w0"].reason


def test_loss_on_probation_ends_probation() -> None:
    """Each failed probation is counted and reported once."""
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


# -------------------------------------------------------------------------------------------------- machines that boot


def machine_status(
    state: MachineState = MachineState.RUNNING, *, uptime_s: float = 10_000.0, busy: bool = False
) -> MachineStatus:
    return MachineStatus(state, tuple(RecoveryAction), "Hyper-V says so", boots=True, uptime_s=uptime_s, busy=busy)


def silent_core(seen: MachineStatus, **limits: Any) -> CoreHarness:
    """A worker on a machine that boots; it was ready and is silent now."""
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
    """A machine that is off has no agent to restart; one without a heartbeat cannot shut down."""
    for state, first in (
        (MachineState.OFF, RecoveryAction.REBOOT),
        (MachineState.UNHEALTHY, RecoveryAction.POWER_CYCLE),
    ):
        core = silent_core(machine_status(state))
        facts = core.run(35)
        assert recovery_actions(facts)[:1] == [first]


def test_machine_gets_boot_limit_to_recover() -> None:
    """Only a restart of the agent has the shorter limit."""
    core = silent_core(machine_status())

    facts = core.run(31 + 11 + 101 + 101 + 50)

    assert recovery_actions(facts) == list(RecoveryAction)
    assert [action.recovery for action in core.machine_actions] == list(RecoveryAction)


def test_action_limit_starts_when_action_is_done() -> None:
    """A machine whose boot is queued is not late."""
    core = silent_core(machine_status(MachineState.UNHEALTHY))
    core.run(32)
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)
    assert recovery_actions(core.run(300)) == []

    core.machines["w0"] = machine_status(uptime_s=1)
    assert recovery_actions(core.run(90)) == []
    core.shares["w0"].sends_heartbeats = True
    core.run(2)

    assert core.state("w0") is WorkerState.READY
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.POWER_CYCLE]


def test_booting_machine_is_not_silent() -> None:
    """A new host gets the uptime from the hypervisor."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    core.shares["w0"].sends_heartbeats = False
    core.shares["w0"].unknown = "no route"
    core.machines["w0"] = machine_status(uptime_s=5)

    assert recovery_actions(core.run(60)) == []
    core.machines["w0"] = machine_status(uptime_s=101)
    core.run(40)

    assert core.state("w0") is not WorkerState.READY


def test_attempts_of_booting_machine_are_retried_elsewhere() -> None:
    """A boot may take minutes; results on the machine's share may still count later."""
    core = CoreHarness("w0", "w1", genomes=2, machines=True)
    core.machines = dict.fromkeys(core.machines, machine_status(uptime_s=500))
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(uptime_s=1)

    core.run(40)

    assert (held.outcome, held.left_published) == (Outcome.LOST, True)
    assert core.state("w0") is WorkerState.READY
    assert held.trial.open_attempt is not None
    assert held.trial.open_attempt.worker == "w1"


def test_booting_machine_is_not_quarantined_for_losses() -> None:
    """Its attempts were given up, as many as its queue holds; its boot limit still applies."""
    core = CoreHarness("w0", genomes=5, depth=3, machines=True)
    core.machines["w0"] = machine_status(uptime_s=500)
    core.run_until_ready()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(uptime_s=1)

    facts = core.run(200)

    assert core.farm.workers["w0"].losses == 3
    assert core.state("w0") is WorkerState.READY
    assert recovery_actions(facts) == []


@pytest.mark.parametrize(
    ("action", "state"), [(RecoveryAction.RESTORE, "recovering"), (RecoveryAction.REBOOT, "ready")]
)
def test_scan_requested_before_restore_shows_no_recovery(
    monkeypatch: pytest.MonkeyPatch, action: RecoveryAction, state: str
) -> None:
    """It shows a heartbeat on the share before the restore. No other action empties a share, so after another one a
    slow scan ends the recovery.
    """
    seen = MachineStatus(MachineState.RUNNING, (action,), boots=True, uptime_s=10_000.0)
    core = silent_core(seen)
    core.run(31)
    assert core.state("w0") is WorkerState.RECOVERING
    action_at, scan = core.observed.workers["w0"].recovery_at, core.scan
    monkeypatch.setattr(core, "scan", lambda name, **how: replace(scan(name, **how), requested_at=action_at - 1))
    core.shares["w0"].sends_heartbeats = True

    core.tick()
    assert core.state("w0") == state
    monkeypatch.undo()
    core.tick()

    assert core.state("w0") is WorkerState.READY


def test_losing_machine_is_quarantined_while_action_runs() -> None:
    """An action may end minutes after the agent is back; meanwhile it would lose trial after trial."""
    core = CoreHarness("w0", "w1", genomes=12, machines=True)
    core.run_until_ready()
    core.claim("w1")
    core.machines["w0"] = machine_status(busy=True)
    for _ in range(30):
        for attempt in list(core.farm.workers["w0"].wanted):
            core.publish_result(attempt, Outcome.UNDELIVERED)
        core.tick(0.5)

    assert core.state("w0") is not WorkerState.READY
    assert core.settlements() == [None] * 12


def test_attempts_of_busy_probation_machine_are_given_up() -> None:
    """The hypervisor is busy with it for minutes, and its share cannot be read."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.machines["w0"] = machine_status(uptime_s=500)
    core.run_until_ready()
    quarantine(core)
    core.run(17)
    assert core.state("w0") is WorkerState.PROBATION
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)

    core.run(32)

    assert held.outcome is Outcome.LOST
    assert core.state("w0") is WorkerState.QUARANTINED


def test_attempts_of_restarting_machine_are_given_up() -> None:
    """They do not wait for all recovery actions."""
    core = CoreHarness("w0", "w1", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    core.machines = dict.fromkeys(core.machines, machine_status(uptime_s=500))
    core.run_until_ready()
    (held,) = core.farm.workers["w0"].wanted.values()
    core.shares["w0"].unknown, core.shares["w0"].sends_heartbeats = "no route", False
    core.machines["w0"] = machine_status(MachineState.OFF, uptime_s=0)
    core.tick()
    assert core.state("w0") is WorkerState.RECOVERING
    assert held.outcome is None
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)

    core.run(40)

    assert held.outcome is Outcome.LOST
    assert core.state("w0") is WorkerState.RECOVERING


def test_machine_seen_since_boot_has_normal_silence_limit() -> None:
    """It hangs a minute after its first heartbeat; the boot limit does not apply."""
    core = silent_core(machine_status(uptime_s=60))
    assert core.observed.workers["w0"].alive

    core.run(32)

    assert core.state("w0") is WorkerState.RECOVERING


def test_endlessly_rebooting_machine_is_escalated() -> None:
    """Its uptime is always short, and it never sends a heartbeat."""
    core = silent_core(machine_status(uptime_s=3))
    core.observed.workers["w0"].alive = False

    assert recovery_actions(core.run(190)) == []
    assert recovery_actions(core.run(30))[:1] == [RecoveryAction.RESTART_AGENT]


def test_machine_that_is_off_is_started_first() -> None:
    """Its share is inside the machine, so no scan can precede the start."""
    core = CoreHarness("w0", genomes=2, machines=True)
    core.shares["w0"].unknown = "no route"
    core.machines["w0"] = machine_status(MachineState.OFF, uptime_s=0)

    core.tick()
    core.machines["w0"] = machine_status(MachineState.OFF, busy=True)
    core.run(60)

    assert [action.recovery for action in core.machine_actions] == [None]


def test_probation_waits_for_running_action() -> None:
    """On probation, too, the worker waits for an action in progress."""
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
    assert core.state("w0") is WorkerState.PROBATION


# ----------------------------------------------------------------------------------------------------------- desktops


def test_worker_without_desktop_gets_no_attempt() -> None:
    """A game without a desktop may return a wrong fitness instead of an error."""
    core = CoreHarness("service", "player", genomes=4, limits=Limits(needs_desktop=True))
    core.shares["player"].desktop = "Default, 1280x720"
    core.run_until_ready()
    core.play_all()
    assert {attempt.worker for attempt in core.farm.attempts.values()} == {"player"}
    assert "no desktop" in core.farm.workers["service"].reason


def test_agent_without_desktop_is_restarted() -> None:
    """The logon task may give it a desktop; then it gets attempts."""
    core = CoreHarness("w0", genomes=2, machines=True, limits=Limits(needs_desktop=True))
    core.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    core.run_until_ready()
    core.run(2)
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.RESTART_AGENT]
    core.shares["w0"].desktop = "Default"
    core.play_all()
    assert len(core.machine_actions) == 1


def test_attempts_of_worker_without_desktop_are_withdrawn() -> None:
    """Running and queued attempts; their results do not count, and no genome is charged."""
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
    """The stuck reason says so."""
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
