"""`pipeline doctor` for shares: checks the share of every worker that is not local, and says how to fix faults.

Owns: the order of checks, each after those that it depends on. Reports only faults and readings.
Threads: several shares are checked in parallel, because each check waits for a silent agent.
"""

import contextlib
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from inbox_agent.checks import CheckResult
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileMissing, FileRefused, ShareError, ShareFiles, Unavailable
from inbox_agent.protocol.layout import HEARTBEAT, INBOX, OUTBOX, STAGING, STATUS, LayoutError
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.readers import DamagedOwner, newest_epoch, read_heartbeat, read_owner
from pipeline.config import Config, WorkerTable
from pipeline.core.share_problems import NO_HEARTBEAT, inbox_unwritable
from pipeline.diagnosis.evaluators import (
    Fault,
    ReportedEvaluator,
    compare_evaluators,
    reported_evaluator,
    unreadable,
)
from pipeline.errors import InputError, SecretError
from pipeline.machines.connections import machine_hosts, smb_access
from pipeline.machines.machine_host import Answer, ask_hosts, reported_addresses
from pipeline.paths import ProjectPaths
from pipeline.shares.share_client import ENTRIES_MAX
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import NoConnection, Refusal, SmbAccess, SmbSession
from pipeline.storage.ledger import Ledger, has_ledger

REACH_LIMIT_S = 5.0
BEAT_WAIT_S = 12.0  #: a little more than two heartbeats
FREE_BYTES_MIN = 256 * 1024 * 1024
AT_ONCE_MAX = 8
_NAMED_MAX = 4
_SILENCE_IN_SECONDS_MAX_S = 120.0


def merge_same(results: Iterable[CheckResult]) -> list[CheckResult]:
    """Merges equal results of several workers into one with their names."""
    workers: dict[CheckResult, list[str]] = {}
    for result in results:
        workers.setdefault(replace(result, item=""), []).append(result.item)
    return [replace(result, item=_named(names)) for result, names in workers.items()]


def _named(names: list[str]) -> str:
    unnamed = len(names) - _NAMED_MAX
    return ", ".join(names) if unnamed <= 0 else f"{', '.join(names[:_NAMED_MAX])} and {unnamed} more"


class _StopChecking(Exception):
    """Later checks depend on one that failed."""


class _ShareMedium(Protocol):
    """A share and the checks that depend on its medium."""

    files: ShareFiles

    def reach(self) -> Iterator[Fault]:
        """Yields why the share cannot be reached, and then raises _StopChecking."""

    def free_bytes(self) -> int:
        """Free space on its disk."""

    def changed_at(self, path: str) -> float:
        """Unix time of a file's last change, by the clock of its disk. Raises ShareError."""

    def readings(self, clock_offset_s: float) -> Iterator[str]:
        """What was measured; the share's clock is so much ahead of this host's."""

    def close(self) -> None:
        """Closes the connection, if there is one."""


def check_shares(root: Path, config: Config, names: tuple[str, ...] = ()) -> Iterator[CheckResult]:
    """Checks the shares of these workers, or of every `[[worker]]`, and compares the evaluators of their agents.

    Raises:
        InputError: no such worker.
    """
    tables = {table.name: table for table in config.worker}
    if unknown := [name for name in names if name not in tables]:
        known = ", ".join(tables) or "none"
        raise InputError(f"{unknown[0]}: no [[worker]] of that name; configured are: {known}")
    farm_id = _farm_id(root)
    chosen = [table for name, table in tables.items() if not names or name in names]
    on_machines = any(table.is_on_machine for table in chosen)
    answers = ask_hosts(machine_hosts(config, root)) if on_machines else {}

    def examined(name: str) -> tuple[list[CheckResult], list[ReportedEvaluator]]:
        medium, evaluators = _medium(config, tables[name], root, answers), list[ReportedEvaluator]()
        with contextlib.closing(medium):
            checks = _examine(tables[name], medium, farm_id, evaluators.append)
            return list(_until_stopped(name, checks)), evaluators

    reported: list[ReportedEvaluator] = []
    with ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="doctor") as pool:
        for results, evaluators in pool.map(examined, names or tables):
            yield from results
            reported += evaluators
    yield from compare_evaluators(root, config, reported)


def _until_stopped(worker: str, results: Iterator[CheckResult]) -> Iterator[CheckResult]:
    try:
        yield from results
    except _StopChecking:
        return
    except ShareError as error:
        yield CheckResult(worker, False, f"it went away while it was looked at ({error})", "ask again")


def _medium(config: Config, table: WorkerTable, root: Path, answers: Mapping[str, Answer]) -> "_ShareMedium":
    if table.unc is None:
        return _PathMedium(root / table.place)
    return _SmbMedium(smb_access(config, table, root, lambda: reported_addresses(answers, table.machine_host)))


def _examine(
    table: WorkerTable, medium: _ShareMedium, farm_id: str, report: Callable[[ReportedEvaluator], None]
) -> Iterator[CheckResult]:
    """Passes to `report` what an agent that is alive reports of its evaluator, which is compared later."""

    def failed(fault: Fault) -> CheckResult:
        return CheckResult(table.name, False, *fault)

    yield from map(failed, medium.reach())
    yield from map(failed, _folders(medium.files))
    probe = f"{INBOX}/{STAGING}/doctor-{secrets.token_hex(4)}"
    try:
        medium.files.write(probe, b"may be removed")
    except ShareError as error:
        yield failed(inbox_unwritable(error.reason, refused=isinstance(error, FileRefused)))
        return
    try:
        offset_s = medium.changed_at(probe) - time.time()
        yield from map(failed, _space(medium))
        yield from (CheckResult(table.name, True, reading) for reading in medium.readings(offset_s))
    finally:
        medium.files.remove([probe])
    yield from map(failed, _outbox(table, medium.files))
    yield from map(failed, _owner(medium.files, table.name, farm_id))
    yield from (faults := [failed(fault) for fault in _heartbeat(medium, offset_s)])
    if faults:
        return
    try:
        report(reported_evaluator(table.name, medium.files))
    except LayoutError as error:
        yield failed(unreadable(HEARTBEAT, error))


def _folders(files: ShareFiles) -> Iterator[Fault]:
    missing = sorted({INBOX, OUTBOX, STATUS} - set(files.names("", ENTRIES_MAX)))
    if missing:
        folders = ", ".join(f"{folder}/" for folder in missing)
        yield f"no {folders} there", "`pipeline run` or the agent makes them, or you do, with their rights"
        raise _StopChecking


def _space(medium: _ShareMedium) -> Iterator[Fault]:
    free = medium.free_bytes()
    if free < FREE_BYTES_MIN:
        yield f"only {free / 2**20:.0f} MiB are free on its disk", "make room, games and logs need some"


def _outbox(table: WorkerTable, files: ShareFiles) -> Iterator[Fault]:
    if table.unc is None:
        return  # by path, host and agent are often the same user
    probe = f"{OUTBOX}/{STAGING}/doctor-{secrets.token_hex(4)}"
    try:
        files.write(probe, b"may be removed")
    except ShareError:
        return
    files.remove([probe])
    yield f"this host may write {OUTBOX}/, which is the agent's alone", "take that right away from its account"


def _owner(files: ShareFiles, worker: str, farm_id: str) -> Iterator[Fault]:
    names = files.names(INBOX, ENTRIES_MAX)
    try:
        owner = read_owner(files, names)
        if isinstance(owner, DamagedOwner):
            raise owner.error
    except (ShareError, LayoutError) as error:
        name = layout.host_name(newest_epoch(names))
        yield f"{INBOX}/{name} cannot be read ({error})", f"`pipeline take-over {worker}` writes a new one"
        return
    if owner is not None and (owner.farm, owner.worker) != (farm_id, worker):
        yield (
            f"it belongs to worker {owner.worker!r} of farm {owner.farm}",
            f"if no other host is at work there: `pipeline take-over {worker}`",
        )


def _heartbeat(medium: _ShareMedium, clock_offset_s: float) -> Iterator[Fault]:
    deadline = time.monotonic() + BEAT_WAIT_S
    first, pause = None, threading.Event()
    while time.monotonic() < deadline:
        try:
            beat = read_heartbeat(medium.files)
        except FileMissing:
            pass
        except (ShareError, LayoutError) as error:
            yield unreadable(HEARTBEAT, error)
            return
        else:
            if first is None:
                first, deadline = beat.counter, time.monotonic() + BEAT_WAIT_S
            elif beat.counter != first:
                return
        pause.wait(0.5)
    if first is None:
        yield NO_HEARTBEAT
    else:
        age_s = time.time() + clock_offset_s - medium.changed_at(f"{STATUS}/{HEARTBEAT}")
        silent = _silence(max(age_s, BEAT_WAIT_S))
        yield f"its agent {silent}", "look at the machine, and start `inbox-agent` again"


def _silence(age_s: float) -> str:
    """For how long there was no heartbeat; a long time as the moment of the last one, by this host's clock."""
    if age_s < _SILENCE_IN_SECONDS_MAX_S:
        return f"has been silent for {age_s:.0f} s"
    last = datetime.fromtimestamp(time.time() - age_s).isoformat(sep=" ", timespec="minutes")
    return f"has been silent since {last}"


def _farm_id(root: Path) -> str:
    state = ProjectPaths(root).state
    if not has_ledger(state):
        return ""
    ledger = Ledger(state, read_only=True)
    try:
        return ledger.farm_id
    finally:
        ledger.close()


class _PathMedium:
    """A share that is a folder on this host or mounted on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: ShareFiles = LocalFiles(path)

    def reach(self) -> Iterator[Fault]:
        if not os.path.isdir(self._path):  # also false if this user may not check
            yield f"{self._path} is not there", "mount it, or correct `share` in pipeline.toml"
            raise _StopChecking

    def free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._path).free
        except OSError as error:
            raise Unavailable(str(error)) from error

    def changed_at(self, path: str) -> float:
        try:
            return os.stat(self._path / path).st_mtime
        except OSError as error:
            raise Unavailable(str(error)) from error

    def readings(self, clock_offset_s: float) -> Iterator[str]:
        yield f"{self._path} is reached by path"

    def close(self) -> None:
        pass


class _SmbMedium:
    """A share of an SMB server."""

    def __init__(self, access: SmbAccess) -> None:
        self._access = access
        self._session = SmbSession(access)
        self._smb = SmbFiles(self._session)
        self.files: ShareFiles = self._smb

    def reach(self) -> Iterator[Fault]:
        yield from (faults := list(self._fetch_secret()))
        yield from self._reach_port()  # also without the secret: both may have to be fixed
        if faults:
            raise _StopChecking
        try:
            self._session.connect()
            self._smb.names("", ENTRIES_MAX)
        except Unavailable as error:
            yield self._fault(error)
            raise _StopChecking from error

    def _fetch_secret(self) -> Iterator[Fault]:
        try:
            self._access.password()
        except SecretError as error:
            yield f"its secret: {error}", ""

    def _reach_port(self) -> Iterator[Fault]:
        server, port = self._access.server, self._access.port
        if self._access.address is not None:
            try:
                server = self._access.address()
            except Unavailable as error:
                yield str(error), ""
                raise _StopChecking from error
        try:
            socket.getaddrinfo(server, port, type=socket.SOCK_STREAM)
        except OSError as error:
            yield f"{server} has no address", "correct the name in `share`, or DNS"
            raise _StopChecking from error
        try:
            socket.create_connection((server, port), timeout=REACH_LIMIT_S).close()
        except OSError as error:
            yield (
                f"{server} does not answer on port {port}",
                "is the machine on, file sharing allowed in its firewall, the `port` right?",
            )
            raise _StopChecking from error

    def _fault(self, error: Unavailable) -> Fault:
        access, server = self._access, self._access.server
        refusal, reason = (error.refusal, error.reason) if isinstance(error, NoConnection) else (Refusal.OTHER, "")
        faults = {
            Refusal.ACCOUNT: (f"{server} refuses account {access.account!r}: {reason}", ""),
            Refusal.SHARE: (
                f"{server} has no share {access.share!r}",
                "correct `share`, or make it (docs/how-to/smb.md)",
            ),
            Refusal.RIGHT: (f"account {access.account!r} may not use {access}", "give it the right to"),
            Refusal.DIALECT: (
                f"{server} does not speak SMB {access.dialect_min}",
                "update it, or allow an older one with `dialect`",
            ),
            Refusal.ENCRYPTION: (
                f"{access} is not encrypted",
                "`Set-SmbShare -EncryptData $true` there, or `encryption = false` if the network is yours alone",
            ),
        }
        fix = "" if "; " in str(error) else "correct `share`, or the rights there"  # many statuses name their own
        return faults.get(refusal, (f"it cannot be used: {error}", fix))

    def free_bytes(self) -> int:
        return self._smb.free_bytes()

    def changed_at(self, path: str) -> float:
        return self._smb.server_time(path)

    def readings(self, clock_offset_s: float) -> Iterator[str]:
        began = time.perf_counter()
        self._smb.free_bytes()
        round_trip_ms = 1000 * (time.perf_counter() - began)
        seal = self._session.connect().seal
        yield (
            f"SMB {seal.dialect >> 8:x}.{seal.dialect >> 4 & 15:x}.{seal.dialect & 15:x}, "
            f"{'encrypted' if seal.encrypts else 'signed'}; round trip {round_trip_ms:.1f} ms; its clock is "
            f"{clock_offset_s:+.1f} s off, which does not matter"
        )

    def close(self) -> None:
        self._smb.close()
