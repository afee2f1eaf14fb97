"""The benchmark runs and its table is well-formed; its figures are not checked."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench.apart import ROOT, apart
from bench.cpu import cpu_time
from bench.samples import NotMeasured
from bench.table import HEAD


@pytest.mark.processes
def test_cheapest_benchmark_runs(tmp_path: Path) -> None:
    """Table, JSON and history agree, the trend shows the run, and no file is left."""
    disk, table, history = tmp_path / "disk", tmp_path / "bench.json", tmp_path / "bench.jsonl"
    disk.mkdir()
    options: list[str | Path] = ["--quick", "--only", "idle-gap", "--disk", disk, "--json", table, "--history", history]
    done = bench(*options)
    machine, head, rule, *below = done.stdout.splitlines()
    assert "cores" in machine
    assert "fsync" in machine
    assert [head.find(word) for word in HEAD] == sorted(head.find(word) for word in HEAD)
    assert set(rule) == {"-", " "}
    results = json.loads(table.read_text())
    assert results["machine"]["fsync_ms"] > 0
    assert len(results["rows"]) == 2
    for result, row in zip(results["rows"], below, strict=False):
        assert result["what"] in row
        assert any(line.endswith(result["remark"]) for line in below[2:])
        assert result["figure"]["median"] > 0
        assert result["verdict"] in ("met", "missed")
    assert os.listdir(disk) == []
    (kept,) = map(json.loads, history.read_text().splitlines())
    assert [each["value"] for each in kept["figures"].values()] == [
        result["figure"]["median"] for result in results["rows"]
    ]
    shown = bench("--history", history, "--trend").stdout
    assert all(row["what"] in shown for row in results["rows"])
    assert kept["commit"] in shown


def test_trend_of_missing_history_is_refused(tmp_path: Path) -> None:
    """In one line, as any other wrong option."""
    with pytest.raises(AssertionError, match="No such file"):
        bench("--trend", "--history", tmp_path / "missing.jsonl")


def bench(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done


def needs_missing_library(folder: str) -> None:
    """Used by the test below."""
    import_module("a_missing_library")


def finds_nothing(folder: str) -> None:
    """Used by the test below."""
    raise NotMeasured("too short to measure")


def fails(folder: str) -> None:
    """Used by the test below."""
    raise ValueError("as expected")


def test_program_that_cannot_be_measured_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing library is named, and so is a reason; an error is shown; none of them leaves a file."""
    with pytest.raises(NotMeasured, match="a_missing_library is not installed"):
        apart(needs_missing_library, tmp_path)
    with pytest.raises(NotMeasured, match="too short to measure"):
        apart(finds_nothing, tmp_path)
    with pytest.raises(NotMeasured, match="failed"):
        apart(fails, tmp_path)
    assert "as expected" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_cpu_time_of_descendants_counts_while_they_run_and_after(tmp_path: Path) -> None:
    """A process of a process, alive at the end of a measurement or not; each once."""
    spin = "import time; until = time.process_time() + 0.3\nwhile time.process_time() < until: pass\n"
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}]); print(flush=True); input()"
    before = cpu_time()
    with subprocess.Popen([sys.executable, "-c", below], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        during = cpu_time()
        process.stdin.close()
    after = cpu_time()
    assert during.all_s - before.all_s >= 0.25
    assert during.own_s - before.own_s < during.all_s - before.all_s
    assert after.all_s - before.all_s >= during.all_s - before.all_s - 0.05
