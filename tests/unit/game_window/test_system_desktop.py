"""Without the extra, the error names the command that installs it."""

import sys

import pytest

from game_window import DesktopError, open_desktop


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("game_window.screen", "game_window.win32", "game_window.x11"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "mss", None)

    with pytest.raises(DesktopError, match=r'mss is missing; run: pip install "genome-pipeline\[gui\]"'):
        open_desktop()
