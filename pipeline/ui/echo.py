"""A terminal that echoes no key while a live display is shown: an echoed `^C` or line break would shift its lines.

Owns: the terminal's attributes meanwhile. A process that is killed leaves them changed; a shell sets its own.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import IO

if sys.platform == "win32":

    @contextlib.contextmanager
    def without_echo(_file: IO[str]) -> Iterator[None]:
        """Changes nothing: a console of Windows echoes only what a program reads."""
        yield

else:
    import io
    import os
    import termios
    from typing import Any

    @contextlib.contextmanager
    def without_echo(file: IO[str]) -> Iterator[None]:
        """Switches the echo off and on again in the terminal that a file leads to.

        Changes nothing if it leads to none, or if this process is in its background: the change would stop it.
        """
        terminal, before = _foreground_terminal(file)
        if before is not None:
            quiet = [*before]
            quiet[3] = before[3] & ~(termios.ECHO | termios.ECHONL)
            termios.tcsetattr(terminal, termios.TCSANOW, quiet)
        try:
            yield
        finally:
            if before is not None and _foreground_terminal(file)[1] is not None:
                termios.tcsetattr(terminal, termios.TCSANOW, before)

    def _foreground_terminal(file: IO[str]) -> tuple[int, list[Any] | None]:
        """A file's terminal and its attributes; None if this process may not change them."""
        with contextlib.suppress(OSError, io.UnsupportedOperation, termios.error):
            terminal = file.fileno()
            if os.tcgetpgrp(terminal) == os.getpgrp():
                return terminal, termios.tcgetattr(terminal)
        return -1, None
