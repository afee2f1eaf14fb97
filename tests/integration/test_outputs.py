"""The output files of a generation while it runs, and at its end."""

import csv
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import GenomeReopened
from pipeline.core.farm import Farm
from pipeline.host import attempts_table, csv_file
from pipeline.host.csv_file import ROWS_PER_SLICE
from pipeline.host.outputs import INTERVAL_S, Outputs
from pipeline.views import csv_table
from tests.harness.core import CoreHarness

NAMES = ("results.csv", "attempts.csv", "summary.json")


class Generation:
    """A generation that is played step by step, and its outputs on a clock of their own."""

    def __init__(self, folder: Path, genomes: int = 6) -> None:
        self.core = CoreHarness("w0", "w1", genomes=genomes)
        self.folder = folder
        self.now = 0.0
        self.outputs = Outputs(folder, lambda: self.now)
        self.core.run_until_ready()

    @property
    def farm(self) -> Farm:
        return self.core.farm

    def play(self, games: int = 1, **result: Any) -> None:
        """So many games end, one in each tick."""
        for _ in range(games):
            attempt = next(attempt for worker in self.farm.workers.values() for attempt in worker.wanted)
            self.core.publish_result(attempt, **result)
            self.tick()

    def tick(self) -> None:
        self.outputs.update(self.farm, self.core.tick())

    def write_what_is_due(self) -> None:
        """Lets so much time pass that every file is written that is to be."""
        for _ in range(3):
            self.now += 100 * INTERVAL_S
            self.outputs.update(self.farm, [])

    def restart_host(self) -> None:
        """A host that was killed is started again."""
        self.core.restart_host()
        self.outputs = Outputs(self.folder, lambda: self.now)

    def file(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def attempts(self) -> list[str]:
        """The ids of the rows of `attempts.csv`."""
        text = self.file("attempts.csv").decode("utf-8-sig")
        assert text.endswith("\n")
        return [row["attempt"] for row in csv.DictReader(text.splitlines())]

    def over(self) -> list[str]:
        """The ids of the attempts that are over."""
        return list(self.outcomes())

    def outcomes(self) -> dict[str, Outcome]:
        """Their outcomes."""
        return {attempt.id: attempt.outcome for attempt in self.farm.attempts.values() if attempt.outcome is not None}


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    """A generation of six genomes of which none was played."""
    return Generation(tmp_path / "results")


@pytest.fixture
def begun(generation: Generation) -> Generation:
    """The same after two games; its outputs are written."""
    generation.play(2)
    generation.write_what_is_due()
    assert len(generation.attempts()) == 2
    return generation


class Written:
    """Counts the rows that are written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        real = csv_table.csv_lines

        def counting(rows: Any) -> str:
            found = list(rows)
            self.rows += len(found)
            return real(found)

        monkeypatch.setattr(csv_file, "csv_lines", counting)


def replayed(core: CoreHarness, folder: Path) -> dict[str, bytes]:
    """The files that another host writes from the same facts."""
    other = Farm(core.farm.farm_id, list(core.farm.workers))
    for fact, at in core.facts:
        other.evolve(fact, at)
    Outputs(folder).write(other)
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_rows_are_appended_as_attempts_end(begun: Generation) -> None:
    """The rows before them stay where they are."""
    before = begun.file("attempts.csv")

    begun.play(3)
    begun.write_what_is_due()

    assert begun.file("attempts.csv").startswith(before)
    assert sorted(begun.attempts()) == sorted(begun.over())
    assert len(begun.over()) == 5


def test_results_show_what_was_played_so_far(begun: Generation) -> None:
    """Also while the generation runs."""
    rows = csv.DictReader(begun.file("results.csv").decode("utf-8-sig").splitlines())
    assert [row["status"] for row in rows].count("completed") == 2


def test_same_facts_give_the_same_bytes(begun: Generation, tmp_path: Path) -> None:
    """Whatever was appended before, also by a host that was killed."""
    begun.play(1)
    begun.restart_host()
    begun.core.run_until_ready()
    begun.play(1)
    begun.write_what_is_due()
    begun.core.play_all()
    begun.outputs.write(begun.farm)

    assert {name: begun.file(name) for name in NAMES} == replayed(begun.core, tmp_path / "other")


@pytest.mark.parametrize("torn", [b"", b"g0001-r1-torn,", b"no bytes of this program"])
def test_file_of_a_killed_host_is_written_anew(begun: Generation, torn: bytes) -> None:
    """The rows that it had not appended are there, and the last one is whole."""
    begun.play(2)
    path = begun.folder / "attempts.csv"
    path.write_bytes(path.read_bytes() + torn)

    begun.restart_host()
    begun.write_what_is_due()

    assert begun.attempts() == begun.over()


@pytest.mark.parametrize("change", [os.unlink, lambda path: os.truncate(path, 10)], ids=["deleted", "cut"])
def test_file_that_others_change_is_written_anew(begun: Generation, change: Any) -> None:
    """No row is appended to a file that is not as it was left."""
    change(begun.folder / "attempts.csv")
    begun.play(1)
    begun.write_what_is_due()
    begun.write_what_is_due()

    assert sorted(begun.attempts()) == sorted(begun.over())


def test_row_that_finds_no_room_is_written_later(
    begun: Generation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file has no part of it meanwhile; there is one warning."""
    before = begun.file("attempts.csv")

    def fill_up(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(attempts_table, "write_all", fill_up)
        patch.setattr(csv_file, "write_all", fill_up)
        begun.play(1)
        begun.write_what_is_due()
        begun.play(1)
        begun.write_what_is_due()
        assert begun.file("attempts.csv") == before
    assert len([record for record in caplog.messages if "attempts.csv cannot be written" in record]) == 1

    begun.write_what_is_due()
    assert sorted(begun.attempts()) == sorted(begun.over())
    assert len(begun.over()) == 4


def test_attempt_that_ends_once_more_has_one_row(generation: Generation) -> None:
    """Its result came after it was given up (law 6): the row says what counts."""
    core = generation.core
    attempt = generation.core.claim("w0")
    core.outage("w0", core.limits.silence_limit_s * 3)
    generation.outputs.update(generation.farm, core.run(1))
    assert generation.outcomes()[attempt] is Outcome.LOST
    generation.write_what_is_due()
    assert attempt in generation.attempts()

    core.publish_result(attempt)
    for _ in range(3):
        generation.tick()
    assert generation.outcomes().get(attempt) is Outcome.COMPLETED
    generation.write_what_is_due()
    generation.write_what_is_due()

    assert sorted(generation.attempts()) == sorted(generation.over())
    assert f"{attempt},g1,1,1," in generation.file("attempts.csv").decode()


def test_superseded_attempts_are_marked_when_a_genome_is_opened_again(generation: Generation) -> None:
    """Their rows were appended before."""
    generation.core.play_all()
    generation.outputs.write(generation.farm)
    generation.core.record(GenomeReopened(genome=1, size_bytes=1, sha256="0" * 64))
    generation.restart_host()
    generation.write_what_is_due()

    assert generation.file("attempts.csv").count(b",yes\n") == 1


def test_tick_writes_few_rows_however_many_genomes_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when everything is due: tables are written in slices."""
    generation, written = Generation(tmp_path, genomes=3 * ROWS_PER_SLICE), Written(monkeypatch)
    most = 0
    for _ in range(10):
        generation.now += 100 * INTERVAL_S
        generation.outputs.update(generation.farm, [])
        most, written.rows = max(most, written.rows), 0
    assert most == ROWS_PER_SLICE
    assert generation.file("results.csv").count(b"\n") == 1 + len(generation.farm.genomes)


def test_appended_rows_are_written_once(begun: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of earlier attempts are not written again with each new one."""
    written = Written(monkeypatch)
    for _ in range(4):
        begun.play(1)
        begun.now += INTERVAL_S
        begun.outputs.update(begun.farm, [])
    results = len(begun.farm.genomes) + 1
    assert written.rows % results == 4, "four rows of attempts, and whole tables of results"


def test_nothing_is_left_of_a_table_that_was_begun(tmp_path: Path) -> None:
    """The final tables are written instead."""
    generation = Generation(tmp_path, genomes=3 * ROWS_PER_SLICE)
    generation.now += 2 * INTERVAL_S
    generation.outputs.update(generation.farm, [])
    assert (tmp_path / ".results.csv.new").exists()

    generation.outputs.write(generation.farm)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
