"""The agents of many idle shares in one process: `python -m bench.heartbeats FILE`, with a line for each share.

Writes a heartbeat into every share in turn, each every 15 s, and claims nothing.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.apart import ROOT
from inbox_agent.protocol.layout import encode
from inbox_agent.protocol.local_files import LocalFiles
from tests.harness import records

INTERVAL_S = 15.0


@contextlib.contextmanager
def heartbeats(listed: Path, shares: Sequence[Path]) -> Iterator[None]:
    """Sends heartbeats from a process of their own; `listed` becomes a file with the paths of the shares."""
    listed.write_text("".join(f"{path}\n" for path in shares), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "bench.heartbeats", str(listed)], cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _beat(paths: Sequence[Path]) -> None:
    shares, waiting = [LocalFiles(path) for path in paths], threading.Event()
    for counter in range(1, 1000):
        begun_s = time.monotonic()
        for number, (path, share) in enumerate(zip(paths, shares, strict=True), 1):
            heartbeat = records.beat(counter=counter, evaluator=records.VERSION, **_owner(path))
            share.replace("status/agent.json", encode(heartbeat))
            pause_s = begun_s + INTERVAL_S * number / len(shares) - time.monotonic()
            waiting.wait(max(0.0, pause_s if counter > 1 else 0.0))  # the first round has no pauses


def _owner(share: Path) -> dict[str, Any]:
    try:
        owner = orjson.loads((share / "inbox" / "1.host.json").read_bytes())
    except FileNotFoundError:
        return {"farm": None, "worker": None, "epoch": None}
    return {key: owner[key] for key in ("farm", "worker", "epoch")}


if __name__ == "__main__":
    _beat([Path(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()])
