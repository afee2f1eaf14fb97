"""The picture and the words of the README about other tools are those of the stored measurement."""

import re
from collections.abc import Iterable
from itertools import chain

import pytest

from bench.faults.game import FAULTS
from bench.faults.judgement import Grade, judge, repeated_games
from bench.faults.measurement import SYSTEMS, Cell, read
from docs.pictures.faults import PICTURE, STORED, drawn
from tests.harness.source_tree import ROOT

pytestmark = pytest.mark.source
#: After which the others have to go on without the genome.
OF_THE_GENOME = ("raise", "exit", "crash", "leak", "hang")


def words_of(svg: str) -> list[str]:
    """What a picture shows, whatever the version of rich that drew it."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def cells_of(faults: Iterable[str], systems: Iterable[str] = tuple(SYSTEMS)) -> list[Cell]:
    measured = read(STORED)
    found = [measured.cell(system, fault) for system in systems for fault in faults]
    return [cell for cell in found if cell is not None]


def cell_of(system: str, fault: str) -> Cell:
    (cell,) = cells_of([fault], [system])
    return cell


def lost(fault: str) -> set[str]:
    """The systems that lost fitnesses of innocent genomes, or had none."""
    return {cell.system for cell in cells_of([fault]) if judge(cell).grade is Grade.BAD}


def readme() -> str:
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## Beside other tools\n")[2].partition("\n## ")[0]
    )
    return " ".join(section.split())


def test_picture_shows_stored_measurement() -> None:
    """After a measurement, `python -m docs.pictures.faults` draws it again."""
    assert words_of(PICTURE.read_text(encoding="utf-8")) == words_of(drawn(read(STORED)))


def test_stored_measurement_is_whole() -> None:
    """Every system under every fault, with its version, and no path of a machine."""
    measured = read(STORED)
    assert [(cell.system, cell.fault) for cell in measured.cells] == [
        (system, fault) for system in SYSTEMS for fault in FAULTS
    ]
    assert all(cell.is_measured for cell in measured.cells)
    assert measured.versions.keys() == SYSTEMS.keys()
    assert "/" not in STORED.read_text(encoding="utf-8")


def test_readme_names_systems_that_go_on_without_genome() -> None:
    """And how long a genome that hangs takes."""
    failing = set(chain.from_iterable(map(lost, OF_THE_GENOME)))
    assert SYSTEMS.keys() - failing == {"genome-pipeline", "pebble", "ray"}
    assert all(
        judge(cell_of(name, fault)).grade is Grade.GOOD for name in SYSTEMS.keys() - failing for fault in OF_THE_GENOME
    )
    ours, pebble = (cell_of(name, "hang").seconds for name in ("genome-pipeline", "pebble"))
    assert f"a genome that hangs takes {pebble:.0f} s with pebble and {ours:.0f} s here" in readme()


def test_readme_names_systems_that_keep_innocent_genome() -> None:
    assert SYSTEMS.keys() - lost("innocent") == {"genome-pipeline", "ray", "dask"}
    assert judge(cell_of("pebble", "innocent")).verdict == "1 lost"


def test_readme_has_repeated_games_of_killed_program() -> None:
    cheap = {"genome-pipeline", "joblib", "optuna"}
    few = [repeated_games(cell_of(name, "program")) for name in cheap]
    many = [repeated_games(cell_of(name, "program")) for name in SYSTEMS.keys() - cheap]
    assert lost("program") == set()
    assert f"at most {max(few)} games are played again here" in readme()
    assert f"the others play {min(many)} to {max(many)} again" in readme()


def test_readme_says_who_waits_for_late_genome() -> None:
    waiting = {cell.system for cell in cells_of(["late"]) if cell.fitnesses == 40}
    assert waiting == {"dask", "concurrent-futures", "nevergrad", "optuna", "deap"}
