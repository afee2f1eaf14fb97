"""`state/log/pipeline.jsonl`: what happened, one JSON line for each fact and each warning, for people and their tools.

Nothing reads it back: the ledger is the memory. It decides when a file is full, and that nothing of what a share says
can play with a terminal.
"""

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

from pipeline.core.facts import Fact, encode_fact
from pipeline.paths import LOG_FILE, LOG_FOLDER

#: Whose records are kept: this program's alone. The root logger belongs to the program that uses it.
LOGGERS = ("hyperv_ops", "inbox_agent", "pipeline")
FILE_BYTES_MAX, FILES_KEPT = 10 * 1024 * 1024, 5


class EventLog:
    """Open for as long as a host is at work. A line that cannot be written is nobody's loss."""

    def __init__(self, state: Path) -> None:
        folder = state / LOG_FOLDER
        with contextlib.suppress(OSError):  # then no line can be written, which stops nothing
            folder.mkdir(parents=True, exist_ok=True)
        self._file = _QuietHandler(
            folder / LOG_FILE, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )
        self._file.setFormatter(_JsonFormatter())
        self._file.setLevel(logging.WARNING)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._file)

    def write(self, facts: Sequence[Fact], at: float, generation: int) -> None:
        """Writes facts that the ledger has."""
        head = f'{{"at":"{_iso_time(at)}","generation":{generation},'.encode()
        lines = b"\n".join(head + encode_fact(fact)[1:] for fact in facts).decode()
        if lines:
            self._file.emit(logging.LogRecord("pipeline", logging.INFO, "", 0, _escape_controls(lines), None, None))

    def close(self) -> None:
        """Lets go of the file."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._file)
        self._file.close()


class _QuietHandler(RotatingFileHandler):
    """A full disk or a file that somebody has open must not fill the terminal with tracebacks."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return str(record.msg)  # facts, which are lines already
        told = {"at": _iso_time(record.created), "level": record.levelname.lower(), "text": record.getMessage()}
        return _escape_controls(orjson.dumps({**told, "by": record.name}).decode())


def _escape_controls(lines: str) -> str:
    """JSON escapes the old control characters; those beyond ASCII, which turn text around, are left to us."""
    if lines.isascii():
        return lines
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in lines)


def _iso_time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
