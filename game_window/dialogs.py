"""Which windows of a game are dialogs. Pure."""

from collections.abc import Callable, Sequence

from game_window.desktop import Window


def game_window_of(windows: Sequence[Window], title: str, is_of_game: Callable[[int], bool]) -> Window | None:
    """The window of the game: of one of its processes, no dialog, with a title that begins with `title`."""
    found = (one for one in windows if one.title.startswith(title) and not one.is_dialog and is_of_game(one.pid))
    return next(found, None)


def dialog_of(windows: Sequence[Window], game: Window | None, is_of_game: Callable[[int], bool]) -> Window | None:
    """A further window of the game's processes that a user would have to answer.

    That is a dialog as the system calls it, and any other window with a title: many games draw their own. Windows
    without a title are tooltips, splash pictures and helpers of libraries.
    """
    handle = game.handle if game else None
    others = (one for one in windows if one.handle != handle and (one.is_dialog or one.title))
    return next((one for one in others if is_of_game(one.pid)), None)
