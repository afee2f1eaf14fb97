"""A desktop: its windows, its one keyboard, its screen. What an evaluator needs of the system, and no more.

Owns: what each system has to do (`Desktop`). Not here: how Windows (`win32`) and X11 (`x11`) do it, which of them is
opened (`system_desktop`), what a game's windows mean (`dialogs`, `game_program`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from game_window.keys import Key
from game_window.picture import Picture


class DesktopError(RuntimeError):
    """No window can be shown or seen here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Window:
    """A visible top-level window, as it was when it was listed."""

    handle: int  #: Windows' HWND, X11's window id
    title: str
    pid: int  #: of the process that made it; 0 if unknown
    is_dialog: bool = False  #: whether the system itself calls it a dialog


class Desktop(Protocol):
    """One desktop. Its keyboard is shared by all windows, so two games on one desktop disturb each other."""

    def windows(self) -> Sequence[Window]:
        """The visible top-level windows."""
        ...

    def title(self, window: Window) -> str:
        """The title of a window now; empty if the window is gone."""
        ...

    def activate(self, window: Window) -> None:
        """Asks for the window to be brought to the front and to get the keyboard. Whether it was: `is_active`."""
        ...

    def is_active(self, window: Window) -> bool:
        """Whether it has the keyboard."""
        ...

    def responds(self, window: Window, within_s: float) -> bool:
        """Whether the window handles a message in that time. True where it cannot be asked."""
        ...

    def request_close(self, window: Window) -> None:
        """Does what the button in its frame does."""
        ...

    def press(self, key: Key) -> None:
        """Presses a key. The window with the keyboard gets it."""
        ...

    def release(self, key: Key) -> None:
        """Releases a key."""
        ...

    def picture(self, window: Window | None = None) -> Picture:
        """What the screen shows where the window is, without its frame; of the whole screen without `window`.

        Raises:
            LookupError: the window is gone, minimized, or outside of the screen.
        """
        ...

    def close(self) -> None:
        """Releases what was opened."""
        ...
