"""The interpreter that `python` stands for: the one that runs this program, with its packages."""

import sys
from pathlib import Path


def interpreter() -> str:
    """The interpreter's path, for evaluators and hooks.

    Windows: `pythonw.exe` has no console, so each console program that an evaluator starts would open a window over
    it. `python.exe` in a process tree has an invisible console, which its children share.
    """
    program = Path(sys.executable)
    with_console = program.with_name("python.exe")
    return str(with_console if program.name.lower() == "pythonw.exe" and with_console.exists() else program)
