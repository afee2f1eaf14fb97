"""`pipeline init`: creates an example project that runs at once, as a starting point."""

from pathlib import Path

from pipeline.errors import InputError
from pipeline.paths import ProjectPaths

EVALUATOR_FILE = "play.py"
CONFIG = """\
# What `pipeline run` does. Every key may be left out; these are the defaults unless a line says otherwise.

[generation]
trials_per_genome = 3       # games per genome; its fitness is their mean
attempts_max = 3            # tries that may be the genome's fault, before it is given up
seed = 0                    # every genome of a generation plays the same games
direction = "maximize"
# timed_out_fitness = -100.0   # unset: a time-out is a failure, not a score

[settings]                  # passed to every evaluation
difficulty = "hard"

[evaluator]                 # what a local worker plays; this one is made by `pipeline init`
command = ["python", "play.py", "{genome}", "--seed", "{seed}", "--settings", "{settings}", "--result", "{result}"]
# python = "my_game:play"   # or a callable, kept warm: function(genome_path, trial) -> float or {"fitness": ...}
time_limit_s = 1800

[local]
workers = 2                 # default: one per core; 0 if only [[worker]]s play
queue_depth = 2             # one playing, one waiting

# [[worker]]                # a worker that you started elsewhere, behind a share
# name = "vm-0"
# share = 'D:\\shares\\vm-0'
"""

PLAY = '''\
"""A toy evaluator: how close a genome's bytes come to a hidden phrase. Put your game here."""

import argparse
import json
import random
from pathlib import Path

PHRASE = b"methinks it is like a weasel"


def score(genome: bytes, seed: int, difficulty: str) -> float:
    """Share of matching letters, with a little luck that the seed decides."""
    hits = sum(a == b for a, b in zip(genome, PHRASE, strict=False)) / len(PHRASE)
    return hits + random.Random(seed).gauss(0, 0.1 if difficulty == "hard" else 0.01)


parser = argparse.ArgumentParser()
parser.add_argument("genome", type=Path)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--settings", type=Path)
parser.add_argument("--result", type=Path, required=True)
args = parser.parse_args()

settings = json.loads(args.settings.read_text()) if args.settings else {}
fitness = score(args.genome.read_bytes(), args.seed, settings.get("difficulty", "hard"))
args.result.write_text(json.dumps({"fitness": fitness, "metrics": {"length": args.genome.stat().st_size}}))
'''

GENOMES = {
    "weasel.txt": b"methinks it is like a weasel",
    "whale.txt": b"methinks it is like a whale!",
    "camel.txt": b"do you see yonder cloud that",
    "nonsense.txt": b"wdltmnlt dtjbkwirzrezlmqco p",
}


def init(folder: Path) -> list[Path]:
    """Creates the example project; returns the paths of its files.

    Raises:
        InputError: one of its files exists already, or the folder cannot be written.
    """
    paths = ProjectPaths(folder)
    files = {paths.config: CONFIG.encode(), folder / EVALUATOR_FILE: PLAY.encode()}
    files |= {paths.genomes(1) / name: data for name, data in GENOMES.items()}
    try:
        for path in files:
            if path.exists():
                raise InputError(f"{path}: exists already; init makes new projects only")
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        paths.all_results.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}; give another folder") from error
    return list(files)
