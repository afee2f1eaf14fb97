"""Workers between two evaluations, by the evaluator's own clock: the idle gap, and the share of time spent in games."""

import statistics
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.apart import apart
from bench.farm import warm_farm
from bench.games import genomes
from bench.rounds import ROUNDS, figure, in_turn, note
from bench.table import Row
from bench.targets import GAP_MS, UTILISATION_PERCENT

WORKERS = 2
Games = list[tuple[float, float]]  #: begin and end of each game of one worker, in seconds


def rows(place: Path, *, quick: bool) -> list[Row]:
    """The gap between games of 20 ms and the utilisation at games of 5 ms, with the default configuration."""
    count = 80 if quick else 400
    longer, shorter = in_turn(
        {
            "games of 20 ms": partial(apart, measure, place, count=count, game_ms=20),
            "games of 5 ms": partial(apart, measure, place, count=4 * count, game_ms=5),
        },
        1 if quick else ROUNDS,
    ).values()
    return [
        Row(
            what="gap of a worker between games of 20 ms",
            figure=figure(longer, "gap_ms"),
            unit="ms",
            target=GAP_MS,
            note=note(longer),
            remark="the larger of two workers' medians",
        ),
        Row(
            what="utilisation of two workers at games of 5 ms",
            figure=figure(shorter, "utilisation_percent"),
            unit="%",
            target=UTILISATION_PERCENT,
            note=note(shorter),
            remark="games that sleep",
        ),
    ]


def measure(folder: str, count: int, game_ms: int) -> dict[str, float]:
    """The largest of the workers' median gaps, and the part of their time that they spent in games."""
    games: dict[str, Games] = defaultdict(list)
    with warm_farm(folder, WORKERS) as farm:
        farm.begin(genomes(f"nap {game_ms / 1000:g}", count))
        farm.play()
        for row in farm.rows():
            games[row["pid"]].append((float(row["begin"]), float(row["end"])))
    return {"gap_ms": 1000 * gap_s(games.values()), "utilisation_percent": 100 * utilisation(games.values())}


def gap_s(workers: Collection[Games]) -> float:
    """The largest of the workers' median gaps between the end of a game and the begin of the next."""
    return max(
        statistics.median(after[0] - before[1] for before, after in pairwise(sorted(games)))
        for games in workers
        if len(games) > 1
    )


def utilisation(workers: Collection[Games]) -> float:
    """The part of the workers' time spent in games, from the begin of the first game to the end of the last."""
    games = [game for each in workers for game in each]
    span_s = max(end for _begin, end in games) - min(begin for begin, _end in games)
    return sum(end - begin for begin, end in games) / (len(workers) * span_s)
