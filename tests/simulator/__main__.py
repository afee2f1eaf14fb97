"""`python -m tests.simulator --seed N [--count M]`: plays seeds, prints what broke and the figures of all."""

import argparse
import logging
import subprocess
import sys
import time
import traceback
from collections import Counter

from tests.simulator.history import play


def main() -> int:
    """Plays the seeds; exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--verbose", action="store_true", help="print the options of each seed")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, fired, failures = time.monotonic(), Counter(), 0
    virtual_s = operations = trials = workers = 0.0
    for seed in range(args.seed, args.seed + args.count):
        try:
            history = play(seed)
        except Exception:
            failures += 1
            print(f"seed {seed} (commit {_commit()}): a defect")
            traceback.print_exc()
            continue
        if not history.verdict.kept:
            failures += 1
            print(f"seed {seed} (commit {_commit()}): {history.verdict}\n  {history.world.options}")
        elif args.verbose:
            print(f"seed {seed}: kept, {history.seconds:.0f} s, {history.world.options}")
        fired += history.world.fired
        virtual_s += history.seconds
        operations += history.world.operations
        trials += history.trials
        workers += history.world.options.workers
    took_s = time.monotonic() - began
    n = args.count
    print(f"{n} seeds from {args.seed}: {failures} broken; {took_s:.1f} s, {n / took_s:.1f} seeds/s")
    print(
        f"per seed: {workers / n:.1f} workers, {trials / n:.1f} trials, {operations / n:.0f} operations, "
        f"{fired.total() / n:.1f} faults, {virtual_s / n:.0f} virtual seconds"
    )
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in fired.most_common()))
    return 1 if failures else 0


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
