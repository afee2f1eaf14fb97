"""A display of its own for a game on X11: Xvfb, a screen in memory without a window manager.

Two games on one display take the keyboard from each other, so each worker needs its own.
"""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from game_window.desktop import DesktopError

_START_LIMIT_S = 20.0
_END_LIMIT_S = 5.0


@contextmanager
def virtual_display(width: int = 1024, height: int = 768) -> Iterator[str | None]:
    """Starts a display and yields its name; ends it afterwards. On Windows it yields None: the session has its desktop.

    Raises:
        DesktopError: Xvfb is not installed, or does not start.
    """
    if sys.platform == "win32":
        yield None
        return
    program = shutil.which("Xvfb")
    if program is None:
        raise DesktopError("Xvfb is not installed (Debian: apt-get install xvfb)")
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with open(reading, "rb", buffering=0) as number:
        try:
            # Without -noreset it would start anew when its first program disconnects.
            server = subprocess.Popen(
                [*command, "-noreset"],
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(writing)
        try:
            # It chooses a free number itself, and tells it when programs can connect.
            ready, _, _ = select.select([number], [], [], _START_LIMIT_S)
            name = number.read(16).decode().strip() if ready else ""
            if not name:
                raise DesktopError(f"{program} does not start: {' '.join(command)}")
            yield f":{name}"
        finally:
            server.terminate()
            try:
                server.wait(_END_LIMIT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
