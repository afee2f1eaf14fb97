"""`pipeline`: imports the command line, or says which extra it needs, and hands over to it."""

import io
import sys

from pipeline.errors import MissingExtraError, host_extra


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        with host_extra():
            from pipeline.cli.main import run_commands
    except MissingExtraError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return error.exit_code
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe has the code page's characters only, a genome's name any
            stream.reconfigure(errors="backslashreplace")
    return run_commands()


if __name__ == "__main__":
    sys.exit(main())
