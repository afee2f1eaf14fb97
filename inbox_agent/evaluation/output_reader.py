"""Reads a child process's output: its last bytes, its latest progress line and a worker process's framed replies.

Owns: what in the stream is log, progress or reply. Memory use does not depend on how much is written.
Not here: what a reply means (python_function).
Threads: one reader thread per stream.
"""

import os
import queue
import secrets
import threading
import time
from typing import IO, NamedTuple

from inbox_agent.protocol.layout import LOG_BYTES_MAX, PROGRESS_CHARS_MAX, RECORD_BYTES_MAX, clean

PROGRESS = b"progress: "
_FRAME = b"\x1e"  # "record separator": no text contains it, and the token behind it cannot be guessed
_CHUNK_BYTES = 64 * 1024  # what a pipe holds
_LINE_BYTES_MAX = len(PROGRESS) + 4 * 4 * PROGRESS_CHARS_MAX  # all that `clean` reads, in UTF-8
_REPLIES_MAX = 2  # a worker process reports that it is ready, then answers one request at a time


def new_marker() -> bytes:
    """A new random prefix for the replies of a worker process."""
    return _FRAME + secrets.token_hex(16).encode() + b" "


class WorkerReply(NamedTuple):
    """One framed line, the output before it, and when it was read."""

    body: bytes
    log: bytes
    at: float  #: time.monotonic()


class OutputReader:
    """Reads `stream` to its end in a daemon thread and closes it. With a `marker` it also extracts replies.

    A reply is `<marker><one line>`; both come through one stream, so the output before a reply is its log.
    """

    def __init__(self, stream: IO[bytes], marker: bytes = b"") -> None:
        self.ended = False  #: `wait` has reached the end of the stream
        self._stream, self._marker = stream, marker
        self._lock = threading.Lock()
        self._tail = bytearray()  # guarded by the lock: `take_log` clears it
        self._held = b""  # the beginning of a possible reply
        self._line = b""  # the beginning of an unfinished line
        self._progress = b""
        self._news: queue.SimpleQueue[WorkerReply | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pump, name="output", daemon=True)
        self._thread.start()

    @property
    def progress(self) -> str:
        """The latest progress text; the empty string if there was none since `forget_progress`."""
        return clean(self._progress.decode("utf-8", "replace"), PROGRESS_CHARS_MAX)

    def forget_progress(self) -> None:
        """Clears the progress text for the next evaluation."""
        self._progress = b""

    def wait(self, timeout_s: float) -> WorkerReply | None:
        """The next reply; None after the timeout, or at the end of the stream, when `ended` is true."""
        try:
            reply = self._news.get(timeout=timeout_s) if timeout_s > 0 else self._news.get_nowait()
        except queue.Empty:
            return None
        if reply is None:
            self.ended = True
            self._news.put(None)  # for the next `wait`
        return reply

    def take_log(self) -> bytes:
        """Returns and clears the last `LOG_BYTES_MAX` bytes since the last reply or the last take."""
        with self._lock:
            log = bytes(self._tail)
            self._tail.clear()
        return log

    # ------------------------------------------------------------------------------------- in the reader's thread

    def _pump(self) -> None:
        descriptor = self._stream.fileno()
        with self._stream:
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                if self._marker:
                    self._split(self._held + chunk)
                else:
                    self._text(chunk)
            self._text(self._held)
        self._news.put(None)

    def _split(self, data: bytes) -> None:
        """Separates text and replies; holds back a possible beginning of a reply."""
        marker, done, self._held = self._marker, 0, b""
        while (start := data.find(marker, done)) >= 0:
            body, end = start + len(marker), data.find(b"\n", start)
            stop = len(data) if end < 0 else end
            if stop - body > RECORD_BYTES_MAX:
                # No reply is that long, so none begins before the last position from which one could reach `stop`.
                body = stop - RECORD_BYTES_MAX - len(marker)
                self._text(data[done:body])
                done = body
                continue
            self._text(data[done:start])
            if end < 0:
                self._held = data[start:]
                return
            self._reply(data[body:end])
            done = end + 1
        cut = data.rfind(_FRAME, max(done, len(data) - len(marker) + 1))
        if cut >= 0 and marker.startswith(data[cut:]):
            self._held = data[cut:]
        else:
            cut = len(data)
        self._text(data[done:cut])

    def _reply(self, body: bytes) -> None:
        self._line = b""
        log = self.take_log()
        if self._news.qsize() < _REPLIES_MAX:  # more than were requested are dropped
            self._news.put(WorkerReply(body, log, time.monotonic()))

    def _text(self, data: bytes) -> None:
        if not data:
            return
        with self._lock:
            self._tail += data[-LOG_BYTES_MAX:]
            del self._tail[:-LOG_BYTES_MAX]
        lines, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._line += rest[: _LINE_BYTES_MAX - len(self._line)]
            return
        lines = self._line + lines
        at = lines.rfind(b"\n" + PROGRESS) + 1  # the last one counts; 0 when only the first line can be one
        if lines.startswith(PROGRESS, at):
            line = lines[at : at + _LINE_BYTES_MAX].partition(b"\n")[0]
            self._progress = line[len(PROGRESS) :]
        self._line = rest[:_LINE_BYTES_MAX]
