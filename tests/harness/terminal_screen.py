"""A terminal for tests: a pseudo-terminal with a process in it, and what is on its screen then.

The screen understands the sequences that the displays of this program use; any other one is an error of the test.
POSIX only.
"""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Makes the pseudo-terminal the controlling one, as a shell does, so that Ctrl-C is a signal.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|\x1b([78])")


class Screen:
    """What is visible after some output, and what has scrolled away at the top."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self.scrolled: list[str] = []
        self._other: tuple[list[list[str]], int, int] | None = None  #: the usual screen, while the other one is shown
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self._width for _ in range(self._height)]
        self._row = self._column = 0

    def lines(self) -> list[str]:
        """The visible lines, without the empty ones at the end."""
        lines = ["".join(row).rstrip() for row in self._cells]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def feed(self, data: bytes) -> None:
        """Shows this output."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif (match := _SEQUENCE.match(text, at)) is not None:
                self._obey(*(part or "" for part in match.groups()))
                at = match.end()
            elif len(text) - at < 20:
                self._rest = text[at:]  # the rest of the sequence is still to come
                break
            else:
                raise AssertionError(f"a sequence that this screen does not know: {text[at : at + 20]!r}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._next_line()
        elif character >= " ":
            if self._column == self._width:
                self._column = 0
                self._next_line()
            self._cells[self._row][self._column] = character
            self._column += 1

    def _next_line(self) -> None:
        if self._row < self._height - 1:
            self._row += 1
            return
        self.scrolled.append("".join(self._cells.pop(0)).rstrip())
        self._cells.append([" "] * self._width)

    def _obey(self, private: str, numbers: str, letter: str, _saved: str) -> None:
        first = int(numbers.partition(";")[0] or 0)
        match private, letter:
            case "", "m":
                pass  # colours
            case "", "A":
                self._row = max(0, self._row - max(1, first))
            case "", "K":
                start = 0 if first == 2 else self._column
                self._cells[self._row][start:] = [" "] * (self._width - start)
            case "", "J" if first == 2:
                self._cells = [[" "] * self._width for _ in range(self._height)]
            case "", "H":
                row, _, column = numbers.partition(";")
                self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
            case "?", "h" | "l" if first == 25:
                pass  # the cursor
            case "?", "h" if first == 1049:
                self._other = (self._cells, self._row, self._column)
                self._clear()
            case "?", "l" if first == 1049:
                assert self._other is not None, "there is no other screen"
                (self._cells, self._row, self._column), self._other = self._other, None
            case _:
                raise AssertionError(f"a sequence that this screen does not know: {private}{numbers}{letter}")


class Terminal:
    """A process in a pseudo-terminal of this size."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, width: int = 80, height: int = 24, env: Mapping[str, str] = {}
    ) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._screen, self._lock = Screen(width, height), threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            cwd=cwd,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**variables, "TERM": "xterm-256color", **env},
        )
        self._error: AssertionError | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while data := os.read(self._master, 65536):
                with self._lock:
                    try:
                        self._screen.feed(data)
                    except AssertionError as error:
                        self._error = error
                        return

    def lines(self) -> list[str]:
        """The visible lines."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._screen.lines()

    def shows(self, words: str) -> bool:
        """Whether these words are on the screen."""
        return any(words in line for line in self.lines())

    def all_lines(self) -> list[str]:
        """The visible lines after those that have scrolled away."""
        with self._lock:
            return [*self._screen.scrolled, *self._screen.lines()]

    def press(self, keys: str) -> None:
        """Presses keys: `\\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows the keys that are pressed."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def close(self) -> None:
        """Ends the process and closes the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)  # ends the reader, as the terminal has no other user now
        self._reader.join(5)
        os.close(self._master)
