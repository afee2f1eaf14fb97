"""The CPU time of an idle host: sixteen local workers, four of them in a long game."""

import time
from pathlib import Path

from bench.apart import apart
from bench.farm import warm_farm
from bench.games import genomes
from bench.rounds import figure, in_turn, note
from bench.table import Row, limit
from pipeline import Progress

TARGET_PERCENT = 1.0
WORKERS, GAMES = 16, 4
SETTLE_S = 2.0


def rows(place: Path, *, quick: bool) -> list[Row]:
    """The host's share of one core."""
    seconds = 5.0 if quick else 15.0
    measured = in_turn({"idle host": lambda: apart(measure, place, seconds=seconds)}, 1)["idle host"]
    what = f"CPU of an idle host, {WORKERS} workers"
    return [limit(what, figure(measured, "percent"), "% of a core", TARGET_PERCENT, note(measured))]


def measure(folder: str, seconds: float) -> dict[str, float]:
    """CPU time of this process over the wall time of a window while the games are played."""
    marks: list[tuple[float, float]] = []
    begun = 0.0

    def watch(progress: Progress) -> None:
        playing = sum(row.state == "playing" for row in progress.workers)
        if playing == GAMES and time.monotonic() - begun > SETTLE_S:
            marks.append((time.monotonic(), time.process_time()))

    with warm_farm(folder, WORKERS) as farm:
        begun = time.monotonic()
        farm.evaluate(genomes(f"nap {SETTLE_S + seconds + 1:g}", GAMES), on_progress=watch)
    wall_s, cpu_s = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    assert wall_s > seconds - 1, f"the window had only {wall_s:.1f} s"
    return {"percent": 100 * cpu_s / wall_s}
