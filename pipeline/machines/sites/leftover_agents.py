"""Agents that a killed process has left behind: they end before new ones play the same shares."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from inbox_agent.system.file_lock import holder_of

#: For agents to end by themselves, longer than they allow themselves: what they play is charged to no genome then.
LEAVE_LIMIT_S = 6.0
END_LIMIT_S = 5.0  #: for a killed agent to end
_LOOK_INTERVAL_S = 0.05


class AgentStays(Exception):
    """An agent of another process cannot be ended."""


def end_leftovers(locks: Sequence[Path]) -> None:
    """Returns when the locks of these agents' state folders are free.

    An agent ends by itself when its parent has ended, and reports what it played. One that hangs is killed.

    Raises:
        AgentStays: one does not end, or the process is another user's.
    """
    deadline, pause = time.monotonic() + LEAVE_LIMIT_S, threading.Event()
    while any(holder_of(lock) for lock in locks) and time.monotonic() < deadline:
        pause.wait(_LOOK_INTERVAL_S)
    for lock in locks:
        _end(lock)


def _end(lock: Path) -> None:
    """Kills the agent that holds the lock, if there is one."""
    deadline = time.monotonic() + END_LIMIT_S
    while (holder := holder_of(lock)) is not None:
        if time.monotonic() > deadline or not holder.isdecimal():
            raise AgentStays(f"an agent of an earlier process has {lock} and does not end: process {holder}")
        try:
            process = psutil.Process(int(holder))
            _kill(process)
            process.wait(_LOOK_INTERVAL_S)
        except psutil.AccessDenied as error:
            raise AgentStays(f"{lock} is held by process {holder} of another user") from error
        except (psutil.NoSuchProcess, psutil.TimeoutExpired):
            continue


def _kill(process: psutil.Process) -> None:
    """Kills it with its process group, which is its own: the agents of a site are started so."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
    process.kill()
