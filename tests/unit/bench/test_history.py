"""The bench: figures of earlier runs in a file, and their trend as text."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench import history
from bench.samples import Samples
from bench.table import Row
from bench.targets import at_least

MACHINE = {
    "cores": 2, "load": 0.5, "python": "3.11.7", "system": "Linux 6.1", "fsync_ms": 0.2, "disk": "disk", "packages": {}
}  # fmt: skip
AT = datetime(2026, 10, 1, 12, 30, tzinfo=UTC)


def rate(value: float) -> Row:
    return Row(
        what="rate",
        figure=Samples((value,)),
        unit="/s",
        reference=Samples((100.0,)),
        against="Ray",
        target=at_least(1.2),
    )


def gap(value: float) -> Row:
    return Row(what="gap", figure=Samples((value,)), unit="ms")


def run(commit: str, *rows: Row, machine: dict[str, Any] = MACHINE, quick: bool = False) -> dict[str, Any]:
    return history.entry(rows, machine, AT, commit, quick=quick)


def trend(path: Path, *runs: dict[str, Any]) -> list[str]:
    """The trend of these runs, which went through the file."""
    for each in runs:
        history.append(path, each)
    return history.trend(history.read(path)).splitlines()


def test_run_keeps_what_targets_bound(tmp_path: Path) -> None:
    """The ratio where there is a reference, and nothing of a row that was not measured."""
    kept = run("abc", rate(150.0), gap(1.5), Row(what="other", note="failed"))
    assert kept["figures"] == {
        "rate, relative to Ray": {"value": 1.5, "unit": "x", "verdict": "met"},
        "gap": {"value": 1.5, "unit": "ms", "verdict": "for information"},
    }
    assert (kept["commit"], kept["date"], kept["machine"]) == ("abc", "2026-10-01T12:30:00+00:00", MACHINE)


def test_trend_shows_each_figure_over_commits(tmp_path: Path) -> None:
    """With the change from the run before, and a gap where a run did not measure it."""
    first, second, empty, head, rule, rates, gaps = trend(
        tmp_path / "h.jsonl", run("abc", rate(150.0), gap(2.0)), run("def", rate(300.0))
    )
    assert first.startswith("1: 2026-10-01T12:30:00+00:00  2 cores")
    assert second.startswith("2: ")
    assert empty == ""
    assert head.split("  ")[0] == "what"
    assert head.split()[1:] == ["1:", "abc", "2:", "def", "change"]
    assert set(rule) == {"-", " "}
    assert rates.split() == ["rate,", "relative", "to", "Ray", "1.50", "x", "3.00", "x", "+100", "%"]
    assert gaps.split() == ["gap", "2.00", "ms", "-", "-"]


def test_trend_compares_like_with_like(tmp_path: Path) -> None:
    """A quick run, or another machine, says nothing about the commit between."""
    others = [run("quick", gap(9.0), quick=True), run("large", gap(0.1), machine={**MACHINE, "cores": 64})]
    text = trend(tmp_path / "h.jsonl", run("abc", gap(2.0)), *others, run("def", gap(1.0)))
    assert "2 other runs are not shown: older, or not comparable" in text
    assert text[-1].split() == ["gap", "2.00", "ms", "1.00", "ms", "-50", "%"]


def test_trend_shows_last_runs(tmp_path: Path) -> None:
    text = trend(tmp_path / "h.jsonl", *(run(f"c{number}", gap(1.0 + number)) for number in range(10)))
    assert text[-3].split()[1:3] == ["1:", "c2"]
    assert text[-3].split()[-3:] == ["8:", "c9", "change"]


def test_figure_that_was_zero_has_no_change(tmp_path: Path) -> None:
    assert trend(tmp_path / "h.jsonl", run("abc", gap(0.0)), run("def", gap(1.0)))[-1].endswith("1.00 ms  -")


def test_empty_history_has_no_trend(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").touch()
    assert trend(tmp_path / "h.jsonl") == ["no run yet"]


@pytest.mark.parametrize("line", ["{", "[]", '"text"', "{}", '{"machine": {}, "figures": {}}'])
def test_line_that_is_no_run_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "h.jsonl"
    history.append(path, run("abc", gap(1.0)))
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2 is not a run of the bench"):
        history.read(path)
