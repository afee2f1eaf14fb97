"""Which Python is meant by `python`: the one that runs this program, with its packages."""

import sys
from pathlib import Path


def interpreter() -> str:
    """Its path, for games and hooks.

    Windows: `pythonw.exe` has no console, so whatever console program a game starts would open a window of its own,
    over the game. `python.exe` on the leash has one that nobody sees, and its children share it.
    """
    program = Path(sys.executable)
    with_console = program.with_name("python.exe")
    return str(with_console if program.name.lower() == "pythonw.exe" and with_console.exists() else program)
