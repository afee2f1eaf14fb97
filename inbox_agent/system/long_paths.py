"""Checks paths against Windows' limit of 260 characters, which applies unless the machine enables long paths."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

IN_A_SHARE, IN_A_PROJECT = 130, 155  #: the longest relative paths, with an artifact of the longest name
PATH_CHARS_MAX = 259  # Source: Microsoft, "Maximum Path Length Limitation": MAX_PATH is 260 with the final NUL
_KEY, _VALUE = r"SYSTEM\CurrentControlSet\Control\FileSystem", "LongPathsEnabled"


def long_paths_enabled() -> bool:
    """Whether a path may be longer than `PATH_CHARS_MAX`; always true on other systems."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _KEY) as key:
            return bool(winreg.QueryValueEx(key, _VALUE)[0])
    except OSError:  # a Windows older than the setting
        return False


def too_long(folder: Path, below: int, *, enabled: Callable[[], bool] = long_paths_enabled) -> str:
    """Why names of `below` characters cannot be opened in a folder; the empty string if they can."""
    length = len(os.path.abspath(folder))
    if length + 1 + below <= PATH_CHARS_MAX or enabled():
        return ""
    return (
        f"{folder}: with {length} characters this path is too long for Windows; choose one of at most "
        f"{PATH_CHARS_MAX - 1 - below}, or set {_VALUE} to 1 in HKLM\\{_KEY}"
    )
