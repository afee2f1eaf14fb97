"""The idle gap of a worker: from the end of one evaluation to the start of the next, by the evaluator's own clock."""

import statistics
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from bench.apart import apart
from bench.farm import results, warm_farm
from bench.games import genomes
from bench.rounds import ROUNDS, figure, in_turn, note
from bench.table import Row, limit

TARGET_MS = 5.0
WORKERS = 2


def rows(place: Path, *, quick: bool) -> list[Row]:
    """The gap between games of 20 ms, at the default queue depth."""
    count = 80 if quick else 400
    measured = in_turn({"idle gap": lambda: apart(measure, place, count=count)}, 1 if quick else ROUNDS)["idle gap"]
    what = "idle gap of a worker between evaluations"
    return [limit(what, figure(measured, "gap_ms"), "ms", TARGET_MS, note(measured))]


def measure(folder: str, count: int) -> dict[str, float]:
    """The largest of the workers' median gaps."""
    games = defaultdict(list)
    with warm_farm(folder, WORKERS) as farm:
        farm.evaluate(genomes("nap 0.02", count))
        for row in results(farm):
            games[row["pid"]].append((float(row["begin"]), float(row["end"])))
    medians = [
        statistics.median(after[0] - before[1] for before, after in pairwise(sorted(each))) for each in games.values()
    ]
    return {"gap_ms": 1000 * max(medians)}
