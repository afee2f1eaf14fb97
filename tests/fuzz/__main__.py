"""Fuzzes the decoders of bytes from outside, the minutes shared between the targets: `make fuzz MINUTES=20`.

Needs atheris, which there is for CPython on Linux. An input that raises an error that is not allowed is saved; put it
into `tests/fuzz/found/TARGET/`, where `test_fuzz_targets.py` runs it from then on.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.target import NAMES, corpus, load
from tests.harness.source_tree import ROOT

PLACE = ROOT / "build" / "fuzz"
INPUT_BYTES_MAX, INPUT_LIMIT_S, MEMORY_MB_MAX = 16 * 1024, 20, 2048
_LINES_SHOWN = 60
IN_MEMORY = Path("/dev/shm")  #: some targets write each input to a file


def main() -> int:
    """Returns 1 if an input was found that raises an error that is not allowed, or if there is no fuzzer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *NAMES], metavar="TARGET", help="all if none is named")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's choices, from 1")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one saved input, without a fuzzer")
    args = parser.parse_args()
    targets = args.targets or NAMES
    if args.replay is not None:
        for name in targets:
            load(name).run(args.replay.read_bytes())
        return 0
    if find_spec("atheris") is None:
        print('fuzz: there is no atheris; `pip install -e ".[fuzz]"` installs it for CPython on Linux', file=sys.stderr)
        return 1
    print(f"{'target':20} {'inputs run':>12} {'branches':>9}")
    return max(_fuzz(name, args.minutes * 60 / len(targets), args.seed) for name in targets)


def _fuzz(name: str, seconds: float, seed: int) -> int:
    kept, found = PLACE / "corpus" / name, PLACE / "found" / name
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    for data in corpus(name):
        (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    options = {
        "max_total_time": max(1, round(seconds)),
        "seed": seed,
        "max_len": INPUT_BYTES_MAX,
        "timeout": INPUT_LIMIT_S,
        "rss_limit_mb": MEMORY_MB_MAX,
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "tests.fuzz.run_one", name, *(f"-{key}={value}" for key, value in options.items())]
    environment = {**os.environ, "TMPDIR": str(IN_MEMORY)} if IN_MEMORY.is_dir() else None
    ran = subprocess.run(
        [*command, kept], capture_output=True, text=True, errors="replace", cwd=ROOT, env=environment, check=False
    )
    said = ran.stdout + ran.stderr
    executions = re.findall(r"stat::number_of_executed_units: (\d+)", said) or ["?"]
    branches = re.findall(r"\bcov: (\d+)", said) or ["?"]
    print(f"{name:20} {executions[-1]:>12} {branches[-1]:>9}", flush=True)
    if ran.returncode:
        _, _, uncaught = said.partition("=== Uncaught Python exception: ===\n")
        print("\n".join((uncaught or said).splitlines()[:_LINES_SHOWN]))
        print(f"{name}: an error that is not allowed; the input is in {found}", flush=True)
    return int(ran.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
