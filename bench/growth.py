"""A generation of 100,000 genomes whose host is killed near its end: what grows with the generation.

The first host plays 98 % and kills itself; the second one continues. Then the report of all is made.
"""

import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.apart import ROOT, apart
from bench.command import command
from bench.farm import LOCAL
from bench.games import genome
from bench.rounds import Figures, Measured, figure, note, once
from bench.samples import NotMeasured
from bench.table import Row
from bench.targets import (
    GROWTH_LAST_TENTH,
    GROWTH_MEMORY_MB,
    GROWTH_PAUSE_MS,
    GROWTH_REPORT_MB,
    GROWTH_REPORT_S,
    GROWTH_RESUME_S,
)
from bench.tenths import Tenths
from pipeline.config import load_config
from pipeline.core.facts import Fact, TrialSettled
from pipeline.host.host import Host

GENOMES, GENOMES_QUICK = 100_000, 5_000
LEFT_TO_RESUME = 0.02
LOOK_INTERVAL_S = 0.25
FIGURES = "figures.json"
PAUSE = "between the ends of two ticks, the second of which has results; the last write of the outputs is not one"


def rows(place: Path, *, quick: bool, genomes: int) -> list[Row]:
    """Rates, pauses and memory of the host, its resumption, and the report; targets are those of 100,000 genomes."""
    count = genomes or (GENOMES_QUICK if quick else GENOMES)
    return list(_rows(count, once(f"{count:,} genomes", partial(_measure, place, count))))


def _rows(count: int, measured: Measured) -> Iterator[Row]:
    said, of_all = note(measured), f"{count:,} genomes"
    first, last = figure(measured, "first_rate"), figure(measured, "last_rate")
    yield Row(
        what=f"rate of the last tenth of {of_all}",
        figure=last,
        unit="/s",
        reference=first,
        against="the first tenth",
        target=GROWTH_LAST_TENTH if count >= GENOMES else None,
        note=said,
    )
    for what, name, unit, target, remark in (
        ("longest pause of the control loop", "pause_ms", "ms", GROWTH_PAUSE_MS, PAUSE),
        ("begin, until the first tick", "begin_s", "s", None, ""),
        ("resume after kill -9, until the first tick", "resume_s", "s", GROWTH_RESUME_S, "at 98 %"),
        ("host memory", "memory_mb", "MB", GROWTH_MEMORY_MB, "of both hosts"),
        ("pipeline report", "report_s", "s", GROWTH_REPORT_S, ""),
        ("memory of pipeline report", "report_mb", "MB", GROWTH_REPORT_MB, ""),
    ):
        yield Row(
            what=f"{what}, {of_all}",
            figure=figure(measured, name),
            unit=unit,
            target=target if count >= GENOMES else None,
            note=said,
            remark=remark,
        )


def _measure(place: Path, count: int) -> Figures:
    root = place / "growth"
    try:
        _set_up(root, count)
        first = _played(root, place, stop_at=count - max(1, round(count * LEFT_TO_RESUME)))
        second = _played(root, place, stop_at=0)
        report = apart(report_of, place, folder=str(root))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return {
        "first_rate": first["rates"][0],
        "last_rate": first["rates"][-1],
        "pause_ms": 1000 * first["pause_s"],
        "begin_s": first["begin_s"],
        "resume_s": second["begin_s"],
        "memory_mb": max(first["memory_mb"], second["memory_mb"]),
        "report_s": report["s"],
        "report_mb": report["mb"],
    }


def _played(root: Path, place: Path, stop_at: int) -> dict[str, Any]:
    written = root / FIGURES
    written.unlink(missing_ok=True)
    try:
        apart(play, place, quietly=bool(stop_at), folder=str(root), begun_s=time.monotonic(), stop_at=stop_at)
    except NotMeasured:
        if not written.exists():  # one that has killed itself cannot answer, but has written its figures before
            raise
    figures: dict[str, Any] = json.loads(written.read_text())
    return figures


def play(folder: str, begun_s: float, stop_at: int) -> None:
    """Plays the generation to its end, or until this process kills itself after `stop_at` results."""
    root = Path(folder)
    course = _Course(root / FIGURES, begun_s, stop_at)
    with Host(root, load_config(root), ROOT) as host:
        host.begin(1, follow_folder=True)  # as `pipeline run` does
        assert stop_at or host.farm.attempts, "there is nothing to resume"
        ending = host.play(on_facts=course.on_facts)
        assert ending.finished, ending.diagnosis
    course.write({"rates": []})


class _Course:
    """What is seen of a host at the ends of its ticks."""

    def __init__(self, written: Path, begun_s: float, stop_at: int) -> None:
        self._written, self._begun_s = written, begun_s
        self._tenths = Tenths(stop_at) if stop_at else None
        self._process = psutil.Process()
        self._begin_s = self._memory_mb = self._look_due_s = 0.0

    def on_facts(self, facts: list[Fact]) -> None:
        now = time.monotonic()
        self._begin_s = self._begin_s or now - self._begun_s
        if now >= self._look_due_s:
            self._look_due_s = now + LOOK_INTERVAL_S
            self._memory_mb = max(self._memory_mb, self._process.memory_info().rss / 1e6)
        if self._tenths is not None:
            self._tenths.on_tick(sum(isinstance(fact, TrialSettled) for fact in facts))
            if self._tenths.over:
                self.write({"rates": self._tenths.rates(), "pause_s": self._tenths.longest_pause_s})
                self._process.kill()

    def write(self, figures: dict[str, Any]) -> None:
        found = {"begin_s": self._begin_s, "memory_mb": self._memory_mb, **figures}
        self._written.write_text(json.dumps(found))


def report_of(folder: str) -> Figures:
    """Seconds and memory of the report."""
    return command("report", root=folder)


def _set_up(root: Path, count: int) -> None:
    folder = root / "genomes" / "gen-0001"
    folder.mkdir(parents=True)
    (root / "pipeline.toml").write_text(f"[generation]\ntrials_per_genome = 1\n{LOCAL.format(workers=2)}")
    for number in range(count):
        (folder / f"g{number:06d}.bin").write_bytes(genome("noop 0", number))
