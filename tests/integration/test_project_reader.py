"""A project is read while its host writes: between two queries there may be new facts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.core.facts import EpochRaised, Fact, GenomeAdded, RunOpened, Settlement, TrialSettled
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger
from tests.harness.core import SETTINGS
from tests.harness.farm_project import FarmProject

FIRST_CONTACT = EpochRaised(worker="local-0", epoch=1, reason="first contact")


def opening(generation: int, genomes: int = 1) -> list[Fact]:
    added = [
        GenomeAdded(genome=number, name=f"g{number}", suffix=".json", size_bytes=2, sha256="0" * 64)
        for number in range(1, genomes + 1)
    ]
    return [RunOpened(generation=generation, run=1, settings=SETTINGS), *added]


@pytest.fixture
def project(tmp_path: Path) -> ProjectPaths:
    FarmProject(tmp_path).configure(workers=1)
    paths = ProjectPaths(tmp_path)
    append(paths, opening(1), 1)
    return paths


def append(paths: ProjectPaths, facts: Sequence[Fact], generation: int) -> None:
    ledger = Ledger(paths.state)
    ledger.append(facts, at=1.0, generation=generation, run=1)
    ledger.close()


def write_after_count(
    reader: ProjectReader, monkeypatch: pytest.MonkeyPatch, write: Callable[[], None], *, calls: int = 1
) -> None:
    """The host writes once, just after the reader has asked so many times for the number of the last fact."""
    last, left = reader._ledger.last, list(range(calls))

    def last_then_write() -> tuple[int, float, int]:
        found = last()
        if left and left.pop() == 0:
            write()
        return found

    monkeypatch.setattr(reader._ledger, "last", last_then_write)


@pytest.mark.parametrize("generation", [1, 2])
def test_fact_of_share_written_meanwhile_is_applied_once(
    project: ProjectPaths, monkeypatch: pytest.MonkeyPatch, generation: int
) -> None:
    """In its own generation, and in the one that is read next."""
    with ProjectReader(project.root) as reader:
        write_after_count(reader, monkeypatch, lambda: append(project, [FIRST_CONTACT], 1))
        reader.farm(1)
        append(project, opening(2), 2)

        assert reader.farm(generation).worker("local-0").epoch == 1


def test_genome_written_meanwhile_is_read_next_time(project: ProjectPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProjectReader(project.root) as reader:
        write_after_count(reader, monkeypatch, lambda: append(project, opening(1, genomes=2)[2:], 1))

        assert [len(reader.farm(1).genomes) for _look in range(2)] == [1, 2]


def test_fitness_written_meanwhile_is_counted_once(project: ProjectPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    append(project, opening(1, genomes=2)[2:], 1)
    append(project, opening(2), 2)
    settled = [TrialSettled(genome=genome, trial=1, settlement=Settlement.COMPLETED, fitness=1.0) for genome in (1, 2)]
    with ProjectReader(project.root) as reader:
        reader.farm(2)
        write_after_count(reader, monkeypatch, lambda: append(project, settled, 1), calls=2)
        earlier = [reader.progress(2).history for _look in range(3)]

    assert [[each.completed for each in some] for some in earlier] == [[], [2], [2]]
