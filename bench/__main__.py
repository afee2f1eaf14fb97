"""`python -m bench`: one run on one machine, one table of ratios. Progress goes to stderr, the table to stdout."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import big_run, idle_gap, idle_host, looking, machine, no_op, smb, speed_up
from bench.table import Row, render

TMPFS = Path("/dev/shm")


def main(argv: list[str] | None = None) -> int:
    """Measures what was asked for and prints the table. Exit code 0, whatever the figures are."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.disk is not None and not args.disk.is_dir():
        parser.error(f"--disk {args.disk}: no such folder")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.disk, ignore_cleanup_errors=True) as place:
        disk = Path(place)
        parts = _parts(disk, args.workers, args.quick)
        described = machine.describe(disk)
        print(machine.one_line(described), flush=True)
        rows = [row for name, part in parts.items() if name in (args.only or parts) for row in part()]
    print(render(rows))
    if args.json:
        table = {"machine": described, "quick": args.quick, "rows": [row.as_json() for row in rows]}
        args.json.write_text(json.dumps(table, indent=2) + "\n")
    return 0


def _parts(disk: Path, workers: list[int], quick: bool) -> dict[str, Callable[[], list[Row]]]:
    return {
        "no-op-disk": lambda: no_op.rows(disk, "disk", quick=quick),
        "no-op-tmpfs": lambda: _on_tmpfs(quick),
        "speed-up": lambda: speed_up.rows(disk, workers, quick=quick),
        "idle-gap": lambda: idle_gap.rows(disk, quick=quick),
        "idle-host": lambda: idle_host.rows(disk, quick=quick),
        "big-run": lambda: big_run.rows(disk, quick=quick),
        "looking": lambda: looking.rows(disk, quick=quick),
        "smb": lambda: smb.rows(disk, quick=quick),
    }


def _on_tmpfs(quick: bool) -> list[Row]:
    if not (TMPFS.is_dir() and os.access(TMPFS, os.W_OK)):
        return [Row(what="no-op evaluations, tmpfs", note="no /dev/shm here")]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TMPFS, ignore_cleanup_errors=True) as place:
        return no_op.rows(Path(place), "tmpfs", quick=quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--workers", type=_numbers, default=[1, 2], metavar="N,N", help="speed-up of so many workers")
    parser.add_argument("--quick", action="store_true", help="fewer evaluations and rounds, rougher figures")
    parser.add_argument("--disk", type=Path, metavar="DIR", help="a folder on the disk to measure (default: temp)")
    parser.add_argument("--only", action="append", choices=sorted(_parts(Path(), [], False)), help="may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
