"""`inbox-agent doctor`: checks an agent's machine item by item, and reports how to fix each problem.

It performs the agent's file operations with names that agent and host ignore, and removes what it created. A running
agent is not disturbed: it gets no change notification, and its lock is only queried.
"""

import os
import platform
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from inbox_agent.arguments import LOCK
from inbox_agent.checks import CheckResult
from inbox_agent.evaluation.protocol import GenomeEvaluator
from inbox_agent.evaluation.version import files_that_count
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError
from inbox_agent.identity import agent_version
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import (
    AGENT_LOCK,
    FOLDERS,
    HEARTBEAT,
    INBOX,
    OUTBOX,
    STAGING,
    STATUS,
    LayoutError,
    Outcome,
)
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.readers import DamagedOwner, read_owner
from inbox_agent.settings import EvaluatorTable
from inbox_agent.single_game import NoTemporaryFolder, load_problem, play_genome, temporary_evaluator
from inbox_agent.system.desktop import DesktopSession, look_at_session
from inbox_agent.system.file_kind import is_link
from inbox_agent.system.file_lock import holder_of, note_path
from inbox_agent.system.long_paths import IN_A_SHARE, too_long

FREE_BYTES_MIN = 256 * 1024 * 1024
BEAT_FRESH_S = 15.0  #: three beats
CLOCK_TOLERANCE_S = 60.0
LIBRARIES = ("msgspec", "orjson", "psutil", "watchdog")


class CheckTarget(Struct, frozen=True, kw_only=True):
    """What is checked."""

    share: Path
    state: Path  #: the agent's state folder
    table: EvaluatorTable
    folder: Path  #: of the evaluator's files
    genome: Path | None = None  #: to be evaluated, if any
    seed: int = 1


class _CheckFailed(Exception):
    """A check failed: what was found, and what to do."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


def check_agent(target: CheckTarget) -> Iterator[CheckResult]:
    """Runs all checks; where folders are missing, the checks of their contents are left out."""
    yield (folders := _check(target, "folders", _folders))
    if folders.ok:
        yield _check(target, INBOX, _inbox)
        yield _check(target, OUTBOX, _outbox)
        yield _check(target, STATUS, _status)
    looks: list[tuple[str, Callable[[CheckTarget], str]]] = [
        ("disk", _disk),
        ("state", _state),
        ("session", _session),
        ("evaluator", _evaluator),
        ("agent", _agent),
        ("clock", _clock),
        ("versions", _versions),
        ("long paths", _long_paths),
    ]
    if target.genome is not None:
        looks.append(("trial", _trial))
    for name, look in looks:
        yield _check(target, name, look)


def _check(target: CheckTarget, name: str, check: Callable[[CheckTarget], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check(target))
    except _CheckFailed as wrong:
        return CheckResult(name, False, wrong.found, wrong.fix)
    except OSError as error:  # this user may not even look
        return CheckResult(name, False, f"{error.filename}: {error.strerror}", "run the doctor as the user who plays")


# ------------------------------------------------------------------------------------------------------- the share


def _folders(target: CheckTarget) -> str:
    if not os.path.isdir(target.share):
        raise _CheckFailed(f"{target.share} is no folder", "make it, or correct --share")
    for name in FOLDERS:
        folder = target.share / name
        if os.path.lexists(folder) and (is_link(os.lstat(folder)) or not folder.is_dir()):
            raise _CheckFailed(f"{folder} is not a folder of its own", "take away what is in its place, and make it")
        if not folder.exists():
            raise _CheckFailed(
                f"{folder} is not there", "the agent makes it when it starts; or make it, with its rights"
            )
    return f"{target.share} has them all"


def _inbox(target: CheckTarget) -> str:
    files = LocalFiles(target.share)
    try:
        names = files.names(INBOX)
        owner = read_owner(files, names)
        if isinstance(owner, DamagedOwner):
            raise owner.error
    except ShareError as error:
        raise _CheckFailed(f"it cannot be read: {error}", "give the user who plays the right to read it") from error
    except LayoutError as error:
        raise _CheckFailed(str(error), "install the same version on host and machine") from error
    if owner is None:
        return "no host has come here yet"
    waiting = sum(name.endswith(layout.Kind.START.value) for name in names)
    return f"worker {owner.worker} of farm {owner.farm}, epoch {owner.epoch}; {waiting} start signals"


def _outbox(target: CheckTarget) -> str:
    """Publishes and removes a record as for a result; its name is no attempt's, so host and agent ignore it."""
    name, files = _probe(), LocalFiles(target.share)
    with _needed(OUTBOX):
        try:
            files.publish(f"{OUTBOX}/{name}", b"{}", durable=True)
        finally:
            files.remove([f"{OUTBOX}/{name}", f"{OUTBOX}/{STAGING}/{name}"])
    return "a record can be written, moved up and removed"


def _status(target: CheckTarget) -> str:
    name, files = _probe(), LocalFiles(target.share)
    with _needed(STATUS):
        try:
            files.replace(f"{STATUS}/{name}", b"{}")
            files.replace(f"{STATUS}/{name}", b"{}")
        finally:
            files.remove([f"{STATUS}/{name}", f"{STATUS}/{name}.new"])
    return "a heartbeat can be written and replaced"


def _probe() -> str:
    return f"doctor-{secrets.token_hex(4)}"


@contextmanager
def _needed(folder: str) -> Iterator[None]:
    try:
        yield
    except ShareError as error:
        fix = f"give the user who plays the right to modify {folder} and what is in it (docs/how-to/smb.md), and room"
        raise _CheckFailed(f"it cannot be written: {error}", fix) from error


def _disk(target: CheckTarget) -> str:
    found = []
    for what, folder in (("share", target.share), ("notes", target.state)):
        free = shutil.disk_usage(_nearest(folder)).free
        if free < FREE_BYTES_MIN:
            raise _CheckFailed(
                f"only {free / 2**20:.0f} MiB are free for {folder}", "make room; games and logs need some"
            )
        found.append(f"{free / 2**30:.1f} GiB free for the {what}")
    return ", ".join(found)


def _state(target: CheckTarget) -> str:
    """Makes the agent's state folder and a file in it; removes what it made."""
    made = [folder for folder in (target.state, *target.state.parents) if not os.path.lexists(folder)]
    try:
        try:
            target.state.mkdir(parents=True, exist_ok=True)
            probe = target.state / _probe()
            probe.touch(exist_ok=False)
            probe.unlink()
        finally:
            for folder in made:
                if folder.is_dir():
                    folder.rmdir()
    except OSError as error:
        fix = "give the agent and the doctor another folder with --state"
        raise _CheckFailed(f"{error.filename}: {error.strerror}", fix) from error
    return f"{target.state} can be written"


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    folder = folder.absolute()
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


# ----------------------------------------------------------------------------------------------------- the machine


def _session(_: CheckTarget) -> str:
    session = look_at_session()
    if sys.platform != "win32":
        return str(session) or "no display"
    if trouble := session_trouble(session):
        raise _CheckFailed(*trouble)
    return f"session {session.id} at the console: {session}"


def session_trouble(session: DesktopSession) -> tuple[str, str] | None:
    """Why windows are not drawn in a Windows session, and what to do; None if they are."""
    if session.id == "0":
        return "session 0 has no desktop", "let the logon task start it, not a service (docs/how-to/template-vm.md)"
    if not session.desktop:
        return f"session {session.id} has no desktop", "log on at the console as the user who plays"
    if session.console is False:
        return f"session {session.id} is not at the console", "log on there, not through remote desktop"
    if session.locked:
        return "the screen is locked: no game is drawn", "unlock it; turn off screen saver and sleep"
    return None


def _long_paths(target: CheckTarget) -> str:
    if problem := too_long(target.share, IN_A_SHARE):
        raise _CheckFailed(problem, "")
    return "every name can be opened"


def _clock(target: CheckTarget) -> str:
    """Checks that no known file is newer than the clock, which shows a clock that was set back."""
    now = time.time()
    known = [Path(__file__), target.share / STATUS / HEARTBEAT, *target.share.glob(f"{INBOX}/*.host.json")]
    for path in known:
        with suppress(OSError):
            ahead_s = path.stat().st_mtime - now
            if ahead_s > CLOCK_TOLERANCE_S:
                raise _CheckFailed(
                    f"{path} is from {ahead_s:.0f} s ahead of this clock", "set the clock, and let it be kept"
                )
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _versions(_: CheckTarget) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"genome-pipeline {agent_version()}, {libraries}; Python {platform.python_version()} on {platform.platform()}"
    )


# --------------------------------------------------------------------------------------------- agent and evaluator


def _agent(target: CheckTarget) -> str:
    holder, beat = _holder(target), target.share / STATUS / HEARTBEAT
    if holder is not None:
        # A heartbeat that is older than the lock is that of an earlier agent.
        notes = (note_path(lock) for lock in (target.state / LOCK, target.share / STATUS / AGENT_LOCK))
        silent_s = min(_age_s(beat), *map(_age_s, notes))
        if silent_s > BEAT_FRESH_S:
            raise _CheckFailed(
                f"the agent, process {holder}, has not beaten for {silent_s:.0f} s", "end its task and start it"
            )
        return f"the agent, process {holder}, plays here"
    deadline, before, pause = time.monotonic() + BEAT_FRESH_S, _age_s(beat), threading.Event()
    while _age_s(beat) <= BEAT_FRESH_S and time.monotonic() < deadline:  # it may just have ended, or write another
        if _age_s(beat) < before:
            raise _CheckFailed(
                f"another agent beats here, and has no lock in {target.state}",
                "run the doctor as the user who plays, or give the agent's --state; one agent per share",
            )
        before = _age_s(beat)
        pause.wait(0.25)
    return "no agent runs here now"


def _holder(target: CheckTarget) -> str | None:
    try:
        return holder_of(target.state / LOCK) or holder_of(target.share / STATUS / AGENT_LOCK)
    except OSError as error:
        raise _CheckFailed(f"{error.filename}: {error.strerror}", "run the doctor as the user who plays") from error


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _evaluator(target: CheckTarget) -> str:
    files = EvaluatorFiles(target.table, target.folder)
    try:
        found = files.read()
        version = files.version(found)
    except EvaluatorFilesError as error:
        raise _CheckFailed(str(error), "") from error
    with _temporary_evaluator(target) as evaluator:
        if problem := load_problem(evaluator):
            raise _CheckFailed(problem, "correct [evaluator] or the arguments after --share, or put the file there")
    return f"{target.table} of {target.folder}, version {version}, {files_that_count(len(found))}"


@contextmanager
def _temporary_evaluator(target: CheckTarget) -> Iterator[GenomeEvaluator]:
    try:
        with temporary_evaluator(target.table, target.folder) as evaluator:
            yield evaluator
    except NoTemporaryFolder as error:
        found, _, fix = str(error).partition("; ")
        raise _CheckFailed(found, fix) from error


def _trial(target: CheckTarget) -> str:
    """Evaluates one genome, with separate scratch and state folders."""
    assert target.genome is not None
    if (holder := _holder(target)) is not None:
        raise _CheckFailed(f"not played: the agent, process {holder}, may be playing", "end its task, then try again")
    with _temporary_evaluator(target) as evaluator:
        try:
            finished = play_genome(
                evaluator,
                target.genome,
                trial=1,
                seed=target.seed,
                time_limit_s=target.table.time_limit_s,
                settings={},
            )
        except OSError as error:
            raise _CheckFailed(f"{target.genome}: {error.strerror}", "correct --genome") from error
    if finished.outcome is not Outcome.COMPLETED:
        last = layout.clean(finished.log.decode("utf-8", "replace")[-300:], 300)
        raise _CheckFailed(
            f"{finished.outcome} after {finished.seconds:.1f} s: {finished.reason}",
            f"correct the game; it wrote: {last}",
        )
    return f"fitness {finished.fitness:g} after {finished.seconds:.1f} s"
