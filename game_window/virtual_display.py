"""A display of its own for a game on X11: Xvfb, a screen in memory without a window manager.

Two games on one display take the keyboard from each other, so each worker needs its own.
"""

import os
import secrets
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from game_window.desktop import DesktopError

_START_LIMIT_S = 20.0
_END_LIMIT_S = 5.0
_COOKIE_BYTES = 16
_FAMILY_LOCAL = 256


@contextmanager
def virtual_display(width: int = 1024, height: int = 768) -> Iterator[str | None]:
    """Starts a display and yields its name; ends it afterwards. On Windows it yields None: the session has its desktop.

    Only programs that have the variable XAUTHORITY of this process can use it: meanwhile it names a file with the
    display's key. Other users of the computer can neither see the game nor press its keys.

    Raises:
        DesktopError: Xvfb is not installed, or does not start.
    """
    if sys.platform == "win32":
        yield None
        return
    program = shutil.which("Xvfb")
    if program is None:
        raise DesktopError("Xvfb is not installed (Debian: apt-get install xvfb)")
    with tempfile.TemporaryDirectory(prefix="display-") as folder:
        key = Path(folder, "key")
        key.write_bytes(_authority(secrets.token_bytes(_COOKIE_BYTES)))  # the folder is this user's alone
        screen = ["-screen", "0", f"{width}x{height}x24"]
        with _running([program, *screen, "-auth", str(key)]) as name, _variable("XAUTHORITY", str(key)):
            yield name


@contextmanager
def _running(command: list[str]) -> Iterator[str]:
    """The server, which chooses a free number itself and tells it when programs can connect."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as number:
        try:
            # Without -noreset it would start anew when its first program disconnects.
            server = subprocess.Popen(
                [*command, "-displayfd", str(writing), "-nolisten", "tcp", "-noreset"],
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(writing)
        try:
            ready, _, _ = select.select([number], [], [], _START_LIMIT_S)
            name = number.read(16).decode().strip() if ready else ""
            if not name:
                raise DesktopError(f"it does not start: {' '.join(command)}")
            yield f":{name}"
        finally:
            server.terminate()
            try:
                server.wait(_END_LIMIT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets a variable of this process: the libraries of X11 read it when they connect."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _authority(cookie: bytes) -> bytes:
    """A file in the format of Xauthority: the cookie of any display of this computer."""
    fields = (socket.gethostname().encode(), b"", b"MIT-MAGIC-COOKIE-1", cookie)
    return struct.pack(">H", _FAMILY_LOCAL) + b"".join(struct.pack(">H", len(field)) + field for field in fields)
