"""What a manager of services can do, and how its programs are called."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import InputError
from pipeline.service.definition import Service

CALL_LIMIT_S = 120.0  #: of one program; ending a service may take `STOP_LIMIT_S`
_REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What its manager says of a service."""

    installed: bool
    running: bool
    lines: tuple[str, ...]  #: for the user


class ServiceManager(Protocol):
    """Installs services on this computer. Every call raises InputError, with the reason that its program printed."""

    def install(self, service: Service) -> list[str]:
        """Installs and starts it, or an earlier definition's successor; returns what the user should know."""

    def uninstall(self, service: Service) -> list[str]:
        """Stops and removes it; the project stays as it is."""

    def status(self, service: Service) -> ServiceStatus:
        """What it is doing now."""


def call(*words: str, accepted: Sequence[int] = (0,)) -> str:
    """What a program prints. Raises InputError: it is missing, failed, or took too long."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CALL_LIMIT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise InputError(f"{words[0]}: there is no such program here, so no service can be installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{' '.join(words[:3])}: {error}") from error
    if done.returncode not in accepted:
        printed = (done.stderr or done.stdout).decode(errors="replace").strip()[:_REASON_MAX]
        raise InputError(f"{' '.join(words)}: {printed or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
