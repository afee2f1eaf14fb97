"""Event log `state/log/pipeline.jsonl`: one JSON line for each fact and each warning, for people and their tools.

Owns: rotation, and the escaping of control characters from shares. This program never reads it: state is in the ledger.
"""

import contextlib
import logging
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

from inbox_agent.protocol.printable import escaped
from pipeline.core.facts import Fact, encode_fact
from pipeline.paths import LOG_FILE, LOG_FOLDER

#: Loggers to record: only this program's. The root logger belongs to the importing program.
LOGGERS = ("hyperv_ops", "inbox_agent", "pipeline")
FILE_BYTES_MAX, FILES_KEPT = 10 * 1024 * 1024, 5


class EventLog:
    """The log of a running host. Write errors are ignored."""

    def __init__(self, state: Path) -> None:
        folder = state / LOG_FOLDER
        with contextlib.suppress(OSError):  # then no line is written
            folder.mkdir(parents=True, exist_ok=True)
        self._file = QuietFile(
            folder / LOG_FILE, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )
        self._file.setFormatter(_JsonFormatter())
        self._file.setLevel(logging.WARNING)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._file)

    def write(self, facts: Sequence[Fact], at: float, generation: int) -> None:
        """Writes facts that are recorded."""
        head = f'{{"at":"{iso_time(at)}","generation":{generation},'.encode()
        lines = b"\n".join(head + encode_fact(fact)[1:] for fact in facts).decode()
        if lines:
            self._file.emit(logging.LogRecord("pipeline", logging.INFO, "", 0, escaped(lines), None, None))

    def close(self) -> None:
        """Closes the file."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._file)
        with contextlib.suppress(OSError):  # its buffer has lines for which a full disk had no room
            self._file.close()


class QuietFile(RotatingFileHandler):
    """A file of lines that is rotated. It prints no tracebacks when the disk is full or the file is locked."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return str(record.msg)  # facts are formatted already
        line = {"at": iso_time(record.created), "level": record.levelname.lower(), "text": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info).encode(errors="backslashreplace").decode()
        return escaped(orjson.dumps({**line, "by": record.name}).decode())


def iso_time(at: float) -> str:
    """A time in UTC, as logs have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
