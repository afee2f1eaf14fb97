"""The id of a run of the operating system."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from inbox_agent.identity import make_identity
from inbox_agent.system import boot


def test_boot_id_is_the_same_in_another_process() -> None:
    """A host compares it with that of an earlier host."""
    command = [sys.executable, "-c", "from inbox_agent.system.boot import boot_id; print(boot_id())"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == boot.boot_id()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it in /proc")
def test_boot_id_is_known_on_linux() -> None:
    """It has the form of a token of the share's layout."""
    assert re.fullmatch(r"[0-9a-f-]{36}", boot.boot_id())
    assert make_identity().boot_id == boot.boot_id()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells it in the registry")
def test_system_that_does_not_tell_its_boot_has_an_empty_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An agent's records need one: there it names the time of the boot."""
    monkeypatch.setattr(boot, "_LINUX", tmp_path / "missing")
    assert boot.boot_id() == ""
    assert re.fullmatch(r"boot-\d+", make_identity().boot_id)
