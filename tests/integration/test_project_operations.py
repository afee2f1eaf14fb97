"""The operations for programs elsewhere: what was answered is counted exactly once, also if the host is killed."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.control import played_generation
from pipeline.control.operations import (
    GenerationState,
    GenomeResult,
    GenomeStatus,
    SubmissionState,
    SubmittedGenome,
)
from pipeline.control.played_generation import PlayedGeneration
from pipeline.control.project_operations import ProjectOperations
from pipeline.control.project_reading import ProjectReading
from pipeline.core.model import trial_seed
from pipeline.errors import ConflictError, HostError, InputError, NotFoundError, ProjectBusyError, QueueFullError
from pipeline.host.submissions import Submissions
from pipeline.paths import ProjectPaths
from pipeline.storage.submission_store import SubmissionStore
from tests.harness.farm_project import FarmProject
from tests.harness.games.game import fitness_of
from tests.harness.opened_project import genome, genomes, opened
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

#: A host that is killed as soon as it has answered; arguments: folder, and how many genomes it takes.
KILLED_HOST = """
import os, sys
from pathlib import Path
from tests.harness.opened_project import genomes, opened

operations = opened(Path(sys.argv[1]))
number = operations.open_generation(key="mine").number
answers = operations.submit(number, genomes(int(sys.argv[2])))
print(number, *{str(answer.state) for answer in answers}, flush=True)
os._exit(9)
"""


@pytest.fixture
def root(project: FarmProject) -> Path:
    project.configure(workers=2)
    return project.root


@pytest.fixture
def operations(root: Path) -> Iterator[ProjectOperations]:
    with closing(opened(root)) as operations:
        yield operations


def settled(operations: ProjectOperations, number: int, count: int) -> dict[str, GenomeResult]:
    """The results of so many genomes, read as a program reads them."""
    found, after = dict[str, GenomeResult](), 0

    def has_all() -> bool:
        nonlocal after
        page = operations.settled(number, after=after, wait_s=1.0)
        found.update({item.name: item for item in page.items})
        assert page.next is not None
        after = page.next
        return len(found) >= count

    assert eventually(has_all, PATIENCE_S), found
    return found


def finished(operations: ProjectOperations, number: int) -> bool:
    return eventually(lambda: operations.generation(number).state is GenerationState.FINISHED, PATIENCE_S)


def names(operations: ProjectOperations, number: int) -> list[str]:
    return [item.name for item in operations.genomes(number).items]


# ------------------------------------------------------------------------------------------------------ one generation


def test_submitted_genomes_are_played_and_counted(operations: ProjectOperations, project: FarmProject) -> None:
    """From the opening to the end, with the fitness of the submitted bytes."""
    number = operations.open_generation().number

    answers = operations.submit(number, genomes(20))

    assert [answer.state for answer in answers] == [SubmissionState.ACCEPTED] * 20
    results = settled(operations, number, 20)
    for each in genomes(20):
        assert results[each.name].fitness == fitness_of(each.content, trial_seed(11, number, 1))
    assert operations.close_generation(number).state in (GenerationState.CLOSED, GenerationState.FINISHED)
    assert finished(operations, number)
    status = operations.generation(number)
    assert (status.genomes, status.completed, status.failed, status.settled) == (20, 20, 0, 20)
    assert status.best == max(result.fitness or 0 for result in results.values())


def test_repeated_submission_is_known_and_counted_once(operations: ProjectOperations) -> None:
    number = operations.open_generation().number
    operations.submit(number, genomes(3))
    settled(operations, number, 3)

    again = operations.submit(number, genomes(4))

    assert [answer.state for answer in again] == [SubmissionState.KNOWN] * 3 + [SubmissionState.ACCEPTED]
    settled(operations, number, 4)
    assert sorted(names(operations, number)) == ["g000", "g001", "g002", "g003"]


@pytest.mark.parametrize("is_settled", [False, True])
def test_other_bytes_under_a_known_name_are_refused(operations: ProjectOperations, is_settled: bool) -> None:
    number = operations.open_generation().number
    operations.submit(number, [genome("a", n=1)])
    if is_settled:
        settled(operations, number, 1)

    [answer] = operations.submit(number, [genome("a", n=2)])

    assert answer.state is SubmissionState.REFUSED
    assert "other bytes" in answer.reason


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (SubmittedGenome(name="../a", content=b"{}"), "plain file name"),
        (SubmittedGenome(name="a\nb", content=b"{}"), "control characters"),
        (SubmittedGenome(name=".hidden", content=b"{}"), "not taken for genomes"),
        (SubmittedGenome(name="a" * 300, content=b"{}"), "longer than"),
        (SubmittedGenome(name="a", content=b""), "0 bytes"),
        (SubmittedGenome(name="a", content=b"{}", sha256="0" * 64), "digest"),
        (SubmittedGenome(name="a", content=b"{}", params={"x": float("nan")}), "x"),
    ],
)
def test_genome_that_cannot_be_used_is_refused_alone(
    operations: ProjectOperations, bad: SubmittedGenome, reason: str
) -> None:
    """The others of the same request are taken."""
    number = operations.open_generation().number

    answers = operations.submit(number, [genome("before", n=1), bad, genome("after", n=2)])

    accepted, refused = SubmissionState.ACCEPTED, SubmissionState.REFUSED
    assert [answer.state for answer in answers] == [accepted, refused, accepted]
    assert reason in answers[1].reason
    assert sorted(settled(operations, number, 2)) == ["after", "before"]


def test_genome_with_several_trials_comes_when_all_are_settled(project: FarmProject) -> None:
    project.configure(workers=2, trials=3)
    with closing(opened(project.root)) as operations:
        number = operations.open_generation().number
        operations.submit(number, genomes(5))

        results = settled(operations, number, 5)

        assert all(None not in result.trials and len(result.trials) == 3 for result in results.values())


def test_failed_genome_says_why(operations: ProjectOperations) -> None:
    number = operations.open_generation().number
    operations.submit(number, [genome("bad", do="raise"), genome("good", n=1)])

    results = settled(operations, number, 2)

    assert results["bad"].status is GenomeStatus.FAILED
    assert "this genome cannot be played" in results["bad"].reason
    assert "this genome cannot be played" in operations.explain("bad", number)


def test_genome_that_waits_can_be_withdrawn(operations: ProjectOperations, tmp_path: Path) -> None:
    """And one that has joined cannot."""
    gate = tmp_path / "gate"
    number = operations.open_generation().number
    operations.submit(number, genomes(200, until=gate))
    assert eventually(lambda: operations.generation(number).genomes > 0, PATIENCE_S)
    assert operations.genome(number, "g199").status is GenomeStatus.WAITING
    assert "waits" in operations.explain("g199", number)

    operations.cancel(number, "g199")

    with pytest.raises(NotFoundError):
        operations.genome(number, "g199")
    with pytest.raises(ConflictError, match="has joined"):
        operations.cancel(number, names(operations, number)[0])
    with pytest.raises(NotFoundError, match="no genome"):
        operations.cancel(number, "never")
    gate.touch()
    operations.close_generation(number)
    assert finished(operations, number)
    assert "g199" not in settled(operations, number, 199)


def test_queue_has_an_end(operations: ProjectOperations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of a request that does not fit is stored; it fits later."""
    monkeypatch.setattr(played_generation, "WAITING_MAX", 30)
    gate = tmp_path / "gate"
    number = operations.open_generation().number
    operations.submit(number, genomes(20, until=gate))

    with pytest.raises(QueueFullError, match="submit again"):
        operations.submit(number, genomes(31, first=100, until=gate))

    gate.touch()
    settled(operations, number, 20)
    assert len(operations.submit(number, genomes(30, first=100, until=gate))) == 30
    assert len(settled(operations, number, 50)) == 50


def test_genome_that_cannot_be_stored_is_refused_later(operations: ProjectOperations) -> None:
    """Something else has its name in the generation's folder; that shows when it joins."""
    number = operations.open_generation().number
    (ProjectPaths(operations.root).genomes(number) / "a").mkdir(parents=True)

    operations.submit(number, [*genomes(2), genome("a", n=1)])

    assert eventually(lambda: operations.genome(number, "a").status is GenomeStatus.REFUSED, PATIENCE_S)
    assert "not a regular file" in operations.genome(number, "a").reason
    [again] = operations.submit(number, [genome("a", n=1)])
    assert again.state is SubmissionState.REFUSED
    operations.close_generation(number)
    assert finished(operations, number)
    assert names(operations, number) == ["g000", "g001"]


# ---------------------------------------------------------------------------------------------- several generations


def test_key_opens_the_same_generation_again(operations: ProjectOperations) -> None:
    """While it is played, and after it is finished."""
    first = operations.open_generation(key="a").number
    assert operations.open_generation(key="a").number == first
    operations.submit(first, genomes(1))
    operations.close_generation(first)
    assert finished(operations, first)

    again = operations.open_generation(key="a")

    assert (again.number, again.state) == (first, GenerationState.FINISHED)
    assert operations.open_generation(key="b").number == first + 1
    with pytest.raises(ConflictError, match="idempotency key"):
        operations.open_generation(7, key="a")


def test_one_generation_is_played_at_a_time(operations: ProjectOperations) -> None:
    operations.open_generation(3)

    with pytest.raises(ConflictError, match="generation 3 is being played"):
        operations.open_generation(4)
    with pytest.raises(ConflictError, match="generation 3 is being played"):
        operations.reopen_failed(3)

    assert operations.project().open_generation == 3
    operations.stop_generation(3)
    assert operations.open_generation(4).number == 4


def test_closed_generation_takes_no_genomes(operations: ProjectOperations, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    number = operations.open_generation().number
    operations.submit(number, genomes(1, until=gate))
    operations.close_generation(number)

    with pytest.raises(ConflictError, match="closed"):
        operations.submit(number, genomes(1, first=5))

    gate.touch()
    assert finished(operations, number)
    with pytest.raises(ConflictError, match="finished"):
        operations.submit(number, genomes(1, first=5))


def test_stopped_generation_goes_on_when_it_is_opened_again(operations: ProjectOperations, tmp_path: Path) -> None:
    """With what waited."""
    gate = tmp_path / "gate"
    number = operations.open_generation().number
    operations.submit(number, genomes(50, until=gate))

    assert operations.stop_generation(number).state is GenerationState.STOPPED
    with pytest.raises(ConflictError, match="open it again"):
        operations.submit(number, genomes(1))
    gate.touch()
    assert operations.open_generation(number).state is GenerationState.OPEN

    assert len(settled(operations, number, 50)) == 50


def test_others_see_at_once_that_a_generation_was_stopped(operations: ProjectOperations) -> None:
    """The host stays open, but plays nothing."""
    number = operations.open_generation().number

    with closing(ProjectReading(operations.root)) as other:
        assert eventually(lambda: other.playing() == number)
        operations.stop_generation(number)
        assert other.playing() is None


@pytest.mark.parametrize("verb", ["stop_generation", "close_generation"])
def test_wait_for_results_ends_with_the_generation(operations: ProjectOperations, verb: str) -> None:
    number = operations.open_generation().number
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(operations.settled, number, wait_s=4 * PATIENCE_S)

        getattr(operations, verb)(number)

        assert waiting.result(PATIENCE_S).items == []


def test_generation_that_ends_meanwhile_is_opened_again(
    operations: ProjectOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was being played when the request was checked, and is finished when it is answered."""
    number = operations.open_generation().number
    operations.close_generation(number)
    assert finished(operations, number)
    answers = iter([True])
    monkeypatch.setattr(PlayedGeneration, "is_played", property(lambda _self: next(answers, False)))

    assert operations.open_generation(number).state is GenerationState.OPEN


def test_generation_is_opened_as_soon_as_the_one_before_is_closed(operations: ProjectOperations) -> None:
    """Its trials are settled, so it ends in a moment."""
    for _ in range(5):
        number = operations.open_generation().number
        operations.submit(number, [genome("a", n=1)])
        assert settled(operations, number, 1)
        operations.close_generation(number)

    assert operations.reopen_failed(number).state in (GenerationState.CLOSED, GenerationState.FINISHED)


def test_failed_genomes_are_played_again(operations: ProjectOperations, tmp_path: Path) -> None:
    number = operations.open_generation().number
    operations.submit(number, [genome("bad", do="raise"), genome("good", n=1)])
    operations.close_generation(number)
    assert finished(operations, number)
    before = len(settled(operations, number, 2)["bad"].attempts)

    status = operations.reopen_failed(number)

    assert status.state in (GenerationState.CLOSED, GenerationState.FINISHED)
    assert finished(operations, number)
    assert operations.generation(number).failed == 1
    attempts = [line for line in operations.explain("bad", number).splitlines() if "issued" in line]
    assert len(attempts) > before


def test_generation_that_cannot_go_on_says_why(project: FarmProject) -> None:
    project.configure(workers=2, evaluator='python = "missing_module:play"')
    with closing(opened(project.root)) as operations:
        number = operations.open_generation().number
        operations.submit(number, genomes(2))

        assert eventually(lambda: operations.generation(number).state is GenerationState.STALLED, PATIENCE_S)

        assert "missing_module" in operations.generation(number).reason
        with pytest.raises(ConflictError, match="stalled"):
            operations.submit(number, genomes(1, first=5))


@pytest.mark.parametrize("number", [0, -1, 10**9 + 1])
def test_number_that_cannot_be_used_is_refused(operations: ProjectOperations, number: int) -> None:
    with pytest.raises(InputError, match="expected a number"):
        operations.open_generation(number)
    assert operations.project().latest_generation is None


# ------------------------------------------------------------------------------------------------------------ the host


def test_answered_genomes_survive_a_kill_of_the_host(root: Path) -> None:
    """Those that had joined and those that had not; the same key finds the generation, and nothing is doubled."""
    command = [sys.executable, "-c", KILLED_HOST, str(root), "120"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (killed.returncode, killed.stdout.split()[1:]) == (9, ["accepted"]), killed.stderr

    with closing(opened(root)) as operations:
        number = int(killed.stdout.split()[0])
        assert operations.open_generation(key="mine").number == number
        assert {answer.state for answer in operations.submit(number, genomes(120))} == {SubmissionState.KNOWN}
        assert len(settled(operations, number, 120)) == 120
        operations.close_generation(number)
        assert finished(operations, number)
        assert operations.generation(number).genomes == 120


def test_closed_generation_is_finished_by_the_next_host(root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with closing(opened(root)) as operations:
        number = operations.open_generation().number
        operations.submit(number, genomes(30, until=gate))
        operations.close_generation(number)
    gate.touch()

    with closing(opened(root)) as operations:
        assert finished(operations, number)
        assert operations.generation(number).completed == 30


def test_generation_that_was_opened_last_goes_on(project: FarmProject) -> None:
    """With the next host, and not one before it that could not go on."""
    project.configure(workers=1, evaluator='python = "missing_module:play"')
    with closing(opened(project.root)) as operations:
        first = operations.open_generation().number
        operations.submit(first, genomes(1))
        assert eventually(lambda: operations.generation(first).state is GenerationState.STALLED, PATIENCE_S)
    project.configure(workers=1)
    with closing(SubmissionStore(ProjectPaths(project.root).submissions)) as store:
        store.open_generation(first + 1, "")  # a host is killed here

    with closing(opened(project.root)) as operations:
        assert operations.project().open_generation == first + 1
        assert operations.generation(first).state is GenerationState.STOPPED


def test_stopped_generation_is_not_played_by_the_next_host(root: Path) -> None:
    with closing(opened(root)) as operations:
        number = operations.open_generation().number
        operations.stop_generation(number)

    with closing(opened(root)) as operations:
        assert operations.generation(number).state is GenerationState.STOPPED
        assert operations.project().open_generation is None


def test_failure_of_the_disk_ends_the_host(operations: ProjectOperations, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is told, and what was answered is counted by the next host."""
    number = operations.open_generation().number

    def fail(_submissions: object, _farm: object) -> None:
        raise HostError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Submissions, "update", fail)
        operations.submit(number, genomes(3))
        assert eventually(lambda: operations.failure is not None, PATIENCE_S)
    assert operations.generation(number).reason == "the disk is full"
    with pytest.raises(HostError, match="start the server again"):
        operations.open_generation()
    operations.close()

    with closing(opened(operations.root)) as next_host:
        assert len(settled(next_host, number, 3)) == 3


def test_project_that_another_process_plays_can_be_read(root: Path, project: FarmProject, tmp_path: Path) -> None:
    """Changes are refused there, and the project cannot be opened."""
    gate = tmp_path / "gate"
    project.add_genomes({f"g{n}.json": {"n": n, "until": str(gate)} for n in range(3)})
    host = project.start()
    with closing(ProjectOperations(root)) as operations:
        assert eventually(lambda: operations.project().open_generation == 1, PATIENCE_S)

        assert operations.generation(1).state is GenerationState.CLOSED
        with pytest.raises(ConflictError, match="--control"):
            operations.submit(1, genomes(1))
        with pytest.raises(ConflictError, match="--control"):
            operations.open_generation()
        with pytest.raises(ProjectBusyError), closing(opened(root)):
            pass
        gate.touch()
        assert len(settled(operations, 1, 3)) == 3
        assert project.wait_for_end(host)[0] == 0
        assert operations.generation(1).state is GenerationState.FINISHED
        assert [event.kind for event in operations.events(after=-1).items] == ["run_finished"]


def test_what_does_not_exist_is_not_found(operations: ProjectOperations) -> None:
    with pytest.raises(NotFoundError, match="no generation was begun"):
        operations.explain("a")
    number = operations.open_generation().number
    for call in (
        lambda: operations.generation(9),
        lambda: operations.genomes(9),
        lambda: operations.settled(9),
        lambda: operations.submit(9, genomes(1)),
        lambda: operations.stop_generation(9),
        lambda: operations.reopen_failed(9),
        lambda: operations.genome(number, "a"),
        lambda: operations.explain("a", number),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_pages_have_all_genomes_and_generations(operations: ProjectOperations) -> None:
    for _ in range(3):
        number = operations.open_generation().number
        operations.submit(number, genomes(7))
        operations.close_generation(number)
        assert finished(operations, number)

    first = operations.genomes(1, limit=4)
    rest = operations.genomes(1, after=first.next or 0, limit=4)

    assert len(first.items) == 4
    assert rest.next is None
    assert {item.name for item in [*first.items, *rest.items]} == {each.name for each in genomes(7)}
    page = operations.generations(limit=2)
    assert [status.number for status in page.items] == [1, 2]
    assert [status.number for status in operations.generations(after=page.next or 0).items] == [3]
