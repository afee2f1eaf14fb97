"""The last line that a program wrote, which mostly says why it ended."""

import os
from pathlib import Path

from hyperv_ops.machines import one_line

_TAIL_BYTES = 2000


def last_line(output: bytes) -> str:
    """The last line that is not blank, as by `one_line`; the empty string if there is none."""
    lines = output.decode("utf-8", "replace").splitlines()
    return next((line for text in reversed(lines) if (line := one_line(text))), "")


def last_line_of(log: Path) -> str:
    """The last line of a file; the empty string also if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return last_line(file.read())
    except OSError:
        return ""
