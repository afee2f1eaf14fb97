"""Dialogs that Windows shows for a program that crashes: the program would wait behind them for a user.

Source: Microsoft, "SetErrorMode". The mode is inherited by the processes that this one starts.
"""

import ctypes
import sys

SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX = 0x1, 0x2


def suppress_crash_dialogs() -> None:
    """Lets this process, and the games that it starts, end at once when they crash. Does nothing but on Windows."""
    if sys.platform == "win32":
        before = ctypes.windll.kernel32.GetErrorMode()
        ctypes.windll.kernel32.SetErrorMode(before | SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX)
