"""A pilot: an agent that joins a farm by itself, as a batch job does, and leaves it at its end.

The folder of worker descriptions of a project is on a disk that host and pilots share. The pilot makes a share of its
own there and a file that describes it; the host sees the file and lets the worker join. Without the file it leaves.

Owns: what is written there, and in which order: the share is complete before it is described, and no longer described
when it is removed. Not here: how the host reads descriptions (`pipeline.config.worker_descriptions`).
"""

import contextlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from inbox_agent.protocol.layout import INBOX, OUTBOX, Kind, attempt_of
from inbox_agent.settings import SettingsError

log = logging.getLogger(__name__)

LEASE_S = 600.0  #: of silence; then the host removes the description of a pilot that was killed
COLLECT_LIMIT_S = 15.0  #: that a pilot waits at its end for the host to collect its last results
_LOOK_S = 0.2
_NAME_CHARS_MAX = 63
_NO_NAME_CHARS = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)


class Pilot:
    """One worker that has announced itself, or will."""

    def __init__(self, folder: Path, name: str = "", *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Makes the share; `name` is by default one that no other pilot has.

        Raises:
            SettingsError: there is no such folder, or it cannot be written, or the name cannot be used.
        """
        self.name, self._keeps_share = name or _new_name(), bool(name)
        if _NO_NAME_CHARS.search(self.name) or len(self.name) > _NAME_CHARS_MAX or self.name[0] in "-_":
            raise SettingsError(f"--name {self.name}: letters, digits, - and _ only, at most {_NAME_CHARS_MAX}")
        if not folder.is_dir():
            raise SettingsError(f"--join {folder}: no such folder; give the folder workers/ of the project")
        self.share, self._description = folder / self.name, folder / f"{self.name}.toml"
        self._sleep = sleep
        try:
            self.share.mkdir(exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{self.share}: {error.strerror}; give this user the right to write there") from error

    def announce(self) -> None:
        """Describes the worker, so that the host lets it join. Raises SettingsError."""
        content = f'share = "{self.name}"\nlease_s = {LEASE_S:g}\n'
        try:
            staged = self._description.with_name(f".{self.name}.new")
            staged.write_bytes(content.encode())
            staged.chmod(0o644)  # before it is seen, whatever the mask is: the host refuses what others may write
            staged.replace(self._description)
        except OSError as error:
            raise SettingsError(f"{self._description}: {error.strerror}") from error
        log.info("joins as %s", self.name)

    def is_wanted(self) -> bool:
        """Whether it is still described: the user has not removed it, nor the host after a long silence."""
        try:
            os.stat(self._description)
        except FileNotFoundError:
            return False
        except OSError:  # the disk cannot be reached at the moment
            return True
        return True

    def leave(self) -> None:
        """Waits until the host has collected what it answered, then takes its description away, and its share if no
        other pilot will have that name. If no host collects it, both stay for the next one.
        """
        waited_s = 0.0
        while self.is_wanted() and (left := self._answers()):
            if waited_s >= COLLECT_LIMIT_S:
                log.warning("%s stays: no host has collected its %d results", self._description, left)
                return
            self._sleep(_LOOK_S)
            waited_s += _LOOK_S
        with contextlib.suppress(OSError):
            self._description.unlink(missing_ok=True)
        if not self._keeps_share:  # one of that name that is started again must find what the host knows of it
            shutil.rmtree(self.share, ignore_errors=True)
        log.info("%s has left", self.name)

    def _answers(self) -> int:
        """How many results the host has not collected: it removes the start signal then."""
        try:
            started, answered = (set(map(attempt_of, os.listdir(self.share / folder))) for folder in (INBOX, OUTBOX))
        except OSError:
            return 0
        open_attempts = {found[0] for found in started if found is not None and found[1] is Kind.START}
        return sum(found is not None and found[1] is Kind.RESULT and found[0] in open_attempts for found in answered)


def _new_name() -> str:
    host = _NO_NAME_CHARS.sub("-", socket.gethostname().partition(".")[0]).strip("-_") or "pilot"
    return f"{host[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
