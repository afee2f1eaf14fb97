"""Draws `docs/run.svg`, the terminal of a real run with a lossy worker in it: `python docs/picture.py`."""

import tempfile
from pathlib import Path

import psutil
from rich.console import Console

from pipeline import Evaluator, Progress, open_farm
from pipeline.screens.monitor import Picture

GAME = """
import random, time

def play(genome_path, trial):
    dice = random.Random(f"{open(genome_path).read()}/{trial.seed}")
    for turn in range(1, 21):
        trial.progress(f"turn {turn} of 20")
        time.sleep(dice.uniform(0.02, 0.16))
    return dice.gauss(100, 15)
"""


def main() -> None:
    """Plays a small generation, kills one agent on the way, and keeps the picture of the moment after."""
    console = Console(record=True, width=100, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    shown: list[Progress] = []
    with tempfile.TemporaryDirectory() as root, _farm(Path(root)) as farm:
        genomes = {f"bot-{number:03d}.txt": f"bot {number}".encode() for number in range(24)}

        def watch(now: Progress) -> None:
            if now.completed >= 8 and not shown:
                shown.append(now)
                victim = farm.workers[1].pid
                if victim is not None:
                    psutil.Process(victim).kill()
            elif now.completed >= 16 and now.lost and len(shown) < 2:
                shown.append(now)

        farm.evaluate(genomes, on_progress=watch)
    console.print(Picture(shown[-1]))
    console.save_svg(str(Path(__file__).parent / "run.svg"), title="pipeline run --gen 1")


def _farm(root: Path):
    (root / "game.py").write_text(GAME)
    (root / "pipeline.toml").write_text("[limits]\nsilence_limit_s = 3.0\n")
    return open_farm(root, evaluator=Evaluator(python="game:play"), workers=4, trials_per_genome=1)


if __name__ == "__main__":
    main()
