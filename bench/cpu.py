"""CPU time, user and system, of a measured program: its own process, and all that it started."""

import contextlib
from typing import NamedTuple

import psutil


class CpuTime(NamedTuple):
    """Seconds since the processes began."""

    own_s: float
    all_s: float


def cpu_time() -> CpuTime:
    """The CPU time of this process, and of this process with all its descendants.

    Includes descendants that have ended, if their parent has waited for them; Windows does not tell those.
    """
    me = psutil.Process()
    own = me.cpu_times()
    own_s = own.user + own.system
    all_s = own_s + own.children_user + own.children_system
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            times = process.cpu_times()
            all_s += times.user + times.system + times.children_user + times.children_system
    return CpuTime(own_s, all_s)
