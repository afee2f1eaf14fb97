"""The benchmark runs and its table is well-formed; its figures are not checked."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench.apart import ROOT, NotMeasured, apart
from bench.rounds import in_turn
from bench.table import HEAD, Row, limit, render


@pytest.mark.processes
def test_cheapest_benchmark_runs(tmp_path: Path) -> None:
    """Table and JSON agree, and no file is left."""
    disk, table = tmp_path / "disk", tmp_path / "bench.json"
    disk.mkdir()
    options: list[str | Path] = ["--quick", "--only", "idle-gap", "--disk", disk, "--json", table]
    command = [sys.executable, "-m", "bench", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    machine, head, rule, *rows = done.stdout.splitlines()
    assert "cores" in machine
    assert "fsync" in machine
    assert [head.find(word) for word in HEAD] == sorted(head.find(word) for word in HEAD)
    assert set(rule) == {"-", " "}
    results = json.loads(table.read_text())
    assert results["machine"]["fsync_ms"] > 0
    assert len(results["rows"]) == len(rows) == 1
    assert results["rows"][0]["what"] in rows[0]
    assert results["rows"][0]["figure"] > 0
    assert results["rows"][0]["verdict"] in ("met", "missed")
    assert os.listdir(disk) == []


def test_benchmark_verdicts() -> None:
    """A minimum, a limit, an information and a gap in the table."""
    rows = [
        Row(what="a", figure=50.0, unit="/s", reference=100.0, against="floor", least=0.5),
        Row(what="b", figure=49.0, unit="/s", reference=100.0, against="floor", least=0.5),
        limit("c", 4.9, "ms", 5.0),
        limit("d", 5.0, "ms", 5.0),
        Row(what="e", figure=1.0, reference=2.0),
        Row(what="f", figure=1.0, against="Ray", least=1.0, note="ray is not installed"),
    ]
    assert [row.verdict for row in rows] == [
        "met", "missed", "met", "missed", "for information", "ray is not installed"
    ]  # fmt: skip
    assert len(render(rows).splitlines()) == 2 + len(rows)
    assert json.loads(json.dumps(rows[0].as_json()))["ratio"] == 0.5


def test_contenders_alternate_and_medians_are_used() -> None:
    """One that cannot be measured is reported, and the others continue."""
    figures = iter([3.0, 100.0, 4.0])
    order = []

    def well() -> dict[str, float]:
        order.append("well")
        return {"rate": next(figures)}

    def ill() -> dict[str, float]:
        order.append("ill")
        raise NotMeasured("not installed")

    assert in_turn({"well": well, "ill": ill}, 3) == {"well": {"rate": 4.0}, "ill": "not installed"}
    assert order == ["well", "ill", "well", "well"]


def needs_missing_library(folder: str) -> None:
    """Used by the test below."""
    import_module("a_missing_library")


def fails(folder: str) -> None:
    """Used by the test below."""
    raise ValueError("as expected")


def test_contender_that_cannot_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing library is named; an error is shown; neither leaves a file."""
    with pytest.raises(NotMeasured, match="a_missing_library is not installed"):
        apart(needs_missing_library, tmp_path)
    with pytest.raises(NotMeasured, match="failed"):
        apart(fails, tmp_path)
    assert "as expected" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
