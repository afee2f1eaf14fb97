"""A test harness of the core: a farm, its observed state and a clock. By default everything works.

`CoreHarness` replaces the shares, machines and the ledger: it keeps the content of each share, so that a tick sees the
effects of earlier ticks. After every tick it checks the invariants and compares the farm with a replay of its facts.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from inbox_agent.protocol.layout import AgentRecord, AgentState, HostRecord, Outcome, ResultRecord
from pipeline.core.deployment import NO_DEPLOYMENTS
from pipeline.core.dispatcher import decide
from pipeline.core.facts import Fact, GenomeAdded, HostStarted, RunOpened, RunSettings, Settlement, WorkerLeft
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Attempt, TrialState, WorkerState
from pipeline.core.observation import CollectedResult, MachineState, MachineStatus, Observation, ShareScan
from pipeline.core.observed import Observed
from pipeline.core.queues import Queues
from pipeline.core.reconcile import plan
from pipeline.core.requests import MachineAction, SendDeployment, ShareAction
from pipeline.core.reuse import EarlierResults
from pipeline.core.transaction import Transaction
from pipeline.core.worker_requests import NO_REQUESTS, joining_worker

FARM = "f00d"
VERSION = "0123456789abcdef"  #: of the evaluator
SETTINGS = RunSettings(
    trials_per_genome=1, seed=7, settings={}, evaluator="test", time_limit_s=60.0, evaluator_version=VERSION
)


@dataclass
class FakeShare:
    """The content of a worker's share, and the state of its agent."""

    owner: HostRecord | None = None
    no_folders: bool = True
    starts: set[str] = field(default_factory=set)
    payloads: set[str] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    results: dict[str, CollectedResult] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  #: attempts with a result that could not be read yet
    unknown: str = ""
    sends_heartbeats: bool = True
    run_id: str = "run-1"
    counter: int = 0
    unknown_starts: set[str] = field(default_factory=set)
    damaged_epoch: int = 0
    desktop: str = ""
    evaluator: str | None = VERSION
    agent_state: AgentState = AgentState.IDLE
    problem: str = ""
    unknown_heartbeat: str = ""
    heartbeat_problem: str = ""
    deployments: set[int] = field(default_factory=set)
    taken_deployment: int | None = None  #: None: the agent takes none
    takes_deployments: bool = True  #: whether what arrives can be taken
    round_trip_s: float = 0.0  #: of its scans


class CoreHarness:
    """A farm with shares and machines that a test may change."""

    def __init__(
        self,
        *workers: str,
        genomes: int = 3,
        trials: int = 1,
        depth: int = 2,
        machines: bool = False,
        limits: Limits | None = None,
        settings: RunSettings = SETTINGS,
        local: bool = False,
        genome_bytes: int = 9,
        generation: int = 1,
        earlier: EarlierResults | None = None,
    ) -> None:
        names = list(workers or ("w0", "w1"))
        self.limits = limits or Limits()
        self.settings = replace_struct(settings, trials_per_genome=trials)
        self.farm = Farm(FARM, names)
        self.now, self.nonce = 1000.0, 0
        self.queues = Queues(depth=dict.fromkeys(names, depth), local=frozenset(names if local else ()))
        self.shares = {name: FakeShare() for name in names}
        self.machines = {name: MachineStatus(MachineState.RUNNING, ()) for name in names} if machines else {}
        self.facts: list[tuple[Fact, float]] = []
        self.machine_actions: list[MachineAction] = []
        self.publish_fails = False
        self.is_open = False  #: more genomes may join
        self.earlier = earlier
        self.deployments = NO_DEPLOYMENTS
        self.requests = NO_REQUESTS
        self.sent_deployments: list[tuple[str, str]] = []  #: worker and version
        opened = RunOpened(generation=generation, run=1, settings=self.settings)
        self.record(HostStarted(pid=1, workers=len(names)), opened)
        for number in range(1, genomes + 1):
            self.record(
                GenomeAdded(
                    genome=number, name=f"g{number}", suffix="", size_bytes=genome_bytes, sha256=f"{number:064x}"
                )
            )
        self.observed = Observed(self.farm, self.limits, self.now)

    def record(self, *facts: Fact) -> None:
        """Records facts outside a tick."""
        for fact in facts:
            self.farm.evolve(fact, self.now)
            self.facts.append((fact, self.now))

    def restart_host(self, boot_id: str = "") -> None:
        """Starts a new host process: the facts are replayed, and the observed state is empty."""
        self.farm = Farm(FARM, list(self.farm.workers))
        for fact, at in self.facts:
            self.farm.evolve(fact, at)
        self.record(HostStarted(pid=2, workers=len(self.farm.workers), boot_id=boot_id))
        self.observed = Observed(self.farm, self.limits, self.now)

    # ----------------------------------------------------------------------------------------------------------- ticks

    def tick(self, seconds: float = 0.1, *, sweep: bool = True, full: bool = True, scan: bool = True) -> list[Fact]:
        """Advances the time, scans every share, decides and executes the actions. Returns the facts of this tick."""
        self.now += seconds
        tx = self.decide([*self.farm.workers] if scan else [], sweep=sweep, full=full)
        self.facts += [(fact, self.now) for fact in tx.facts]
        for fact in tx.facts:
            if isinstance(fact, WorkerLeft):
                self.observed.dismiss(fact.worker)
        for action in plan(self.farm, self.observed, self.limits, self.farm.workers, self.deployments):
            self._perform(action)
        self.check_invariants()
        return tx.facts

    def decide(self, workers: list[str], *, sweep: bool = True, full: bool = True) -> Transaction:
        """Decides on scans of these shares, in this order; records and executes nothing."""
        self.nonce += 1
        observation = Observation(
            now=self.now,
            wall=self.now,
            nonce=f"{self.nonce:08d}",
            sweep=sweep,
            is_open=self.is_open,
            scans=[self.scan(name, full=full) for name in workers],
            machines=self.machines if sweep else {},
        )
        return decide(
            self.farm,
            self.observed,
            observation,
            self.limits,
            self.queues,
            self.earlier,
            self.deployments,
            self.requests,
        )

    def join(self, worker: str, share: FakeShare | None = None) -> None:
        """Makes a worker join, with the share that it had or with another one."""
        self.shares[worker] = share or self.shares.get(worker) or FakeShare()
        self.queues.depth.setdefault(worker, 2)
        self.record(*joining_worker(self.farm, worker))
        self.observed.admit(worker)

    def run(self, seconds: float, step: float = 1.0) -> list[Fact]:
        """Ticks for that many seconds; returns all facts."""
        found: list[Fact] = []
        for _ in range(round(seconds / step)):
            found += self.tick(step)
        return found

    def outage(self, worker: str, seconds: float) -> None:
        """Makes a worker's share unreadable for that many seconds; the next tick can read it again."""
        self.shares[worker].unknown = "network down"
        self.run(seconds)
        self.shares[worker].unknown = ""

    def run_until_ready(self) -> None:
        """Runs the first ticks of a farm: host records, first heartbeats, first publications."""
        for _ in range(3):
            self.tick()

    def state(self, worker: str) -> WorkerState:
        """The state of a worker."""
        return self.farm.workers[worker].state

    def scan(self, name: str, *, full: bool = True) -> ShareScan:
        """A scan of a worker's share."""
        share = self.shares[name]
        if share.unknown:
            return ShareScan(worker=name, full=full, unknown=share.unknown)
        if share.sends_heartbeats and share.owner is not None:
            share.counter += 1
        heartbeat = AgentRecord(
            farm=share.owner.farm if share.owner else None,
            worker=share.owner.worker if share.owner else None,
            epoch=share.owner.epoch if share.owner else None,
            boot_id="boot",
            run_id=share.run_id,
            counter=share.counter,
            state=share.agent_state,
            desktop=share.desktop,
            evaluator=share.evaluator,
            problem=share.problem,
            deployment=share.taken_deployment,
        )
        outbox = ShareScan(
            worker=name,
            round_trip_s=share.round_trip_s,
            claims=frozenset(share.claims),
            answers=frozenset(share.results | dict.fromkeys(share.unread)),
            results=tuple(share.results.values()),
        )
        if not full:
            return outbox
        unconfirmed = self.observed.workers[name].unconfirmed
        has_heartbeat = share.counter and not (share.unknown_heartbeat or share.heartbeat_problem)
        return replace(
            outbox,
            full=True,
            no_folders=share.no_folders,
            owner=None if share.damaged_epoch else share.owner,
            damaged_epoch=share.damaged_epoch,
            starts=frozenset(share.starts | share.unknown_starts),
            unknown_starts=frozenset(share.unknown_starts),
            payloads=frozenset(share.payloads),
            deployments=frozenset(share.deployments),
            complete=frozenset(unconfirmed & share.starts & share.payloads),
            heartbeat=heartbeat if has_heartbeat else None,
            unknown_heartbeat=share.unknown_heartbeat,
            heartbeat_problem=share.heartbeat_problem,
            no_heartbeat=not share.counter,
        )

    def _perform(self, action: ShareAction | MachineAction) -> None:
        if isinstance(action, MachineAction):
            seen = self.observed.workers[action.worker]
            seen.recovery_ordered = seen.machine_started = True
            seen.power_due = None
            self.machine_actions.append(action)
            return
        self._perform_on_share(action)

    def _perform_on_share(self, action: ShareAction) -> None:
        share = self.shares[action.worker]
        if share.unknown:
            return
        if action.host is not None:
            share.owner, share.no_folders, share.damaged_epoch = action.host, False, 0
        share.starts -= set(action.remove)
        share.payloads -= set(action.remove)
        self.observed.note_removed(action.worker, frozenset(action.remove))
        for start in action.publish:
            if not self.publish_fails:
                share.starts.add(start.attempt)
                share.payloads.add(start.attempt)
            self.observed.note_published(action.worker, start.attempt, confirmed=not self.publish_fails)
        if action.deploy is not None:
            self._deploy(share, action.worker, action.deploy)
        answered = share.claims | share.results.keys()
        for attempt_id in answered - share.starts:
            share.claims.discard(attempt_id)
            share.results.pop(attempt_id, None)

    def _deploy(self, share: FakeShare, worker: str, deploy: SendDeployment) -> None:
        record = deploy.record
        assert record.number > max(share.deployments, default=0)
        self.observed.note_deployment(worker, record.evaluator, record.number)
        self.sent_deployments.append((worker, record.evaluator))
        share.deployments = (share.deployments | {record.number}) - set(deploy.earlier)
        if share.takes_deployments:
            share.taken_deployment, share.evaluator = record.number, record.evaluator
            share.agent_state, share.problem = AgentState.IDLE, ""

    # ---------------------------------------------------------------------------------------------------------- agents

    def claim(self, worker: str) -> str:
        """Makes the agent claim the first attempt in its queue; returns its id."""
        share = self.shares[worker]
        waiting = [a for a in self.farm.workers[worker].wanted.values() if a.id in share.starts - share.claims]
        first = min(waiting, key=lambda attempt: attempt.publication)
        share.claims.add(first.id)
        return first.id

    def claim_by_name(self, attempt: Attempt) -> None:
        """Adds the claim of an attempt, even if the host no longer wants it."""
        self.shares[attempt.worker].claims.add(attempt.id)

    def publish_result(self, attempt_id: str, /, outcome: Outcome = Outcome.COMPLETED, **fields: Any) -> None:
        """Publishes an agent's result of an attempt, even if the host no longer wants it."""
        attempt = self.farm.attempts[attempt_id]
        share = self.shares[attempt.worker]
        share.claims.add(attempt_id)
        share.results[attempt_id] = CollectedResult(
            attempt=attempt_id, record=self.result_record(attempt, outcome, **fields)
        )

    def result_record(self, attempt: Attempt, /, outcome: Outcome = Outcome.COMPLETED, **fields: Any) -> ResultRecord:
        """The result that an agent would write, except for the given fields."""
        echo = self.farm.echo(attempt)
        correct: dict[str, Any] = {
            "farm": FARM,
            "worker": attempt.worker,
            "epoch": attempt.epoch,
            "attempt": attempt.id,
            "trial": echo.trial,
            "seed": echo.seed,
            "genome_sha256": echo.genome_sha256,
            "evaluator": echo.evaluator or self.shares[attempt.worker].evaluator,
            "outcome": outcome,
            "fitness": 1.0 if outcome is Outcome.COMPLETED else None,
            "boot_id": "boot",
            "run_id": self.shares[attempt.worker].run_id,
        }
        return ResultRecord(**{**correct, **fields})

    def play_all(self, ticks: int = 50) -> None:
        """Completes published attempts until the run is finished."""
        for _ in range(ticks):
            if self.farm.finished:
                return
            for name, worker in self.farm.workers.items():
                share = self.shares[name]
                for attempt_id in sorted(share.starts - share.results.keys()):
                    if attempt_id in worker.wanted:
                        self.publish_result(attempt_id)
            self.tick()
        raise AssertionError("the run does not finish")

    def settlements(self) -> list[Settlement | None]:
        """The settlement of each trial, in the order of the genomes."""
        return [trial.settlement for genome in self.farm.genomes for trial in genome.trials]

    # ------------------------------------------------------------------------------------------------------ invariants

    def check_invariants(self) -> None:
        """Checks S1 to S4 of docs/reliability.md, and that a replay of the facts gives the same farm."""
        wanted = [a for w in self.farm.workers.values() for a in w.wanted.values()]
        assert len({id(a.trial) for a in wanted}) == len(wanted), "two wanted attempts at one trial"
        for worker in self.farm.workers.values():
            deepest = 64 if worker.name in self.queues.local or self.shares[worker.name].round_trip_s else 0
            assert len(worker.wanted) <= max(self.queues.depth[worker.name], deepest)
        for genome in self.farm.genomes:
            for trial in genome.trials:
                counted = [a for a in trial.attempts if a.outcome is Outcome.COMPLETED and not a.superseded]
                assert len(counted) <= 1, self.farm.story(trial)
                assert (trial.state is TrialState.ASSIGNED) == (trial.open_attempt is not None)
        replayed = Farm(FARM, list(self.farm.workers))
        for fact, at in self.facts:
            replayed.evolve(fact, at)
        assert snapshot(replayed) == snapshot(self.farm)
        assert kept_counts(self.farm) == counted_again(self.farm)


def snapshot(farm: Farm) -> dict[str, Any]:
    """The durable state of a farm, for comparisons."""
    return {
        "trials": [
            (t.state, t.settlement, t.fitness, t.reused, t.blamed, t.losses, t.run_alone, [a.id for a in t.attempts])
            for g in farm.genomes
            for t in g.trials
        ],
        "attempts": [
            (a.id, a.outcome, a.has_result, a.left_published, a.charged, a.run_alone, a.alone_on_system, a.new_process)
            for a in farm.attempts.values()
        ],
        "workers": [
            (w.name, w.state, w.epoch, w.epoch_open, w.publications, list(w.wanted), list(w.left_published), w.losses)
            for w in farm.workers.values()
        ],
        "noted": farm.noted,
    }


def kept_counts(farm: Farm) -> dict[str, Any]:
    """The counts of a farm's generation, as it keeps them."""
    return {**vars(farm.counts), "seconds": round(farm.counts.seconds, 6)}


def counted_again(farm: Farm) -> dict[str, Any]:
    """The same, from its genomes and attempts."""
    settled = [[trial for trial in genome.trials if trial.settlement is not None] for genome in farm.genomes]
    has_fitness = [[trial.fitness is not None for trial in trials] for trials in settled]
    deciding = [
        trial.reused or farm.attempts[trial.decided_by]
        for trials in settled
        for trial in trials
        if trial.fitness is not None and trial.decided_by
    ]
    accepted = Counter(
        id(attempt.trial)
        for attempt in farm.attempts.values()
        if attempt.outcome is Outcome.COMPLETED and not attempt.superseded
    )
    return {
        "completed": sum(
            all(has) and len(has) == len(genome.trials) for has, genome in zip(has_fitness, farm.genomes, strict=True)
        ),
        "failed": sum(not all(has) for has in has_fitness),
        "duplicated": sum(count > 1 for count in accepted.values()),
        "superseded": sum(attempt.superseded for attempt in farm.attempts.values()),
        "reused": sum(trial.reused is not None for trials in settled for trial in trials),
        "seconds": round(sum(attempt.seconds for attempt in farm.attempts.values()), 6),
        "workers": {attempt.worker for attempt in farm.attempts.values()},
        "evaluators": Counter(attempt.evaluator for attempt in deciding),
        "metrics": Counter(name for attempt in deciding for name in attempt.metrics or ()),
        "params": dict.fromkeys(name for genome in farm.genomes for name in genome.params),
    }


def replace_struct(struct: RunSettings, **changes: Any) -> RunSettings:
    """A copy with other fields."""
    return RunSettings(**{**{name: getattr(struct, name) for name in struct.__struct_fields__}, **changes})


def facts_of(facts: list[Fact], kind: type[Fact]) -> list[Any]:
    """The facts of one kind."""
    return [fact for fact in facts if isinstance(fact, kind)]
