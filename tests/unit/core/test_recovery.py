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
from tests.harness.core_table import SETTINGS, Table, named, replace_struct

pytestmark = pytest.mark.rules


def test_quarantine_probation_and_out() -> None:
    """Three losses in a row: quarantine; three failed probations: out; the farm says that it cannot go on."""
    table = Table("w0", genomes=1, limits=Limits(claim_limit_s=2, back_off_s=2, losses_per_trial_max=50))
    table.settle_in()
    facts = table.run(120)
    backs_off = [fact.back_off_s for fact in named(facts, f.WorkerQuarantined)]
    assert backs_off == [2, 4, 8]
    assert table.farm.workers["w0"].state is WorkerState.OUT
    assert "every worker is out" in stuck_reason(table.farm, 1)


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
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    table.settle_in()
    table.shares["w0"].beating = False
    facts = table.run(31 + 4 * 11 + 2)
    assert [fact.action for fact in named(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert [action.recovery for action in table.orders] == list(RecoveryAction)
    assert named(facts, f.WorkerQuarantined)


def test_a_worker_that_answers_again_is_left_alone() -> None:
    """A sign of life ends the recovery, whatever rung it is on."""
    table = Table("w0", genomes=2, machines=True)
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
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
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, (RecoveryAction.RESTART_AGENT,))
    table.settle_in()
    held = set(table.farm.workers["w0"].wanted)
    table.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "signal SIGKILL")
    table.tick()
    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]
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
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
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
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    table.settle_in()
    to_quarantine(table)
    table.shares["w0"].beating = False

    facts = table.run(40 + 4 * 11 + 3)

    assert [fact.action for fact in named(facts, f.RecoveryStarted)] == list(RecoveryAction)
    assert "did not help" not in table.farm.workers["w0"].reason
    assert table.farm.workers["w0"].probations == 1


def test_an_unreadable_share_does_not_blame_its_machine_at_once() -> None:
    """A share blames the share: as long as a game may still be going on there, nothing is restarted (law 5)."""
    table = Table("w0", genomes=1, machines=True)
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    table.settle_in()
    table.claim("w0")
    table.shares["w0"].unknown = "no route"

    table.run(60)
    assert table.orders == []
    table.run(30)

    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]
    assert "could not be read" in table.farm.workers["w0"].reason


def test_who_could_not_be_seen_was_not_silent() -> None:
    """An agent whose share is read for the first time has its time to answer, and not longer (seed 147977)."""
    settings = replace_struct(SETTINGS, time_limit_s=20.0)
    table = Table("w0", genomes=1, machines=True, settings=settings, limits=Limits(grace_s=10.0))
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    table.state(f.EpochRaised(worker="w0", epoch=1, reason="first contact"))  # and its host.json was not published yet
    table.restart_host()
    share = table.shares["w0"]
    share.unknown = "no route"
    table.run(25)
    share.unknown = ""
    table.tick()
    share.unknown = "names failed"

    table.run(29)
    assert table.orders == []
    table.run(3)

    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]


def test_a_machine_that_is_known_to_be_unwell_is_restarted_behind_an_unreadable_share() -> None:
    """The machine layer knows better than the share."""
    table = Table("w0", genomes=1, machines=True)
    table.machines["w0"] = MachineStatus(MachineState.UNHEALTHY, tuple(RecoveryAction))
    table.settle_in()
    table.shares["w0"].unknown = "no route"

    table.run(32)

    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]


def test_a_worker_without_a_machine_has_no_ladder() -> None:
    """There is nothing to restart: it is quarantined, and tried again."""
    table = Table("w0", genomes=1)
    table.settle_in()
    table.shares["w0"].unknown = "no route"

    facts = table.run(32)

    assert named(facts, f.RecoveryStarted) == []
    assert table.farm.workers["w0"].state is WorkerState.QUARANTINED


def test_an_agent_that_ends_again_and_again_is_quarantined() -> None:
    """The same rung, as long as the budget of restarts lasts."""
    table = Table("w0", genomes=1, machines=True, limits=Limits(restarts_max=3))
    table.settle_in()
    table.machines["w0"] = MachineStatus(MachineState.OFF, (RecoveryAction.RESTART_AGENT,), "exit code 1")
    table.shares["w0"].beating = False

    facts = table.run(5)

    assert [fact.action for fact in named(facts, f.RecoveryStarted)] == [RecoveryAction.RESTART_AGENT] * 3
    assert table.farm.workers["w0"].state is WorkerState.QUARANTINED
    assert "its agent ended again: exit code 1" in table.farm.workers["w0"].reason


def test_a_loss_on_probation_ends_it() -> None:
    """The one attempt that was to show that the worker is well was lost; each time, that is told once."""
    table = Table("w0", genomes=6, limits=Limits(back_off_s=2))
    table.settle_in()
    to_quarantine(table)
    worker = table.farm.workers["w0"]
    for failed in (1, 2):
        while worker.state is not WorkerState.PROBATION:
            table.tick(1.0)
        table.tick()
        (attempt,) = worker.wanted

        table.answer(attempt, Outcome.INTERRUPTED)
        table.tick()

        assert (worker.state, worker.probations) == (WorkerState.QUARANTINED, failed)
        assert worker.reason.count("it lost its attempt on probation") == 1


# ----------------------------------------------------------------------------------------------------- computers


def computer(
    state: MachineState = MachineState.RUNNING, *, uptime_s: float = 10_000.0, busy: bool = False
) -> MachineStatus:
    return MachineStatus(state, tuple(RecoveryAction), "Hyper-V says so", boots=True, uptime_s=uptime_s, busy=busy)


def silent_computer(seen: MachineStatus, **limits: float) -> Table:
    """A worker on a computer, at home for a while and then silent."""
    table = Table("w0", genomes=2, machines=True, limits=Limits(rung_limit_s=10, boot_limit_s=100, **limits))
    table.machines["w0"] = computer()
    table.settle_in()
    table.machines["w0"] = seen
    table.shares["w0"].beating = False
    return table


def climbed(facts: list[f.Fact]) -> list[RecoveryAction]:
    return [fact.action for fact in named(facts, f.RecoveryStarted)]


def test_rungs_that_cannot_help_a_computer_are_left_out() -> None:
    """What is off has no agent to restart; who has lost its heartbeat cannot be asked to shut down."""
    for state, first in (
        (MachineState.OFF, RecoveryAction.REBOOT),
        (MachineState.UNHEALTHY, RecoveryAction.POWER_CYCLE),
    ):
        table = silent_computer(computer(state))
        facts = table.run(35)
        assert climbed(facts)[:1] == [first]


def test_a_computer_gets_time_to_boot() -> None:
    """Only the restart of its agent is over in seconds."""
    table = silent_computer(computer())

    facts = table.run(31 + 11 + 101 + 101 + 50)

    assert climbed(facts) == list(RecoveryAction)
    assert [action.recovery for action in table.orders] == list(RecoveryAction)


def test_a_rung_takes_its_time_while_it_is_climbed() -> None:
    """A machine that waits for its turn to boot is not late; its time begins when the order is done."""
    table = silent_computer(computer(MachineState.UNHEALTHY))
    table.run(32)
    table.machines["w0"] = computer(MachineState.OFF, busy=True)
    assert climbed(table.run(300)) == []

    table.machines["w0"] = computer(uptime_s=1)
    assert climbed(table.run(90)) == []
    table.shares["w0"].beating = True
    table.run(2)

    assert table.farm.workers["w0"].state is WorkerState.READY
    assert [action.recovery for action in table.orders] == [RecoveryAction.POWER_CYCLE]


def test_a_computer_that_comes_up_is_not_silent() -> None:
    """A host that has only just begun finds it booting: the hypervisor's clock says so, not the host's."""
    table = Table("w0", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    table.shares["w0"].beating = False
    table.shares["w0"].unknown = "no route"
    table.machines["w0"] = computer(uptime_s=5)

    assert climbed(table.run(60)) == []
    table.machines["w0"] = computer(uptime_s=101)
    table.run(40)

    assert table.farm.workers["w0"].state is not WorkerState.READY


def test_what_a_computer_holds_that_comes_up_is_played_by_others() -> None:
    """It may boot for minutes; its share is inside of it, so what it played may come back and count even so."""
    table = Table("w0", "w1", genomes=2, machines=True)
    table.machines = dict.fromkeys(table.machines, computer(uptime_s=500))
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.shares["w0"].unknown, table.shares["w0"].beating = "no route", False
    table.machines["w0"] = computer(uptime_s=1)

    table.run(40)

    assert (held.outcome, held.left_published) == (Outcome.LOST, True)
    assert table.farm.workers["w0"].state is WorkerState.READY
    assert held.trial.open_attempt is not None
    assert held.trial.open_attempt.worker == "w1"


def test_a_computer_that_comes_up_is_not_put_aside_for_what_was_lost_meanwhile() -> None:
    """Its games went to others, as many as its queue is deep; it still has all its time to boot."""
    table = Table("w0", genomes=5, depth=3, machines=True)
    table.machines["w0"] = computer(uptime_s=500)
    table.settle_in()
    table.shares["w0"].unknown, table.shares["w0"].beating = "no route", False
    table.machines["w0"] = computer(uptime_s=1)

    facts = table.run(200)

    assert table.farm.workers["w0"].losses == 3
    assert table.farm.workers["w0"].state is WorkerState.READY
    assert climbed(facts) == []


@pytest.mark.parametrize(
    ("action", "state"), [(RecoveryAction.RESTORE, "recovering"), (RecoveryAction.REBOOT, "ready")]
)
def test_a_look_that_was_under_way_when_a_share_was_restored_shows_no_recovery(
    monkeypatch: pytest.MonkeyPatch, action: RecoveryAction, state: str
) -> None:
    """It took its time, and shows a beat of a share that has been emptied since. No other rung does that to a share,
    and where looks take long, a worker that is well must not be restarted again.
    """
    seen = MachineStatus(MachineState.RUNNING, (action,), boots=True, uptime_s=10_000.0)
    table = silent_computer(seen)
    table.run(31)
    assert table.farm.workers["w0"].state is WorkerState.RECOVERING
    climbed_at, scan = table.watch.workers["w0"].recovery_at, table.look
    monkeypatch.setattr(table, "look", lambda name, **how: replace(scan(name, **how), requested_at=climbed_at - 1))
    table.shares["w0"].beating = True

    table.tick()
    assert table.farm.workers["w0"].state == state
    monkeypatch.undo()
    table.tick()

    assert table.farm.workers["w0"].state is WorkerState.READY


def test_a_computer_that_is_heard_and_loses_everything_is_put_aside_also_while_it_is_busy() -> None:
    """An order may be under way for minutes after the agent is back; till then it would lose trial after trial."""
    table = Table("w0", "w1", genomes=12, machines=True)
    table.settle_in()
    table.claim("w1")
    table.machines["w0"] = computer(busy=True)
    for _ in range(30):
        for attempt in list(table.farm.workers["w0"].wanted):
            table.answer(attempt, Outcome.UNDELIVERED)
        table.tick(0.5)

    assert table.farm.workers["w0"].state is not WorkerState.READY
    assert table.settlements() == [None] * 12


def test_what_a_computer_on_probation_holds_does_not_wait_for_it() -> None:
    """The hypervisor is busy with it for minutes, and its share is gone."""
    table = Table("w0", genomes=2, machines=True)
    table.machines["w0"] = computer(uptime_s=500)
    table.settle_in()
    to_quarantine(table)
    table.run(17)
    assert table.farm.workers["w0"].state is WorkerState.PROBATION
    (held,) = table.farm.workers["w0"].wanted.values()
    table.shares["w0"].unknown, table.shares["w0"].beating = "no route", False
    table.machines["w0"] = computer(MachineState.OFF, busy=True)

    table.run(32)

    assert held.outcome is Outcome.LOST
    assert table.farm.workers["w0"].state is WorkerState.QUARANTINED


def test_what_a_computer_holds_that_is_being_restarted_is_played_by_others() -> None:
    """Nobody waits for it through every rung of the ladder."""
    table = Table("w0", "w1", genomes=2, machines=True, limits=Limits(boot_limit_s=100))
    table.machines = dict.fromkeys(table.machines, computer(uptime_s=500))
    table.settle_in()
    (held,) = table.farm.workers["w0"].wanted.values()
    table.shares["w0"].unknown, table.shares["w0"].beating = "no route", False
    table.machines["w0"] = computer(MachineState.OFF, uptime_s=0)
    table.tick()
    assert table.farm.workers["w0"].state is WorkerState.RECOVERING
    assert held.outcome is None
    table.machines["w0"] = computer(MachineState.OFF, busy=True)

    table.run(40)

    assert held.outcome is Outcome.LOST
    assert table.farm.workers["w0"].state is WorkerState.RECOVERING


def test_a_computer_that_was_heard_since_it_booted_is_silent_like_any_other() -> None:
    """It hangs a minute after its first beat: nobody waits until it is old."""
    table = silent_computer(computer(uptime_s=60))
    assert table.watch.workers["w0"].alive

    table.run(32)

    assert table.farm.workers["w0"].state is WorkerState.RECOVERING


def test_a_computer_that_reboots_for_ever_is_not_waited_for_for_ever() -> None:
    """It is always young and never says a word."""
    table = silent_computer(computer(uptime_s=3))
    table.watch.workers["w0"].alive = False

    assert climbed(table.run(190)) == []
    assert climbed(table.run(30))[:1] == [RecoveryAction.RESTART_AGENT]


def test_a_computer_that_is_off_is_switched_on_at_the_start() -> None:
    """Its share is inside of it: nobody can look at it first."""
    table = Table("w0", genomes=2, machines=True)
    table.shares["w0"].unknown = "no route"
    table.machines["w0"] = computer(MachineState.OFF, uptime_s=0)

    table.tick()
    table.machines["w0"] = computer(MachineState.OFF, busy=True)
    table.run(60)

    assert [action.recovery for action in table.orders] == [None]


def test_a_quarantined_computer_that_is_still_being_restored_waits() -> None:
    """On probation, too, an order that is under way is waited for."""
    table = Table("w0", genomes=6, machines=True, limits=Limits(back_off_s=40, rung_limit_s=10, boot_limit_s=50))
    table.machines["w0"] = computer()
    table.settle_in()
    to_quarantine(table)
    table.shares["w0"].beating = False
    table.machines["w0"] = computer(busy=True)

    facts = table.run(200)

    assert climbed(facts) == []
    assert table.farm.workers["w0"].state is WorkerState.PROBATION


# ----------------------------------------------------------------------------------------------------------- desktops


def test_who_has_no_desktop_gets_no_work() -> None:
    """A game that draws into nothing does not fail, it scores wrongly; so it is never begun."""
    table = Table("service", "player", genomes=4, limits=Limits(needs_desktop=True))
    table.shares["player"].desktop = "Default, 1280x720"
    table.settle_in()
    table.play_all()
    assert {attempt.worker for attempt in table.farm.attempts.values()} == {"player"}
    assert "no desktop" in table.farm.workers["service"].reason


def test_an_agent_without_a_desktop_is_started_anew_where_there_is_one() -> None:
    """Its logon task does that; as soon as it tells of a desktop it gets work."""
    table = Table("w0", genomes=2, machines=True, limits=Limits(needs_desktop=True))
    table.machines["w0"] = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction))
    table.settle_in()
    table.run(2)
    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]
    table.shares["w0"].desktop = "Default"
    table.play_all()
    assert len(table.orders) == 1


def test_who_loses_its_desktop_loses_its_work_with_it() -> None:
    """What it plays and what waits there is taken back: nothing it says of them counts, and no genome pays."""
    table = Table("w0", "w1", genomes=4, machines=True, limits=Limits(needs_desktop=True))
    table.machines = {name: MachineStatus(MachineState.RUNNING, tuple(RecoveryAction)) for name in ("w0", "w1")}
    for share in table.shares.values():
        share.desktop = "Default"
    table.settle_in()
    held = list(table.farm.workers["w0"].wanted.values())
    table.claim("w0")
    table.tick()
    assert len(held) == 2

    table.shares["w0"].desktop = ""
    table.tick()

    assert {attempt.outcome for attempt in held} == {Outcome.WITHDRAWN}
    assert [action.recovery for action in table.orders] == [RecoveryAction.RESTART_AGENT]
    assert table.shares["w0"].starts == set()


def test_nobody_has_a_desktop() -> None:
    """The farm says so and stops, instead of waiting for ever."""
    table = Table("w0", genomes=1, limits=Limits(needs_desktop=True, back_off_s=2))
    table.settle_in()
    table.run(120)
    assert not table.farm.attempts
    assert "no desktop" in stuck_reason(table.farm, 1)


def test_a_desktop_is_only_asked_for_if_it_matters() -> None:
    """Most evaluators need none."""
    table = Table("w0", genomes=2)
    table.settle_in()
    table.play_all()
