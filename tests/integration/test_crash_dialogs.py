"""Programs that crash end at once: no dialog of Windows keeps them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

MODE = "import ctypes; print(ctypes.windll.kernel32.GetErrorMode() & 3)" if sys.platform == "win32" else "print(3)"
CRASH = "import ctypes; ctypes.string_at(0)"
AGENT = f"""
import subprocess, sys
from inbox_agent.system.crash_dialogs import suppress_crash_dialogs
suppress_crash_dialogs()
for game in {[MODE, CRASH]!r}:
    print(subprocess.run([sys.executable, "-c", game], stdout=subprocess.PIPE, text=True))
"""


def test_game_that_crashes_ends_at_once() -> None:
    """On Windows it inherits that no dialog is shown for it; elsewhere there are none."""
    ran = subprocess.run([sys.executable, "-c", AGENT], capture_output=True, text=True, timeout=60, check=True)

    mode, crashed = ran.stdout.splitlines()
    assert "stdout='3\\n'" in mode
    assert "returncode=0" not in crashed
