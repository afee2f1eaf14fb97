"""The saved memory of a QEMU machine: a file that QEMU writes and reads as a migration.

Owns: when such a file is complete, and that it is used once: it belongs to the disk as it was when it was written.
Source: QAPI schema, Migration.
"""

import contextlib
import os
import shlex
import threading
import time
from pathlib import Path

from hyperv_ops.machines import MachineError, Trouble
from hyperv_ops.qemu.qmp import QmpConnection

WRITE_LIMIT_S = READ_LIMIT_S = 300.0  #: for the memory of one machine
_UNLIMITED_BYTES_PER_S = 2**40  #: the default would be that of a network
_POLL_S = 0.05


class SavedMemory:
    """The memory of one machine. Any thread may call; one at a time writes or loads."""

    def __init__(self, name: str, file: Path, monitor: QmpConnection) -> None:
        self._name, self._file, self._monitor = name, file, monitor
        self._unfinished, self._used = file.with_suffix(".new"), file.with_suffix(".used")

    @staticmethod
    def arguments() -> list[str]:
        """QEMU's command line for a machine that waits for `load`."""
        return ["-incoming", "defer"]

    @property
    def is_there(self) -> bool:
        """Whether a complete one is there."""
        return self._file.exists()

    def write(self) -> None:
        """Stops the machine and writes its memory; it does not count before `complete`. Raises MachineError."""
        self.discard()
        self._monitor.ask("stop")
        try:
            self._monitor.ask("migrate-set-parameters", {"max-bandwidth": _UNLIMITED_BYTES_PER_S})
            with contextlib.suppress(OSError):
                self._unfinished.touch(mode=0o600)  # it may have passwords in it
            self._monitor.ask("migrate", {"uri": f"exec:cat > {shlex.quote(str(self._unfinished))}"})
            self._wait(WRITE_LIMIT_S)
        except MachineError:
            with contextlib.suppress(MachineError):
                self._monitor.ask("migrate_cancel")
                self._monitor.ask("cont")  # it goes on as if nothing had been asked
            self.discard()
            raise

    def complete(self) -> None:
        """Counts what was written: the machine's process has ended. Raises MachineError."""
        try:
            os.replace(self._unfinished, self._file)
        except OSError as error:
            raise MachineError(self._name, f"its memory cannot be saved: {error}") from error

    def load(self) -> None:
        """Lets a process that was started with `arguments` go on with the memory, which is used up then.

        Raises:
            MachineError: it cannot be loaded; the file is gone all the same.
        """
        try:
            os.replace(self._file, self._used)  # first: after a crash from here on the machine boots
            self._monitor.ask("migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(self._used))}"})
            self._wait(READ_LIMIT_S)
            self._monitor.ask("cont")  # it was stopped when its memory was written, and so it is again
        except OSError as error:
            raise MachineError(self._name, f"its memory cannot be read: {error}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes what was saved."""
        for path in (self._file, self._unfinished, self._used):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _wait(self, limit_s: float) -> None:
        """Waits until QEMU has written or read it."""
        deadline, pause = time.monotonic() + limit_s, threading.Event()
        while True:
            found = self._monitor.ask("query-migrate")
            match found.get("status"):
                case "completed":
                    return
                case "failed" | "cancelled":
                    reason = f"its memory: {found.get('error-desc') or found['status']}"
                    raise MachineError(self._name, reason, Trouble.OTHER)
            if time.monotonic() > deadline:
                raise MachineError(self._name, f"its memory took more than {limit_s:g} s", Trouble.TIMED_OUT)
            pause.wait(_POLL_S)
