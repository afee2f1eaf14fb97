"""Removes what old finished generations left in a project: from their results and from the state folder.

Owns: the order. What is removed of a generation is recorded in its results before any file of it goes, and a snapshot
goes only when each generation that has it says so. After a kill the same command goes on.
Not here: what is needed (`core.retention`), one results folder (`results_pruning`).
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.retention import (
    Keep,
    Needed,
    PrunedKind,
    RunHistory,
    kinds_of,
    needed,
    old_runs,
    run_histories,
    without_files,
)
from pipeline.errors import HostError, InputError, disk_errors
from pipeline.paths import EARLIER_RESULTS, ProjectPaths
from pipeline.storage.disk_use import DiskUse, disk_use, is_folder
from pipeline.storage.ledger import Ledger
from pipeline.storage.project_lock import lock_project
from pipeline.storage.pruned_record import UnreadableRecord, last_facts, read_pruned, record_pruned
from pipeline.storage.results_pruning import Removal, removals_of_results, remove_all
from pipeline.storage.shared_values import unused_values
from pipeline.storage.snapshots import Snapshots

_NAMED_MAX = 3  #: files that cannot be removed, in a message


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What may be removed."""

    before: float  #: only of generations whose last fact is older than this wall time
    keep: Keep = "results"
    generation: int | None = None  #: only of this one


@dataclass(slots=True)
class PruningPlan:
    """What is removed."""

    removals: list[Removal] = field(default_factory=list)
    #: generation -> what is removed of it, and the number of its last fact
    records: dict[int, tuple[frozenset[PrunedKind], int]] = field(default_factory=dict)
    facts: int = 0  #: the number of the ledger's last fact
    unfinished: list[int] = field(default_factory=list)  #: old generations of which nothing is removed


def prune(paths: ProjectPaths, request: PruneRequest, now: float) -> PruningPlan:
    """Removes it; returns what was removed.

    Raises:
        InputError: the generation is not finished, or was never run; nothing has changed.
        ProjectBusyError: a host is running.
        HostError: a file cannot be removed; the others are.
        LedgerError: the ledger is damaged, or of another version.
    """
    lock = lock_project(paths)
    try:
        plan = plan_pruning(paths, request)
        _carry_out(paths, plan, datetime.fromtimestamp(now, UTC))
        return plan
    finally:
        lock.release()


def plan_pruning(paths: ProjectPaths, request: PruneRequest) -> PruningPlan:
    """What would be removed; nothing is written. Raises InputError, HostError or LedgerError as `prune`."""
    ledger = Ledger(paths.state, read_only=True)
    try:
        histories, facts = run_histories(ledger.entries()), ledger.last()[0]
    finally:
        ledger.close()
    chosen = {history.generation: history for history in _chosen(paths, histories, request)}
    plan = PruningPlan(facts=facts)
    if request.generation is None:
        old = (h for h in histories.values() if not h.finished and h.last_at < request.before)
        plan.unfinished = [history.generation for history in old]
    with disk_errors(paths.state):
        still_needed = needed(histories.values(), chosen, _pruned_before(paths, histories))
        kinds = kinds_of(request.keep) | {PrunedKind.GENOMES, PrunedKind.EARLIER_RUNS}
        for history in chosen.values():
            plan.removals += _of_results(paths, history, kinds, still_needed)
        snapshots = list(_snapshots(paths, chosen, still_needed, every=request.generation is None))
        plan.removals += [removal for removal, _digest in snapshots]
        if request.generation is None:
            plan.removals += _of_state(paths, still_needed, {digest for _removal, digest in snapshots}, request.before)
    touched = {removal.generation for removal in plan.removals}
    removed = {digest for _removal, digest in snapshots}
    for number, history in chosen.items():
        if number in touched or removed & set(history.digests.values()):
            plan.records[number] = kinds, history.last_fact
    return plan


def _chosen(paths: ProjectPaths, histories: Mapping[int, RunHistory], request: PruneRequest) -> list[RunHistory]:
    if request.generation is None:
        return old_runs(histories.values(), request.before)
    if (history := histories.get(request.generation)) is None:
        raise InputError(f"{paths.root}: generation {request.generation} was never run here")
    if not history.finished:
        resume = f"`pipeline run --gen {request.generation}` resumes it"
        raise InputError(f"generation {request.generation} is not finished, so all of it is needed; {resume}")
    return old_runs([history], request.before)


def _pruned_before(paths: ProjectPaths, histories: Collection[int]) -> dict[int, dict[str, int]]:
    try:
        return {number: last_facts(read_pruned(paths.results(number))) for number in histories}
    except UnreadableRecord as error:
        raise InputError(str(error)) from error


def _of_results(
    paths: ProjectPaths, history: RunHistory, kinds: Collection[PrunedKind], still_needed: Needed
) -> Iterator[Removal]:
    number = history.generation
    files = without_files(kinds, history.outcomes) - still_needed.attempts
    yield from removals_of_results(paths.results(number), number, kinds, files, history.outcomes)
    for path in sorted(paths.all_results.iterdir()) if paths.all_results.is_dir() else ():
        name = EARLIER_RESULTS.fullmatch(path.name)
        if name is not None and int(name[1]) == number and is_folder(path):
            yield Removal("results of earlier runs", number, path, disk_use(path))


def _snapshots(
    paths: ProjectPaths, chosen: Mapping[int, RunHistory], still_needed: Needed, *, every: bool
) -> Iterator[tuple[Removal, str]]:
    """The snapshots that no generation needs, with their digests: those of all generations, or of the chosen ones."""
    snapshots = Snapshots(paths.snapshots)
    of_chosen = {digest: number for number, history in chosen.items() for digest in history.digests.values()}
    for digest, size_bytes in snapshots.stored():
        if digest not in still_needed.digests and (every or digest in of_chosen):
            path = Path(snapshots.path(digest))
            yield Removal("snapshots of genomes", 0, path, DiskUse(1, size_bytes), path.parent), digest


def _of_state(
    paths: ProjectPaths, still_needed: Needed, removed_digests: Collection[str], before: float
) -> Iterator[Removal]:
    """What of the state folder belongs to no single generation."""
    snapshots = Snapshots(paths.snapshots)
    kept = (snapshots.path(digest) for digest, _size in snapshots.stored() if digest not in removed_digests)
    for path in unused_values(paths.shared_values, kept):
        yield Removal("shared values", 0, path, disk_use(path))
    needed_files = {paths.evaluator_files(version).name for version in still_needed.versions}
    for path in _in_folder(paths.all_evaluator_files):
        if path.name not in needed_files:
            yield Removal("files of evaluators", 0, path, disk_use(path))
    for path in _in_folder(paths.evidence):
        if is_folder(path) and os.lstat(path).st_mtime < before:
            yield Removal("evidence of machines", 0, path, disk_use(path))


def _in_folder(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if is_folder(folder) else []


def _carry_out(paths: ProjectPaths, plan: PruningPlan, now: datetime) -> None:
    for number, (kinds, last_fact) in plan.records.items():
        results = paths.results(number)
        try:
            with disk_errors(results):
                record_pruned(results, kinds, last_fact, plan.facts, now)
        except UnreadableRecord as error:
            raise InputError(str(error)) from error
    problems = remove_all(plan.removals)
    if problems:
        more = f" and {len(problems) - _NAMED_MAX} more" if len(problems) > _NAMED_MAX else ""
        named = "; ".join(problems[:_NAMED_MAX])
        raise HostError(f"cannot be removed: {named}{more}; the rest is removed, the same command goes on")
