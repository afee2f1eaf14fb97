"""The display of a run as text: at 80 and 200 columns as in `tests/data/display`, and what it shows of each figure.

`FARM_GOLDEN=write` writes the files anew; look at them before you commit them.
"""

import io
import os
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pipeline.ui.display import RunDisplay, fitness_column
from pipeline.ui.sparkline import sparkline
from pipeline.ui.terminal import plain_line
from pipeline.views.fitness_history import GenerationFitness
from pipeline.views.progress import Leader, Progress, WorkerRow
from tests.harness.source_tree import ROOT

GOLDEN = ROOT / "tests" / "data" / "display"
FOOTER = Text("evaluator: version 0123456789abcdef", no_wrap=True)
EVENTS = [f"12:00:{second:02d}  bot-{second:03d}.json trial 1 on vm-02: lost, no result" for second in range(40)]


def worker(name: str, **changes: Any) -> WorkerRow:
    fields: dict[str, Any] = {
        "name": name,
        "state": "playing",
        "genome": "bot-017.json",
        "trial": 2,
        "playing_s": 12.3,
        "waiting": 1,
        "losses": 0,
        "recovery": "",
        "note": "",
    }
    return WorkerRow(**{**fields, **changes})


WORKERS = (
    worker("vm-01", note="turn 12 of 20", progress="turn 12 of 20", last_game_s=9.4),
    worker("vm-02", genome="bot-018.json", playing_s=0.0, last_game_s=0.012),
    worker("vm-03", genome="bot-019.json", trial=1, playing_s=0.0, waiting=0),
    worker("vm-04", state="idle", genome="", trial=0, playing_s=0.0, waiting=0, last_game_s=8.0),
    worker(
        "vm-05",
        state="quarantined",
        genome="",
        trial=0,
        playing_s=0.0,
        waiting=0,
        losses=3,
        recovery="power_cycle",
        note="no heartbeat for 31 s",
    ),
)
NOW = Progress(
    generation=7,
    genomes=48,
    trials=144,
    completed=60,
    failed=3,
    skipped=2,
    retried=4,
    lost=1,
    average_s=9.2,
    elapsed_s=245.0,
    eta_s=300.0,
    pending=70,
    per_minute=15.92,
    utilisation=0.934,
    time_limit_s=60.0,
    finished=False,
    playing=True,
    workers=WORKERS,
    fitness=GenerationFitness(7, 19, 48.666, 43.2724),
    leaders=tuple(Leader(f"bot-{number:03d}.json", 48.666 - number * 0.75) for number in range(10)),
    history=tuple(GenerationFitness(n, 48, 10.0 + 6 * n, 5.0 + 6.5 * n - n * n / 4) for n in range(1, 7)),
)
BEFORE_ANYTHING = replace(
    NOW,
    completed=0,
    failed=0,
    skipped=0,
    retried=0,
    lost=0,
    average_s=0.0,
    eta_s=None,
    per_minute=0.0,
    utilisation=0.0,
    elapsed_s=0.0,
    fitness=None,
    leaders=(),
    history=(),
)


def rendered(now: Progress, width: int, height: int, *, encoding: str = "utf-8", **more: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True, errors="replace")
    console = Console(width=width, height=height, file=file, legacy_windows=False)
    console.print(RunDisplay(now, **more), end="")
    file.seek(0)
    return [line.rstrip() for line in file.read().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_display_of_running_generation(width: int, height: int) -> None:
    """Line by line as in the file: nothing wraps, and a large terminal is used."""
    lines = rendered(NOW, width, height, footer=FOOTER, events=EVENTS)
    golden = GOLDEN / f"running-{width}x{height}.txt"
    if os.environ.get("FARM_GOLDEN") == "write":
        golden.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    assert lines == golden.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("width", [60, 80, 119, 120, 159, 160, 200])
@pytest.mark.parametrize("height", [12, 16, 24, 30, 50])
def test_display_fits_terminal(width: int, height: int) -> None:
    """At any size it leaves the line of the cursor free, and shows a worker that needs attention before the others."""
    many = replace(NOW, workers=WORKERS + tuple(worker(f"vm-{n}") for n in range(6, 90)))
    for now in (NOW, many):
        lines = rendered(now, width, height, footer=FOOTER, events=EVENTS)
        assert len(lines) < height
        assert max(map(cell_len, lines)) <= width
        assert any(line.startswith("vm-05") for line in lines)
    assert any(line.startswith("… and ") for line in lines)


def test_display_leaves_room_for_the_log() -> None:
    """The display of `run` has no list of events, and fills no large terminal: the lines above it stay visible."""
    assert len(rendered(NOW, 200, 50)) <= 25
    assert len(rendered(NOW, 80, 50)) <= 17


def line_with(lines: list[str], words: str) -> str:
    return next(line for line in lines if words in line)


def test_unknown_figures_are_dashes() -> None:
    """Before the first game is over there is neither `0 ms`, `0%` nor `?`."""
    for width in (80, 200):
        lines = rendered(BEFORE_ANYTHING, width, 40)
        assert lines[0].endswith("just begun, no estimate yet")
        assert line_with(lines, "waiting for a worker").endswith("– trials a minute · – utilisation")
        assert line_with(lines, "generation 7 so far").split()[4:9] == ["–", "–", "0", "of", "48"]
        assert line_with(lines, "generation before").split()[2:5] == ["–", "–", "–"]
        assert not any("?" in line or "0 ms" in line for line in lines)
    line = plain_line(BEFORE_ANYTHING)
    assert "no game is over yet, time to go not known" in line
    assert "?" not in line and " 0 ms" not in line


def test_time_of_short_games_is_that_of_the_last_one() -> None:
    """A running game's own time where it says something; without any known time a dash."""
    narrow, wide = rendered(NOW, 80, 24), rendered(NOW, 200, 50)
    assert "2/3  12.3 s / 1:00" in line_with(narrow, "vm-01")
    assert "last 12 ms" in line_with(narrow, "vm-02")
    assert "– / 1:00" in line_with(narrow, "vm-03")
    assert "– / 1:00      12 ms" in line_with(wide, "vm-02")
    assert "12.3 s / 1:00      9.4 s" in line_with(wide, "vm-01")
    long_game = replace(NOW, workers=(worker("vm-01", playing_s=0.4, last_game_s=30.0),))
    assert "400 ms / 1:00" in line_with(rendered(long_game, 80, 24), "vm-01")


def test_problem_of_worker_is_shown_at_any_width() -> None:
    """In a column, or below the table if it has no room for one."""
    assert "vm-05: no heartbeat for 31 s" in rendered(NOW, 80, 24)
    assert line_with(rendered(NOW, 200, 50), "vm-05").endswith("no heartbeat for 31 s")


def test_direction_is_named() -> None:
    assert "higher is better" in "".join(rendered(NOW, 80, 24))
    assert "lower is better" in "".join(rendered(replace(NOW, direction="minimize"), 80, 24))


def test_finished_generation_is_not_so_far() -> None:
    lines = rendered(replace(NOW, finished=True, playing=False), 200, 50)
    assert "finished in 4:05" in lines[0]
    assert not any("so far" in line for line in lines)


def test_curves_have_the_newest_generations() -> None:
    """As many as there is room for, in one scale: the mean of a generation is never drawn above its best."""
    history = tuple(GenerationFitness(n, 48, float(n), n / 2) for n in range(1, 61))
    now = replace(NOW, generation=61, history=history, fitness=GenerationFitness(61, 9, 61.0, 30.0))
    for width, room in ((80, 20), (200, 61)):
        lines = rendered(now, width, 50)
        best = line_with(lines, "generation 61 so far").partition("best ")[2].split()[0]
        mean = line_with(lines, "generation 60").partition("mean ")[2].split()[0]
        assert len(best) == len(mean) >= room
        assert best[-1] == "█" and all(above >= below for above, below in zip(best, mean, strict=True))


def test_terminal_without_unicode_gets_other_bars() -> None:
    """None of the bars becomes a question mark."""
    lines = rendered(NOW, 80, 24, encoding="ascii")
    assert line_with(lines, "generation 7 so far").partition("best ")[2] == ".-:=+##"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([48.666, 38.9043, None], ["48.6660", "38.9043", "–"]),
        ([12.0, 7.0], ["12", "7"]),
        ([0.5, 0.25], ["0.50", "0.25"]),
        ([1e9, 2.0], ["1e+09", "2"]),
        ([1e-7, 2.0], ["1e-07", "2"]),
        ([-1e308, 0.0], ["-1e+308", "0"]),
        ([None], ["–"]),
        ([0.0], ["0"]),
    ],
)
def test_fitness_of_a_column_is_aligned(values: list[float | None], expected: list[str]) -> None:
    """Equally many decimals, unless a value would lose its digits."""
    assert fitness_column(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 2.0, 7.0], "▁▂▃█"),
        ([3.0, 3.0], "▅▅"),
        ([-1.7e308, 0.0, 1.7e308], "▁▅█"),
        ([], ""),
    ],
)
def test_sparkline_has_a_bar_per_value(values: list[float], expected: str) -> None:
    """From the lowest to the highest; equal ones are in the middle; no difference overflows."""
    assert sparkline(values, min(values, default=0.0), max(values, default=0.0)) == expected


def test_reused_results_are_counted() -> None:
    """Only in a generation that has some."""
    reusing = replace(NOW, reused=12)
    assert "12 reused" in line_with(rendered(reusing, 200, 50), "trials completed")
    assert "12 reused" in plain_line(reusing)
    assert "reused" not in "".join([*rendered(NOW, 200, 50), plain_line(NOW)])
