"""`pipeline doctor` for evaluators: compares what the agents have loaded with the project's files, or with each other.

Owns: which evaluator is the reference, and how a difference is described. What a share says is the input of a guest: it
is bounded and printable before it becomes part of a message.
Not here: which workers get no work for it (pipeline.core.evaluator).
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inbox_agent.checks import CheckResult
from inbox_agent.evaluation.version import changed_files, files_that_count, in_one_line, shortened
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.protocol.files import FileInvalid, FileMissing, FileRefused, ShareError, ShareFiles
from inbox_agent.protocol.layout import (
    EVALUATOR,
    REASON_CHARS_MAX,
    STATUS,
    TARGET_CHARS_MAX,
    AgentRecord,
    AgentState,
    EvaluatorRecord,
    LayoutError,
    UnknownLayout,
    clean,
)
from inbox_agent.protocol.readers import read_evaluator, read_heartbeat
from pipeline.config import Config
from pipeline.core.share_problems import SAME_VERSION, Problem, record_unreadable
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore

AGREE_WAIT_S = 6.0  #: a little more than one heartbeat: an agent writes the record before the beat that names it
FILES_NAMED_MAX = 5
_WORKERS_NAMED_MAX = 4
_ERROR_CHARS_MAX = 200
_TARGET_SHOWN_MAX = 120
_EQUAL_SHOWN_MAX = 20  #: of what two long commands have in common at their beginning
_WHERE = "in [evaluator] of both (docs/how-to/template-vm.md)"
_UNLIMITED_BYTES = 2**40

Fault = Problem


def unreadable(name: str, error: ShareError | LayoutError) -> Fault:
    """What it means that a record in `status/` cannot be read."""
    if isinstance(error, UnknownLayout):
        return f"its agent is of another version of this program ({clean(str(error), _ERROR_CHARS_MAX)})", SAME_VERSION
    return record_unreadable(name, str(error))


@dataclass(frozen=True, slots=True)
class ReportedEvaluator:
    """What the agent of a worker reports of its evaluator."""

    worker: str
    beat: AgentRecord
    record: EvaluatorRecord | Fault | None  #: None: no evaluator is loaded


def reported_evaluator(worker: str, files: ShareFiles) -> ReportedEvaluator:
    """Reads heartbeat and record, until they name the same version or `AGREE_WAIT_S` is over.

    Raises:
        ShareError, LayoutError: as of `read_heartbeat`. An error of the record is part of the result.
    """
    deadline, pause = time.monotonic() + AGREE_WAIT_S, threading.Event()
    while True:
        beat = read_heartbeat(files)
        record = _record_of(files, beat)
        if not isinstance(record, tuple) or time.monotonic() >= deadline:
            return ReportedEvaluator(worker, beat, record)
        pause.wait(0.25)


def _record_of(files: ShareFiles, beat: AgentRecord) -> EvaluatorRecord | Fault | None:
    if beat.evaluator is None:
        return None
    try:
        record = read_evaluator(files)
    except FileMissing:
        return f"{STATUS}/{EVALUATOR} is missing", "start `inbox-agent` again, which writes it"
    except (FileInvalid, FileRefused, LayoutError) as error:
        return unreadable(EVALUATOR, error)
    if record.evaluator != beat.evaluator:
        names = f"its heartbeat names evaluator version {beat.evaluator}, {STATUS}/{EVALUATOR} names {record.evaluator}"
        return names, "start `inbox-agent` again, which writes both"
    return record


def compare_evaluators(root: Path, config: Config, reported: Sequence[ReportedEvaluator]) -> Iterator[CheckResult]:
    """One result for each worker: how its evaluator differs from that of the project.

    What was deployed last is the reference, or else the project's evaluator. If this computer does not have what the
    workers play, the version of most of them is.

    Raises HostError: the list of deployments cannot be read.
    """
    reference = None
    if any(one.beat.evaluator is not None for one in reported):
        try:
            reference = _of_deployment(root, config)
            if reference is None:
                reference = _of_project(root, config) if config.knows_evaluator else _of_most(reported)
        except EvaluatorFilesError as error:
            yield CheckResult("[evaluator]", False, str(error))
    for one in reported:
        result = _compared(one, reference)
        if config.generation.allow_mixed_evaluators and _differs(one, reference):
            result = CheckResult(one.worker, True, f"{result.found}; `allow_mixed_evaluators` permits it")
        yield result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What an evaluator consists of."""

    target: str  #: the command or the function, as text
    files: Mapping[str, str]  #: path -> the first 16 digits of its SHA-256
    count: int  #: how many files there are, also those that are not in `files`

    @property
    def is_cut(self) -> bool:
        return self.count > len(self.files)

    def up_to(self, path: str) -> Mapping[str, str]:
        return {key: digest for key, digest in self.files.items() if key <= path}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """What each worker's evaluator is compared with."""

    whose: str  #: in `that of …`
    source: str  #: in `copy the files of …`
    version: str
    parts: _Parts | None  #: None: not known
    is_named: bool = False  #: whether the project's settings name the version


def _of_deployment(root: Path, config: Config) -> _Reference | None:
    """What was deployed last to all workers; None if nothing was, or if local workers play the project's files.

    Raises HostError: the list of deployments cannot be read.
    """
    paths = ProjectPaths(root)
    deployed = None if config.local_names() else DeploymentStore(paths).read().newest()
    if deployed is None:
        return None
    try:
        digests = msgspec.json.decode(paths.evaluator_files(deployed.evaluator).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        digests = {}
    known = shortened(digests, _UNLIMITED_BYTES)
    target = clean(deployed.python or " ".join(deployed.command or ()), TARGET_CHARS_MAX)
    return _Reference(
        whose=f"deployment {deployed.number}",
        source="the project",
        version=deployed.evaluator,
        parts=_Parts(target=target, files=known, count=len(known)) if known else None,
    )


def _of_project(root: Path, config: Config) -> _Reference:
    """Raises EvaluatorFilesError: the files cannot be read."""
    files = EvaluatorFiles(config.evaluator, root)
    digests = files.read()
    known = shortened(digests, _UNLIMITED_BYTES)
    target = clean(str(config.evaluator), TARGET_CHARS_MAX)
    return _Reference(
        whose="the project",
        source="the project",
        version=files.version(digests),
        parts=_Parts(target=target, files=known, count=len(known)),
        is_named=config.evaluator.version is not None,
    )


def _of_most(reported: Sequence[ReportedEvaluator]) -> _Reference:
    """The version of most workers; of several that are equally frequent, that of the first worker."""
    versions = [one.beat.evaluator for one in reported if one.beat.evaluator is not None]
    ((version, count),) = Counter(versions).most_common(1)  # in the order of their first occurrence
    holders = [one for one in reported if one.beat.evaluator == version]
    known = [one for one in holders if isinstance(one.record, EvaluatorRecord)]
    names = in_one_line([one.worker for one in holders], _WORKERS_NAMED_MAX)
    return _Reference(
        whose=f"most workers ({names})" if 2 * count > len(versions) else names,
        source=(known or holders)[0].worker,
        version=version,
        parts=_parts_of(known[0].record) if known else None,
    )


def _parts_of(record: EvaluatorRecord | Fault | None) -> _Parts | None:
    if not isinstance(record, EvaluatorRecord):
        return None
    target = clean(record.target, TARGET_CHARS_MAX)
    return _Parts(target=target, files=record.files, count=max(record.files_count, len(record.files)))


def _differs(one: ReportedEvaluator, reference: _Reference | None) -> bool:
    return reference is not None and one.beat.evaluator not in (None, reference.version)


def _compared(one: ReportedEvaluator, reference: _Reference | None) -> CheckResult:
    worker, version, parts = one.worker, one.beat.evaluator, _parts_of(one.record)
    if version is None:
        return _not_loaded(one)
    if reference is not None and version != reference.version:
        found, fix = _difference(one, reference)
        versions = f"its evaluator version is {version}, that of {reference.whose} is {reference.version}"
        return CheckResult(worker, False, f"{versions}: {found}", fix)
    if isinstance(one.record, tuple):
        return CheckResult(worker, False, *one.record)
    count = f", {files_that_count(parts.count)}" if parts is not None else ""
    return CheckResult(worker, True, f"evaluator version {version}{count}")


def _not_loaded(one: ReportedEvaluator) -> CheckResult:
    if one.beat.state is AgentState.BROKEN or one.beat.problem:
        problem = clean(one.beat.problem, REASON_CHARS_MAX) or "its agent does not say why"
        fix = "run `inbox-agent doctor` in its machine"
        return CheckResult(one.worker, False, f"its evaluator cannot be loaded: {problem}", fix)
    if one.beat.state is AgentState.LOADING:
        return CheckResult(one.worker, True, "its evaluator is being loaded")
    return CheckResult(one.worker, True, f"its agent is {one.beat.state} and names no evaluator version")


def _difference(one: ReportedEvaluator, reference: _Reference) -> Fault:
    """What differs between a worker's evaluator and a reference of another version."""
    if reference.is_named:
        fix = f'put the same evaluator there, and set `version = "{reference.version}"` in [evaluator] of its agent'
        return "the project sets `version` in [evaluator], and its agent has another one or none", fix
    takes = one.beat.deployment is not None
    copy = "run `pipeline deploy`" if takes else f"copy the files of {reference.source} there"
    if isinstance(one.record, tuple):
        problem, fix = one.record
        return f"what differs is not known, because {problem}", fix
    expected, found = reference.parts, _parts_of(one.record)
    if expected is None or found is None:
        return (
            f"what differs is not known, because {reference.source} does not report it",
            f"{copy}, or set `version` {_WHERE}",
        )
    phrases, steps = [], []
    if expected.target != found.target:
        phrases.append(_other_target(expected.target, found.target))
        steps.append("give its agent the same command or function")
    if files := _other_files(expected, found):
        phrases.append(files)
        steps.append(copy)
    if not phrases:
        phrases.append("the command or function and all files are equal, as far as they are reported")
    phrases += _not_compared(expected, found)
    keys = "`files` or `version`" if expected.target == found.target else "`version`"
    return "; ".join(phrases), f"{' and '.join(steps or [copy])}, or set {keys} {_WHERE}"


def _other_target(expected: str, found: str) -> str:
    """Both commands or functions, shortened to where they differ."""
    pairs = enumerate(zip(expected, found, strict=False))
    equal = next((number for number, (a, b) in pairs if a != b), min(len(expected), len(found)))
    if equal > _EQUAL_SHOWN_MAX and max(len(expected), len(found)) > _TARGET_SHOWN_MAX:
        expected, found = (f"…{text[equal - _EQUAL_SHOWN_MAX :]}" for text in (expected, found))
    return f"it plays `{clean(found, _TARGET_SHOWN_MAX)}` instead of `{clean(expected, _TARGET_SHOWN_MAX)}`"


def _other_files(expected: _Parts, found: _Parts) -> str:
    """Which files differ; empty if none do, as far as both are known."""
    if not expected.count and not found.count:
        return "no file counts in either, so what differs is not known"
    if not expected.count or not found.count:
        return f"{files_that_count(found.count)} there, where {expected.count or 'none'} should"
    before, now = _known_in_both(expected, found)
    return in_one_line(changed_files(before, now), FILES_NAMED_MAX)


def _known_in_both(expected: _Parts, found: _Parts) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Both maps up to the end of what was cut; the last paths are left out of a record first."""
    ends = [max(parts.files, default="") for parts in (expected, found) if parts.is_cut]
    if not ends:
        return expected.files, found.files
    return expected.up_to(min(ends)), found.up_to(min(ends))


def _not_compared(expected: _Parts, found: _Parts) -> list[str]:
    """What is not compared."""
    cut = [parts for parts in (expected, found) if parts.is_cut]
    if not cut:
        return []
    shortest = min(cut, key=lambda parts: max(parts.files, default=""))
    return [f"only the first {len(shortest.files)} of {shortest.count} files were reported and compared"]
