"""`python -m bench`: one run on one machine, one table of figures. Progress goes to stderr, the table to stdout."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    dask_sites,
    growth,
    history,
    idle_gap,
    idle_host,
    looking,
    machine,
    no_op,
    remote_clients,
    smb,
    speed_up,
)
from bench.table import Row, render

TMPFS = Path("/dev/shm")


def main(argv: list[str] | None = None) -> int:
    """Measures what was asked for and prints the table. Exit code 0, whatever the figures are."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.disk is not None and not args.disk.is_dir():
        parser.error(f"--disk {args.disk}: no such folder")
    if args.trend:
        return _show_trend(parser, args.history)
    commit = history.commit()  # now: it may be another one in half an hour
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.disk, ignore_cleanup_errors=True) as place:
        disk = Path(place)
        parts = _parts(disk, args)
        described = machine.describe(disk)
        print(machine.one_line(described), flush=True)
        rows = [row for name, part in parts.items() if name in (args.only or parts) for row in part()]
    print(render(rows))
    run = history.entry(rows, described, datetime.now(UTC), commit, quick=args.quick)
    if args.json:
        table = {**run, "rows": [row.as_json() for row in rows]}
        del table["figures"]  # the rows have them
        args.json.write_text(json.dumps(table, indent=2) + "\n")
    if args.history:
        history.append(args.history, run)
    return 0


def _show_trend(parser: argparse.ArgumentParser, path: Path | None) -> int:
    if path is None:
        parser.error("--trend needs --history FILE")
    try:
        print(history.trend(history.read(path)))
    except (OSError, ValueError) as error:
        parser.error(f"--history {path}: {error}")
    return 0


def _parts(disk: Path, args: argparse.Namespace) -> dict[str, Callable[[], list[Row]]]:
    return {
        "no-op-disk": lambda: no_op.rows(disk, "disk", quick=args.quick),
        "no-op-tmpfs": lambda: _on_tmpfs(args.quick),
        "speed-up": lambda: speed_up.rows(disk, args.workers, quick=args.quick),
        "idle-gap": lambda: idle_gap.rows(disk, quick=args.quick),
        "idle-host": lambda: idle_host.rows(disk, quick=args.quick),
        "looking": lambda: looking.rows(disk, quick=args.quick),
        "smb": lambda: smb.rows(disk, quick=args.quick),
        "dask-sites": lambda: dask_sites.rows(disk, quick=args.quick),
        "remote-clients": lambda: remote_clients.rows(disk, quick=args.quick),
        "growth": lambda: growth.rows(disk, quick=args.quick, genomes=args.genomes),
    }


def _on_tmpfs(quick: bool) -> list[Row]:
    if not (TMPFS.is_dir() and os.access(TMPFS, os.W_OK)):
        return [Row(what="no-op evaluations, tmpfs", note="no /dev/shm here")]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TMPFS, ignore_cleanup_errors=True) as place:
        return no_op.rows(Path(place), "tmpfs", quick=quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parts = sorted(_parts(Path(), argparse.Namespace()))
    parser.add_argument("--only", action="append", choices=parts, help="measure this part; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer evaluations and rounds, rougher figures")
    parser.add_argument("--workers", type=_numbers, default=[1, 2], metavar="N,N", help="speed-up of so many workers")
    parser.add_argument("--genomes", type=int, default=0, metavar="N", help="of the part `growth` (default: 100,000)")
    parser.add_argument("--disk", type=Path, metavar="DIR", help="a folder on the disk to measure (default: temp)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="add the figures to this file, a line for each run"
    )
    parser.add_argument("--trend", action="store_true", help="measure nothing, show the figures of --history by commit")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
