"""Opens the desktop of the system that this process runs on."""

import sys

from game_window.desktop import Desktop, DesktopError

EXTRA = 'run: pip install "genome-pipeline[gui]"'


def open_desktop(display: str | None = None) -> Desktop:
    """The desktop of this process's session; on X11 the one of `display`, or of the variable DISPLAY.

    Raises:
        DesktopError: there is none, or the extra `gui` is missing.
    """
    try:
        if sys.platform == "win32":
            from game_window.win32 import Win32Desktop

            return Win32Desktop()
        from game_window.x11 import X11Desktop

        return X11Desktop(display)
    except ImportError as error:
        raise DesktopError(f"{error.name} is missing; {EXTRA}") from error
