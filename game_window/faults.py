"""What can go wrong with a game in a window: each kind has one word, which begins the reason of the failed game."""

from dataclasses import dataclass
from enum import StrEnum

from game_window.picture import Picture


class FaultKind(StrEnum):
    """The first word of a failed game's reason."""

    NO_WINDOW = "no window"  #: its window did not appear, or is gone while the program runs
    NOT_IN_FRONT = "not in front"  #: another window keeps the keyboard
    CRASHED = "crashed"  #: it ended with an exit code other than 0, or by a signal
    ENDED = "ended"  #: it ended with exit code 0 before the evaluator was done with it
    DIALOG = "dialog"  #: it shows a second window, whose title follows
    HUNG = "hung"  #: its window does not respond
    STALLED = "stalled"  #: its window responds, and the game goes no further


class GameFault(Exception):
    """A game cannot be played to its end; `str()` is one line, e.g. `dialog: Out of memory`."""

    def __init__(self, kind: FaultKind, detail: str, screen: Picture | None = None) -> None:
        super().__init__(f"{kind}: {' '.join(detail.split())}")
        self.kind, self.detail = kind, detail
        self.screen = screen  #: the whole screen at that moment, before the game was closed


@dataclass(frozen=True, slots=True, kw_only=True)
class GameLimits:
    """For how long a game may do what. Slow machines need higher ones; the defaults fit a VM with one game."""

    window_s: float = 60.0  #: until its window appears
    front_s: float = 5.0  #: until its window has the keyboard
    hang_s: float = 4.0  #: without a response of its window; Windows itself takes 5 s to cover it with a pale copy
    stall_s: float = 10.0  #: without progress, as the evaluator sees it
    close_s: float = 3.0  #: from the request to close its window until it is killed
