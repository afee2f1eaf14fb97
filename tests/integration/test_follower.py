"""What `pipeline top` follows: ledgers that appear, grow, are moved away and replaced while it looks."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.core.facts import Fact, GenomeAdded, HostStarted, RunOpened, Settlement, TrialSettled
from pipeline.core.model import IllegalFact
from pipeline.errors import InputError, LedgerError
from pipeline.inspection.follower import Follower, View
from pipeline.inspection.project_reader import ProjectReader
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.ui.terminal import recent_events
from pipeline.views.fitness_history import GenerationFitness
from tests.harness.core import SETTINGS

WAITING = "no generation was run here yet; waiting for `pipeline run`"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no file that is open")
Append = Callable[..., None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text("[local]\nworkers = 1\n[evaluator]\ncommand = ['play']\n")
    return tmp_path


def append(project: Path, generation: int, *facts: Fact, run: int = 1) -> None:
    """As a host does that commits these facts."""
    ledger = Ledger(project / "state")
    ledger.append(facts, time.time(), generation, run)
    ledger.close()


def begun(generation: int, genomes: int = 2, run: int = 1) -> list[Fact]:
    """The facts of a host that opens a generation."""
    settings = replace(SETTINGS, trials_per_genome=1)
    return [
        HostStarted(pid=1, workers=1),
        RunOpened(generation=generation, run=run, settings=settings),
        *(
            GenomeAdded(genome=number, name=f"bot-{number:03d}.json", suffix="", size_bytes=1, sha256=f"{number:064x}")
            for number in range(1, genomes + 1)
        ),
    ]


def settled(genome: int, fitness: float | None) -> TrialSettled:
    settlement = Settlement.COMPLETED if fitness is not None else Settlement.FAILED
    return TrialSettled(genome=genome, trial=1, settlement=settlement, fitness=fitness)


def view(follower: Follower) -> View:
    found = follower.look()
    assert isinstance(found, View), found
    return found


def test_first_run_is_waited_for(project: Path) -> None:
    """Also while the ledger has no facts yet."""
    with closing(Follower(project)) as follower:
        assert follower.look() == WAITING
        Ledger(project / "state").close()
        assert follower.look() == WAITING
        append(project, 1, *begun(1))
        assert view(follower).now.generation == 1
        append(project, 1, settled(2, 3.5))
        assert view(follower).now.fitness == GenerationFitness(1, 1, 3.5, 3.5)


def test_folder_that_is_no_project_is_an_error(tmp_path: Path) -> None:
    """At once: nothing would ever be played there."""
    with closing(Follower(tmp_path)) as follower, pytest.raises(InputError, match="pipeline init"):
        follower.look()


def test_next_generation_is_followed(project: Path) -> None:
    """The one that a host plays, else the one that has the newest fact; its history has the ones before."""
    append(project, 1, *begun(1), settled(1, 1.0), settled(2, 2.0))
    append(project, 2, *begun(2))
    live = LiveStatusFile(project / "state")
    with closing(Follower(project)) as follower:
        assert view(follower).now.generation == 2
        with ProjectReader(project) as reader:
            live.write(reader.progress(1))
        assert view(follower).now.generation == 1
        live.remove()
        append(project, 3, *begun(3))
        now = view(follower).now
        assert (now.generation, now.fitness) == (3, None)
        assert now.history == (GenerationFitness(1, 2, 2.0, 1.5),)
        append(project, 2, settled(1, 9.0))
        append(project, 3, settled(1, 4.0))
        now = view(follower).now
        assert now.history == (GenerationFitness(1, 2, 2.0, 1.5), GenerationFitness(2, 1, 9.0, 9.0))


def test_live_status_of_another_ledger_is_ignored(project: Path) -> None:
    append(project, 7, *begun(7))
    with ProjectReader(project) as reader:
        LiveStatusFile(project / "state").write(reader.progress(7))
    os.rename(project / "state" / "ledger.db", project / "ledger.old")
    append(project, 1, *begun(1))
    with closing(Follower(project)) as follower:
        assert view(follower).now.generation == 1


def test_given_generation_is_waited_for_and_kept(project: Path) -> None:
    """Whatever else is played."""
    append(project, 1, *begun(1))
    with closing(Follower(project, 2)) as follower:
        assert follower.look() == "generation 2 was not begun here yet; waiting for `pipeline run --gen 2`"
        append(project, 2, *begun(2))
        assert view(follower).now.generation == 2
        append(project, 3, *begun(3))
        assert view(follower).now.generation == 2


@posix
def test_ledger_may_be_moved_away_and_replaced(project: Path) -> None:
    """Each look reads what is there then."""
    append(project, 3, *begun(3, genomes=5))
    state, aside = project / "state", project / "aside"
    with closing(Follower(project)) as follower:
        first = view(follower)
        os.rename(state, aside)
        assert follower.look() == WAITING
        append(project, 1, *begun(1))
        other = view(follower)
        assert (other.now.generation, other.now.genomes) == (1, 2)
        assert other.farm.farm_id != first.farm.farm_id
        os.rename(state, project / "aside-too")
        os.rename(aside, state)
        assert view(follower).now.generation == 3


def test_ledger_that_cannot_be_read_is_waited_for(project: Path) -> None:
    """Later it may be corrected or replaced; at the first look it is an error."""
    ledger = project / "state" / "ledger.db"
    with closing(Follower(project)) as follower:
        assert follower.look() == WAITING
        ledger.parent.mkdir()
        ledger.write_bytes(b"")  # a host is about to create it
        found = follower.look()
        assert isinstance(found, str)
        assert found.startswith(f"{ledger}: ") and found.endswith("; waiting until it can be read")
        with closing(Follower(project)) as other, pytest.raises(LedgerError):
            other.look()
        append(project, 1, *begun(1))
        assert view(follower).now.generation == 1


def test_facts_of_another_history_are_read_anew(project: Path) -> None:
    """They do not follow from those read before; if they follow from nothing, it is a defect."""
    append(project, 1, *begun(1))
    with closing(Follower(project)) as follower:
        view(follower)
        append(project, 1, settled(1, 1.0), settled(1, 2.0))
        with pytest.raises(IllegalFact):
            follower.look()


def test_fresh_run_begins_anew(project: Path) -> None:
    """With other genomes; the events are those of the new run."""
    append(project, 1, *begun(1, genomes=3), settled(1, 9.0), settled(3, None))
    with closing(Follower(project)) as follower:
        before = view(follower)
        assert len(recent_events(before.history, before.farm)) == 1
        append(project, 1, *begun(1, genomes=1, run=2), run=2)
        now = view(follower)
        assert (now.now.genomes, now.now.fitness) == (1, None)
        assert recent_events(now.history, now.farm) == []
