"""Which evaluator is brought to which worker, and when. Pure.

Owns: the evaluator that a worker must have, and how often one is sent to a worker that does not take it.
Not here: what makes a worker unfit (`evaluator`), sending (`pipeline.shares.share_client`).
See: "Deployments" in share_layout.md.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from inbox_agent.protocol.deployment import DeployRecord
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.model import Worker
from pipeline.core.observed import Observed, SentDeployment

SENDS_MAX = 3  #: of one evaluator to a worker, until a new epoch or a new host


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An evaluator that was deployed."""

    number: int  #: in this project, from 1
    evaluator: str  #: its version
    archive_bytes: int
    archive_sha256: str
    command: tuple[str, ...] | None = None
    python: str | None = None
    files: tuple[str, ...] | None = None
    stall_limit_s: float | None = None
    load_limit_s: float = 300.0
    memory_limit_mb: int | None = None
    games_per_process: int | None = None
    result_is_final: bool = False
    workers: tuple[str, ...] | None = None  #: None: all
    deployed_at: float = 0.0  #: seconds since 1970, for people

    def is_same(self, other: "Deployment") -> bool:
        """Whether another one brings the same to the same workers."""
        return replace(other, number=self.number, deployed_at=self.deployed_at) == self

    def record(self, farm_id: str, worker: str, number: int) -> DeployRecord:
        """Its record for one share; `number` is that of the share."""
        return DeployRecord(
            farm=farm_id,
            worker=worker,
            number=number,
            evaluator=self.evaluator,
            archive_bytes=self.archive_bytes,
            archive_sha256=self.archive_sha256,
            command=list(self.command) if self.command is not None else None,
            python=self.python,
            files=list(self.files) if self.files is not None else None,
            stall_limit_s=self.stall_limit_s,
            load_limit_s=self.load_limit_s,
            memory_limit_mb=self.memory_limit_mb,
            games_per_process=self.games_per_process,
            result_is_final=self.result_is_final,
        )


@dataclass(frozen=True, slots=True)
class Deployments:
    """The deployments of a project, in the order of their numbers."""

    known: Sequence[Deployment] = field(default_factory=tuple)

    def newest(self, worker: str | None = None) -> Deployment | None:
        """The last one for a worker, or for all workers; None if there is none."""
        return next((each for each in reversed(self.known) if each.workers is None or worker in each.workers), None)

    def to_any(self, workers: Collection[str]) -> Deployment | None:
        """The last one that names any of these workers; None if there is none."""
        names = {*workers}
        return next((each for each in reversed(self.known) if not names.isdisjoint(each.workers or ())), None)

    def widened(self, beside: Collection[str], more: Collection[str]) -> "Deployments":
        """The same, but the last one that names any worker of `beside` names all of `more`, too."""
        last = self.to_any(beside)
        if last is None or last.workers is None or {*more} <= {*last.workers}:
            return self
        wider = replace(last, workers=tuple(dict.fromkeys([*last.workers, *more])))
        return Deployments([wider if each is last else each for each in self.known])

    def of_version(self, evaluator: str) -> Deployment | None:
        """The last one of this version, whomever it was for; None if there is none."""
        return next((each for each in reversed(self.known) if each.evaluator == evaluator), None)

    def wanted_by(self, farm: Farm, worker: str) -> Deployment | None:
        """The one that a worker must have; None if it may keep what it has.

        An open generation keeps the version that it was begun with.
        """
        if farm.evaluator_version and not farm.allows_any_evaluator:
            return self.of_version(farm.evaluator_version)
        return self.newest(worker)

    def due(self, farm: Farm, observed: Observed, limits: Limits, worker: Worker) -> Deployment | None:
        """The deployment to send to a worker now; None if there is none.

        It is sent while the worker has no attempts: it would leave those of another version unclaimed.
        """
        wanted = self.awaited(farm, observed, limits, worker)
        if wanted is None or worker.wanted or worker.left_published:
            return None
        return None if _is_under_way(observed, limits, worker, wanted) else wanted

    def awaited(self, farm: Farm, observed: Observed, limits: Limits, worker: Worker) -> Deployment | None:
        """The deployment that a worker lacks and may yet take; None if there is none."""
        heartbeat = observed.workers[worker.name].heartbeat
        wanted = self.wanted_by(farm, worker.name)
        if wanted is None or heartbeat is None or heartbeat.deployment is None:
            return None
        if heartbeat.evaluator == wanted.evaluator:
            return None
        sent = _sent(observed, worker, wanted)
        if sent is None:
            return wanted
        if heartbeat.deployment == sent.number:
            return None  # it was taken, and is being loaded or cannot be
        is_last = sent.count >= SENDS_MAX
        return None if is_last and not _is_under_way(observed, limits, worker, wanted) else wanted


NO_DEPLOYMENTS = Deployments()


def _sent(observed: Observed, worker: Worker, wanted: Deployment) -> SentDeployment | None:
    sent = observed.workers[worker.name].sent_deployment
    return sent if sent is not None and sent.evaluator == wanted.evaluator else None


def _is_under_way(observed: Observed, limits: Limits, worker: Worker, wanted: Deployment) -> bool:
    sent = _sent(observed, worker, wanted)
    return sent is not None and observed.time < sent.at + limits.claim_limit_s


def next_number(observed: Observed, worker: str) -> int:
    """A number for a share that is higher than those that its folders and its agent know."""
    seen = observed.workers[worker]
    taken = seen.heartbeat.deployment if seen.heartbeat is not None else None
    sent = seen.sent_deployment.number if seen.sent_deployment is not None else 0  # since the last full scan
    return 1 + max([*seen.deployments, taken or 0, sent])
