"""Runs a program under one fault, in a session of its own with a deadline, and ends whatever it leaves running."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.apart import ROOT
from bench.faults.game import GENOMES, games_played
from bench.faults.measurement import Cell

DEADLINE_S = 45.0
#: For processes to notice that the program has ended, before they count as left running.
END_WITHIN_S = 2.0
LOOK_INTERVAL_S = 0.1
MESSAGE_CHARS_SHOWN = 200
MARK = "FAULTS_CELL"


def measure(system: str, fault: str, deadline_s: float = DEADLINE_S, command: Sequence[str] | None = None) -> Cell:
    """Runs the program of a system, twice if the fault is that the program is killed."""
    command = command or [sys.executable, "-m", "bench.faults.program", system]
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        left = 0
        if fault == "program":
            _, left = _run(command, folder, fault, deadline_s)
            (folder / "answer.json").unlink(missing_ok=True)
        code, left_at_end = _run(command, folder, fault, deadline_s)
        return Cell(
            system=system,
            fault=fault,
            games=games_played(folder),
            left_running=left + left_at_end,
            **_outcome(folder, code),
        )


def _outcome(folder: Path, code: int | None) -> dict[str, Any]:
    if code is None:
        return {"end": "never"}
    try:
        got = json.loads((folder / "answer.json").read_bytes())
    except FileNotFoundError:
        return {"end": "died", "error": signal.Signals(-code).name if code < 0 else f"exit code {code}"}
    if got["error"]:  # the measurement has no texts of libraries, because they may name paths
        print(f"{got['error']}: {got['message'][:MESSAGE_CHARS_SHOWN].partition(chr(10))[0]}", file=sys.stderr)
    return {
        "end": "raised" if got["error"] else "returned",
        "fitnesses": min(GENOMES, got["fitnesses"]),
        "failed": tuple(got["failed"]),
        "error": got["error"],
        "seconds": got["seconds"],
    }


def _run(command: Sequence[str], folder: Path, fault: str, deadline_s: float) -> tuple[int | None, int]:
    """The program's exit code, None if the deadline ended it, and how many processes it left running."""
    mark = uuid.uuid4().hex
    environment = {
        **os.environ,
        "FAULTS_FOLDER": str(folder),
        "FAULTS_KIND": fault,
        MARK: mark,
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    streams: Mapping[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    program = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)
    try:
        return _wait(program, mark, deadline_s)
    finally:
        _end(program, mark)


def _wait(program: "subprocess.Popen[bytes]", mark: str, deadline_s: float) -> tuple[int | None, int]:
    try:
        code = program.wait(deadline_s)
    except subprocess.TimeoutExpired:
        return None, 0
    deadline = time.monotonic() + END_WITHIN_S
    while (left := len(_processes(program.pid, mark))) and time.monotonic() < deadline:
        time.sleep(LOOK_INTERVAL_S)
    return code, left


def _end(program: "subprocess.Popen[bytes]", mark: str) -> None:
    """Kills the program with all that it has started, and waits for their end."""
    left = []
    if program.poll() is None:
        with contextlib.suppress(psutil.Error):
            left = psutil.Process(program.pid).children(recursive=True)
        program.kill()
        program.wait()
    while left := [*left, *_processes(program.pid, mark)]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=END_WITHIN_S)
        left = []


def _processes(session: int, mark: str) -> list[psutil.Process]:
    """What runs in the program's session, or has its mark in the environment; a daemon of Ray overwrites the latter."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE and (
                os.getsid(process.pid) == session or process.environ().get(MARK) == mark
            ):
                found.append(process)
    return found
