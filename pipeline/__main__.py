"""`pipeline`: imports the command line, or says which extra it needs, and hands over to it."""

import sys

from inbox_agent.system.standard_output import drop_failed_writes
from pipeline.errors import MissingExtraError, needs_extra


def main() -> int:
    """Runs the command line; returns the exit code."""
    drop_failed_writes()
    try:
        with needs_extra("host"):
            from pipeline.cli.main import run_commands
    except MissingExtraError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return error.exit_code
    return run_commands()


if __name__ == "__main__":
    sys.exit(main())
