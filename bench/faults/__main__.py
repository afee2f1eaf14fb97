"""`python -m bench.faults`: one genome of forty misbehaves. One row for each system, one column for each fault.

Progress goes to stderr, the table to stdout: in colours on a terminal, else as Markdown.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from bench.faults import measurement
from bench.faults.cell import DEADLINE_S, measure
from bench.faults.game import FAULTS
from bench.faults.table import as_markdown, as_rich, explained, one_line, versions


def main(argv: list[str] | None = None) -> int:
    """Measures what was asked for and prints the table. Exit code 0, whatever was measured."""
    parser = _parser()
    args = parser.parse_args(argv)
    if os.name == "nt":
        parser.error("processes are killed by signals of POSIX: run it on Linux or macOS")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        parser.error(f"--json {args.json}: no such folder")
    cells = []
    for system in args.only or measurement.SYSTEMS:
        for fault in args.fault or FAULTS:
            cells.append(measure(system, fault))
            print(one_line(cells[-1]), file=sys.stderr, flush=True)
    measured = measurement.described(cells, DEADLINE_S)
    if args.json is not None:
        measurement.write(args.json, measured)
    console = Console()
    if console.is_terminal:
        console.print(as_rich(measured), explained(measured), versions(measured), sep="\n")
    else:
        print(as_markdown(measured))
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:9} the genome {what}" for name, what in FAULTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults",
        description=__doc__,
        epilog="\n".join(["faults:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=[*measurement.SYSTEMS], metavar="SYSTEM", help="may be repeated"
    )
    parser.add_argument("--fault", action="append", choices=[*FAULTS], metavar="FAULT", help="may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurement there as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
