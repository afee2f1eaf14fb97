"""`pipeline verify`: reads a project's state and results, and reports whether every genome was counted exactly once.

Nothing is written. While a host is running, results may be archived but not yet recorded, or recorded but not yet in
the outputs, so a failed audit is repeated before it is reported.
Not here: the audit itself (`inspection.audit`).
"""

import csv
import hashlib
import io
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileRefused, ShareError
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.core.facts import AttemptEnded, AttemptIssued, Entry, GenomeAdded, GenomeReopened, RunOpened, TrialSettled
from pipeline.core.retention import PrunedKind
from pipeline.errors import ExitCode, InputError
from pipeline.inspection.archive_reader import Extent, extent_of, forbidden, read_archive
from pipeline.inspection.archived_result import NO_SNAPSHOT, Evidence, PrunedFiles
from pipeline.inspection.audit import Audit, audit
from pipeline.inspection.project_reader import no_run_error
from pipeline.inspection.reuse_audit import AcceptedGame, accepted_games
from pipeline.paths import GENERATION_GLOB, RESULTS_CSV, SUMMARY_JSON, ProjectPaths, generation_folder
from pipeline.storage.ledger import Ledger, has_ledger
from pipeline.storage.live_status import read_live_status
from pipeline.storage.pruned_record import UnreadableRecord, last_facts, read_pruned
from pipeline.storage.snapshots import Snapshots
from pipeline.views.fact_text import counted

OUTPUT_BYTES_MAX = 256 * 1024 * 1024
LOOKS_MAX, LOOK_AGAIN_S = 4, 0.5  #: while a host is running


def verify(root: Path, generation: int | None) -> list[Audit]:
    """Audits the newest run of one generation, or of every generation that was ever opened.

    Raises:
        InputError: nothing was run here, or that generation was not, or this user may not read what is audited.
        LedgerError: the ledger is damaged, or of another version.
    """
    state = ProjectPaths(root).state
    if not has_ledger(state):
        raise no_run_error(root)
    for number in range(1, LOOKS_MAX + 1):
        at_work = read_live_status(state) is not None  # asked first: a host that ends meanwhile counts as running
        audits = _look(root, generation)
        if not at_work or number == LOOKS_MAX or all(found.passed for found in audits):
            break
        threading.Event().wait(LOOK_AGAIN_S)
    return audits


def _look(root: Path, generation: int | None) -> list[Audit]:
    # Before the ledger: a result that is archived while the ledger is read is no orphan.
    paths = ProjectPaths(root)
    before = {folder.name: extent_of(folder) for folder in paths.all_results.glob(GENERATION_GLOB)}
    ledger = Ledger(paths.state, read_only=True)
    try:
        runs = _newest_runs(ledger.entries())
        reused = {attempt for entries in runs.values() for attempt in _reused(entries)}
        accepted = accepted_games(ledger.entries(), reused) if reused else {}
    finally:
        ledger.close()
    if not runs:
        raise no_run_error(root)
    if generation is not None and generation not in runs:
        raise InputError(f"{root}: generation {generation} was never run here")
    return [
        audit(
            [entry.fact for entry in entries],
            _evidence(paths, number, entries, before.get(generation_folder(number), Extent()), accepted),
        )
        for number, entries in sorted(runs.items())
        if generation in (None, number)
    ]


def report_text(audits: Iterable[Audit]) -> str:
    """One line per generation with its counts, and one per problem."""
    lines = []
    for found in audits:
        counts = (
            f"lost {len(found.lost)}, duplicated {len(found.duplicated)}, unexpected {len(found.unexpected)}, "
            f"recovered {found.recovered}"
        )
        status = f"verified so far, {found.open} trials are open" if found.open else "verified"
        if not found.count_holds:
            status = "NOT VERIFIED"
        elif found.files:
            status = f"count {status}, FILES MISSING OR CHANGED"
        if len(found.evaluators) > 1:
            status += f"; MIXED: its fitness is of evaluators {', '.join(found.evaluators)}"
        if found.pruned:
            status += f"; pruned on {found.pruned}" + (", counts intact" if found.count_holds else "")
        lines.append(
            f"generation {found.generation}, run {found.run}: {counted(found.genomes, 'genome')}, "
            f"{counted(found.trials, 'trial')}: {counts}: {status}"
        )
        lines += [f"  {layout.clean(problem, 500)}" for problem in found.problems]
        lines += [f"  warning: {layout.clean(warning, 500)}" for warning in found.warnings]
    return "\n".join(lines)


def exit_code(audits: Collection[Audit]) -> ExitCode:
    """What `pipeline verify` exits with. A wrong count of any generation outweighs the files of another one."""
    if not all(found.count_holds for found in audits):
        return ExitCode.FAILED
    return ExitCode.OK if all(found.passed for found in audits) else ExitCode.FILES_DIFFER


def _newest_runs(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    runs: dict[int, list[Entry]] = {}
    for entry in entries:
        if isinstance(entry.fact, RunOpened):
            runs[entry.generation] = []
        if entry.generation in runs:
            runs[entry.generation].append(entry)
    return runs


def _reused(entries: Iterable[Entry]) -> Iterator[str]:
    """The attempts of earlier generations that count again in a run."""
    facts = (entry.fact for entry in entries)
    return (fact.attempt for fact in facts if isinstance(fact, TrialSettled) and fact.reused is not None)


def _evidence(
    paths: ProjectPaths, generation: int, entries: list[Entry], before: Extent, accepted: Mapping[str, AcceptedGame]
) -> Evidence:
    facts = [entry.fact for entry in entries]
    results = paths.results(generation)
    snapshots = Snapshots(paths.snapshots)
    issued = {fact.attempt for fact in facts if isinstance(fact, AttemptIssued)}
    digests = {fact.sha256 for fact in facts if isinstance(fact, GenomeAdded | GenomeReopened)}
    archive = read_archive(results, issued, before)
    return Evidence(
        archived=archive.results,
        damaged_lines=archive.damaged,
        missing=archive.missing,
        snapshots={digest: _snapshot_problem(Path(snapshots.path(digest)), digest) for digest in digests},
        rows=_rows(LocalFiles(results)),
        summary=_summary(LocalFiles(results)),
        accepted=accepted,
        pruned=_pruned_files(results, entries),  # read last: it is written before what it names is removed
    )


def _pruned_files(results: Path, entries: Sequence[Entry]) -> PrunedFiles:
    """What the results say was removed of this run: of facts up to a number, so that nothing later is excused."""
    try:
        pruned = read_pruned(results)
    except UnreadableRecord as error:
        if isinstance(error.__cause__, PermissionError):
            raise forbidden(error.__cause__) from error
        return PrunedFiles(problem=str(error))
    pruned = {kind: pruning for kind, pruning in pruned.items() if pruning.facts >= entries[0].seq}
    if not pruned:
        return PrunedFiles()
    last = defaultdict(int, last_facts(pruned))
    return PrunedFiles(
        date=max(pruning.at for pruning in pruned.values()).date().isoformat(),
        results={
            e.fact.attempt for e in entries if isinstance(e.fact, AttemptEnded) and e.seq <= last[PrunedKind.RECORDS]
        },
        genomes={
            entry.fact.sha256
            for entry in entries
            if isinstance(entry.fact, GenomeAdded | GenomeReopened) and entry.seq <= last[PrunedKind.GENOMES]
        },
    )


def _snapshot_problem(path: Path, digest: str) -> str:
    try:
        with path.open("rb") as data:
            found = hashlib.file_digest(data, "sha256").hexdigest()
    except FileNotFoundError:
        return NO_SNAPSHOT
    except PermissionError as error:
        raise forbidden(error) from error
    except OSError as error:
        return f"its snapshot cannot be read: {error.strerror}"
    return "" if found == digest else f"its snapshot has the digest {found[:12]}…, taken in was {digest[:12]}…"


def _rows(files: LocalFiles) -> list[dict[str, str]] | None:
    try:
        text = files.read(RESULTS_CSV, OUTPUT_BYTES_MAX).decode("utf-8-sig")  # older ones have no byte order mark
        return list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except FileRefused as error:
        raise forbidden(error) from error
    except (ShareError, UnicodeDecodeError, csv.Error):
        return None


def _summary(files: LocalFiles) -> dict[str, Any] | None:
    try:
        found = orjson.loads(files.read(SUMMARY_JSON, OUTPUT_BYTES_MAX))
    except FileRefused as error:
        raise forbidden(error) from error
    except (ShareError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
