"""`pipeline top`: the picture of a run that somebody else plays, with what happened last."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipeline.core.facts import Told
from pipeline.core.farm import Farm
from pipeline.screens.lines import known_line
from pipeline.screens.monitor import Picture
from pipeline.screens.progress import Progress
from pipeline.screens.story import clock

SHOWN_MAX = 10


class Top:
    """A live screen; `keep` leaves the last picture on it."""

    def __init__(self, console: Console, *, keep: bool) -> None:
        self._live = Live(console=console, auto_refresh=False, screen=not keep)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, now: Progress, told: Sequence[Told], farm: Farm) -> None:
        """Shows the run as it is at this moment."""
        self._live.update(top_picture(now, told, farm), refresh=True)


def top_picture(now: Progress, told: Sequence[Told], farm: Farm) -> RenderableType:
    """Where the run stands, and the last lines of what happened."""
    happened = [Text(words, "dim", no_wrap=True, overflow="ellipsis") for words in last_lines(told, farm)]
    return Group(Picture(now), Text(), *happened) if happened else Picture(now)


def last_lines(told: Sequence[Told], farm: Farm) -> list[str]:
    """The newest facts that a person would want a line of, oldest first."""
    found: list[str] = []
    for one in reversed(told):
        if words := known_line(one.fact, farm):
            found.append(f"{clock(one.at)}  {words}")
        if len(found) == SHOWN_MAX:
            break
    return found[::-1]
