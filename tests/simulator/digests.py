"""`python -m tests.simulator.digests --seed N --count M`: a hash of the ledger rows of each seed's history.

One line per seed, then a digest over all lines. A change that only moves or renames code does not change them.
"""

import argparse
import hashlib
import os
import sys
from multiprocessing import Pool

from tests.simulator.figures import prepare_process
from tests.simulator.history import History, play


def digest(history: History) -> str:
    """A hash of the ledger rows of a history."""
    return hashlib.sha256(repr(history.host.ledger.rows).encode()).hexdigest()


def main() -> int:
    """Prints the lines in the order of the seeds, as soon as they are known."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.digests", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    total = hashlib.sha256()
    with Pool(args.jobs, initializer=prepare_process) as pool:
        for line in pool.imap(_line, range(args.seed, args.seed + args.count)):
            print(line, flush=True)
            total.update(f"{line}\n".encode())
    print(f"all {total.hexdigest()}")
    return 0


def _line(seed: int) -> str:
    return f"{seed} {digest(play(seed))}"


if __name__ == "__main__":
    sys.exit(main())
