"""Who this agent is: the life of its operating system, its own life, its versions and where its windows appear."""

import ctypes
import os
import platform
import secrets
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the agent says of itself in every record it writes."""

    boot_id: str
    run_id: str
    versions: dict[str, str] = field(default_factory=dict)
    session: str = ""
    desktop: str = ""


def identify() -> Identity:
    """The identity of this process; `run_id` is drawn anew at each call."""
    return Identity(
        boot_id=_boot_id(),
        run_id=secrets.token_hex(8),
        versions={"agent": _agent_version(), "python": platform.python_version(), "platform": sys.platform},
        session=_session(),
        desktop=os.environ.get("DISPLAY", "")[:64] if sys.platform != "win32" else "",
    )


def _boot_id() -> str:
    kernel = Path("/proc/sys/kernel/random/boot_id")
    if kernel.exists():
        return kernel.read_text().strip()
    return f"boot-{int(psutil.boot_time())}"


def _agent_version() -> str:
    try:
        return version("genome-pipeline")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def _session() -> str:
    """Windows: the session number; session 0 has no desktop, so a game cannot show a window there."""
    if sys.platform != "win32":
        return os.environ.get("XDG_SESSION_ID", "")[:64]
    session = ctypes.c_ulong(0)
    known = ctypes.windll.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session))
    return str(session.value) if known else ""
