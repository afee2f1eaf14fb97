"""What one host can carry: `python -m tests.simulator.capacity` prints a table for 10,000 workers on 100 sites.

The shipped control loop, core, poll schedule and ledger play games of a given length with workers that exist only as
numbers. The clock is virtual, and a tick takes as much of it as it took of the processor, so a host that is too slow
shows as workers that wait. Requests take the time of their site's network, and at most `THREADS_MAX` are in progress.

Not here: what the disks and SMB servers of the workers can do, and what reading a share costs the host's threads.
"""

import argparse
import gc
import heapq
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentRecord, AgentState, HostRecord, Outcome, ResultRecord, StartRecord
from pipeline.core.facts import GenomeAdded, HostStarted, RunOpened, RunSettings
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.observation import CollectedResult, MachineStatus, ShareScan
from pipeline.core.queues import Queues
from pipeline.core.requests import MachineAction, ScanRequest, ShareAction, ShareRequest
from pipeline.host.control_loop import ControlLoop
from pipeline.host.poll_schedule import Notifying, PollSchedule
from pipeline.host.ports import Ports
from pipeline.host.wakeups import Wakeups
from pipeline.shares.executor import THREADS_MAX
from pipeline.shares.share_client import ShareResponse
from pipeline.storage.ledger import Ledger
from tests.fakes.ports import MemoryArchive, MemoryEventLog

GENOME_BYTES = 4096
VERSION = "0123456789abcdef"
SWEEP_S = 1.0
GAMES_COUNTED_MIN = 200


@dataclass
class ModelWorker:
    """A worker as a few numbers: it plays its queue in order, and each game takes the same time."""

    name: str
    round_trip_s: float
    first_game: float  #: how much of its first game is left, so that the games of all workers are spread
    owner: HostRecord | None = None
    queue: deque[StartRecord] = field(default_factory=deque)
    playing: str = ""
    ends_at: float = 0.0
    results: dict[str, CollectedResult] = field(default_factory=dict)
    played_s: float = 0.0


class Notified:
    """A share whose results are notified."""

    notifies = True


class NoMachines:
    """Workers without machines."""

    def status(self) -> dict[str, MachineStatus]:
        return {}

    def execute(self, action: MachineAction) -> None:
        raise AssertionError(action)


class ModelClock:
    """The virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._nonces = 0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:08d}"


class CapacityFarm:
    """One host with its workers, on a virtual clock. It implements the executor's port."""

    def __init__(self, folder: Path, workers: int, sites: int, game_s: float, trials: int) -> None:
        self.clock, self.wakeups, self.game_s = ModelClock(), Wakeups(), game_s
        round_trips = [0.0005 * 40 ** (site / max(1, sites - 1)) for site in range(sites)]  # 0.5 to 20 ms
        names = [f"site-{number % sites}-{number // sites}" for number in range(workers)]
        golden = 0.6180339887498949
        self.workers = {
            name: ModelWorker(name, round_trips[n % sites], first_game=(n + 1) * golden % 1)
            for n, name in enumerate(names)
        }
        self._events: list[tuple[float, int, str, ShareRequest | None]] = []
        self._number = 0
        self._waiting: deque[tuple[float, ShareRequest]] = deque()
        self._busy: set[str] = set()
        self._in_progress = 0
        self._completed: list[ShareResponse] = []
        self.requests = self.sent_bytes = self.received_bytes = self.games = 0
        self.waits_s: list[float] = []  #: that requests waited for a thread
        self.ledger = Ledger(folder)
        limits = Limits()
        farm = Farm(self.ledger.farm_id, names)
        notified: dict[str, Notifying] = dict.fromkeys(names, Notified())
        ports = Ports(
            ledger=self.ledger,
            archive=MemoryArchive(),
            event_log=MemoryEventLog(),
            executor=self,
            machines=NoMachines(),
            poll_schedule=PollSchedule(notified, limits.silence_limit_s, clock=self.clock.monotonic),
            clock=self.clock,
        )
        queues = Queues(depth=dict.fromkeys(names, 2), local=frozenset())
        self.loop = ControlLoop(farm, limits, queues, ports, self.wakeups)
        settings = RunSettings(
            trials_per_genome=1, seed=7, settings={}, evaluator="model", time_limit_s=7200.0, evaluator_version=VERSION
        )
        genomes = [
            GenomeAdded(genome=n, name=f"g{n}", suffix="", size_bytes=GENOME_BYTES, sha256=f"{n:064x}")
            for n in range(1, trials + 1)
        ]
        opened = RunOpened(generation=1, run=1, settings=settings)
        self.loop.record([HostStarted(pid=1, workers=workers), opened, *genomes])

    # ------------------------------------------------------------------------------------------------------- executor

    def is_busy(self, worker: str) -> bool:
        return worker in self._busy

    def submit(self, request: ShareRequest) -> None:
        self._busy.add(request.worker)
        self._waiting.append((self.clock.now, request))
        self._start_waiting()

    def completed(self) -> list[ShareResponse]:
        responses, self._completed = self._completed, []
        self._busy -= {response.worker for response in responses}
        return responses

    def timed_out(self) -> list[ShareScan]:
        return []

    def _start_waiting(self) -> None:
        while self._waiting and self._in_progress < THREADS_MAX:
            since, request = self._waiting.popleft()
            self.waits_s.append(self.clock.now - since)
            self._in_progress += 1
            # A request is a few exchanges with the share's server: listings and files that are read in one go.
            self._schedule(3 * self.workers[request.worker].round_trip_s, request.worker, request)

    # ---------------------------------------------------------------------------------------------------------- events

    def _schedule(self, delay_s: float, worker: str, request: ShareRequest | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.clock.now + delay_s, self._number, worker, request))

    def run(self, seconds: float) -> "Measured":
        """Runs for so much virtual time; measures."""
        begun, swept_at, cpu, longest = self.clock.now, self.clock.now - SWEEP_S, 0.0, 0.0
        games, requests, sent, received = self.games, self.requests, self.sent_bytes, self.received_bytes
        self.waits_s.clear()
        while self.clock.now < begun + seconds:
            if self.clock.now >= swept_at + SWEEP_S:
                swept_at = self.clock.now
                self.wakeups.request_sweep()
                self.wakeups.request_poll()
            if self._has_work():
                before = time.process_time()
                self.loop.tick()
                took = time.process_time() - before
                cpu, longest = cpu + took, max(longest, took)
                self.clock.now += took
            self._happen(min(self._next_at(), swept_at + SWEEP_S))
        lasted = self.clock.now - begun
        return Measured(
            host=cpu / lasted,
            longest_s=longest,
            games_per_s=(self.games - games) / lasted,
            requests_per_s=(self.requests - requests) / lasted,
            wait_s=sorted(self.waits_s)[int(len(self.waits_s) * 0.95)] if self.waits_s else 0.0,
            network_per_s=(self.sent_bytes + self.received_bytes - sent - received) / lasted,
        )

    def _has_work(self) -> bool:
        return self.wakeups.wait(0.0)

    def _next_at(self) -> float:
        return self._events[0][0] if self._events else self.clock.now + SWEEP_S

    def _happen(self, at: float) -> None:
        """Each event at its own time: games end, and threads take the next request, also while a tick lasts."""
        end = max(self.clock.now, at)
        while self._events and self._events[0][0] <= end:
            self.clock.now, _number, name, request = heapq.heappop(self._events)
            if request is None:
                self._end_game(self.workers[name])
            else:
                self._in_progress -= 1
                self.requests += 1
                self._completed.append(self._execute(self.workers[name], request))
                self._start_waiting()
                self.wakeups.wake()
        self.clock.now = end

    # ---------------------------------------------------------------------------------------------------------- shares

    def _execute(self, worker: ModelWorker, request: ShareRequest) -> ShareResponse:
        if isinstance(request, ScanRequest):
            return ShareResponse(worker=worker.name, scan=self._scan(worker, request))
        return self._act(worker, request)

    def _act(self, worker: ModelWorker, action: ShareAction) -> ShareResponse:
        worker.owner = action.host or worker.owner
        for attempt in action.remove:
            worker.results.pop(attempt, None)
        worker.queue.extend(action.publish)
        self.sent_bytes += sum(len(layout.encode(start)) + GENOME_BYTES for start in action.publish)
        self._play_next(worker)
        sent = {start.attempt: True for start in action.publish}
        return ShareResponse(worker=worker.name, removed=frozenset(action.remove), sent=sent, write_problem="")

    def _scan(self, worker: ModelWorker, request: ScanRequest) -> ShareScan:
        results = tuple(result for attempt, result in worker.results.items() if attempt not in request.handled)
        self.received_bytes += sum(len(result.data) for result in results)
        claims = {worker.playing, *worker.results} - {""}
        scan = ShareScan(
            worker=worker.name,
            full=request.full,
            owner=worker.owner,
            no_folders=worker.owner is None,
            starts=frozenset(start.attempt for start in worker.queue) | claims,
            payloads=frozenset(start.attempt for start in worker.queue) | claims,
            claims=frozenset(claims),
            answers=frozenset(worker.results),
            results=results,
            heartbeat=self._heartbeat(worker) if request.full and worker.owner is not None else None,
        )
        self.received_bytes += 600 if request.full else 100  # listings, and the heartbeat
        return scan

    def _heartbeat(self, worker: ModelWorker) -> AgentRecord:
        assert worker.owner is not None
        return AgentRecord(
            farm=worker.owner.farm,
            worker=worker.name,
            epoch=worker.owner.epoch,
            boot_id="boot",
            run_id="run",
            counter=int(self.clock.now / 5) + 1,
            state=AgentState.PLAYING if worker.playing else AgentState.IDLE,
            attempt=worker.playing or None,
            evaluator=VERSION,
        )

    def _play_next(self, worker: ModelWorker) -> None:
        if worker.playing or not worker.queue:
            return
        start = worker.queue[0]
        worker.playing = start.attempt
        length_s = self.game_s * (1.0 if worker.played_s else worker.first_game)
        worker.ends_at = self.clock.now + length_s
        self._schedule(length_s, worker.name, None)

    def _end_game(self, worker: ModelWorker) -> None:
        start = worker.queue.popleft()
        record = ResultRecord(
            farm=start.farm,
            worker=worker.name,
            epoch=start.epoch,
            attempt=start.attempt,
            trial=start.trial,
            seed=start.seed,
            genome_sha256=start.genome_sha256,
            evaluator=VERSION,
            outcome=Outcome.COMPLETED,
            fitness=1.0,
            seconds=self.game_s,
            boot_id="boot",
            run_id="run",
        )
        worker.results[start.attempt] = CollectedResult(
            attempt=start.attempt, record=record, data=layout.encode(record)
        )
        worker.playing, worker.played_s = "", worker.played_s + self.game_s
        self.games += 1
        self._play_next(worker)
        self.wakeups.notify(worker.name)


class Measured(NamedTuple):
    """What a host did in a time."""

    host: float  #: of one processor
    longest_s: float  #: tick
    games_per_s: float
    requests_per_s: float
    wait_s: float  #: of 95 % of the requests, for a thread
    network_per_s: float  #: bytes


class Row(NamedTuple):
    """One line of the table."""

    workers: int
    ready: int  #: workers at the end; the host takes the others for silent, because it asks them too seldom
    game_s: float
    found: Measured
    memory: int  #: bytes of this process, with the model
    ledger: float | None  #: bytes for each game; None: too few to tell


def measure(workers: int, sites: int, game_s: float, seconds: float) -> Row:
    """One host with these workers, after all of them have begun to play."""
    gc.collect()
    warm_up_s = min(20.0, 2 * seconds)
    trials = int(workers * (4 + (warm_up_s + seconds) / game_s))
    with tempfile.TemporaryDirectory(prefix="capacity-") as place:
        farm = CapacityFarm(Path(place) / "state", workers, sites, game_s, trials)
        farm.run(warm_up_s)  # first contact, and the first games
        size, games = _bytes_of(farm.ledger.path), farm.games
        found = farm.run(seconds)
        grown = _bytes_of(farm.ledger.path) - size
        memory = psutil.Process().memory_info().rss
        ready = sum(worker.state is WorkerState.READY for worker in farm.loop.farm.workers.values())
        farm.ledger.close()
        counted = farm.games - games
    return Row(workers, ready, game_s, found, memory, grown / counted if counted >= GAMES_COUNTED_MIN else None)


def _bytes_of(path: Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def limits_of(row: Row) -> Iterator[str]:
    """What a host has too little of, the scarcest first."""
    shortages = {
        "the control loop's processor": row.found.host,
        "threads for requests to shares": row.found.wait_s / 1.0,
        "a network of 1 Gbit/s": row.found.network_per_s * 8 / 1e9,
    }
    for name, share in sorted(shortages.items(), key=lambda item: -item[1]):
        if share > 0.8:
            yield name


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    heads: tuple[str, ...] = (
        "workers",
        "ready",
        "a game",
        "games/s",
        "of the ideal",
        "host",
        "longest tick",
        "requests/s",
        "95 % wait for a thread",
    )
    heads += ("network", "memory", "ledger, each game", "what is scarce")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        now = row.found
        utilisation = now.games_per_s * row.game_s / row.workers
        cells = [f"{row.workers:,}", f"{row.ready:,}", f"{row.game_s:g} s", f"{now.games_per_s:,.1f}"]
        cells += [
            f"{utilisation:.0%}",
            f"{now.host:.0%}",
            f"{now.longest_s * 1000:.0f} ms",
            f"{now.requests_per_s:,.0f}",
        ]
        cells += [f"{now.wait_s * 1000:.0f} ms", f"{now.network_per_s / 1e6:.1f} MB/s", f"{row.memory / 1e6:,.0f} MB"]
        cells += [f"{row.ledger:.0f} B" if row.ledger is not None else "?", ", ".join(limits_of(row)) or "nothing"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.capacity", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--games", type=float, nargs="+", default=[1.0, 60.0, 1800.0], metavar="S", help="lengths")
    parser.add_argument("--seconds", type=float, default=20.0, help="of virtual time that is measured")
    args = parser.parse_args()
    print(f"one host with workers on {args.sites} sites, 0.5 to 20 ms away; processor time of this computer")
    kinds = [(workers, game_s) for workers in args.workers for game_s in args.games]
    rows = [measure(workers, args.sites, game_s, args.seconds) for workers, game_s in kinds]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
