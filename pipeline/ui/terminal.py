"""Terminal display of a run: a bar, the counts, a line per worker. Without a terminal: plain lines.

Owns: the rendering of a `Progress`. Not here: its content (`views.progress`).
"""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.core.facts import DatedFact, Fact
from pipeline.core.farm import Farm
from pipeline.views.explain import local_time
from pipeline.views.fact_text import describe, describe_any, duration, joined_text
from pipeline.views.progress import Progress, WorkerRow
from pipeline.views.results import evaluators, version_text

PLAIN_INTERVAL_S = 10.0
REFRESH_PER_SECOND = 4
WORKERS_SHOWN_MAX = 24
WIDE = 120
_ABNORMAL = ("awaited", "loading", "recovering", "quarantined", "unfit", "out")
_STYLES = {
    "playing": "green",
    "idle": "dim",
    "awaited": "dim",
    "loading": "dim",
    "recovering": "yellow",
    "quarantined": "yellow",
    "unfit": "red",
    "probation": "yellow",
    "out": "red",
}


class RunDisplay:
    """The whole display of one `Progress`, as wide as the terminal."""

    def __init__(self, now: Progress) -> None:
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._now
        yield Group(_headline(now), _bar(now), _counts(now), _rates(now), Text(), _workers(now, options.max_width))


def _headline(now: Progress) -> Text:
    text = Text.assemble((f"generation {now.generation}", "bold"), f" · {now.genomes} genomes · {now.trials} trials · ")
    if now.finished:
        return text.append("finished", "green").append(f" in {duration(now.elapsed_s)}")
    text.append(f"{duration(now.elapsed_s)} so far, ")
    if not now.playing:
        return text.append("and no host plays it now", "yellow")
    return text.append(f"{duration(now.eta_s)} to go")


def _bar(now: Progress) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1)
    table.add_column(justify="right")
    share = now.settled / now.trials if now.trials else 0.0
    table.add_row(ProgressBar(total=max(1, now.trials), completed=now.settled, complete_style="green"), f"{share:4.0%}")
    return table


def _counts(now: Progress) -> Text:
    parts: list[tuple[str, str]] = [(f"{now.completed} completed", "green")]
    if now.failed or now.skipped:
        parts.append((f"{now.failed} failed, {now.skipped} skipped", "red"))
    parts.append((f"{now.retried} retried", "yellow" if now.retried else "dim"))
    parts.append((_lost(now), "yellow" if now.lost else "dim"))
    text = Text()
    for number, (words, style) in enumerate(parts):
        text.append(" · " if number else "").append(words, style)
    return text


def _lost(now: Progress) -> str:
    return f"{now.lost} attempt{'' if now.lost == 1 else 's'} lost"


def _rates(now: Progress) -> Text:
    words = (
        f"{now.pending} wait for a worker · {now.per_minute:.3g} trials a minute · {now.utilisation:.0%} utilisation"
    )
    return Text(words, "dim", no_wrap=True, overflow="ellipsis")


def _workers(now: Progress, width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("worker", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("plays", no_wrap=True, overflow="ellipsis", max_width=40 if wide else 18)
    table.add_column("trial", justify="right")
    table.add_column("time / limit", justify="right", no_wrap=True)
    table.add_column("queued", justify="right")
    if wide:
        table.add_column("losses", justify="right")
        table.add_column("recovery", no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
    for row in sorted(now.workers, key=lambda row: row.state not in _ABNORMAL)[:WORKERS_SHOWN_MAX]:
        table.add_row(*_cells(row, now.time_limit_s, wide=wide))
    if len(now.workers) > WORKERS_SHOWN_MAX:
        table.add_row(f"… and {len(now.workers) - WORKERS_SHOWN_MAX} more")
    return table


def _cells(row: WorkerRow, limit_s: float, *, wide: bool) -> list[Text]:
    playing = bool(row.genome)
    cells = [
        Text(row.name),
        Text(row.state, _STYLES.get(row.state, "")),
        Text(row.genome),
        Text(str(row.trial) if playing else ""),
        Text(f"{duration(row.playing_s)} / {duration(limit_s)}" if playing else ""),
        Text(str(row.waiting or "")),
    ]
    if wide:
        cells += [Text(str(row.losses or ""), "yellow"), Text(row.recovery.replace("_", " "), "yellow")]
    return [*cells, Text(row.note, "dim")]


class Monitor:
    """Displays a run in progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_SECOND) if console.is_terminal else None
        self._plain_due = time.monotonic() + PLAIN_INTERVAL_S

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, facts: list[Fact], farm: Farm) -> None:
        """Prints a line for the genomes that joined, and one for each fact that has a description."""
        for words in (joined_text(facts), *(describe(fact, farm) for fact in facts)):
            if words:
                self._console.print(Text(words), soft_wrap=True)

    def show(self, now: Progress) -> None:
        """Updates the display; without a terminal, prints a line every `PLAIN_INTERVAL_S`."""
        if self._live is not None:
            self._live.update(RunDisplay(now))
        elif time.monotonic() >= self._plain_due:
            self._plain_due = time.monotonic() + PLAIN_INTERVAL_S
            self._console.print(Text(plain_line(now)), soft_wrap=True)


def plain_line(now: Progress) -> str:
    """The progress of a run as one line of text."""
    idle = "" if now.playing or now.finished else "; no host plays it now"
    abnormal = "".join(f"; {row.name} is {row.state}: {row.note}" for row in now.workers if row.state in _ABNORMAL)
    return (
        f"generation {now.generation}: {now.settled}/{now.trials} trials, {now.completed} completed, "
        f"{now.failed} failed, {now.skipped} skipped, {now.retried} retried, {_lost(now)}, "
        f"{duration(now.average_s)} a game, {duration(now.eta_s)} to go{idle}{abnormal}"
    )


SHOWN_MAX = 10


class TopScreen:
    """The display of `pipeline top`; `keep` leaves its last state on the screen."""

    def __init__(self, console: Console, *, keep: bool) -> None:
        self._live = Live(console=console, auto_refresh=False, screen=not keep)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, now: Progress, history: Sequence[DatedFact], farm: Farm) -> None:
        """Updates the display."""
        self._live.update(render_top(now, history, farm), refresh=True)


def render_top(now: Progress, history: Sequence[DatedFact], farm: Farm) -> RenderableType:
    """The progress of the run, its evaluator and its latest events."""
    happened = [Text(words, "dim", no_wrap=True, overflow="ellipsis") for words in recent_events(history, farm)]
    version = version_text(farm)
    evaluator = [Text(f"evaluator: {version}", "yellow" if len(evaluators(farm)) > 1 else "dim")] if version else []
    parts = [part for part in (evaluator, happened) if part]
    return Group(RunDisplay(now), *(line for part in parts for line in (Text(), *part)))


def recent_events(history: Sequence[DatedFact], farm: Farm) -> list[str]:
    """Descriptions of the newest facts that have one, oldest first."""
    found: list[str] = []
    for one in reversed(history):
        if words := describe_any(one.fact, farm):
            found.append(f"{local_time(one.at)}  {words}")
        if len(found) == SHOWN_MAX:
            break
    return found[::-1]
