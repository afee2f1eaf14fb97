"""`pipeline`: finds out whether the host's libraries are installed, then hands over to the CLI."""

import importlib.util
import io
import sys

from pipeline.exit_codes import BAD_INPUT

NEEDED = ("apscheduler", "click", "rich")


def main() -> int:
    """Runs the command line; returns the exit code."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"pipeline: {', '.join(missing)} not installed; this is the agent's installation. "
            'For the host: pip install "genome-pipeline[host]"',
            file=sys.stderr,
        )
        return BAD_INPUT
    from pipeline.cli import run_commands

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe has the code page's characters only, a genome's name any
            stream.reconfigure(errors="backslashreplace")
    return run_commands()


if __name__ == "__main__":
    sys.exit(main())
