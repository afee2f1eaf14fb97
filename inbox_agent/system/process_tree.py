"""Process trees that do not outlive the agent.

On Windows the kernel kills them (Job Objects). Elsewhere every process carries a token in its environment and, on
Linux, a limit of its agent; both are on disk before the first process starts, so that the next agent finds what a
killed agent left behind. A living agent gets every orphan from Linux, also one that has shed the token.
Owns: how processes are started so that they can be found, and which are killed.
"""

import contextlib
import errno
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil

from inbox_agent.system.atomic_file import replace_file
from inbox_agent.system.file_retry import retry_while_busy

if sys.platform == "win32":
    from inbox_agent.system.job_object import JobObject, spawn_in_job
else:
    from inbox_agent.system import orphans

KILL_WAIT_S = 5.0  # how long to wait for a killed process before continuing without it
#: Errors of a start that say nothing about the program: the system is short of memory, processes or descriptors, or the
#: program is being written. EFAULT and Windows' internal error were seen on busy machines, and never twice in a row.
_TRANSIENT = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EFAULT, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
#: The same of Windows: not enough memory (8, 14), sharing violation, internal error, no resources, commitment limit.
_TRANSIENT_WINERRORS = frozenset({8, 14, 32, 1359, 1450, 1455})
Stream = int | IO[bytes] | None

#: All spawned processes of this process, with their tags. Global: Linux gives orphans to a process, not to one tree.
_spawned: dict["subprocess.Popen[bytes]", str] = {}
#: Held from a fork to its entry in `_spawned`, so that the child is not taken for an orphan.
_spawn_lock = threading.Lock()


PROCESSES_FILE = "processes.json"  #: in the agent's state folder


class AgentAlreadyRunning(RuntimeError):
    """The agent named in the token file is still alive."""


class _Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the token file: the agent that gives its processes `token` and `limit`."""

    token: str
    pid: int
    started: float
    limit: int = 0  #: 0: none


if sys.platform == "win32":

    def kill_leftovers(token_file: Path) -> int:  # noqa: ARG001
        """Nothing to do: the kernel killed a dead agent's job."""
        return 0

else:

    def kill_leftovers(token_file: Path) -> int:
        """Kills the processes that a dead agent left behind; returns how many. Those of a live agent are kept."""
        holder = _read(token_file)
        if holder is None or _is_alive_elsewhere(holder):
            return 0

        def is_left(process: psutil.Process) -> bool:
            return orphans.carries(process, holder.token) or orphans.has_limit(process, holder.limit)

        return orphans.kill_all(orphans.all_processes, is_left)


def wait_for_exit(process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    """Waits until a process has ended, without reaping it where the system allows that; returns whether it has."""
    if process.returncode is not None:
        return True
    timeout_s = max(0.0, timeout_s)
    if sys.platform == "linux":
        if timeout_s == 0:
            with contextlib.suppress(ChildProcessError):
                flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
                return os.waitid(os.P_PID, process.pid, flags) is not None
        with contextlib.suppress(OSError):  # an old kernel, or no free descriptor
            descriptor = os.pidfd_open(process.pid)
            try:
                poll = select.poll()  # unlike select, it takes descriptors above 1023
                poll.register(descriptor, select.POLLIN)
                return bool(poll.poll(timeout_s * 1000))
            finally:
                os.close(descriptor)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


class ProcessTree:
    """Starts processes that die with this process, and kills them with all that they started.

    Spawn from a thread that lives as long as the agent: Linux ends a child with the *thread* that started it.

    Raises:
        AgentAlreadyRunning: the agent that `token_file` names is alive.
        OSError: the token cannot be written, or Windows refuses the job.
    """

    def __init__(self, token_file: Path) -> None:
        self._token, self._count = secrets.token_hex(16), 0
        self._prepare(token_file)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
    ) -> "subprocess.Popen[bytes]":
        """Starts a program in this tree; retries for 2.5 s if the system cannot at the moment.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        command = [find_program(argv[0], env), *argv[1:]]
        self._count += 1
        tag = f"{self._token}:{self._count}"
        how = {"cwd": cwd, "env": env, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        return retry_while_busy(lambda: self._start(command, tag, how), may_start_later)

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kills a spawned process and everything it started, waits for their end and reaps. Idempotent.

        Not found on POSIX other than Linux: a process that has cleared its environment, left the session and lost its
        parent.
        """
        if (tag := _spawned.get(process)) is not None:
            self._kill_tree(process, tag)
            _spawned.pop(process, None)

    def close(self) -> None:
        """Kills everything in this tree. May be called from any thread, and more than once."""
        for process, tag in list(_spawned.items()):
            if tag.startswith(self._token):
                self.kill(process)

    if sys.platform == "win32":

        def reap(self) -> bool:
            """Nothing to do: Windows has no zombies."""
            return True

        def count(self, process: "subprocess.Popen[bytes]") -> int:
            """How many processes of a spawned one's tree have not ended; one system call."""
            job = self._jobs.get(process)
            return job.active() if job is not None else 0

        def _prepare(self, token_file: Path) -> None:
            self._jobs: dict[subprocess.Popen[bytes], JobObject] = {}
            # The handle is never closed: the kernel closes it when this process ends, which kills the rest.
            self._own_job = JobObject()
            self._own_job.assign_this_process()

        def _start(self, command: list[str], tag: str, how: Any) -> "subprocess.Popen[bytes]":
            process, job = spawn_in_job(command, **how)
            _spawned[process], self._jobs[process] = tag, job
            return process

        def _kill_tree(self, process: "subprocess.Popen[bytes]", tag: str) -> None:
            if (job := self._jobs.pop(process, None)) is not None:
                job.end(KILL_WAIT_S)
            wait_for_exit(process, KILL_WAIT_S)

    else:

        def count(self, process: "subprocess.Popen[bytes]") -> int:
            """1, and on Linux all orphans that this process has adopted. A process can count its own children at less
            cost.
            """
            del process
            if not self._adopts or not self.reap():
                return 1
            known = {spawned.pid for spawned in list(_spawned)}
            return 1 + len(orphans.children() - known)

        def reap(self) -> bool:
            """Reaps adopted orphans that have ended; false if no child at all is left.

            One system call when none has ended.
            """
            ended = orphans.ended_child() if self._adopts else 0
            if ended and _spawn_lock.acquire(timeout=KILL_WAIT_S):
                try:
                    orphans.reap({process.pid for process in list(_spawned)})
                finally:
                    _spawn_lock.release()
                ended = orphans.ended_child()
            return ended is not None

        def _prepare(self, token_file: Path) -> None:
            holder = _read(token_file)
            if holder is not None and _is_alive_elsewhere(holder):
                raise AgentAlreadyRunning(f"process {holder.pid} holds {token_file}")
            # Kill leftovers before the new token is written: a crash in between must not lose the old one.
            kill_leftovers(token_file)
            own = psutil.Process()
            limit = orphans.mark_by_limit()
            me = _Holder(token=self._token, pid=own.pid, started=own.create_time(), limit=limit)
            token_file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(token_file, msgspec.json.encode(me), durable=True)
            self._adopts = orphans.adopt()
            self._since = orphans.ticks_now()
            self._prefix = orphans.death_signal_prefix()

        def _start(self, command: list[str], tag: str, how: Any) -> "subprocess.Popen[bytes]":
            how["env"] = {**how["env"], orphans.TAG_VARIABLE: tag}
            with _spawn_lock:
                process: subprocess.Popen[bytes]
                process = subprocess.Popen([*self._prefix, *command], start_new_session=True, **how)
                _spawned[process] = tag
            return process

        def _kill_tree(self, process: "subprocess.Popen[bytes]", tag: str) -> None:
            # Queried before it dies: afterwards its children have another parent.
            kin = set() if wait_for_exit(process, 0) else set(orphans.descendants(process.pid))
            if process.returncode is None:
                # Not reaped yet, so the id of its process group cannot have been reused.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                wait_for_exit(process, KILL_WAIT_S)
                process.poll()
            if not self.reap():
                return  # the common case: this process has no child left, so there is no orphan either

            def is_of_this_tree(other: psutil.Process) -> bool:
                known = other in kin or orphans.in_session(other, process.pid) or orphans.carries(other, tag)
                return known or self._hides(other, process)

            orphans.kill_all(_descendants if self._adopts else orphans.all_processes, is_of_this_tree)
            self.reap()

        def _hides(self, other: psutil.Process, killed: "subprocess.Popen[bytes]") -> bool:
            """Whether a descendant of this process can only be of the killed tree, though nothing of it says so.

            That is every one which this process did not start itself, except those that a spawned process which lives
            may have started.
            """
            if not self._adopts or not orphans.in_foreign_session(other.pid):
                return False
            begun = orphans.started(other.pid)
            if begun is None or begun < self._since:
                return False
            may_be_its = [process for process in list(_spawned) if process is not killed]
            return all((orphans.started(process.pid) or begun + 1) > begun for process in may_be_its)


if sys.platform != "win32":

    def _descendants() -> list[psutil.Process]:
        """The descendants of this process. Each one that it has spawned is among `_spawned` by then."""
        if not _spawn_lock.acquire(timeout=KILL_WAIT_S):
            return []
        try:
            return orphans.descendants()
        finally:
            _spawn_lock.release()


def may_start_later(error: OSError) -> bool:
    """Whether the start of a program failed for a reason that may pass."""
    winerror = getattr(error, "winerror", None)
    return error.errno in _TRANSIENT if winerror is None else winerror in _TRANSIENT_WINERRORS


def find_program(program: str, env: Mapping[str, str]) -> str:
    """The program's path, as a spawn would find it. Raises FileNotFoundError or PermissionError."""
    # Checked here, because setpriv would report a missing program only by an exit code.
    found = shutil.which(program, path=env.get("PATH"))
    if found is None:
        if os.path.isfile(program):
            raise PermissionError(errno.EACCES, "not an executable file", program)
        raise FileNotFoundError(errno.ENOENT, "no such program", program)
    return found


def interpreter() -> str:
    """The program that `python` stands for in a command: the interpreter of this process, with its packages.

    Windows: `pythonw.exe` has no console, so each console program that an evaluator starts would open a window over
    it. `python.exe` in a process tree has an invisible console, which its children share.
    """
    program = Path(sys.executable)
    with_console = program.with_name("python.exe")
    return str(with_console if program.name.lower() == "pythonw.exe" and with_console.exists() else program)


def _is_alive_elsewhere(holder: _Holder) -> bool:
    """Whether the holder is alive and not this process; a reused pid has another start time."""
    if holder.pid == os.getpid():
        return False
    try:
        process = psutil.Process(holder.pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.started) < 0.01)
    except psutil.Error:
        return False


def _read(token_file: Path) -> _Holder | None:
    try:
        return msgspec.json.decode(token_file.read_bytes(), type=_Holder)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
