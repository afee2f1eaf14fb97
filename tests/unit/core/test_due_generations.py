"""Which generation of a watched project is played next, by looks at the folders and by what the ledger has."""

from collections.abc import Iterable, Mapping
from math import inf

import pytest

from pipeline.core.due_generations import (
    FIRST_LOOKS_S,
    LIST_AGAIN_S,
    RETRY_MAX_S,
    RETRY_MIN_S,
    RUN_KINDS,
    SETTLING_S,
    DueGenerations,
    RecordedRun,
    RunState,
    recorded_run,
)
from pipeline.core.facts import (
    Fact,
    GenomeAdded,
    GenomeReopened,
    HostStarted,
    RunFinished,
    RunOpened,
    TrialReopened,
    kind_of,
)
from pipeline.core.folder_looks import STEADY_S, Stamp
from tests.harness.core import SETTINGS

pytestmark = pytest.mark.rules

OLD, NEW = (Stamp(size_bytes=n, modified_ns=n, changed_ns=n) for n in (1, 2))
NEVER = RecordedRun()
OPENED, FINISHED = RunOpened(generation=1, run=1, settings=SETTINGS), RunFinished()


class Project:
    """A watched project whose folders are looked at once a second."""

    def __init__(self, *generations: int, run: RecordedRun = NEVER) -> None:
        self.due = DueGenerations()
        self.now = 100.0
        self.folders: dict[int, Mapping[str, Stamp]] = {number: {} for number in generations}
        for number in generations:
            self.due.note_run(number, run)

    def look(self, times: int = 1) -> None:
        """Looks at every folder, as many times."""
        for _ in range(times):
            self.now += 1
            self.due.note_folders(self.folders)
            for number, files in self.folders.items():
                if not self.due.knows(number):
                    self.due.note_run(number, NEVER)
                self.due.note_look(number, files, self.now, self.now)

    @property
    def next(self) -> int | None:
        return self.due.next_due(self.now)

    def play(self, generation: int, *, finished: bool = True, unread: frozenset[str] = frozenset()) -> frozenset[str]:
        """Plays a generation; returns the files that were complete."""
        complete = self.due.complete(generation)
        self.due.note_begun(generation)
        self.due.note_ended(generation, self.now, finished=finished, unread=unread)
        return complete


def finished(*names: str) -> RecordedRun:
    return RecordedRun(RunState.FINISHED, frozenset(names))


def added(number: int, name: str) -> GenomeAdded:
    return GenomeAdded(genome=number, name=name, suffix="", size_bytes=1, sha256="0" * 64)


# ------------------------------------------------------------------------------------------------- what is due


def test_generation_is_due_as_soon_as_a_file_is_complete() -> None:
    """And not when its folder is made, or while its only file is being written."""
    project = Project(7)
    project.look(2)
    assert project.next is None
    project.folders[7] = {"a": OLD}
    project.look()
    assert project.next is None
    assert project.due.has_files_in_the_making
    project.folders[7] = {"a": NEW, "b": OLD}
    project.look()
    assert project.next is None
    project.folders[7] = {"a": OLD, "b": OLD}
    project.look()

    assert project.next == 7
    assert project.play(7) == {"b"}


def test_generation_is_not_due_after_it_was_played() -> None:
    project = Project(7)
    project.folders[7] = {"a": OLD}
    project.look(2)
    assert project.play(7) == {"a"}

    project.look(3)

    assert project.next is None
    assert project.due.is_idle


def test_lowest_number_goes_first() -> None:
    """Also if one with a higher number was finished before, and whatever the order of arrival."""
    project = Project(12, 3)
    project.folders = {12: {"a": OLD}, 3: {"a": OLD}}
    project.look(2)
    assert project.next == 3
    project.play(3)
    assert project.next == 12
    project.play(12)
    project.folders[1] = {"a": OLD}
    project.look(2)

    assert project.next == 1


def test_unfinished_generation_is_due_without_any_file() -> None:
    """Its genomes' bytes are kept, so it is due although its folder was removed."""
    project = Project()
    project.due.note_run(4, RecordedRun(RunState.UNFINISHED, frozenset({"a"})))
    assert project.next == 4
    project.look()
    assert project.next == 4

    project.play(4)
    project.look()

    assert project.next is None
    assert not project.due.knows(4)


def test_generation_that_was_stopped_stays_due() -> None:
    project = Project(7)
    project.folders[7] = {"a": OLD}
    project.look(2)

    project.play(7, finished=False)

    assert project.next == 7


def test_file_that_arrives_in_a_finished_generation_makes_it_due() -> None:
    """Its genomes' files were read by an earlier process and do not."""
    project = Project(2, run=finished("a", "gone"))
    project.folders[2] = {"a": OLD}
    project.look(3)
    assert project.next is None
    project.folders[2] = {"a": OLD, "late": NEW}
    project.look(2)

    assert project.next == 2
    assert project.play(2) == {"late"}


def test_file_that_arrived_while_nothing_was_watching_makes_it_due() -> None:
    project = Project(2, run=finished("a"))
    project.folders[2] = {"a": OLD, "late": NEW}

    project.look(2)

    assert project.next == 2


def test_changed_file_makes_a_finished_generation_due_once() -> None:
    """So that it is named; the genome keeps the bytes that were read first."""
    project = Project(2, run=finished("a"))
    project.folders[2] = {"a": OLD}
    project.look()
    project.folders[2] = {"a": NEW}
    project.look(2)
    assert project.next == 2

    project.play(2)
    project.look(3)

    assert project.next is None


def test_refused_file_makes_a_generation_due_again_when_it_changes() -> None:
    """As when an empty file is filled."""
    project = Project(2)
    project.folders[2] = {"a": OLD, "empty": OLD}
    project.look(2)
    project.play(2)
    project.look(2)
    assert project.next is None
    project.folders[2] = {"a": OLD, "empty": NEW}
    project.look(2)

    assert project.play(2) == {"empty"}


def test_files_that_join_while_a_generation_is_played_are_compared_once_more() -> None:
    """Which of them the run has read is not known here; it takes no file twice."""
    project = Project(2)
    project.folders[2] = {"a": OLD}
    project.look(2)
    project.due.note_begun(2)
    project.folders[2] = {"a": OLD, "late": OLD}
    project.look(2)
    project.due.note_ended(2, project.now, finished=True)

    assert project.next == 2
    assert project.play(2) == {"late"}
    project.look(2)
    assert project.next is None


def test_another_process_may_have_finished_a_generation() -> None:
    project = Project(2, run=RecordedRun(RunState.UNFINISHED))
    project.look()

    project.due.note_run(2, finished())

    assert project.next is None


def test_generation_with_a_lower_number_is_waited_for_while_its_files_are_new() -> None:
    """For a moment after it was first seen, as at the start: later a file that grows holds up nothing."""
    project = Project(5, run=RecordedRun(RunState.UNFINISHED))
    project.folders[3] = {"grows": OLD}
    project.look()
    assert project.next is None
    assert 0 < project.due.wait_s(project.now) <= FIRST_LOOKS_S
    first = project.now
    while project.now - first < FIRST_LOOKS_S:
        project.folders[3] = {"grows": Stamp(int(project.now), 1, 1)}
        project.look()

    assert project.next == 5
    assert project.due.wait_s(project.now) == 0


# ------------------------------------------------------------------------------- what cannot be played


def postponed() -> Project:
    """A project whose generation 2 could not be begun, and that has a generation 5."""
    project = Project(2, 5)
    project.folders = {2: {"a": OLD}, 5: {"a": OLD}}
    project.look(2)
    assert project.due.postpone(2, project.now) == RETRY_MIN_S
    return project


def test_generation_that_cannot_be_played_lets_the_next_one_go_first() -> None:
    """It is tried again after a pause, with the same files."""
    project = postponed()
    assert project.next == 5
    project.play(5)
    assert project.next is None
    assert project.due.is_idle and project.due.has_postponed
    assert project.due.wait_s(project.now) == RETRY_MIN_S

    project.now += RETRY_MIN_S

    assert project.next == 2
    assert project.play(2) == {"a"}
    assert not project.due.has_postponed


def test_pauses_grow_up_to_a_limit() -> None:
    project = Project(2, run=RecordedRun(RunState.UNFINISHED))
    pauses = [project.due.postpone(2, project.now) for _ in range(9)]

    assert pauses[:3] == [RETRY_MIN_S, 2 * RETRY_MIN_S, 4 * RETRY_MIN_S]
    assert pauses[-1] == RETRY_MAX_S
    project.play(2, finished=False)
    assert project.due.postpone(2, project.now) == RETRY_MIN_S


def test_change_of_its_folder_ends_the_pause() -> None:
    """A moment later, so that a file that is being removed or written is not met half way."""
    project = postponed()
    project.play(5)
    project.look(2)
    assert project.next is None
    project.folders[2] = {"a": OLD, "b": OLD}
    project.look()
    assert project.next is None

    project.now += STEADY_S

    assert project.next == 2


def test_generation_without_any_file_left_is_not_tried_again() -> None:
    project = postponed()
    project.play(5)
    project.folders[2] = {}

    project.look(2)

    assert not project.due.has_postponed
    assert project.due.wait_s(project.now) == inf


def test_everything_is_tried_again_after_a_change_of_the_configuration() -> None:
    project = postponed()
    project.due.postpone_all(project.now)
    assert project.next is None

    project.due.retry_now()

    assert project.next == 2
    assert not project.due.has_postponed


def test_everything_waits_while_nothing_can_be_played() -> None:
    """As with a full disk. The pause grows, and ends with the first generation that was played."""
    project = Project(2)
    project.folders[2] = {"a": OLD}
    project.look(2)
    assert project.due.postpone_all(project.now) == RETRY_MIN_S
    assert project.next is None
    assert project.due.is_idle and project.due.has_postponed
    assert project.due.wait_s(project.now) == RETRY_MIN_S
    assert not project.due.may_play(project.now)
    project.now += RETRY_MIN_S
    assert project.due.may_play(project.now)
    assert project.next == 2
    assert project.due.postpone_all(project.now) == 2 * RETRY_MIN_S

    project.now += 2 * RETRY_MIN_S
    project.play(2)

    assert not project.due.has_postponed


def test_file_that_could_not_be_read_is_tried_again_after_a_pause() -> None:
    """As one that another program has open on Windows: no time of it changes when it is closed."""
    project = Project(2)
    project.folders[2] = {"a": OLD, "busy": OLD}
    project.look(2)
    project.play(2, unread=frozenset({"busy"}))
    project.look()
    assert project.next is None

    project.now += RETRY_MIN_S

    assert project.play(2) == {"busy"}
    project.look()
    assert project.due.is_idle


def test_unread_file_of_a_generation_without_a_folder_is_forgotten() -> None:
    project = Project()
    project.due.note_run(4, RecordedRun(RunState.UNFINISHED))

    project.play(4, unread=frozenset({"a"}))

    assert not project.due.has_postponed


def test_idle_is_not_while_files_are_in_the_making_or_due() -> None:
    project = Project(2)
    assert project.due.is_idle
    project.folders[2] = {"a": OLD}
    for _ in range(2):
        project.look()
        assert not project.due.is_idle

    project.play(2)

    assert project.due.is_idle


# -------------------------------------------------------------------------------- which folders are listed


def test_folder_that_rests_is_listed_when_its_time_changes() -> None:
    """And for a moment afterwards, because that time may have large steps."""
    project = Project(2)
    project.look()
    assert project.due.must_list(2, 1, project.now)
    assert project.due.must_list(2, 1, project.now + SETTLING_S - 0.1)
    assert not project.due.must_list(2, 1, project.now + SETTLING_S)
    assert project.due.must_list(2, 2, project.now + SETTLING_S)


def test_folder_that_rests_is_listed_now_and_then() -> None:
    """A file that is written in place does not change its time. The one that was listed first comes first."""
    project = Project(2, 3)
    assert DueGenerations().to_list_again(0.0) is None
    project.look()
    assert project.due.to_list_again(project.now) is None
    project.now += LIST_AGAIN_S
    assert project.due.to_list_again(project.now) == 2

    project.due.note_look(2, {}, project.now, project.now)

    assert project.due.to_list_again(project.now) == 3


def test_folder_with_anything_open_is_listed_each_time() -> None:
    """Files in the making, those that wait for their turn, and those that cannot be played."""
    project = Project(2)
    project.due.must_list(2, 1, project.now)
    project.folders[2] = {"a": OLD}
    for _ in range(2):
        project.now += SETTLING_S
        project.look()
        assert project.due.must_list(2, 1, project.now)
    project.play(2)
    assert not project.due.must_list(2, 1, project.now)
    project.due.note_run(2, RecordedRun(RunState.UNFINISHED))

    project.due.postpone(2, project.now)

    assert project.due.must_list(2, 1, project.now)


# ----------------------------------------------------------------------------------- what the ledger has


@pytest.mark.parametrize(
    ("facts", "state", "names"),
    [
        ([], RunState.NEVER_RUN, ""),
        ([OPENED, added(1, "a")], RunState.UNFINISHED, "a"),
        ([OPENED, added(1, "a"), FINISHED], RunState.FINISHED, "a"),
        ([OPENED, added(1, "a"), FINISHED, added(2, "b")], RunState.UNFINISHED, "ab"),
        ([OPENED, added(1, "a"), FINISHED, added(2, "b"), FINISHED], RunState.FINISHED, "ab"),
        ([OPENED, added(1, "a"), FINISHED, OPENED, added(1, "b")], RunState.UNFINISHED, "b"),
        ([OPENED, FINISHED, TrialReopened(genome=1, trial=1)], RunState.UNFINISHED, ""),
        ([OPENED, FINISHED, GenomeReopened(genome=1, size_bytes=1, sha256="0" * 64)], RunState.UNFINISHED, ""),
    ],
)
def test_recorded_run_is_the_newest(facts: Iterable[Fact], state: RunState, names: str) -> None:
    assert recorded_run(facts) == RecordedRun(state, frozenset(names))
    assert {kind_of(fact) for fact in facts} <= {*RUN_KINDS}


def test_other_facts_do_not_matter() -> None:
    """The ledger leaves them out."""
    started = HostStarted(pid=1, workers=1)

    assert recorded_run([started, OPENED, added(1, "a"), FINISHED, started]) == finished("a")
    assert kind_of(started) not in RUN_KINDS
