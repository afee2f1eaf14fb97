"""Machines at rest: when they are put to rest, what is left alone meanwhile, and when they are woken."""

from dataclasses import replace

import pytest

from inbox_agent.protocol.layout import AgentState, Outcome
from pipeline.core.facts import AttemptIssued, Fact, GenomeAdded, RecoveryAction, RecoveryStarted
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import MachineState, MachineStatus, ShareScan
from pipeline.core.observed import PowerAction
from pipeline.core.requests import MachineAction, ShareAction
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules

IDLE_S = 60.0
UP = MachineStatus(MachineState.RUNNING, tuple(RecoveryAction), boots=True, uptime_s=1000.0)
OFF = MachineStatus(MachineState.OFF, tuple(RecoveryAction), boots=True)


class RestHarness(CoreHarness):
    """Workers on machines that follow each action on their power at once; a share is off with its machine."""

    def __init__(
        self, *workers: str, genomes: int = 1, idle_after_s: float | None = IDLE_S, spare: int = 0, **options: object
    ) -> None:
        limits = Limits(idle_after_s=idle_after_s, spare=spare)
        super().__init__(*workers, genomes=genomes, machines=True, limits=limits, depth=1, **options)  # type: ignore[arg-type]
        self.machines = dict.fromkeys(workers, UP)
        self.is_open = True
        self.obeys = True
        self.boots_for_ever = False

    def _perform(self, action: ShareAction | MachineAction) -> None:
        super()._perform(action)
        if isinstance(action, MachineAction) and self.obeys:
            is_off = action.recovery is None and action.power is PowerAction.REST
            is_down = is_off or self.boots_for_ever
            self.machines[action.worker] = OFF if is_off else replace(UP, uptime_s=0.0, busy=self.boots_for_ever)
            self.shares[action.worker].unknown = "off" if is_down else ""

    def play(self, *workers: str) -> None:
        """Completes what these workers hold."""
        for name in workers:
            for attempt in list(self.farm.workers[name].wanted):
                self.publish_result(attempt)
        self.tick()
        self.tick()

    def add_genomes(self, count: int) -> None:
        """Adds genomes to the open generation."""
        for number in range(len(self.farm.genomes) + 1, len(self.farm.genomes) + count + 1):
            self.record(GenomeAdded(genome=number, name=f"g{number}", suffix="", size_bytes=9, sha256=f"{number:064x}"))

    @property
    def power(self) -> list[tuple[str, PowerAction]]:
        """The actions on the power of machines so far."""
        return [(action.worker, action.power) for action in self.machine_actions if action.recovery is None]

    def until_at_rest(self) -> list[Fact]:
        """Plays what there is, and waits until the machines are at rest."""
        self.run_until_ready()
        self.play(*self.shares)
        return self.run(IDLE_S + 5)


def test_idle_machine_is_put_to_rest_once() -> None:
    """After the time without work; its silence afterwards is no reason for anything."""
    core = RestHarness("w0")
    core.until_at_rest()
    facts = core.run(1000)

    assert core.power == [("w0", PowerAction.REST)]
    assert facts == []
    assert core.state("w0") is WorkerState.READY


def test_machine_rests_only_after_whole_time() -> None:
    """Counted from when nothing was left to do on it."""
    core = RestHarness("w0")
    core.run_until_ready()
    core.run(2 * IDLE_S)  # it has an attempt, which it does not claim
    core.shares["w0"].claims.clear()
    assert core.power == []
    core.play("w0")
    core.run(IDLE_S - 2)
    assert core.power == []
    core.run(4)
    assert core.power == [("w0", PowerAction.REST)]


def test_without_setting_no_machine_rests() -> None:
    """The default."""
    core = RestHarness("w0", idle_after_s=None)
    core.until_at_rest()
    core.run(1000)
    assert core.power == []


def test_local_worker_does_not_rest() -> None:
    """Its agent is a process of this computer."""
    core = RestHarness("w0")
    core.machines["w0"] = replace(UP, boots=False)
    core.until_at_rest()
    assert core.power == []


@pytest.mark.parametrize("what", ["claim", "result", "start signal", "loading"])
def test_busy_agent_does_not_rest(what: str) -> None:
    """It plays an attempt that was withdrawn, reports it, or loads its evaluator."""
    core = RestHarness("w0")
    core.run_until_ready()
    core.play("w0")
    share, attempt = core.shares["w0"], "g0001-0001-t1-a9-000000000000"
    if what == "claim":
        share.claims.add(attempt)
    elif what == "result":
        share.unread.add(attempt)
    elif what == "start signal":
        share.starts.add(attempt)
        core.observed.workers["w0"].held_open[attempt] = 1e9  # it cannot be removed
    else:
        share.agent_state = AgentState.LOADING
    core.run(2 * IDLE_S)
    assert core.power == []


def test_waiting_trial_wakes_machine() -> None:
    """It goes on with its memory, and gets the trial after a heartbeat that was scanned since."""
    core = RestHarness("w0")
    core.until_at_rest()
    core.add_genomes(1)
    facts = core.run(3)

    assert core.power == [("w0", PowerAction.REST), ("w0", PowerAction.RESUME)]
    assert len(facts_of(facts, AttemptIssued)) == 1
    assert not facts_of(facts, RecoveryStarted)
    core.play("w0")
    assert core.farm.open_trials == 0


def test_only_as_many_machines_are_woken_as_trials_wait() -> None:
    """The others rest on, while those are coming up and while they play."""
    core = RestHarness("w0", "w1", "w2", genomes=3)
    core.until_at_rest()
    core.boots_for_ever = True
    core.add_genomes(2)
    core.run(5)
    woken = [worker for worker, power in core.power if power is PowerAction.RESUME]
    assert woken == ["w0", "w1"]


def test_no_machine_rests_while_a_trial_waits() -> None:
    """It may be the one that the trial needs."""
    core = RestHarness("w0", "w1", genomes=3)
    core.run_until_ready()
    core.shares["w1"].agent_state = AgentState.LOADING
    core.shares["w1"].evaluator = None
    core.play("w1")
    core.run(IDLE_S + 5)
    assert core.farm.pending
    assert core.power == []


def test_trial_behind_long_game_wakes_machine() -> None:
    """It moves to that worker when it is up."""
    core = RestHarness("w0", "w1", genomes=2)
    core.until_at_rest()
    core.queues.depth["w0"] = 2
    core.add_genomes(1)
    core.run(3)
    core.claim("w0")
    core.add_genomes(1)
    core.run(10)
    assert [len(core.farm.workers[name].wanted) for name in ("w0", "w1")] == [1, 1]


def test_machine_that_is_off_at_start_waits_for_work() -> None:
    """A host finds it off or saved, and starts it only when a trial waits."""
    core = RestHarness("w0", genomes=0)
    core.machines["w0"] = OFF
    core.shares["w0"].unknown = "off"
    core.run(100)
    assert core.power == []
    core.add_genomes(1)
    core.run(3)
    assert core.power == [("w0", PowerAction.RESUME)]


def test_machine_boots_if_it_was_saved_with_work() -> None:
    """Its memory may have a game in it that was given up since."""
    core = RestHarness("w0", genomes=2)
    core.run_until_ready()
    assert core.farm.workers["w0"].wanted
    core.restart_host()
    core.machines["w0"] = OFF
    core.run(3)
    assert core.power == [("w0", PowerAction.START)]


def test_machine_of_recovering_worker_is_started_at_once() -> None:
    """Only a worker that could play rests: another one is being recovered."""
    core = RestHarness("w0", genomes=0)
    core.record(RecoveryStarted(worker="w0", action=RecoveryAction.RESTART_AGENT, reason="x"))
    core.machines["w0"] = OFF
    core.tick()
    assert [action.recovery for action in core.machine_actions] == [RecoveryAction.REBOOT]


def test_failed_rest_is_tried_again_later() -> None:
    """The machine runs on, and its worker can play at once."""
    core = RestHarness("w0")
    core.obeys = False
    core.until_at_rest()
    assert core.power == [("w0", PowerAction.REST)]
    core.add_genomes(1)
    assert facts_of(core.run(3), AttemptIssued)
    core.play("w0")
    core.run(IDLE_S + 3)
    assert core.power == [("w0", PowerAction.REST)] * 2


def test_nothing_is_decided_while_an_action_runs() -> None:
    """A machine that is being saved is woken when it is saved."""
    core = RestHarness("w0")
    core.until_at_rest()
    core.machines["w0"] = replace(UP, busy=True)
    core.add_genomes(1)
    core.run(5)
    assert core.power == [("w0", PowerAction.REST)]
    core.machines["w0"] = OFF
    core.run(2)
    assert core.power[1:] == [("w0", PowerAction.RESUME)]


def test_machine_that_user_starts_is_awake() -> None:
    """Its worker plays, and is checked as before."""
    core = RestHarness("w0")
    core.until_at_rest()
    core.machines["w0"], core.shares["w0"].unknown = UP, ""
    core.add_genomes(1)
    facts = core.run(3)
    assert facts_of(facts, AttemptIssued)
    assert core.power == [("w0", PowerAction.REST)]


def test_silence_of_woken_machine_counts_from_when_it_is_up() -> None:
    """Also if it boots for longer than the silence limit, and the hypervisor says it has been up for long."""
    core = RestHarness("w0")
    core.until_at_rest()
    core.boots_for_ever, core.shares["w0"].sends_heartbeats = True, False
    core.add_genomes(1)
    assert not facts_of(core.run(200), RecoveryStarted)
    core.machines["w0"], core.shares["w0"].unknown = UP, ""
    assert not facts_of(core.run(25), RecoveryStarted)
    assert facts_of(core.run(10), RecoveryStarted)


def test_woken_machine_that_does_not_start_is_recovered() -> None:
    """And another one is woken in its place."""
    core = RestHarness("w0", "w1", genomes=2)
    core.until_at_rest()
    core.obeys = False
    core.add_genomes(1)
    facts = core.run(3)
    assert {fact.worker for fact in facts_of(facts, RecoveryStarted)} == {"w0"}
    assert ("w1", PowerAction.RESUME) in core.power


def test_worker_at_rest_gets_nothing_from_scan_in_progress() -> None:
    """It shows the share as it was before the machine was put to rest."""
    core = RestHarness("w0")
    core.until_at_rest()
    core.shares["w0"].unknown = ""
    before = core.observed.time - 10
    core.add_genomes(1)
    core.tick(sweep=False)
    assert not core.farm.workers["w0"].wanted
    core.obeys = False
    core.tick()
    scan: ShareScan = replace(core.scan("w0"), requested_at=before)
    core.scan = lambda *_args, **_kwargs: scan  # type: ignore[method-assign]
    core.tick()
    assert core.power[-1] == ("w0", PowerAction.RESUME)
    assert not core.farm.workers["w0"].wanted


def test_worker_that_is_waking_is_not_put_to_rest() -> None:
    """Until a scan that was requested after its start shows it: otherwise it would count as waking for ever, and no
    other machine would be woken in its place.
    """
    core = RestHarness("w0")
    core.until_at_rest()
    core.machines["w0"], core.shares["w0"].unknown = UP, ""
    core.tick()
    started_at, scan = core.observed.time, core.scan
    core.scan = lambda *args, **options: replace(scan(*args, **options), requested_at=started_at)  # type: ignore[method-assign]
    core.run(2 * IDLE_S)
    assert core.power == [("w0", PowerAction.REST)]
    core.scan = scan  # type: ignore[method-assign]
    core.add_genomes(1)
    core.run(10)
    assert core.farm.workers["w0"].wanted


def test_last_try_waits_for_worker_at_rest() -> None:
    """A trial that failed on one worker is not settled there while another one can be woken."""
    core = RestHarness("w0", "w1", genomes=2)
    core.until_at_rest()
    core.add_genomes(1)
    core.run(3)
    (attempt,) = core.farm.workers["w0"].wanted
    core.publish_result(attempt, Outcome.FAILED)
    core.run(5)
    assert [len(core.farm.workers[name].wanted) for name in ("w0", "w1")] == [0, 1]


def test_last_try_waits_for_machine_on_its_way_to_rest() -> None:
    """It can be woken as soon as it is at rest; until then its status is that of before, or it is busy."""
    core = RestHarness("w0", "w1", genomes=2)
    core.run_until_ready()
    attempt = core.claim("w0")
    for other in list(core.farm.workers["w1"].wanted):
        core.publish_result(other)
    while not core.power:
        core.tick(1.0)
    assert core.power == [("w1", PowerAction.REST)]
    core.publish_result(attempt, Outcome.FAILED)
    core.tick(sweep=False)
    assert not core.farm.workers["w0"].wanted
    core.machines["w1"] = replace(UP, busy=True)
    core.run(5)
    assert not core.farm.workers["w0"].wanted
    core.machines["w1"] = OFF
    core.run(5)
    assert [len(core.farm.workers[name].wanted) for name in ("w0", "w1")] == [0, 1]


def test_spare_machine_stays_at_rest_while_trials_wait() -> None:
    """As long as the workers of the others can play."""
    core = RestHarness("w0", "w1", "w2", genomes=3, spare=1)
    core.until_at_rest()
    core.add_genomes(9)
    core.run(20)
    assert [worker for worker, power in core.power if power is PowerAction.RESUME] == ["w0", "w1"]


def test_spare_machine_is_woken_for_one_that_cannot_play() -> None:
    """It goes on with its memory, while the other one is recovered."""
    core = RestHarness("w0", "w1", genomes=2, spare=1)
    core.until_at_rest()
    core.add_genomes(9)
    core.run(5)
    core.machines["w0"], core.shares["w0"].sends_heartbeats = UP, False
    facts = core.run(60)
    assert facts_of(facts, RecoveryStarted)
    assert core.power[-1] == ("w1", PowerAction.RESUME)
    assert core.farm.workers["w1"].wanted


def test_last_try_does_not_wait_for_spare_machine() -> None:
    """It is not woken for that, and the trial would wait for ever."""
    core = RestHarness("w0", "w1", genomes=2, spare=1)
    core.until_at_rest()
    core.add_genomes(1)
    core.run(3)
    (attempt,) = core.farm.workers["w0"].wanted
    core.publish_result(attempt, Outcome.FAILED)
    core.run(5)
    assert [len(core.farm.workers[name].wanted) for name in ("w0", "w1")] == [1, 0]
