"""Options that several commands share, and a command line as it is shown to the user."""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.cli.completion import complete_generation
from pipeline.errors import InputError

#: Has the token of `--remote`: an argument would be seen in the list of processes.
TOKEN_VARIABLE = "PIPELINE_TOKEN"  # noqa: S105  the name of a variable
_NOT_GIVEN = ParameterSource.DEFAULT


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


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A project elsewhere."""

    url: str
    token: str  #: where it is kept, or empty
    ca_file: Path | None


def remote_options(command: Callable[..., int]) -> Callable[..., int]:
    """Adds `--remote` and what belongs to it; the command gets `remote`, a `RemotePlace` or None."""
    file = click.Path(path_type=Path, dir_okay=False)

    @click.option("--remote", "url", metavar="URL", help="Ask the server of a project elsewhere (`pipeline serve`).")
    @click.option(
        "--token-file", type=file, metavar="FILE", help=f"The token for it (default: the variable {TOKEN_VARIABLE})."
    )
    @click.option(
        "--ca-file", type=file, metavar="FILE", help="The authorities of its certificate (default: system's)."
    )
    @functools.wraps(command)
    def run(*args: Any, url: str | None, token_file: Path | None, ca_file: Path | None, **kwargs: Any) -> int:
        if url is None and (token_file is not None or ca_file is not None):
            raise click.UsageError("--token-file and --ca-file belong to --remote; add its URL")
        if url is not None and click.get_current_context().get_parameter_source("root") is not _NOT_GIVEN:
            raise click.UsageError("--remote and --root cannot both be had; choose one")
        kept = f"env:{TOKEN_VARIABLE}" if os.environ.get(TOKEN_VARIABLE) else ""
        token = kept if token_file is None else f"file:{token_file.absolute()}"
        return command(*args, remote=RemotePlace(url, token, ca_file) if url is not None else None, **kwargs)

    return run


def shell_line(words: Sequence[str]) -> str:
    """A command line that can be copied: quoted for a POSIX shell, or for Windows."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
