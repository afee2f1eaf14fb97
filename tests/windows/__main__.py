"""`python -m tests.windows [pytest arguments]`: the test suite on Windows CPython under Wine.

Exits with 1 if a test failed, or if too many were left out.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import IO
from xml.etree import ElementTree

from tests.harness.source_tree import ROOT
from tests.harness.wine import WindowsPython, WindowsUnavailable, path_there, windows_python
from tests.windows.left_out import left_out

AT_LEAST = 0.8
WORKERS = 2
TEST_LIMIT_S = 480  # of tests without their own limit: four times the limit elsewhere (pyproject.toml)
LAST_OUTPUT_S = 2.0
PLAY_LIMIT_S = 3000.0
END_LIMIT_S = 60.0  #: for pytest to print its summary and end after it wrote its report
POLL_S = 1.0
REPORT = ROOT / "build" / "windows.xml"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.windows", description=__doc__)
    parser.add_argument("--all", action="store_true", help="show every test that was left out")
    args, chosen = parser.parse_known_args()
    try:
        python = windows_python()
    except WindowsUnavailable as error:
        print(f"test-windows: {error}", file=sys.stderr)
        return 2
    print(
        python.run("-c", "import sys; print('Windows CPython', sys.version)").stdout.strip(), "under Wine", flush=True
    )
    if code := _play(python, chosen):
        return code
    return 0 if chosen else _conclude(show_all=args.all)


def _play(python: WindowsPython, chosen: list[str]) -> int:
    """Runs pytest under Wine; returns its exit code, or 1 if it did not end within its limit."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    pytest += [f"--timeout={TEST_LIMIT_S}", f"--junitxml={path_there(REPORT)}"]
    with subprocess.Popen(
        python.argv(*pytest, *(chosen or ["-n", str(WORKERS), "--dist", "worksteal"])),
        cwd=ROOT,
        env=python.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        # Wine's services also hold the other end of the pipe and keep running, so its end of file says nothing.
        reader = threading.Thread(target=_pass_on, args=(process.stdout,), daemon=True)
        reader.start()
        code = _exit_code(process)
        reader.join(LAST_OUTPUT_S)
        python.end()
        process.kill()  # Wine's end ends it; only a program that Wine has lost is still there
        reader.join(LAST_OUTPUT_S)
    return code


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Waits for pytest's end. Its report decides if the process does not end: Wine can lose the end of one."""
    began = time.monotonic()
    reported_at = None
    while process.poll() is None:
        now = time.monotonic()
        if reported_at is None and REPORT.exists():
            reported_at = now
        if reported_at is not None and now - reported_at > END_LIMIT_S:
            print(f"test-windows: pytest wrote its report and did not end within {END_LIMIT_S:g} s", file=sys.stderr)
            return _reported_code()
        if now - began > PLAY_LIMIT_S:
            print(f"test-windows: pytest did not end within {PLAY_LIMIT_S:g} s", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    return process.returncode


def _reported_code() -> int:
    """1 if the report names a failed test or an error, else 0."""
    suites = ElementTree.parse(REPORT).getroot().iter("testsuite")
    return int(any(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites))


def _pass_on(stream: IO[bytes]) -> None:
    for line in stream:
        print(line.decode("utf-8", "replace").rstrip(), flush=True)


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
        [sys.executable, "-m", "pytest", "-q", "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


if __name__ == "__main__":
    sys.exit(main())
