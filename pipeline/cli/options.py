"""Options that several commands share, and a command line as it is shown to the user."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli.completion import complete_generation
from pipeline.errors import InputError


def _absolute(_context: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    try:
        return root.resolve()
    except OSError as error:  # the current folder was removed
        raise InputError(f"{root}: {error.strerror}; go to a folder that is there, or give --root") from error


root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    callback=_absolute,
    help="The project folder, with pipeline.toml, genomes/ and results/ (default: here).",
)

gen_option = click.option(
    "--gen",
    "gen",
    default=None,
    help="The generation (default: the one played last).",
    shell_complete=complete_generation,
)


def shell_line(words: Sequence[str]) -> str:
    """A command line that can be copied: quoted for a POSIX shell, or for Windows."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
