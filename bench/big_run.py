"""A run of 10,000 genomes of 64 KiB whose host is killed half-way: time until it continues, and memory of the host."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.apart import ROOT, NotMeasured, apart
from bench.farm import EVALUATOR
from bench.games import genome
from bench.rounds import figure, note
from bench.table import Row, limit
from pipeline.config import load_config
from pipeline.core.facts import AttemptIssued, Fact, TrialSettled
from pipeline.host.host import Host

GENOME_BYTES = 64 * 1024
MEMORY_MB, RESUME_S = 150.0, 5.0
LOOK_INTERVAL_S = 0.25


def rows(place: Path, *, quick: bool) -> list[Row]:
    """Peak memory of the host, and seconds from its start to the first new attempt."""
    count = 1_000 if quick else 10_000
    root = place / "big"
    try:
        print(f"{count} genomes: written, played half, killed, resumed", file=sys.stderr, flush=True)
        _set_up(root, count)
        with contextlib.suppress(NotMeasured):  # it kills itself, so it has no figures
            apart(play, place, quietly=True, folder=str(root), started=0.0, kill_at=count // 2)
        measured = apart(play, place, folder=str(root), started=time.monotonic(), kill_at=0)
    except NotMeasured as error:
        measured = str(error)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    size = f"{count:,} genomes of {GENOME_BYTES // 1024} KiB"
    return [
        limit(f"host memory at {size}", figure(measured, "memory_mb"), "MB", MEMORY_MB, note(measured)),
        limit(f"resume after kill -9 in {size}", figure(measured, "resume_s"), "s", RESUME_S, note(measured)),
    ]


def play(folder: str, started: float, kill_at: int) -> dict[str, float]:
    """Plays the generation to its end, or until this process kills itself after `kill_at` settled trials."""
    figures = {"memory_mb": 0.0, "resume_s": 0.0}
    root = Path(folder)
    with Host(root, load_config(root), ROOT) as host:
        host.begin(1)
        assert kill_at or host.farm.attempts, "there is nothing to resume"
        ending = host.play(_watch(figures, started, kill_at))
        assert ending.finished, ending.diagnosis
    return figures


def _watch(figures: dict[str, float], started: float, kill_at: int) -> Callable[[list[Fact]], None]:
    me, settled, due = psutil.Process(), 0, 0.0

    def on_tick(facts: list[Fact]) -> None:
        nonlocal settled, due
        now = time.monotonic()
        settled += sum(isinstance(fact, TrialSettled) for fact in facts)
        if kill_at and settled >= kill_at:
            me.kill()
        if not figures["resume_s"] and any(isinstance(fact, AttemptIssued) for fact in facts):
            figures["resume_s"] = now - started
        if now >= due:
            due = now + LOOK_INTERVAL_S
            figures["memory_mb"] = max(figures["memory_mb"], me.memory_info().rss / 1e6)

    return on_tick


def _set_up(root: Path, count: int) -> None:
    folder = root / "genomes" / "gen-0001"
    folder.mkdir(parents=True)
    (root / "pipeline.toml").write_text(
        f'[generation]\ntrials_per_genome = 1\n[evaluator]\npython = "{EVALUATOR.python}"\n[local]\nworkers = 2\n'
    )
    for number in range(count):
        (folder / f"g{number:05d}.bin").write_bytes(genome("noop 0", number, GENOME_BYTES))
