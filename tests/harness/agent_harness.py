"""A harness for the agent's loop: a share in memory, a clock that `wait` advances, evaluations that a test ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inbox_agent.agent import Agent
from inbox_agent.evaluation.protocol import CannotLoad, EvaluationJob, EvaluationResult
from inbox_agent.evaluation.versioned import EvaluatorSource, FilesState, VersionedEvaluator
from inbox_agent.identity import AgentIdentity
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentRecord, Kind, Outcome, ResultRecord, StartedRecord
from inbox_agent.share_scanner import AgentLimits
from inbox_agent.system.desktop import DesktopSession
from tests.fakes.memory_files import ProbedFiles
from tests.harness import records
from tests.harness.records import GENOME, VERSION, attempt, sha256

LIMITS = AgentLimits()
COMPLETED = EvaluationResult(outcome=Outcome.COMPLETED, fitness=2.5, seconds=1.0)


class FakeClock:
    """The agent's clock and wait function: waiting advances the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout_s: float) -> bool:
        self.now += timeout_s
        return False


class ScriptedEvaluator:
    """Runs nothing: an evaluation lasts until the test sets its result."""

    def __init__(self, time: FakeClock, folder: Path) -> None:
        self.progress = ""
        self.jobs: list[EvaluationJob] = []  #: every evaluation that was started
        self.played: list[bytes] = []  #: the contents of the genomes at that moment
        self.running: EvaluationJob | None = None
        self.stops = 0
        self.ending: EvaluationResult | None = None
        self.on_start: Callable[[], None] = lambda: None
        self.on_prepare: Callable[[str], object] = lambda _suffix: None
        self.broken: OSError | None = None  #: raised when the scratch folder is prepared
        self.version = VERSION  #: of its files
        self.edits = 0  #: how often they were written
        self.files_problem = ""  #: why they cannot be read
        self.load_problem = ""
        self.load_is_killed = False  #: whether a load that has a problem ends by a signal from outside
        self.on_load: Callable[[], object] = lambda: None
        self.unload_after_game = False
        self.restart_after_game = False  #: at once, as `FunctionEvaluator` does
        self.version_in_memory = ""
        self.data = ""  #: of a file that is not imported
        self.unloads = 0
        self.is_loading = False  #: whether a load takes longer than the test
        self.reads_files_at_each_game = False
        self.loads = 0
        self.is_unused = True
        self._is_loaded = False
        self.on_stop: Callable[[], object] = lambda: None
        self.folder = folder
        self._time = time

    def load(self, timeout_s: float) -> bool:
        if self._is_loaded:
            return True
        if self.load_problem:
            raise CannotLoad(self.load_problem, was_killed=self.load_is_killed)
        if self.is_loading:
            self._time.wait(timeout_s)
            return False
        self.loads += 1
        self._is_loaded = self.is_unused = True
        self.version_in_memory = self.version
        on_load, self.on_load = self.on_load, lambda: None
        on_load()
        return True

    def unload(self) -> None:
        assert self.running is None, "a game is running"
        self.unloads += self._is_loaded
        self._is_loaded, self.is_unused = False, True

    def look_at_files(self) -> FilesState:
        if self.files_problem:
            raise ValueError(self.files_problem)
        files = {"game.py": sha256(self.version.encode())}
        files |= {"level.json": sha256(self.data.encode())} if self.data else {}
        return FilesState(self.version, (self.version, self.data, self.edits), files)

    def prepare(self, suffix: str) -> Path:
        if self.broken is not None:
            raise self.broken
        self.on_prepare(suffix)
        return self.folder / f"genome{suffix}"

    def start(self, job: EvaluationJob) -> None:
        assert self.running is None, "one game at a time"
        assert self._is_loaded
        self.is_unused = False
        self.loads += self.reads_files_at_each_game
        self.jobs.append(job)
        self.played.append(job.genome.read_bytes())
        self.running = job
        self.on_start()

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        assert self.running is not None, "nothing is played"
        if self.ending is None:
            self._time.wait(timeout_s)
            return None
        finished, self.ending, self.running = self.ending, None, None
        if self.restart_after_game:
            self.loads += 1
            self.is_unused, self.version_in_memory = True, self.version
        if self.unload_after_game:
            self._is_loaded = False
            self.loads += 1
        return finished

    def stop(self) -> None:
        self.stops += 1
        self.on_stop()
        self.running = self.ending = None

    def close(self) -> None:
        self.stop()


class AgentHarness:
    """One agent at a time on one share, and the host's side of that share."""

    def __init__(self, scratch: Path, *, share_is_local: bool = True, limits: AgentLimits = LIMITS) -> None:
        self.files = ProbedFiles()
        self.files.make_folders()
        self.time = FakeClock()
        self.evaluator = ScriptedEvaluator(self.time, scratch)
        self._own_disk, self._limits = share_is_local, limits
        self.host_is_local = False
        self._runs = 0
        self.session = DesktopSession(id="1", desktop="Default", width=1280, height=720, adapter="Display")
        self.start_agent()

    # -------------------------------------------------------------------------------------------------------- the agent

    def start_agent(self) -> None:
        """The agent starts, or restarts after it was killed with its evaluation."""
        self._runs += 1
        self.evaluator.running = None
        identity = AgentIdentity(boot_id="boot", run_id=f"run-{self._runs}", versions={"agent": "1"})
        self.agent = Agent(
            self.files,
            VersionedEvaluator(
                EvaluatorSource(self.evaluator, self.evaluator.look_at_files, "game:play"),
                clock=self.time,
                pause=self.time.wait,
            ),
            identity,
            self.time,
            clock=self.time,
            session=lambda: self.session,
            share_is_local=self._own_disk,
            host_is_local=self.host_is_local,
            limits=self._limits,
        )
        self._idle_rests = 0

    def step(self) -> float:
        """One round. An agent that did nothing must ask for a wait."""
        changes = len(self.files.journal) + len(self.evaluator.jobs) + self.evaluator.stops
        rest = self.agent.step()
        changed = changes != len(self.files.journal) + len(self.evaluator.jobs) + self.evaluator.stops
        self._idle_rests = 0 if rest > 0 or changed else self._idle_rests + 1
        assert self._idle_rests < 2, "a busy loop"
        assert rest <= self._limits.poll_s
        return rest

    def run_for(self, seconds: float) -> None:
        """Runs rounds for this time, and one more round at its end."""
        until = self.time.now + seconds
        while (rest := self.step()) == 0 or self.time.now < until:
            self.agent.wait(min(rest, until - self.time.now))

    def finish_evaluation(self, finished: EvaluationResult = COMPLETED) -> None:
        """The running evaluation ends, and the agent collects it."""
        self.evaluator.ending = finished
        self.agent.wait(0)

    # ------------------------------------------------------------------------------------------------ the host's writes

    def publish_owner(self, epoch: int = 1, **other: Any) -> None:
        self.files.publish(f"inbox/{epoch}.host.json", layout.encode(records.host(epoch, **other)))
        self.files.journal.clear()

    def publish_start(self, number: int = 1, genome: bytes = GENOME, **other: Any) -> str:
        """Publishes a genome and its start signal."""
        self.files.write(f"inbox/{attempt(number)}.genome", genome)
        return self.publish_start_record(number, layout.encode(records.start(number, **other)))

    def publish_start_record(self, number: int, data: bytes) -> str:
        self.files.publish(f"inbox/{attempt(number)}.start.json", data)
        self.files.journal.clear()
        return attempt(number)

    def withdraw(self, number: int = 1) -> None:
        self.files.remove([f"inbox/{attempt(number)}.start.json", f"inbox/{attempt(number)}.genome"])
        self.files.journal.clear()

    # ------------------------------------------------------------------------------------------------- the host's reads

    @property
    def outbox(self) -> set[str]:
        return set(self.files.names("outbox")) - {"tmp"}

    @property
    def heartbeat(self) -> AgentRecord | None:
        data = self.files.files.get("status/agent.json")
        return layout.decode(AgentRecord, data, "agent.json") if data is not None else None

    @property
    def counter(self) -> int:
        """The number of heartbeats in the agent's life."""
        return self.heartbeat.counter if self.heartbeat else 0

    def result(self, number: int = 1) -> ResultRecord:
        name = Kind.RESULT.of(attempt(number))
        return layout.decode(ResultRecord, self.files.files[f"outbox/{name}"], name)

    def claim(self, number: int = 1) -> StartedRecord:
        name = Kind.STARTED.of(attempt(number))
        return layout.decode(StartedRecord, self.files.files[f"outbox/{name}"], name)

    @property
    def playing(self) -> str | None:
        return self.evaluator.running.attempt if self.evaluator.running else None


def started(number: int = 1) -> str:
    return Kind.STARTED.of(attempt(number))


def answered(number: int = 1) -> str:
    return Kind.RESULT.of(attempt(number))
