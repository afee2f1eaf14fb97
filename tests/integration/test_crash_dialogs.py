"""Programs that crash end at once: no dialog of Windows keeps them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

MODE = "ctypes.windll.kernel32.GetErrorMode() & 3" if sys.platform == "win32" else "3"
AGENT = f"""
import ctypes, subprocess, sys
from inbox_agent.system.crash_dialogs import suppress_crash_dialogs
suppress_crash_dialogs()
print({MODE})
print(subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"]).returncode)
"""


def test_game_that_crashes_ends_at_once() -> None:
    """On Windows the agent sets that no dialog is shown; that games inherit it is Windows' own, and not Wine's."""
    ran = subprocess.run([sys.executable, "-c", AGENT], capture_output=True, text=True, timeout=60, check=True)

    mode, returncode = ran.stdout.split()
    assert mode == "3"
    assert returncode != "0"
