"""Deploys an evaluator on request: what can be deployed, and bringing it to the workers if no host runs.

A host that runs brings a deployment to its workers when it begins the next generation.
Not here: packing its files (`evaluator_packing`), when a worker gets it (`core.deployment`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from inbox_agent.protocol.layout import AgentRecord, AgentState, clean
from pipeline.config import Config
from pipeline.core.deployment import Deployment
from pipeline.errors import InputError
from pipeline.host.host import Host
from pipeline.storage.deployment_store import DeploymentStore

NO_DEPLOYMENTS_TAKEN = "takes no deployments; start its agent with --accept-evaluators"
_PROBLEM_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class WorkerEvaluator:
    """What a worker has, as its agent reports it."""

    worker: str
    evaluator: str  #: version; empty: none, or not known
    state: str  #: one line for people
    has_it: bool  #: whether it is the one that was deployed
    is_final: bool = False  #: whether nothing changes without an edit or another agent


def require_deployable(config: Config, root: Path, folder: Path, workers: Collection[str]) -> None:
    """Raises InputError: this project, or these workers, cannot get an evaluator this way."""
    names = [table.name for table in config.worker]
    if not names:
        raise InputError(
            "there is no [[worker]]: local workers play the files of this project as they are, and sites get them from "
            "the host, so there is nothing to deploy"
        )
    if unknown := sorted(set(workers) - set(names)):
        raise InputError(f"--to {unknown[0]}: no [[worker]] of that name; there are {', '.join(names)}")
    if not config.evaluator.is_playable:
        raise InputError("[evaluator] does not say what is played; give `command` or `python` there")
    if config.evaluator.version is not None:
        raise InputError("[evaluator] has `version`, and so no files; say which files travel with `files` instead")
    if config.local_names() and folder != root:
        raise InputError(f"{folder}: the local workers play the files of {root}; deploy these, without FOLDER")


def earlier(store: DeploymentStore) -> Deployment:
    """The last deployment of another version than the newest one. Raises InputError: there is none."""
    known = store.read()
    newest = known.newest()
    for each in reversed(known.known):
        is_other = newest is not None and each.workers is None and each.evaluator != newest.evaluator
        if is_other and store.archive(each.archive_sha256).is_file():
            return each
    raise InputError("--rollback: no other evaluator was deployed before")


def bring(host: Host, workers: Collection[str], timeout_s: float) -> None:
    """Brings the deployments to these workers; returns when all have theirs or cannot have it, or after the time.

    Raises HostError, LedgerError as `Host.play`.
    """

    def is_done() -> bool:
        return all(each.has_it or each.is_final for each in evaluators(host, workers))

    host.bring_deployments(is_done, timeout_s)


def evaluators(host: Host, workers: Collection[str]) -> list[WorkerEvaluator]:
    """What each of these workers has, as far as this host has seen it."""
    found = []
    for name in workers:
        seen, worker = host.loop.observed.workers.get(name), host.farm.worker(name)
        if seen is None:
            found.append(WorkerEvaluator(name, "", "has left", has_it=False, is_final=True))
            continue
        wanted = host.loop.deployments.newest(name)
        if seen.heartbeat is None:
            problem = worker.reason or seen.unknown or seen.heartbeat_problem or "its agent is silent"
            found.append(WorkerEvaluator(name, "", clean(problem, _PROBLEM_CHARS_MAX), has_it=False))
        else:
            sent = seen.sent_deployment
            is_taken = sent is not None and seen.heartbeat.deployment == sent.number
            found.append(_reported(name, seen.heartbeat, wanted, is_taken=is_taken))
    return found


def _reported(worker: str, heartbeat: AgentRecord, wanted: Deployment | None, *, is_taken: bool) -> WorkerEvaluator:
    version = heartbeat.evaluator or ""
    if wanted is not None and version == wanted.evaluator:
        return WorkerEvaluator(worker, version, f"has deployment {wanted.number}", has_it=True)
    if heartbeat.deployment is None:
        return WorkerEvaluator(worker, version, NO_DEPLOYMENTS_TAKEN, has_it=False, is_final=True)
    if heartbeat.state is AgentState.BROKEN:
        problem = clean(heartbeat.problem, _PROBLEM_CHARS_MAX)
        return WorkerEvaluator(worker, version, problem, has_it=False, is_final=is_taken)
    if heartbeat.state is AgentState.LOADING:
        return WorkerEvaluator(worker, version, "is loading its evaluator", has_it=False)
    return WorkerEvaluator(worker, version, "has another evaluator", has_it=False)
