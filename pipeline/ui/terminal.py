"""Live displays in a terminal: of the run that this process plays, and of `pipeline top`. Without one: plain lines.

Owns: when something is drawn. Not here: what is drawn (`ui.display`).
"""

import contextlib
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pipeline.core.facts import DatedFact, Fact, RunOpened
from pipeline.core.farm import Farm
from pipeline.ui.display import ABNORMAL, RunDisplay, attempts_lost, fitness_text
from pipeline.ui.echo import without_echo
from pipeline.views.explain import local_time
from pipeline.views.fact_text import counted, describe, describe_any, duration, joined_text
from pipeline.views.progress import Progress
from pipeline.views.results import evaluators, version_text

PLAIN_INTERVAL_S = 10.0
REFRESH_PER_SECOND = 2
EVENTS_MAX = 40


class Monitor:
    """Displays a run in progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_SECOND) if console.is_terminal else None
        self._plain_due = time.monotonic() + PLAIN_INTERVAL_S
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._live is not None:
            with contextlib.ExitStack() as closing:
                closing.enter_context(without_echo(self._console.file))
                closing.enter_context(self._live)
                self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def tell(self, facts: list[Fact], farm: Farm) -> None:
        """Prints a line for the genomes that joined, and one for each fact that has a description."""
        for words in (joined_text(facts), *(describe(fact, farm) for fact in facts)):
            if words:
                self._console.print(Text(words), soft_wrap=self._live is None)

    def show(self, now: Progress) -> None:
        """Updates the display; without a terminal, prints a line every `PLAIN_INTERVAL_S`."""
        if self._live is not None:
            self._live.update(RunDisplay(now))
        elif time.monotonic() >= self._plain_due:
            self._plain_due = time.monotonic() + PLAIN_INTERVAL_S
            self._console.print(Text(plain_line(now)), soft_wrap=True)


def plain_line(now: Progress) -> str:
    """The progress of a run as one line of text."""
    average = f"{duration(now.average_s)} a game" if now.average_s else "no game is over yet"
    to_go = f"{duration(now.eta_s)} to go" if now.eta_s is not None else "time to go not known"
    this = now.fitness
    fitness = (
        f"best {fitness_text(this.best)}, mean {fitness_text(this.mean)} of {counted(this.completed, 'genome')}, "
        if this
        else ""
    )
    reused = f"{now.reused} reused, " if now.reused else ""
    idle = "" if now.playing or now.finished else "; no host plays it now"
    noted = [f"; {row.name} is {row.state}: {row.note}" for row in now.workers if row.state in ABNORMAL]
    return (
        f"generation {now.generation}: {now.settled}/{now.trials} trials, {now.completed} completed, "
        f"{now.failed} failed, {now.skipped} skipped, {now.retried} retried, {attempts_lost(now)}, "
        f"{reused}{fitness}{average}, {to_go}{idle}{''.join(noted)}"
    )


class TopScreen:
    """The display of `pipeline top`, on a screen of its own: afterwards the terminal shows what it showed before."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, screen=True)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as closing:
            closing.enter_context(without_echo(self._console.file))
            closing.enter_context(self._live)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def show(self, shown: RenderableType) -> None:
        """Updates the display."""
        self._live.update(shown, refresh=True)


def render_top(now: Progress, history: Sequence[DatedFact], farm: Farm) -> RunDisplay:
    """The progress of a run, its evaluator and its latest events."""
    version = version_text(farm)
    style = "yellow" if len(evaluators(farm)) > 1 else "dim"
    evaluator = Text(f"evaluator: {version}", style, no_wrap=True, overflow="ellipsis") if version else None
    return RunDisplay(now, footer=evaluator, events=recent_events(history, farm))


def recent_events(history: Sequence[DatedFact], farm: Farm) -> list[str]:
    """Descriptions of the newest facts of this run that have one, oldest first."""
    found: list[str] = []
    for one in reversed(history):
        if words := describe_any(one.fact, farm):
            found.append(f"{local_time(one.at)}  {words}")
        if len(found) == EVENTS_MAX or isinstance(one.fact, RunOpened):
            break
    return found[::-1]
