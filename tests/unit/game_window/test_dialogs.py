"""Which window is the game's, and which one is a dialog; the names of keys and faults."""

import pytest

from game_window.desktop import Window
from game_window.dialogs import dialog_of, game_window_of
from game_window.faults import FaultKind, GameFault
from game_window.keys import KEYS, key_named

GAME = Window(1, "Tetris - level 1", pid=10)
OTHER = Window(2, "Tetris - level 1", pid=99)  # of another program
TOOLTIP = Window(3, "", pid=10)
DIALOG = Window(4, "Out of memory", pid=11)
UNTITLED_DIALOG = Window(5, "", pid=10, is_dialog=True)


def of_game(pid: int) -> bool:
    return pid in (10, 11)


def test_window_of_game_has_title_and_process_of_game() -> None:
    assert game_window_of([OTHER, TOOLTIP, DIALOG, GAME], "Tetris", of_game) == GAME
    assert game_window_of([OTHER, TOOLTIP], "Tetris", of_game) is None


def test_dialog_with_title_of_game_is_not_its_window() -> None:
    """An error at the start often has the name of the game as its title."""
    error = Window(6, "Tetris", pid=10, is_dialog=True)
    assert game_window_of([error], "Tetris", of_game) is None
    assert dialog_of([error], None, of_game) == error


@pytest.mark.parametrize("dialog", [DIALOG, UNTITLED_DIALOG])
def test_further_window_of_game_is_dialog(dialog: Window) -> None:
    assert dialog_of([OTHER, TOOLTIP, GAME, dialog], GAME, of_game) == dialog


def test_game_alone_has_no_dialog() -> None:
    """Neither tooltips nor windows of other programs are dialogs of the game."""
    assert dialog_of([OTHER, TOOLTIP, GAME], GAME, of_game) is None


def test_unknown_key_is_refused_with_known_names() -> None:
    with pytest.raises(KeyError, match="no key is named 'Left'; names are left, up, "):
        key_named("Left")


def test_keys_have_codes_of_their_own() -> None:
    assert len({key.virtual_key for key in KEYS.values()}) == len(KEYS)
    assert len({key.keysym for key in KEYS.values()}) == len(KEYS)
    assert (KEYS["f12"].virtual_key, KEYS["f12"].keysym) == (0x7B, 0xFFC9)


def test_fault_is_one_line_that_begins_with_its_kind() -> None:
    assert str(GameFault(FaultKind.DIALOG, "Out of\nmemory")) == "dialog: Out of memory"
