"""The shipped control loop over the core's test harness, with all ports in memory."""

from typing import Self

from pipeline.core.limits import Limits
from pipeline.core.requests import ScanRequest
from pipeline.host.control_loop import ControlLoop
from pipeline.host.wakeups import Wakeups
from pipeline.shares.share_client import ShareResponse
from tests.fakes.ports import ManualClock, MemoryArchive, MemoryLedger, MemoryMachines, ScriptedExecutor, memory_ports
from tests.harness.core import CoreHarness


class LoopHarness:
    """A control loop that continues with the farm and the observed state of the core's harness."""

    def __init__(
        self,
        core: CoreHarness,
        *,
        ledger: MemoryLedger | None = None,
        archive: MemoryArchive | None = None,
        executor: ScriptedExecutor | None = None,
        machines: MemoryMachines | None = None,
    ) -> None:
        self.core, self.wakeups, self.executor = core, Wakeups(), executor or ScriptedExecutor()
        ports = memory_ports(
            ledger=ledger,
            archive=archive,
            executor=self.executor,
            machines=machines,
            clock=ManualClock(lambda: core.now),
        )
        self.loop = ControlLoop(core.farm, Limits(), core.queues, ports, self.wakeups)
        self.loop.observed = core.observed

    @classmethod
    def ready(cls) -> Self:
        """One worker, `vm-0`, with one published attempt."""
        core = CoreHarness("vm-0", genomes=1)
        core.run_until_ready()
        return cls(core)

    def result_arrives(self, worker: str = "vm-0") -> str:
        """A worker has published the result of its attempt, and a scan that shows it arrives; returns the attempt."""
        (attempt,) = self.core.farm.workers[worker].wanted
        self.core.publish_result(attempt)
        self.executor.arriving = [ShareResponse(worker=worker, scan=self.core.scan(worker))]
        return attempt

    def kinds(self) -> list[str]:
        """The requests submitted so far: `scan`, or `publish` for an action."""
        return ["scan" if isinstance(request, ScanRequest) else "publish" for request in self.executor.submitted]

    def full_scans(self) -> list[bool]:
        """For each scan submitted so far, whether it was a full one."""
        return [request.full for request in self.executor.submitted if isinstance(request, ScanRequest)]
