"""Finds the processes of an agent on POSIX, kills and reaps them.

Each carries a tag in its environment and, on Linux, a limit. A process that starts another with an empty environment
loses the tag, not the limit.
Owns: what a process carries, and when it is gone.
Not here: which tags exist, and which processes are killed (process_tree).
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable
from functools import cache

import psutil

assert sys.platform != "win32", "there the kernel keeps job objects"

TAG_VARIABLE = "INBOX_AGENT_PROCESS_TREE"
KILL_WAIT_S = 5.0  # how long to wait for a killed process before continuing without it
_PAUSE_S = 0.005  # between two checks of killed processes
_PR_SET_CHILD_SUBREAPER = 36
_LIMIT_BITS = 62  # of a limit that tells agents apart; RLIM_INFINITY has more
_CHOICE = 2**32  # values at least: among fewer, two agents might draw the same

_never = threading.Event()


def carries(process: psutil.Process, tag: str) -> bool:
    """Whether the environment of a process carries `tag`, or `tag:` and more."""
    try:
        carried = process.environ().get(TAG_VARIABLE, "")
    except (psutil.Error, OSError):  # gone, or another user's
        return False
    return bool(carried == tag or carried.startswith(tag + ":"))


if sys.platform == "linux":
    import resource

    #: The limit of file locks, by the kernel's number, which Python does not name. No Linux since 2.4 enforces it. It
    #: stays through fork and execve, and only a process with privileges can raise it.
    _RLIMIT_LOCKS = 10

    @cache
    def mark_by_limit() -> int:
        """Gives this process, and all that it starts from now on, a limit that no other process has; once.

        Returns:
            The limit; 0 if it cannot be set.
        """
        most = resource.getrlimit(_RLIMIT_LOCKS)[1]
        most = 2**_LIMIT_BITS if most == resource.RLIM_INFINITY else most
        if most < 2 * _CHOICE:
            return 0
        limit = most // 2 + secrets.randbelow(most // 2)
        try:
            resource.setrlimit(_RLIMIT_LOCKS, (limit, limit))
        except (OSError, ValueError):
            return 0
        return limit

    def has_limit(process: psutil.Process, limit: int) -> bool:
        """Whether a process was started by the one that got `limit`, directly or not. Always false for 0, and for the
        limit of this process.
        """
        if limit in (0, resource.getrlimit(_RLIMIT_LOCKS)[1]):
            return False
        try:
            return process.rlimit(_RLIMIT_LOCKS)[1] == limit and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):  # gone, or another user's
            return False

else:

    def mark_by_limit() -> int:
        """Always 0: only Linux has a limit without an effect."""
        return 0

    def has_limit(process: psutil.Process, limit: int) -> bool:  # noqa: ARG001
        """Always false."""
        return False


def in_session(process: psutil.Process, leader: int) -> bool:
    """Whether a process is in the session of `leader`; unlike the environment, this is readable of a dying process."""
    try:
        return os.getsid(process.pid) == leader
    except OSError:
        return False


def in_foreign_session(pid: int) -> bool:
    """Whether a process is in another session than this one. Each spawned process begins a session, and no process can
    join another's: so none of a process tree is in this session, where other children of this process are.
    """
    try:
        return os.getsid(pid) != os.getsid(0)
    except OSError:
        return False


def started(pid: int) -> int | None:
    """Linux: when a process was started, in clock ticks since the boot; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def ticks_now() -> int:
    """Linux: the time in the unit of `started`; 0 elsewhere."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def all_processes() -> Iterable[psutil.Process]:
    """All processes of this machine."""
    found: Iterable[psutil.Process] = psutil.process_iter()
    return found


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """All descendants of a process, of this one if `pid` is None; none if it is gone."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


def kill_all(candidates: Callable[[], Iterable[psutil.Process]], should_kill: Callable[[psutil.Process], bool]) -> int:
    """Kills matching candidates until a scan finds no new one and all killed are gone; returns how many."""
    killed: set[psutil.Process] = set()
    refused: set[psutil.Process] = set()
    deadline = time.monotonic() + KILL_WAIT_S
    while True:
        found = {p for p in candidates() if p.pid != os.getpid() and should_kill(p)} - killed - refused
        for process in found:
            try:
                process.kill()  # psutil compares start times first: a reused pid is not signalled
                killed.add(process)
            except (psutil.Error, OSError):
                refused.add(process)
        # A scan that found a process is followed by another: it may have forked meanwhile.
        done = not found and all(_is_gone(process) for process in killed)
        if done or time.monotonic() > deadline:
            return len(killed)
        _never.wait(_PAUSE_S)


def ended_child() -> int | None:
    """A child of this process that has ended and is not reaped; 0 if none has ended, None if there is no child."""
    if sys.platform != "linux":
        return 0  # orphans are adopted on Linux only
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # WNOWAIT: does not reap
    except ChildProcessError:
        return None
    return 0 if ended is None else ended.si_pid


def children() -> set[int]:
    """Linux: the children of this process's main thread, which is also the one that adopts orphans."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0) as file:
            return set(map(int, file.read().split()))
    except OSError:  # a kernel without this list
        return set()


def reap(own: Container[int]) -> None:
    """Reaps adopted orphans that have ended; `own` are children that other code waits for."""
    while (pid := ended_child()) and pid not in own and in_foreign_session(pid):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def adopt() -> bool:
    """Linux: from now on orphaned descendants become this process's children. Returns whether that succeeded."""
    if sys.platform != "linux":
        return False
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes, prctl.restype = [ctypes.c_int, *4 * [ctypes.c_ulong]], ctypes.c_int
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def death_signal_prefix() -> list[str]:
    """The command prefix that makes the kernel kill a process when its parent dies; empty where unsupported."""
    setpriv = shutil.which("setpriv")
    if sys.platform != "linux" or setpriv is None:
        return []
    prefix = [setpriv, "--pdeathsig", "KILL", "--"]
    probe = subprocess.run([*prefix, setpriv, "--version"], check=False, capture_output=True)
    return prefix if probe.returncode == 0 else []


def _is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # an adopted process must be reaped here
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
