"""What several clients submit at a time is stored in one commit, and each of them gets the answer to its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing

import pytest

from pipeline.control import played_generation
from pipeline.control.operations import SubmissionAnswer, SubmissionState, SubmittedGenome
from pipeline.control.project_operations import ProjectOperations
from pipeline.errors import ConflictError, HostError, PipelineError, QueueFullError
from pipeline.http_api.submission_groups import SubmissionGroups
from pipeline.storage.submission_store import SubmissionStore
from tests.harness.farm_project import FarmProject
from tests.harness.opened_project import genome, genomes, opened
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

ACCEPTED, KNOWN, REFUSED = SubmissionState.ACCEPTED, SubmissionState.KNOWN, SubmissionState.REFUSED
Requests = Sequence[Sequence[SubmittedGenome]]
Outcomes = Sequence[list[SubmissionAnswer] | PipelineError]


@pytest.fixture
def operations(project: FarmProject) -> Iterator[ProjectOperations]:
    project.configure(workers=1)
    with closing(opened(project.root)) as operations:
        yield operations


@pytest.fixture
def number(operations: ProjectOperations) -> int:
    return operations.open_generation().number


def states(outcome: list[SubmissionAnswer] | PipelineError) -> list[SubmissionState]:
    assert not isinstance(outcome, PipelineError), outcome
    return [answer.state for answer in outcome]


# ----------------------------------------------------------------------------------------------------- the operation


def test_requests_share_one_commit(operations: ProjectOperations, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A genome that two of them have is accepted once; one that is refused does not affect the others."""
    commits, add = list[int](), SubmissionStore.add

    def counted(store: SubmissionStore, generation: int, stored: Sequence[object]) -> None:
        commits.append(len(stored))
        add(store, generation, stored)  # type: ignore[arg-type]

    monkeypatch.setattr(SubmissionStore, "add", counted)
    empty = SubmittedGenome(name="empty", content=b"")
    requests = [genomes(2), [empty], [*genomes(1), genome("b", n=1)], [genome("b", n=2), genome("c", n=3)]]

    outcomes = operations.submit_together(number, requests)

    assert [*map(states, outcomes)] == [[ACCEPTED] * 2, [REFUSED], [KNOWN, ACCEPTED], [REFUSED, ACCEPTED]]
    assert commits == [4]
    assert eventually(lambda: operations.generation(number).completed == 4, PATIENCE_S)


def test_request_without_room_is_refused_alone(
    operations: ProjectOperations, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is stored, and a smaller one after it fits."""
    monkeypatch.setattr(played_generation, "WAITING_MAX", 5)

    first, large, small = operations.submit_together(number, [genomes(3), genomes(4, first=10), genomes(2, first=20)])

    assert (states(first), states(small)) == ([ACCEPTED] * 3, [ACCEPTED] * 2)
    assert isinstance(large, QueueFullError)
    assert eventually(lambda: operations.generation(number).completed == 5, PATIENCE_S)
    assert states(operations.submit(number, genomes(4, first=10))) == [ACCEPTED] * 4


def test_failed_commit_stores_nothing_of_any_request(
    operations: ProjectOperations, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same requests are accepted when the disk has room again."""

    def full(*_args: object) -> None:
        raise HostError("the disk is full")

    with monkeypatch.context() as failing:
        failing.setattr(SubmissionStore, "add", full)
        with pytest.raises(HostError, match="disk is full"):
            operations.submit_together(number, [genomes(1), genomes(1, first=1)])

    outcomes = operations.submit_together(number, [genomes(1), genomes(1, first=1)])
    assert [*map(states, outcomes)] == [[ACCEPTED], [ACCEPTED]]


# --------------------------------------------------------------------------------------------------------- the groups


class HeldCommits:
    """Commits that wait until the test lets them go on."""

    def __init__(self, answer: Callable[[int, Requests], Outcomes]) -> None:
        self.groups: list[Requests] = []
        self.begun, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self._answer = answer

    def submit(self, number: int, requests: Requests) -> Outcomes:
        self.groups.append(requests)
        self.begun.release()
        assert self.may_end.acquire(timeout=PATIENCE_S)
        return self._answer(number, requests)

    async def is_held(self) -> None:
        """Waits until the next one has begun."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_S)


def accepted(_number: int, requests: Requests) -> Outcomes:
    return [[SubmissionAnswer(name=each.name, state=ACCEPTED) for each in request] for request in requests]


async def _started(work: Coroutine[object, object, list[SubmissionAnswer]]) -> "asyncio.Task[list[SubmissionAnswer]]":
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


def test_what_comes_during_a_commit_is_in_the_next_one() -> None:
    """Answered after it and not before; a client that goes away changes nothing for the others."""

    async def play() -> None:
        commits = HeldCommits(accepted)
        submissions = SubmissionGroups(commits.submit)
        first = await _started(submissions.submit(1, genomes(1)))
        await commits.is_held()
        later = [await _started(submissions.submit(1, genomes(1, first=each))) for each in (1, 2, 3)]
        later[1].cancel()
        commits.may_end.release()
        assert states(await first) == [ACCEPTED]
        await commits.is_held()
        assert not any(task.done() for task in (later[0], later[2]))
        commits.may_end.release()
        for task, name in ((later[0], "g001"), (later[2], "g003")):
            assert [answer.name for answer in await task] == [name]
        assert [len(group) for group in commits.groups] == [1, 3]

    asyncio.run(play())


def test_error_of_a_commit_reaches_every_request_in_it() -> None:
    """And no request of another group."""

    def fails_for_1(number: int, requests: Requests) -> Outcomes:
        if number == 1:
            raise HostError("the disk is full")
        return accepted(number, requests)

    async def play() -> None:
        commits = HeldCommits(fails_for_1)
        submissions = SubmissionGroups(commits.submit)
        tasks = [await _started(submissions.submit(1, genomes(1, first=each))) for each in range(3)]
        other = await _started(submissions.submit(2, genomes(1)))
        for _group in range(3):
            commits.may_end.release()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, HostError)
        assert states(await other) == [ACCEPTED]

    asyncio.run(play())


def test_error_of_one_request_is_its_own() -> None:
    def second_has_no_room(_number: int, requests: Requests) -> Outcomes:
        return [*accepted(1, requests[:1]), QueueFullError("no room"), *accepted(1, requests[2:])]

    async def play() -> None:
        commits = HeldCommits(second_has_no_room)
        submissions = SubmissionGroups(commits.submit)
        tasks = [asyncio.create_task(submissions.submit(1, genomes(1, first=each))) for each in range(3)]
        commits.may_end.release()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, QueueFullError) for each in outcomes] == [False, True, False]

    asyncio.run(play())


def test_closed_generation_answers_all(operations: ProjectOperations, number: int) -> None:
    operations.close_generation(number)
    with pytest.raises(ConflictError):
        operations.submit_together(number, [genomes(1), genomes(1, first=1)])
