"""Poll intervals: long where nothing is expected, or where answers are notified; short everywhere else."""

from dataclasses import dataclass

from pipeline.core.observed import SentDeployment
from pipeline.core.worker_requests import WorkerRequests
from pipeline.host.poll_schedule import BUSY_POLL_S, DEPLOYMENT_S, IDLE_POLL_S, PollSchedule
from tests.harness.core import CoreHarness


@dataclass
class FakeNotifying:
    notifies: bool = True


class ScheduleHarness:
    """The poll schedule of one farm with ready workers; the shares of all of them send notifications."""

    def __init__(self, workers: int = 1, silence_limit_s: float = 30.0, *, genomes: int = 0) -> None:
        self.core = CoreHarness(*(f"vm-{number}" for number in range(workers)), genomes=genomes)
        self.core.run_until_ready()
        self.servers = {name: FakeNotifying() for name in self.core.farm.workers}
        self.now = 0.0
        self.schedule = PollSchedule(self.servers, silence_limit_s, lambda: self.now)

    def due(self) -> int:
        """How many shares are due a second later."""
        self.now += 1.0
        return len(self.schedule.due(self.core.farm, self.core.observed))

    def scans(self, seconds: int) -> int:
        """The number of scans in this time, with a poll each second."""
        return sum(self.due() for _ in range(seconds))


def test_idle_share_with_notifications_is_polled_rarely() -> None:
    """At most at the idle interval, and never at less than three quarters of it."""
    assert 120 / IDLE_POLL_S <= ScheduleHarness().scans(120) <= 1 + 120 / (0.75 * IDLE_POLL_S)


def test_busy_share_with_notifications_is_polled_more_often() -> None:
    """While an attempt is in its queue, claims and heartbeats wait for a poll."""
    busy = ScheduleHarness(genomes=1)

    assert 120 / BUSY_POLL_S <= busy.scans(120) <= 1 + 120 / (0.75 * BUSY_POLL_S - 1)


def test_share_with_uncertain_state_is_due_at_every_poll() -> None:
    """An unreadable share, or one without a heartbeat yet."""
    uncertain = ScheduleHarness()
    uncertain.core.observed.workers["vm-0"].readable = False
    assert uncertain.scans(20) == 20

    uncertain.core.observed.workers["vm-0"].readable = True
    uncertain.core.observed.workers["vm-0"].alive = False
    assert uncertain.scans(20) == 20


def test_busy_share_without_notifications_is_due_at_every_poll() -> None:
    """Also from the moment at which its notifications stop."""
    silent = ScheduleHarness(genomes=1)
    silent.scans(20)
    silent.servers["vm-0"].notifies = False

    assert silent.scans(20) == 20


def test_idle_share_without_notifications_is_polled_rarely() -> None:
    """Nothing is expected from it but a heartbeat."""
    silent = ScheduleHarness()
    silent.servers["vm-0"].notifies = False

    assert 120 / IDLE_POLL_S <= silent.scans(120) <= 1 + 120 / (0.75 * IDLE_POLL_S)


def test_share_without_notifications_that_may_still_answer_is_due_at_every_poll() -> None:
    """The result of an attempt that was given up may count, and ends another one."""
    silent = ScheduleHarness(genomes=1)
    silent.servers["vm-0"].notifies = False
    worker = silent.core.farm.workers["vm-0"]
    worker.given_up, worker.wanted = worker.wanted, {}

    assert silent.scans(20) == 20


def test_share_whose_agent_loads_its_evaluator_is_due_at_every_poll() -> None:
    """It gets its work as soon as it is ready."""
    loading = ScheduleHarness()
    loading.core.observed.workers["vm-0"].loading_since = 0.0

    assert loading.scans(20) == 20


def test_share_whose_worker_was_drained_is_due_at_every_poll() -> None:
    """Until a scan shows what its agent had begun, so that the rest goes to others soon."""
    drained = ScheduleHarness(genomes=2)
    drained.core.requests = WorkerRequests(drained={"vm-0"})
    drained.core.tick(scan=False)
    assert drained.scans(20) == 20

    drained.core.tick()
    assert drained.scans(20) < 10


def test_local_share_is_due_at_every_poll() -> None:
    """The schedule has no entry for it."""
    local = ScheduleHarness()
    local.schedule = PollSchedule({}, 30.0, lambda: local.now)

    assert local.scans(20) == 20


def test_polls_of_shares_are_spread() -> None:
    """A hundred shares would otherwise be due in the same second."""
    harness = ScheduleHarness(workers=100)
    harness.due()

    assert max(harness.due() for _ in range(12)) < 80


def test_short_silence_limit_shortens_poll_interval() -> None:
    """A heartbeat must not wait longer for a scan than the silence limit lasts."""
    assert ScheduleHarness(silence_limit_s=5.0).scans(20) >= 20 / 2


def test_share_whose_agent_was_sent_an_evaluator_is_due_at_every_poll() -> None:
    """Until its heartbeat names that evaluator, or for the time in which it should."""
    sent = ScheduleHarness()
    seen = sent.core.observed.workers["vm-0"]
    assert seen.heartbeat is not None
    seen.sent_deployment = SentDeployment("another", 1, sent.core.observed.time, 1)
    assert sent.scans(20) == 20

    seen.sent_deployment = SentDeployment("another", 1, sent.core.observed.time - DEPLOYMENT_S, 1)
    assert sent.scans(20) < 5

    seen.sent_deployment = SentDeployment(seen.heartbeat.evaluator or "", 1, sent.core.observed.time, 1)
    assert sent.scans(20) < 5
