"""A toy evaluator: how close a genome's bytes are to a phrase. Put your game here."""

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

settings = json.loads(args.settings.read_text(encoding="utf-8")) if args.settings else {}
fitness = score(args.genome.read_bytes(), args.seed, settings.get("difficulty", "hard"))
answer = {"fitness": fitness, "metrics": {"length": args.genome.stat().st_size}}
args.result.write_text(json.dumps(answer), encoding="utf-8")
