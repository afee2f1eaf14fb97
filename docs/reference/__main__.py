"""Writes the reference of `pipeline.toml` and of the commands from the code: `python -m docs.reference`."""

import sys
from pathlib import Path

from docs.reference.command_line import command_line
from docs.reference.configuration import configuration

PAGES = {"configuration.md": configuration, "command-line.md": command_line}


def main() -> int:
    """Writes each page beside this file."""
    for name, make in PAGES.items():
        (Path(__file__).parent / name).write_text(make(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
