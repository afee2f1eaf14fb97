"""The evaluator as a command: `python play.py GENOME --seed S --result FILE` plays one episode."""

import argparse
import json
from pathlib import Path

from evaluator import MAX_STEPS, episode
from policy import Policy, load


def main() -> None:
    """Plays and writes the result as JSON."""
    parser = argparse.ArgumentParser(description="Flies one episode of LunarLander-v3.")
    parser.add_argument("genome", type=Path, help="an .npz file")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--settings", type=Path, help='a JSON file, e.g. {"max_steps": 400}')
    parser.add_argument("--result", type=Path, required=True, help="where fitness and metrics go, as JSON")
    args = parser.parse_args()
    settings = json.loads(args.settings.read_text()) if args.settings else {}
    result = episode(Policy(load(args.genome)), args.seed, int(settings.get("max_steps", MAX_STEPS)))
    args.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
