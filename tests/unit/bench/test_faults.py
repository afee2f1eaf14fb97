"""The bench of faults: what a measured cell means, and the tables. Made-up cells, no measurement."""

import io
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.faults.game import FAULTS
from bench.faults.judgement import Grade, judge, repeated_games
from bench.faults.measurement import SYSTEMS, Cell, Measurement, described, read, write
from bench.faults.table import HEADS, as_markdown, as_rich, explained, one_line


def cell(fault: str = "none", fitnesses: int = 40, **other: Any) -> Cell:
    """A call that returned after 1.5 s, unless something else is given."""
    given: dict[str, Any] = {"system": "pebble", "end": "returned", "seconds": 1.5, "games": 40} | other
    return Cell(fault=fault, fitnesses=fitnesses, **given)


def words(fault: str, fitnesses: int = 40, **other: Any) -> str:
    return str(judge(cell(fault, fitnesses, **other)))


def grade(fault: str, fitnesses: int = 40, **other: Any) -> Grade:
    return judge(cell(fault, fitnesses, **other)).grade


def measured(*cells: Cell) -> Measurement:
    return Measurement(
        python="3.13.1",
        platform="Linux",
        processors=4,
        deadline_s=45.0,
        versions={"pebble": "5.1", "concurrent-futures": "3.13.1"},
        cells=cells,
    )


@pytest.mark.parametrize("fault", ["raise", "exit", "crash", "leak", "hang", "late"])
def test_culprit_may_lack_fitness_if_it_is_named(fault: str) -> None:
    assert words(fault, 39, failed=(17,)) == "39/40, 1.5 s, named"
    assert grade(fault, 39, failed=(17,)) is Grade.GOOD


@pytest.mark.parametrize("failed", [(), (16,), (16, 17)])
def test_culprit_is_named_only_if_it_is_the_only_one(failed: tuple[int, ...]) -> None:
    """An error without a genome, another genome, or several ones do not say which one misbehaves."""
    assert words("crash", 39, failed=failed) == "39/40, 1.5 s, not named"
    assert grade("crash", 39, failed=failed) is Grade.PARTIAL


def test_genomes_that_are_not_at_fault_are_lost() -> None:
    assert words("raise", 16, end="raised", error="ValueError") == "16/40, 1.5 s, 23 lost"
    assert words("raise", 0, end="raised", error="ValueError") == "0/40, 1.5 s, 39 lost"
    assert grade("raise", 38, failed=(17, 19)) is Grade.BAD


@pytest.mark.parametrize("fault", ["none", "innocent", "program"])
def test_every_genome_is_innocent_if_none_misbehaves(fault: str) -> None:
    """A library that names a genome whose process was killed from outside has lost it."""
    assert words(fault, 39, failed=(17,)).endswith("1 lost")
    assert grade(fault, 39, failed=(17,)) is Grade.BAD


def test_late_genome_may_be_waited_for() -> None:
    """That is right if twelve seconds are no fault; so is naming it after the limit."""
    assert (words("late", 40, seconds=12.44), grade("late", 40)) == ("40/40, 12 s", Grade.GOOD)
    assert grade("late", 39, failed=(17,)) is Grade.GOOD


def test_program_that_waits_at_its_deadline_has_nothing() -> None:
    assert (words("hang", 0, end="never"), grade("hang", 0, end="never")) == ("never", Grade.BAD)


def test_program_that_died_has_nothing() -> None:
    assert words("crash", 0, end="died", error="SIGSEGV") == "0/40, died"
    assert grade("crash", 0, end="died", error="SIGSEGV") is Grade.BAD


def test_second_run_of_program_is_judged_by_games_of_both() -> None:
    """Two games that were played at the kill, and two whose results were on the way, are few."""
    assert words("program", games=44) == "40/40, 44 games"
    assert [grade("program", games=games) for games in (40, 44, 45)] == [Grade.GOOD, Grade.GOOD, Grade.PARTIAL]
    assert [repeated_games(cell("program", games=games)) for games in (38, 40, 58)] == [0, 0, 18]


def test_missing_library_is_not_judged() -> None:
    """Nor is a cell that was not asked for."""
    missing = cell(fitnesses=0, end="raised", error="ModuleNotFoundError")
    assert [str(judge(one)) for one in (missing, None)] == ["not measured", "not measured"]
    assert not missing.is_measured
    assert described([missing], 45.0).versions == {}


def test_markdown_has_row_for_each_system_and_column_for_each_fault() -> None:
    """Below it: what the words mean, and every version."""
    cells = [
        cell("none"),
        cell("crash", 39, failed=(17,), left_running=1),
        cell("none", system="concurrent-futures"),
        cell("crash", 16, system="concurrent-futures", left_running=2),
    ]
    assert as_markdown(measured(*cells)).splitlines() == [
        "| system | none | crash | left running |",
        "| --- | --- | --- | --- |",
        "| pebble ProcessPool | 40/40, 1.5 s | 39/40, 1.5 s, named | 1 |",
        "| concurrent.futures ProcessPoolExecutor | 40/40, 1.5 s | 16/40, 1.5 s, 23 lost | 2 |",
        "",
        explained(measured()),
        "pebble 5.1, Python 3.13.1, 4 processors, Linux",
    ]


def test_terminal_shows_two_lines_for_each_system() -> None:
    console = Console(width=110, file=io.StringIO(), record=True)
    console.print(as_rich(measured(cell("none"), cell("hang", 0, end="never"), cell("program", games=58))))
    *head, first, second = [line.split("  ") for line in console.export_text().splitlines() if line.strip()]
    assert len(head) == 2
    assert [part.strip() for part in first if part.strip()] == ["pebble", "complete", "never", "complete"]
    assert [part.strip() for part in second if part.strip()] == ["ProcessPool", "40 1.5 s", "58 games"]


def test_progress_names_system_fault_and_games() -> None:
    assert one_line(cell("leak", 39, failed=(17,))) == "pebble, leak: 39/40, 1.5 s, named (40 games)"
    assert one_line(cell("hang", 0, end="never", left_running=3)) == "pebble, hang: never (40 games, 3 left running)"


def test_measurement_is_read_as_written(tmp_path: Path) -> None:
    kept = measured(cell("crash", 39, failed=(17,)), cell("hang", 0, end="never"))
    write(tmp_path / "faults.json", kept)
    assert read(tmp_path / "faults.json") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["faults.json"]


def test_every_system_has_program_and_every_fault_column() -> None:
    """The programs import their libraries when they play."""
    assert list(import_module("bench.faults.systems").SYSTEMS) == list(SYSTEMS)
    assert list(HEADS) == list(FAULTS)
