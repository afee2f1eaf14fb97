"""`python -m tests.simulator --seed N [--count M]`: plays seeds, prints violations and the figures of all seeds.

With `--journal FILE` a long proof can be stopped and resumed; results of other code do not count.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from functools import cache, partial
from multiprocessing import Pool
from pathlib import Path

from tests.harness.source_tree import ROOT, imported_by
from tests.simulator.figures import CHUNK, Figures, ProofLog, prepare_process, run_chunk
from tests.simulator.history import play


def main() -> int:
    """Plays the seeds; exit code 1 if an invariant was violated."""
    args = _arguments()
    prepare_process()
    if args.count == 1:
        return _one(args.seed)
    firsts = range(args.seed, args.seed + args.count, CHUNK)
    journal = ProofLog(args.journal, f"{fingerprint()} {args.having}".strip())
    chunk = partial(run_chunk, having=args.having)
    with Pool(args.jobs, initializer=prepare_process) as pool:
        for number, (first, figures) in enumerate(pool.imap_unordered(chunk, journal.missing(firsts)), 1):
            journal.note(first, figures)
            for seed, message in figures["broken"].items():
                print(f"seed {seed} (code {fingerprint()}): {message}", flush=True)
            if number % 100 == 0:
                print(f"… {number * CHUNK:,} seeds", file=sys.stderr, flush=True)
    total = Figures()
    for part in journal.figures_of(firsts):
        total.add(part)
    which = f" that have {args.having}" if args.having else ""
    print(f"seeds {args.seed} … {firsts[-1] + CHUNK - 1}{which}, code {fingerprint()}, commit {_commit()}")
    print(total)
    return 1 if total.broken else 0


def _one(seed: int) -> int:
    history = play(seed)
    print(f"seed {seed}, code {fingerprint()}, commit {_commit()}: {history.world.options}")
    print(f"{history.seconds:.0f} virtual seconds, {history.world.operations:,} operations")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in history.world.fired.most_common()))
    print("\n".join(history.violations) or "no invariant was violated")
    return 1 if history.violations else 0


@cache
def fingerprint() -> str:
    """Identifies the code of a history: twelve hexadecimal digits of a hash of every module that it imports."""
    digest = hashlib.sha256()
    for name, path in sorted(imported_by(play.__module__).items()):
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _commit() -> str:
    """The commit that is checked out, if this is a clone; only the fingerprint covers uncommitted changes."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help=f"how many seeds, in chunks of {CHUNK}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="record the chunks that were played, and skip them"
    )
    parser.add_argument("--having", default="", metavar="OPTION", help="only worlds with this option, such as `rest`")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
