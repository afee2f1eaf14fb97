"""`python -m inbox_agent.evaluator_check SETTINGS FOLDER STATE`: loads the evaluator of a settings file.

The host runs it before the first attempt on its local workers, so that no genome pays for a module that is missing.
Prints the problem in one line of UTF-8 and exits with 1; exits with 0 if there is none. It ends when standard input
ends. STATE has the names of its processes, so that they can be ended after it was killed.
"""

import os
import sys
import threading
from pathlib import Path

from inbox_agent.arguments import AgentFile
from inbox_agent.settings import read_settings
from inbox_agent.single_game import temporary_evaluator


def main(settings: str, folder: str, state: str) -> int:
    """Returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        table = read_settings(Path(settings), AgentFile).evaluator
        with temporary_evaluator(table, Path(folder), state=Path(state)) as evaluator:
            problem = evaluator.problem()
    except (ValueError, OSError) as error:  # SettingsError and InvalidAnswer are ValueErrors
        problem = str(error)
    sys.stdout.buffer.write(problem.encode("utf-8", "replace"))
    return int(bool(problem))


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # the worker process dies with this one


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
