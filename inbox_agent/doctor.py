"""`inbox-agent doctor`: looks at the machine an agent plays in, item by item, and says what to do about each.

It tries what the agent does, with names that agent and host ignore, and takes back what it made. A running agent is
not disturbed: no bell rings, and its lock is only asked about.
"""

import platform
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from inbox_agent.arguments import LOCK
from inbox_agent.evaluation.command import CommandEvaluator
from inbox_agent.evaluation.protocol import Finished, Job
from inbox_agent.evaluation.python_function import CallableEvaluator
from inbox_agent.identity import agent_version
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import HEARTBEAT, INBOX, OUTBOX, STAGING, STATUS, HostRecord, LayoutError, Outcome
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable
from inbox_agent.system.desktop import Session, look_at_session
from inbox_agent.system.file_lock import holder_of, note_of
from inbox_agent.system.long_paths import IN_A_SHARE, too_long
from inbox_agent.system.process_tree import Leash

FREE_BYTES_MIN = 256 * 1024 * 1024
BEAT_FRESH_S = 15.0  #: three beats
CLOCK_TOLERANCE_S = 60.0
LIBRARIES = ("msgspec", "orjson", "psutil", "watchdog")


class Item(Struct, frozen=True):
    """One thing that was looked at; like an item of the template's check (docs/template-vm.md)."""

    item: str
    ok: bool
    found: str
    cure: str = ""  #: what to do; empty if all is well

    def __str__(self) -> str:
        return f"{self.item}: {self.found}" + (f"; {self.cure}" if self.cure else "")


class Patient(Struct, frozen=True, kw_only=True):
    """What is looked at."""

    share: Path
    state: Path  #: where the agent has its notes
    table: EvaluatorTable
    folder: Path  #: of the evaluator's files
    genome: Path | None = None  #: to be played, if any
    seed: int = 1


class _Wrong(Exception):
    """Something is not well: what was found, and the cure."""

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found)
        self.found, self.cure = found, cure


def examine(patient: Patient) -> Iterator[Item]:
    """Looks at everything; only where folders are missing, nothing is said of what would be in them."""
    yield (folders := _look(patient, "folders", _folders))
    if folders.ok:
        yield _look(patient, INBOX, _inbox)
        yield _look(patient, OUTBOX, _outbox)
        yield _look(patient, STATUS, _status)
    looks: list[tuple[str, Callable[[Patient], str]]] = [
        ("disk", _disk),
        ("session", _session),
        ("evaluator", _evaluator),
        ("agent", _agent),
        ("clock", _clock),
        ("versions", _versions),
        ("long paths", _long_paths),
    ]
    if patient.genome is not None:
        looks.append(("trial", _trial))
    for name, look in looks:
        yield _look(patient, name, look)


def _look(patient: Patient, name: str, look: Callable[[Patient], str]) -> Item:
    try:
        return Item(name, True, look(patient))
    except _Wrong as wrong:
        return Item(name, False, wrong.found, wrong.cure)


# ------------------------------------------------------------------------------------------------------- the share


def _folders(patient: Patient) -> str:
    if not patient.share.is_dir():
        raise _Wrong(f"{patient.share} is no folder", "make it, or mend --share")
    for name in (INBOX, OUTBOX, STATUS, f"{INBOX}/{STAGING}", f"{OUTBOX}/{STAGING}"):
        folder = patient.share / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise _Wrong(f"{folder} is not a folder of its own", "take away what is in its place, and make it")
        if not folder.exists():
            raise _Wrong(f"{folder} is not there", "the agent makes it when it starts; or make it, with its rights")
    return f"{patient.share} has them all"


def _inbox(patient: Patient) -> str:
    files = LocalFiles(patient.share)
    try:
        names = files.names(INBOX)
        epochs = [epoch for name in names if (epoch := layout.epoch_of(name)) is not None]
        if not epochs:
            return "no host has come here yet"
        name = layout.host_name(max(epochs))
        owner = layout.decode(HostRecord, files.read(f"{INBOX}/{name}", layout.RECORD_BYTES_MAX), name)
    except ShareError as error:
        raise _Wrong(f"it cannot be read: {error}", "give the user who plays the right to read it") from error
    except LayoutError as error:
        raise _Wrong(str(error), "install the same version on host and machine") from error
    waiting = sum(name.endswith(layout.Kind.START.value) for name in names)
    return f"worker {owner.worker} of farm {owner.farm}, epoch {owner.epoch}; {waiting} start signals"


def _outbox(patient: Patient) -> str:
    """A record appears and goes as a result does; its name is no attempt's, so nobody hears or reads it."""
    name, files = _probe(), LocalFiles(patient.share)
    with _needed(OUTBOX):
        try:
            files.publish(f"{OUTBOX}/{name}", b"{}", durable=True)
        finally:
            files.remove([f"{OUTBOX}/{name}", f"{OUTBOX}/{STAGING}/{name}"])
    return "a record can be written, moved up and removed"


def _status(patient: Patient) -> str:
    name, files = _probe(), LocalFiles(patient.share)
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
        cure = f"give the user who plays the right to modify {folder} and what is in it (docs/smb.md), and room"
        raise _Wrong(f"it cannot be written: {error}", cure) from error


def _disk(patient: Patient) -> str:
    told = []
    for what, folder in (("share", patient.share), ("notes", patient.state)):
        free = shutil.disk_usage(_nearest(folder)).free
        if free < FREE_BYTES_MIN:
            raise _Wrong(f"only {free / 2**20:.0f} MiB are free for {folder}", "make room; games and logs need some")
        told.append(f"{free / 2**30:.1f} GiB free for the {what}")
    return ", ".join(told)


def _nearest(folder: Path) -> Path:
    """The folder, or the one it would be made in."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


# ----------------------------------------------------------------------------------------------------- the machine


def _session(_: Patient) -> str:
    session = look_at_session()
    if sys.platform != "win32":
        return str(session) or "no display"
    if trouble := session_trouble(session):
        raise _Wrong(*trouble)
    return f"session {session.id} at the console: {session}"


def session_trouble(session: Session) -> tuple[str, str] | None:
    """Why no game is drawn in a session of Windows, and the cure; None if one is."""
    if session.id == "0":
        return "session 0 has no desktop", "let the logon task start it, not a service (docs/template-vm.md)"
    if not session.desktop:
        return f"session {session.id} has no desktop", "log on at the console as the user who plays"
    if session.console is False:
        return f"session {session.id} is not at the console", "log on there, not through remote desktop"
    if session.locked:
        return "the screen is locked: no game is drawn", "unlock it; turn off screen saver and sleep"
    return None


def _long_paths(patient: Patient) -> str:
    if problem := too_long(patient.share, IN_A_SHARE):
        raise _Wrong(problem, "")
    return "every name can be opened"


def _clock(patient: Patient) -> str:
    """A clock that went back is seen by what was written before."""
    now = time.time()
    known = [Path(__file__), patient.share / STATUS / HEARTBEAT, *patient.share.glob(f"{INBOX}/*.host.json")]
    for path in known:
        with suppress(OSError):
            ahead_s = path.stat().st_mtime - now
            if ahead_s > CLOCK_TOLERANCE_S:
                raise _Wrong(f"{path} is from {ahead_s:.0f} s ahead of this clock", "set the clock, and let it be kept")
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _versions(_: Patient) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"genome-pipeline {agent_version()}, {libraries}; Python {platform.python_version()} on {platform.platform()}"
    )


# ------------------------------------------------------------------------------------------- who plays, and with what


def _agent(patient: Patient) -> str:
    holder, beat = _holder(patient), patient.share / STATUS / HEARTBEAT
    if holder is not None:
        silent_s = min(_age_s(beat), _age_s(note_of(patient.state / LOCK)))  # before it began, others beat
        if silent_s > BEAT_FRESH_S:
            raise _Wrong(
                f"the agent, process {holder}, has not beaten for {silent_s:.0f} s", "end its task and start it"
            )
        return f"the agent, process {holder}, plays here"
    deadline, before, pause = time.monotonic() + BEAT_FRESH_S, _age_s(beat), threading.Event()
    while _age_s(beat) <= BEAT_FRESH_S and time.monotonic() < deadline:  # it may just have ended, or beat again
        if _age_s(beat) < before:
            raise _Wrong(
                f"another agent beats here, and has no lock in {patient.state}",
                "run the doctor as the user who plays, or give the agent's --state; one agent per share",
            )
        before = _age_s(beat)
        pause.wait(0.25)
    return "nobody plays here now"


def _holder(patient: Patient) -> str | None:
    try:
        return holder_of(patient.state / LOCK)
    except OSError as error:
        raise _Wrong(f"{error.filename}: {error.strerror}", "run the doctor as the user who plays") from error


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _evaluator(patient: Patient) -> str:
    with _at_play(patient) as evaluator:
        if problem := evaluator.problem():
            raise _Wrong(problem, "mend [evaluator] or the arguments after --share, or put the file there")
    return f"{patient.table} of {patient.folder}"


def _trial(patient: Patient) -> str:
    """One genome, played for real, with folders of its own."""
    assert patient.genome is not None
    if (holder := _holder(patient)) is not None:
        raise _Wrong(f"not played: the agent, process {holder}, may be playing", "end its task, then try again")
    with _at_play(patient) as evaluator:
        place = evaluator.prepare(layout.safe_suffix(patient.genome.name))
        try:
            shutil.copyfile(patient.genome, place)
        except OSError as error:
            raise _Wrong(f"{patient.genome}: {error.strerror}", "mend --genome") from error
        job = Job(
            attempt="doctor",
            genome=place,
            trial=1,
            seed=patient.seed,
            time_limit_s=patient.table.time_limit_s,
            settings={},
        )
        evaluator.start(job)
        finished: Finished | None = None
        while finished is None:
            finished = evaluator.wait(0.5)
    if finished.outcome is not Outcome.COMPLETED:
        last = layout.clean(finished.log.decode("utf-8", "replace")[-300:], 300)
        raise _Wrong(
            f"{finished.outcome} after {finished.seconds:.1f} s: {finished.reason}", f"mend the game; it said: {last}"
        )
    return f"fitness {finished.fitness:g} after {finished.seconds:.1f} s"


@contextmanager
def _at_play(patient: Patient) -> Iterator[CommandEvaluator | CallableEvaluator]:
    """The agent's evaluator, far from the agent's own folders."""
    with tempfile.TemporaryDirectory(prefix="inbox-agent-", ignore_cleanup_errors=True) as notes:
        leash = Leash(Path(notes, "leash"))
        scratch = Path(notes, "scratch")
        evaluator: CommandEvaluator | CallableEvaluator
        if patient.table.python is not None:
            evaluator = CallableEvaluator(patient.table.python, patient.folder, scratch, leash)
        else:
            assert patient.table.command is not None
            evaluator = CommandEvaluator(patient.table.command, patient.folder, scratch, leash)
        try:
            yield evaluator
        finally:
            evaluator.close()
            leash.close()
