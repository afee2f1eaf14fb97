"""The end of the newest log of a game or an agent, to show why a farm cannot go on."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.farm import Farm
from pipeline.core.model import WorkerState
from pipeline.paths import ATTEMPT_LOG, ATTEMPTS

_BYTES_MAX, _LINES_MAX = 2000, 15


def last_log(farm: Farm, results: Path, agent_logs: Iterable[Path]) -> str:
    """The newest attempt's log, or the newest agent's if a worker is out; empty if there is none. Starts a new line."""
    with contextlib.suppress(OSError):  # a diagnosis is useful without a log, too
        for attempt in reversed(farm.attempts.values()):
            path = results / ATTEMPTS / attempt.id / ATTEMPT_LOG
            if path.exists():
                return f"\nlast log ({path}):\n{_tail(path)}"
        logs = [path for path in agent_logs if path.exists()]
        if logs and any(worker.state is WorkerState.OUT for worker in farm.workers.values()):
            newest = max(logs, key=lambda path: path.stat().st_mtime)
            return f"\nlast log ({newest}):\n{_tail(newest)}"
    return ""


def _tail(path: Path) -> str:
    text = path.read_bytes()[-_BYTES_MAX:].decode("utf-8", "replace")
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()[-_LINES_MAX:]]
    return "\n".join(f"  {line}" for line in lines)
