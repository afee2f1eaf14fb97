"""`pipeline`: finds out whether the host's libraries are installed, then hands over to the CLI.

The exit codes of all commands are here: 0 every genome completed, 1 finished, but some genomes failed, 2 bad input or
configuration, 3 stopped early and resumable, 4 the farm cannot go on, 70 a defect of this program.
"""

import importlib.util
import sys

NEEDED = ("apscheduler", "click", "rich")
ALL_COMPLETED, SOME_FAILED, BAD_INPUT, STOPPED, STANDSTILL, DEFECT = 0, 1, 2, 3, 4, 70


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

    return run_commands()


if __name__ == "__main__":
    sys.exit(main())
