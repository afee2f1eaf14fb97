"""Plays games that run only in a window of their own: for evaluators, on Windows' desktop or on X11.

`GameProgram` starts a game, finds its window, reads its screen, sends it keys, and raises a `GameFault` that names what
went wrong. It needs the extra `gui`. The agent and the host do not import this package.
"""

from game_window.desktop import Desktop, DesktopError, Window
from game_window.faults import FaultKind, GameFault, GameLimits
from game_window.game_program import GameProgram
from game_window.picture import Picture
from game_window.system_desktop import open_desktop
from game_window.virtual_display import virtual_display

__all__ = [
    "Desktop",
    "DesktopError",
    "FaultKind",
    "GameFault",
    "GameLimits",
    "GameProgram",
    "Picture",
    "Window",
    "open_desktop",
    "virtual_display",
]
