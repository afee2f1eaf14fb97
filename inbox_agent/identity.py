"""The agent's identity: boot id of the operating system, run id of the process, versions."""

import platform
import secrets
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import psutil

from inbox_agent.system.boot import boot_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """The identity that the agent writes into its records."""

    boot_id: str
    run_id: str
    versions: dict[str, str] = field(default_factory=dict)


def make_identity() -> AgentIdentity:
    """The identity of this process; `run_id` is new at each call."""
    return AgentIdentity(
        boot_id=boot_id() or f"boot-{int(psutil.boot_time())}",
        run_id=secrets.token_hex(8),
        versions={"agent": agent_version(), "python": platform.python_version(), "platform": sys.platform},
    )


def agent_version() -> str:
    """The version of this program."""
    try:
        return version("genome-pipeline")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
