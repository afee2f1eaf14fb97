"""The cost of the views: `top` on a long ledger, the report of many generations, a host while a view reads its ledger.

The commands are timed as whole processes, as a user waits for them.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.apart import ROOT, apart
from bench.command import command
from bench.farm import warm_farm
from bench.games import genomes
from bench.rounds import ROUNDS, figure, in_turn, note, once
from bench.samples import Samples
from bench.table import Row
from bench.targets import FIRST_SCREEN_S, REPORT_S, WATCHING_PERCENT
from inbox_agent.protocol.layout import Outcome
from pipeline import Progress
from pipeline.core import facts as f
from pipeline.core.facts import Fact, RunSettings, Settlement
from pipeline.storage.ledger import Ledger

TRIALS, WORKERS = 3, 8
_CONFIG = "[evaluator]\ncommand = ['play']\n[local]\nworkers = 8\n"


def rows(place: Path, *, quick: bool) -> list[Row]:
    """Seconds of each command, and the additional CPU time of a host that is watched."""
    fraction = 10 if quick else 1
    first, page = in_turn(
        {
            "first screen": partial(apart, of_ledger, place, verb="top", generations=10, genomes=1000 // fraction),
            "report": partial(apart, of_ledger, place, verb="report", generations=100, genomes=100 // fraction),
        },
        1 if quick else ROUNDS,
    ).values()
    seconds = 4.0 if quick else 12.0
    plain = once("unwatched host", partial(apart, host_cpu, place, seconds=seconds, watched=False))
    watched = once("watched host", partial(apart, host_cpu, place, seconds=seconds, watched=True))
    return [
        Row(
            what="pipeline top, 10 generations of 1,000 genomes",
            figure=figure(first, "s"),
            unit="s",
            target=FIRST_SCREEN_S,
            note=note(first),
        ),
        Row(
            what="pipeline report --all, 100 generations of 100",
            figure=figure(page, "s"),
            unit="s",
            target=REPORT_S,
            note=note(page),
        ),
        Row(
            what="CPU that watching costs the host",
            figure=_difference(figure(watched, "percent"), figure(plain, "percent")),
            unit="% of a core",
            target=WATCHING_PERCENT,
            note=note(plain, watched),
        ),
    ]


def _difference(more: Samples | None, less: Samples | None) -> Samples | None:
    return Samples((max(0.0, more.median - less.median),)) if more is not None and less is not None else None


def of_ledger(folder: str, verb: str, generations: int, genomes: int) -> dict[str, float]:
    """Runs a command on a ledger of `generations` generations."""
    root = Path(folder)
    (root / "pipeline.toml").write_text(_CONFIG)
    ledger = Ledger(root / "state")
    for generation in range(1, generations + 1):
        ledger.append(list(_generation(generation, genomes)), 1_790_000_000.0 + 1000 * generation, generation, 1)
    ledger.close()
    return command(verb, "--once" if verb == "top" else "--all", root=folder)


def host_cpu(folder: str, seconds: float, watched: bool) -> dict[str, float]:
    """The host's share of one core while it plays a few long games, with or without a reader of its progress."""
    marks: list[tuple[float, float]] = []
    readers: list[subprocess.Popen[bytes]] = []

    def watch(progress: Progress) -> None:
        if sum(row.state == "playing" for row in progress.workers) == WORKERS:
            if watched and not readers:
                code = _READER.format(root=folder)
                readers.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT))
            marks.append((time.monotonic(), time.process_time()))

    with warm_farm(folder, WORKERS) as farm:
        farm.begin(genomes(f"nap {seconds:g}", WORKERS))
        farm.play(on_progress=watch)
    for process in readers:
        process.kill()
        process.wait()
    wall_s, cpu_s = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    return {"percent": 100 * cpu_s / wall_s}


_READER = """
import time
from pathlib import Path
from pipeline.inspection.project_reader import ProjectReader
with ProjectReader(Path({root!r})) as reader:
    while True:
        reader.progress(reader.latest())
        time.sleep(0.5)
"""


def _generation(generation: int, genomes: int) -> Iterator[Fact]:
    settings = RunSettings(
        trials_per_genome=TRIALS, seed=7, settings={}, evaluator="play", time_limit_s=60.0, timed_out_fitness=None
    )
    yield f.HostStarted(pid=1, workers=WORKERS)
    yield f.RunOpened(generation=generation, run=1, settings=settings)
    names = [f"local-{number}" for number in range(WORKERS)]
    if generation == 1:
        for name in names:
            yield f.EpochRaised(worker=name, epoch=1, reason="first contact")
            yield f.EpochOpened(worker=name, epoch=1)
    for number in range(1, genomes + 1):
        digest = f"{generation * 10_000 + number:064x}"
        yield f.GenomeAdded(genome=number, name=f"bot-{number:04d}.json", suffix=".json", size_bytes=99, sha256=digest)
    for number in range(1, genomes + 1):
        for trial in range(1, TRIALS + 1):
            attempt = f"g{generation:04d}-{number:04d}-t{trial}-a1-{generation * 1_000_000 + number * 10 + trial:012d}"
            worker = names[(number + trial) % WORKERS]
            fitness = generation + number / genomes
            yield f.AttemptIssued(
                attempt=attempt,
                genome=number,
                trial=trial,
                number=1,
                worker=worker,
                epoch=1,
                publication=(generation * genomes + number) * TRIALS + trial,
            )
            yield f.AttemptClaimed(attempt=attempt)
            yield f.AttemptEnded(
                attempt=attempt, outcome=Outcome.COMPLETED, has_result=True, fitness=fitness, seconds=1.0, archived=True
            )
            yield f.TrialSettled(
                genome=number, trial=trial, settlement=Settlement.COMPLETED, attempt=attempt, fitness=fitness
            )
    yield f.RunFinished()
