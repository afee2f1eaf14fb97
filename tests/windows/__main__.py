"""`python -m tests.windows [pytest arguments]`: the test suite on Windows CPython under Wine.

Exits with 1 if a test failed, also when it was played again alone, or if too many were left out.
"""

import argparse
import codecs
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from tests.harness.source_tree import ROOT
from tests.harness.wine import WindowsPython, WindowsUnavailable, path_there, windows_python
from tests.windows.left_out import left_out

AT_LEAST = 0.6  #: of the tests that the system can make a difference to
WORKERS = 2
TEST_LIMIT_S = 300  # of tests without their own limit: more than twice the limit elsewhere (pyproject.toml)
LAST_OUTPUT_S = 2.0
PLAY_LIMIT_S = 3000.0
END_LIMIT_S = 60.0  #: for pytest to print its summary and end after it wrote its report
POLL_S = 1.0
#: Without output, before Wine is ended and everything is played again, once: a test in a call from which Wine does not
#: return cannot run into its own time limit.
STALL_LIMIT_S = 420.0
#: What is the same on every system: tests that read the source tree, and those of rules, which do no I/O.
NOT_PLAYED = ("--ignore=tests/repository", "-m", "not rules and not vm and not contrib")
#: What is played with `--short`: what differs most there, which are files, locks and processes.
SHORT = (
    "tests/unit",
    "tests/conformance",
    *(
        f"tests/integration/test_{name}.py"
        for name in (
            "agent_process",
            "agent_state",
            "archive",
            "atomic_file",
            "command_evaluator",
            "crash_dialogs",
            "deploy_command",
            "evaluator_archive",
            "evaluator_files",
            "exchanged_folders",
            "file_lock",
            "folder_watcher",
            "genome_folder",
            "http_serve",
            "kept_process",
            "ledger",
            "ledger_reader",
            "local_files",
            "local_machines",
            "local_workers",
            "process_tree",
            "project_reader",
            "python_function",
            "snapshots",
            "standard_output",
            "unpack",
        )
    ),
    "tests/end_to_end/test_end_to_end.py",
    "tests/end_to_end/test_second_copies.py",
)
_STALLED = -1
#: So many failed tests are played once more, alone: Wine loses a process now and then if many start at a time, and the
#: test that waits for it runs out of time. A test that fails alone, too, is a failure.
PLAYED_AGAIN_MAX = 5
REPORT = ROOT / "build" / "windows.xml"
REPORT_AGAIN = REPORT.with_name("windows-again.xml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.windows", description=__doc__)
    parser.add_argument("--all", action="store_true", help="show every test that was left out")
    parser.add_argument("--short", action="store_true", help="play only what differs most on Windows")
    args, chosen = parser.parse_known_args()
    try:
        python = windows_python()
    except WindowsUnavailable as error:
        print(f"test-windows: {error}", file=sys.stderr)
        return 2
    print(
        python.run("-c", "import sys; print('Windows CPython', sys.version)").stdout.strip(), "under Wine", flush=True
    )
    if chosen:
        return _play(python, chosen, REPORT)
    everything = ["-n", str(WORKERS), "--dist", "worksteal", *NOT_PLAYED, *(SHORT if args.short else ())]
    if (code := _play(python, everything, REPORT)) == _STALLED:
        code = _play(python, everything, REPORT)
    if code and not _pass_alone(python):
        return 1
    return 0 if args.short else _conclude(show_all=args.all)


def _pass_alone(python: WindowsPython) -> bool:
    """Whether the tests that failed pass when they are played alone; False if there are too many, or none is known."""
    failed = _failed(REPORT) if REPORT.exists() else []
    if not 0 < len(failed) <= PLAYED_AGAIN_MAX:
        return False
    print(f"\nplayed again, alone: {', '.join(failed)}", flush=True)
    return _play(python, failed, REPORT_AGAIN) == 0


def _failed(report: Path) -> list[str]:
    """The failed tests of a report, as pytest's arguments."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return [
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]


def _play(python: WindowsPython, chosen: list[str], report: Path) -> int:
    """Runs pytest under Wine; returns its exit code, 1 if it did not end within its limit, or `_STALLED`."""
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    pytest += [f"--timeout={TEST_LIMIT_S}", f"--junitxml={path_there(report)}"]
    with subprocess.Popen(
        python.argv(*pytest, *chosen),
        cwd=ROOT,
        env=python.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        # Wine's services also hold the other end of the pipe and keep running, so its end of file says nothing.
        reader = _Reader(process.stdout)
        reader.start()
        code = _exit_code(process, report, reader)
        reader.join(LAST_OUTPUT_S)
        python.end()
        process.kill()  # Wine's end ends it; only a program that Wine has lost is still there
        reader.join(LAST_OUTPUT_S)
    return code


def _exit_code(process: subprocess.Popen[bytes], report: Path, reader: "_Reader") -> int:
    """Waits for pytest's end. Its report decides if the process does not end: Wine can lose the end of one."""
    began = time.monotonic()
    reported_at = None
    while process.poll() is None:
        now = time.monotonic()
        if reported_at is None and report.exists():
            reported_at = now
        if reported_at is not None and now - reported_at > END_LIMIT_S:
            print(f"test-windows: pytest wrote its report and did not end within {END_LIMIT_S:g} s", file=sys.stderr)
            return int(bool(_failed(report)))
        if now - reader.last_at > STALL_LIMIT_S:
            print(f"test-windows: Wine is ended, after {STALL_LIMIT_S:g} s without output", file=sys.stderr)
            return _STALLED
        if now - began > PLAY_LIMIT_S:
            print(f"test-windows: pytest did not end within {PLAY_LIMIT_S:g} s", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    return process.returncode


class _Reader(threading.Thread):
    """Passes output on, and notes when some came last."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.last_at = time.monotonic()

    def run(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := os.read(self._stream.fileno(), 65536):
            self.last_at = time.monotonic()
            print(decoder.decode(chunk).replace("\r\n", "\n"), end="", flush=True)


def _conclude(*, show_all: bool) -> int:
    """The share of tests that passed there, and the reasons of those left out."""
    cases = ElementTree.parse(REPORT).getroot().iter("testcase")  # written by pytest
    skipped: Counter[str] = Counter()
    passed = 0
    for case in cases:
        skip = case.find("skipped")
        passed += skip is None
        if skip is not None:
            skipped[skip.get("message", "")] += 1
    everything = _collected()
    for one in left_out():
        whole = [node for node in everything if any(node.startswith(f"{name}::") for name in one.tests)]
        if whole:
            skipped[one.reason] += len(whole)
    print("\nleft out:")
    for reason, count in skipped.most_common():
        print(f"{count:5}  {reason}")
    if show_all:
        for node in everything:
            for one in left_out():
                if one.covers(node):
                    print(f"       {node}: {one.reason}")
    if stale := [one for one in left_out() if not any(one.covers(node) for node in everything)]:
        print(f"nothing is left out by: {stale}")
        return 1
    share = passed / len(everything)
    print(f"\n{passed} of {len(everything)} tests passed under Windows CPython: {share:.0%} (at least {AT_LEAST:.0%})")
    return 0 if share >= AT_LEAST else 1


def _collected() -> list[str]:
    """All tests that this system collects."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", *NOT_PLAYED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


if __name__ == "__main__":
    sys.exit(main())
