"""Agents that a killed process has left behind: they are killed before new ones play the same shares."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from inbox_agent.system.file_lock import holder_of

END_LIMIT_S = 5.0  #: for a killed agent to end
_LOOK_INTERVAL_S = 0.05


class AgentStays(Exception):
    """An agent of another process cannot be ended."""


def end_leftover(lock: Path) -> None:
    """Kills the agent that holds the lock of an agent's state folder; returns when it is free.

    An agent ends by itself when its parent has ended, unless it hangs. What it plays is reported by the next one.

    Raises:
        AgentStays: it does not end, or the process is another user's.
    """
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
