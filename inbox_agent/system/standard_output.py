"""Standard output and error that may be closed or full: what they do not take is dropped, and no caller gets an error.

Owns: both streams of a program that has called `drop_failed_writes`, from then until the interpreter has flushed them.
Not here: what a command does when its output is lost.
"""

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any

#: There is no reader: the other end of a pipe is closed (EINVAL on Windows), or there is no other end.
_NO_READER = frozenset({errno.EPIPE, errno.EINVAL, errno.EBADF})


def drop_failed_writes() -> None:
    """Replaces `sys.stdout` and `sys.stderr` by streams whose writes never fail, and that can print any character.

    Those that are closed become the null device, so that no other file gets their descriptor.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  open until this program ends
    sys.stdout = _without_errors(sys.stdout)
    sys.stderr = _without_errors(sys.stderr)


def write_error(stream: Any) -> OSError | None:
    """The first error of a write to one of these streams; the reader has left, or its disk is full."""
    raw = _raw(stream)
    return raw.error if isinstance(raw, _Output) else None


def lost_output() -> str:
    """Why a part of standard output is missing where it is kept; empty if it is complete or has no reader."""
    sys.stdout.flush()
    error, raw = write_error(sys.stdout), _raw(sys.stdout)
    if error is None or error.errno in _NO_READER or raw.was_terminal:
        return ""
    return error.strerror or str(error)


class _Output(io.RawIOBase):
    """A standard stream without its buffers. A failed write is noted, and reported as done."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.was_terminal = raw.isatty()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                left = left[self._raw.write(left) or self._wait() :]
            except OSError as error:
                self.error = self.error or error
                break
        return size

    def _wait(self) -> int:
        """Waits until a stream that was made non-blocking takes more."""
        select.select((), (self._raw,), ())
        return 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        # A terminal that is gone is still drawn to: the failed write is how a display learns of it.
        return self.was_terminal

    @property
    def name(self) -> Any:
        return getattr(self._raw, "name", None)


def _without_errors(stream: Any) -> Any:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    raw = _raw(stream)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        return stream  # of a program that calls this one in its own process
    with contextlib.suppress(OSError):
        stream.flush()
    output = _Output(raw)
    return io.TextIOWrapper(
        # With `python -u` there is no buffer.
        output if raw is stream.buffer else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors="backslashreplace",  # a pipe has the code page's characters only, a genome's name any
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
