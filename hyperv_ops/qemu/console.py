"""The output of a guest's serial console, of which a bounded part is kept.

Owns: how much of it is on this computer's disk. QEMU keeps the latest output in memory, and each look at the machine
moves it to a file: a guest that writes without an end fills no disk, and what it writes between two looks beyond the
buffer is lost.
"""

import base64
import binascii
import contextlib
import os
from pathlib import Path

from hyperv_ops.last_line import last_line_of
from hyperv_ops.machines import MachineError
from hyperv_ops.qemu.qmp import QmpConnection

FILE_BYTES_MAX = 1024 * 1024  #: of each of two files: the latest output, and the output before it
_DEVICE, _BUFFER_BYTES, _READ_LIMIT_S = "console", 64 * 1024, 2.0


class GuestConsole:
    """The console of one machine. Any thread may call."""

    def __init__(self, file: Path, monitor: QmpConnection) -> None:
        self._file, self._monitor = file, monitor

    @staticmethod
    def arguments() -> list[str]:
        """QEMU's command line for it."""
        return ["-chardev", f"ringbuf,id={_DEVICE},size={_BUFFER_BYTES}", "-serial", f"chardev:{_DEVICE}"]

    def begin(self) -> None:
        """Begins a new file, at a start of the machine; the one before is kept."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._file, self._file.with_suffix(".log.1"))

    def collect(self) -> None:
        """Moves the output since the last call from QEMU to the file; no error if that is not possible."""
        arguments = {"device": _DEVICE, "size": _BUFFER_BYTES, "format": "base64"}
        with contextlib.suppress(MachineError, OSError, TypeError, binascii.Error):
            output = base64.b64decode(self._monitor.ask("ringbuf-read", arguments, _READ_LIMIT_S))
            if self._file.exists() and self._file.stat().st_size >= FILE_BYTES_MAX:
                self.begin()
            if output:
                with self._file.open("ab") as file:
                    file.write(output)

    def last_line(self) -> str:
        """The last line of what was collected, or `nothing`."""
        return last_line_of(self._file) or "nothing"
