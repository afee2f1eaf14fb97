"""The display of a run, as wide and as high as the terminal: how far it is, the fitness so far, a line per worker.

Owns: the rendering of a `Progress`, and what is left out if there is little room. Not here: its content
(`views.progress`), when it is drawn (`ui.terminal`).
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pipeline.ui.sparkline import ASCII_BARS, BARS, sparkline
from pipeline.views.fact_text import counted, duration
from pipeline.views.progress import Progress, WorkerRow

WIDE, VERY_WIDE = 120, 160
SHORT_S = 1.0  #: a shorter game is over before a display can show how long it has been running
NOT_KNOWN = "–"
ABNORMAL = ("awaited", "loading", "unknown", "recovering", "quarantined", "unfit", "out")
_PROBLEMS_MAX = 3
_NAME_CELLS_MAX = 20  #: of a worker's name
_WORKERS_MIN = 4  #: lines: an empty one, the headings, a worker, how many more there are
_FITNESS_ROWS_MIN, _FITNESS_ROWS_MAX = 4, 11
_DIGITS = 6  #: of a fitness
_STYLES = {
    "playing": "green",
    "idle": "dim",
    "awaited": "dim",
    "at rest": "dim",
    "draining": "cyan",
    "drained": "cyan",
    "loading": "dim",
    "unknown": "yellow",
    "recovering": "yellow",
    "quarantined": "yellow",
    "unfit": "red",
    "probation": "yellow",
    "out": "red",
}


class RunDisplay:
    """The whole display of one `Progress`; `footer` and the newest of `events` follow if there is room."""

    def __init__(self, now: Progress, *, footer: Text | None = None, events: Sequence[str] = ()) -> None:
        self._now, self._footer, self._events = now, footer, events

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now, width = self._now, options.max_width
        bars = ASCII_BARS if options.ascii_only or console.legacy_windows else BARS

        def lines(*parts: RenderableType) -> list[list[Segment]]:
            return console.render_lines(Group(*parts), options.update(height=None), pad=False)

        head = lines(_headline(now), _bar(now), _counts(now), _rates(now))
        room = (options.height or console.height) - 1 - len(head)  # 1: the line of the cursor
        foot = lines(Text(), self._footer) if self._footer is not None and room > _WORKERS_MIN + 2 else []
        room -= len(foot)
        rows = sorted(now.workers, key=lambda row: row.state not in ABNORMAL)
        shown = rows[: max(1, room - 3 - _FITNESS_ROWS_MIN)]
        workers = lines(Text(), _workers(now, shown, len(rows) - len(shown), width))
        room -= len(workers)
        fitness: list[list[Segment]] = []
        if room > _FITNESS_ROWS_MIN:
            rows_max = min(_FITNESS_ROWS_MAX, max(_FITNESS_ROWS_MIN, room // 2))
            fitness = lines(Text(), _fitness_wide(now, rows_max, bars) if width >= WIDE else _fitness_narrow(now, bars))
        room -= len(fitness)
        problems = lines(*_problems(shown, room)) if width < VERY_WIDE else []
        for line in (*head, *fitness, *workers, *problems, *foot, *lines(*self._latest(room - len(problems)))):
            yield from line
            yield Segment.line()

    def _latest(self, room: int) -> list[Text]:
        events = self._events[max(0, len(self._events) - max(0, room - 2)) :]
        return [Text(), _line("recent events", "bold"), *(_line(words, "dim") for words in events)] if events else []


def _line(words: str, style: str = "") -> Text:
    return Text(words, style, no_wrap=True, overflow="ellipsis")


# ------------------------------------------------------------------------------------------------- how far the run is


def _headline(now: Progress) -> Text:
    text = Text.assemble((f"generation {now.generation}", "bold"), f" · {counted(now.genomes, 'genome')} · ")
    text.append(f"{counted(now.trials, 'trial')} · ")
    if now.finished:
        return text.append("finished", "green").append(f" in {duration(now.elapsed_s)}")
    text.append(f"{duration(now.elapsed_s)} so far, " if now.elapsed_s else "just begun, ")
    if not now.playing:
        return text.append("and no host plays it now", "yellow")
    return text.append(f"about {duration(now.eta_s)} to go" if now.eta_s is not None else "no estimate yet")


def _bar(now: Progress) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1)
    table.add_column(justify="right")
    share = 100 * now.settled // now.trials if now.trials else 0
    bar = ProgressBar(total=max(1, now.trials), completed=now.settled, complete_style="green")
    table.add_row(bar, f"{share:3}%")
    return table


def _counts(now: Progress) -> Text:
    parts: list[tuple[str, str]] = [(f"{now.completed} of {now.trials} trials completed", "green")]
    if now.failed or now.skipped:
        parts.append((f"{now.failed} failed, {now.skipped} skipped", "red"))
    parts.append((f"{now.retried} retried", "yellow" if now.retried else "dim"))
    parts.append((attempts_lost(now), "yellow" if now.lost else "dim"))
    if now.reused:
        parts.append((f"{now.reused} reused", "dim"))
    text = Text()
    for number, (words, style) in enumerate(parts):
        text.append(" · " if number else "").append(words, style)
    return text


def attempts_lost(now: Progress) -> str:
    """How many attempts were lost, in words."""
    return f"{counted(now.lost, 'attempt')} lost"


def _rates(now: Progress) -> Text:
    per_minute = f"{now.per_minute:.3g}" if now.per_minute else NOT_KNOWN
    utilisation = f"{now.utilisation:.0%}" if now.elapsed_s else NOT_KNOWN
    waiting = f"{counted(now.pending, 'trial')} waiting for a worker"
    return _line(f"{waiting} · {per_minute} trials a minute · {utilisation} utilisation", "dim")


# ------------------------------------------------------------------------------------------------------- the fitness


def fitness_text(value: float) -> str:
    """A fitness in at most a dozen characters."""
    return f"{value:.6g}"


def fitness_column(values: Sequence[float | None]) -> list[str]:
    """The same for a column: equally many decimals, if that is enough for all of them; a dash if there is none."""
    known = [value for value in values if value is not None]
    largest = max(map(abs, known), default=0.0)
    decimals = max(0, _DIGITS - len(str(int(largest)))) if largest < 10**_DIGITS else 0
    is_exact_enough = all(value == 0 or 10 ** (2 - decimals) <= abs(value) < 10**_DIGITS for value in known)
    if not is_exact_enough:
        return [fitness_text(value) if value is not None else NOT_KNOWN for value in values]
    while decimals and all(f"{value:.{decimals}f}".endswith("0") for value in known):
        decimals -= 1
    return [f"{value:.{decimals}f}" if value is not None else NOT_KNOWN for value in values]


def _fitness_narrow(now: Progress, bars: str) -> RenderableType:
    best = Text("best genome  ", "dim", no_wrap=True, overflow="ellipsis")
    best.append(now.leaders[0].genome if now.leaders else NOT_KNOWN, "not dim")
    return Group(_fitness_table(now, 1, bars), best)


def _fitness_wide(now: Progress, rows: int, bars: str) -> RenderableType:
    """Beside each other: the generations and the fittest genomes, in that many rows with their headings."""
    both = Table.grid(expand=True, padding=(0, 4, 0, 0))
    both.add_column(ratio=2)
    both.add_column(ratio=1)
    leaders = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    leaders.add_column("rank", justify="right")
    leaders.add_column("fitness", justify="right")
    leaders.add_column("fittest genomes" if now.finished else "fittest genomes so far", no_wrap=True)
    texts = fitness_column([leader.fitness for leader in now.leaders])
    for rank, (leader, fitness) in enumerate(zip(now.leaders[: rows - 1], texts, strict=False), 1):
        leaders.add_row(str(rank), Text(fitness, "bold" if rank == 1 else ""), Text(leader.genome))
    if not now.leaders:
        leaders.add_row(NOT_KNOWN, NOT_KNOWN, Text("none has a fitness in all its trials yet", "dim"))
    both.add_row(_fitness_table(now, rows - 2, bars), leaders)
    return both


def _fitness_table(now: Progress, earlier_max: int, bars: str) -> Table:
    """This generation and the ones before it; in the last column the curves of best and mean."""
    better = "lower" if now.direction == "minimize" else "higher"
    curves = _Curves(now, bars)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column(f"fitness ({better} is better)", no_wrap=True)
    for heading in ("best", "mean", "completed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(curves.heading, no_wrap=True, ratio=1)
    shown = [now.fitness, *now.history[::-1][:earlier_max]]
    texts = fitness_column(
        [value for one in shown for value in ((one.best, one.mean) if one is not None else (None, None))]
    )
    best, mean = texts[::2], texts[1::2]
    completed = now.fitness.completed if now.fitness is not None else 0
    name = f"generation {now.generation}" + ("" if now.finished else " so far")
    table.add_row(name, Text(best[0], "bold"), mean[0], f"{completed} of {now.genomes}", curves.best)
    for number, one in enumerate(shown[1:], 1):
        cells = (f"generation {one.generation}" if one is not None else "", best[number], mean[number])
        completed = one.completed if one is not None else 0
        table.add_row(*cells, str(completed), curves.mean if number == 1 else "", style="dim")
    if len(shown) == 1:
        table.add_row("generation before", *[NOT_KNOWN] * 3, style="dim")
    return table


class _Curve:
    """A sparkline of the newest values, as long as its column has room."""

    def __init__(self, name: str, values: Sequence[float], around: Sequence[float], bars: str) -> None:
        self._name, self._values, self._around, self._bars = name, values, around, bars

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.max_width - len(self._name) - 1)
        values, around = self._values[-room:], self._around[-room:]
        low, high = min(*values, *around), max(*values, *around)
        yield Text.assemble((f"{self._name} ", "dim"), (sparkline(values, low, high, bars=self._bars), "cyan"))


class _Curves:
    """Best and mean of the generations in one scale; empty while there is only one generation."""

    def __init__(self, now: Progress, bars: str) -> None:
        shown = [*now.history, *([now.fitness] if now.fitness is not None else [])]
        self.heading = ""
        self.best: RenderableType = Text()
        self.mean: RenderableType = Text()
        if len(shown) > 1:
            best, mean = [one.best for one in shown], [one.mean for one in shown]
            self.heading = f"generations {shown[0].generation} to {shown[-1].generation}"
            self.best, self.mean = _Curve("best", best, mean, bars), _Curve("mean", mean, best, bars)


# ------------------------------------------------------------------------------------------------------- the workers


def _workers(now: Progress, rows: Sequence[WorkerRow], more: int, width: int) -> Table:
    wide, very_wide = width >= WIDE, width >= VERY_WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    # Of all cells the name is the one that must not be cut: other commands need it.
    names = min(_NAME_CELLS_MAX, max((cell_len(row.name) for row in rows), default=0))
    table.add_column("worker", no_wrap=True, min_width=names, max_width=_NAME_CELLS_MAX)
    table.add_column("state", no_wrap=True)
    table.add_column("genome", no_wrap=True, overflow="ellipsis", max_width=40 if wide else 18)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("time / limit", justify="right", no_wrap=True)
    if wide:
        table.add_column("last game", justify="right", no_wrap=True)
    table.add_column("queued", justify="right", no_wrap=True)
    if wide:
        table.add_column("losses", justify="right", no_wrap=True)
        table.add_column("recovery", no_wrap=True)
    if very_wide:
        table.add_column("progress", overflow="ellipsis", no_wrap=True, max_width=30)
        table.add_column("problem", overflow="ellipsis", no_wrap=True, ratio=1)
    else:
        table.add_column("progress", overflow="ellipsis", no_wrap=True, ratio=1)
    trials = now.trials // now.genomes if now.genomes else 0
    for row in rows:
        cells = [
            Text(row.name),
            Text(row.state, _STYLES.get(row.state, "")),
            Text(row.genome),
            Text(f"{row.trial}/{trials}" if row.genome else ""),
            Text(_time(row, now.time_limit_s, with_last=not wide) if row.genome else ""),
            *([Text(duration(row.last_game_s) if row.last_game_s is not None else NOT_KNOWN)] if wide else []),
            Text(str(row.waiting or "")),
            *([Text(str(row.losses or ""), "yellow"), Text(row.recovery.replace("_", " "), "yellow")] if wide else []),
            Text(row.progress, "dim"),
            *([Text(row.problem, "yellow")] if very_wide else []),
        ]
        table.add_row(*cells)
    if more:
        table.add_row(f"… and {more} more")
    return table


def _time(row: WorkerRow, limit_s: float, *, with_last: bool) -> str:
    """How long the game has been running; of short games the length of the last one, or a dash."""
    is_short = row.last_game_s is not None and row.last_game_s < SHORT_S
    if row.playing_s >= SHORT_S or (row.playing_s and not is_short):
        return f"{duration(row.playing_s)} / {duration(limit_s)}"
    if with_last and row.last_game_s is not None:
        return f"last {duration(row.last_game_s)}"
    return f"{NOT_KNOWN} / {duration(limit_s)}"


def _problems(rows: Sequence[WorkerRow], room: int) -> list[Text]:
    """What is wrong with workers, for a table that has no room for it."""
    noted = [row for row in rows if row.problem]
    return [_line(f"{row.name}: {row.problem}", "yellow") for row in noted[: max(0, min(_PROBLEMS_MAX, room))]]
