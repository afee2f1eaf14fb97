"""When submitted genomes join the open generation, and what their futures get."""

import hashlib
from concurrent.futures import CancelledError, Future

import pytest

from pipeline.core.facts import Fact
from pipeline.core.model import Genome, GenomeFile
from pipeline.core.params import NO_PARAMS, Params
from pipeline.core.queues import room_for_trials
from pipeline.errors import FarmClosed, GenomeError, HostError, InputError
from pipeline.host.submissions import Submissions
from tests.harness.core import CoreHarness


class OpenGeneration:
    """A generation of the core's harness to which genomes are submitted."""

    def __init__(self, core: CoreHarness) -> None:
        self.core = core
        core.is_open = True
        self.woken = 0
        self.disk_fails = False
        self.submissions: Submissions[str] = Submissions(
            core.farm, self._take, self._record, self._room, self._result, self._wake
        )

    def _take(self, name: str, content: bytes, params: Params) -> GenomeFile:
        if not content:
            raise GenomeError(f"{name}: empty")
        if self.disk_fails:
            raise HostError("the disk is full")
        return GenomeFile(name, "", len(content), hashlib.sha256(content).hexdigest(), params)

    def _record(self, facts: list[Fact]) -> None:
        self.core.record(*facts)

    def _room(self) -> int:
        return room_for_trials(self.core.farm, self.core.observed, self.core.queues)

    @staticmethod
    def _result(genome: Genome) -> str:
        return f"{genome.name}: {genome.fitness}"

    def _wake(self) -> None:
        self.woken += 1

    def submit(self, name: str, content: bytes = b"1") -> Future[str]:
        return self.submissions.submit(name, content, NO_PARAMS)

    def join(self) -> list[str]:
        """The names of the genomes that join now."""
        known = len(self.core.farm.genomes)
        self.submissions.update(self.core.farm)
        return [genome.name for genome in self.core.farm.genomes[known:]]

    def play(self) -> None:
        """Every worker completes what it holds."""
        for worker in self.core.farm.workers.values():
            for attempt in list(worker.wanted):
                self.core.publish_result(attempt)
        self.submissions.note(self.core.tick())

    def play_all(self) -> None:
        while self.core.farm.open_trials:
            self.play()


@pytest.fixture
def generation() -> OpenGeneration:
    """Two workers that are ready, each with a queue of two; no genome yet."""
    core = CoreHarness("w0", "w1", genomes=0)
    core.is_open = True
    core.run_until_ready()
    return OpenGeneration(core)


def test_genomes_join_in_the_order_of_their_calls(generation: OpenGeneration) -> None:
    for name in "bca":
        generation.submit(name)

    assert generation.join() == ["b", "c", "a"]
    assert generation.woken == 3


def test_genomes_join_while_workers_have_room(generation: OpenGeneration) -> None:
    """The queues of both, and one more for each; the rest waits until games are over."""
    names = [f"g{n}" for n in range(10)]
    for name in names:
        generation.submit(name)

    assert generation.join() == names[:6]
    assert generation.join() == []
    generation.core.tick()
    generation.play()
    assert generation.join() == names[6:10]


def test_each_trial_takes_room() -> None:
    core = CoreHarness("w0", genomes=0, trials=3)
    core.is_open = True
    core.run_until_ready()
    generation = OpenGeneration(core)
    for name in "abc":
        generation.submit(name)

    assert generation.join() == ["a"], "with its three trials as many are open as one worker needs"


def test_future_gets_its_result_with_the_last_trial(generation: OpenGeneration) -> None:
    future = generation.submit("a")
    assert not future.running()
    generation.join()
    assert future.running()
    generation.core.tick()
    generation.play_all()

    assert future.result(timeout=0) == f"a: {generation.core.farm.genomes[0].fitness}"


def test_cancelled_genome_does_not_join(generation: OpenGeneration) -> None:
    """Its name can be submitted again."""
    cancelled, kept = generation.submit("a"), generation.submit("b")
    assert cancelled.cancel()

    assert generation.join() == ["b"]
    assert kept.running()
    with pytest.raises(CancelledError):
        cancelled.result(timeout=0)
    generation.submit("a", b"2")
    assert generation.join() == ["a"]


def test_genome_that_cannot_be_used_does_not_stop_the_others(generation: OpenGeneration) -> None:
    bad = generation.submit("a", b"")
    generation.submit("b")

    assert generation.join() == ["b"]
    with pytest.raises(GenomeError, match="a: empty"):
        bad.result(timeout=0)


def test_run_is_open_until_what_was_submitted_has_joined(generation: OpenGeneration) -> None:
    """Closed with eight genomes, of which six have room."""
    for n in range(8):
        generation.submit(f"g{n}")
    generation.submissions.close()
    farm = generation.core.farm
    generation.join()
    assert generation.submissions.is_open(farm)
    generation.core.tick()
    generation.play()
    generation.join()

    assert not generation.submissions.is_open(farm)


def test_nothing_is_submitted_after_the_end(generation: OpenGeneration) -> None:
    generation.submissions.close()

    with pytest.raises(InputError, match="the generation is closed"):
        generation.submit("a")


def test_end_of_the_run_is_told_to_every_future(generation: OpenGeneration) -> None:
    """To those that joined and those that wait; results and cancelled ones stay."""
    done = generation.submit("done")
    generation.join()
    generation.core.tick()
    generation.play_all()
    futures = [generation.submit(f"g{n}") for n in range(10)]
    assert futures[9].cancel()
    generation.join()

    generation.submissions.fail(FarmClosed("it was left"))

    assert done.result(timeout=0)
    assert futures[9].cancelled()
    assert [str(future.exception(timeout=0)) for future in futures[:9]] == ["it was left"] * 9
    with pytest.raises(FarmClosed, match="it was left"):
        generation.submit("late")


def test_disk_that_fails_leaves_no_future_behind(generation: OpenGeneration) -> None:
    """The host ends then, and its error is that of every future."""
    first = generation.submit("a")
    generation.disk_fails = True
    with pytest.raises(HostError) as failed:
        generation.join()
    generation.submissions.fail(failed.value)

    assert first.exception(timeout=0) is failed.value


def test_known_genomes_are_answered_from_the_ledger(generation: OpenGeneration) -> None:
    """At once if they are settled, later if not; nothing is added."""
    generation.submit("settled")
    generation.join()
    generation.core.tick()
    generation.play_all()
    generation.submit("open")
    generation.join()
    again = OpenGeneration(generation.core)
    futures = [again.submit("settled"), again.submit("open")]
    before = len(generation.core.farm.genomes)

    assert again.join() == []
    assert (futures[0].done(), futures[1].done()) == (True, False)
    again.core.tick()
    again.play_all()
    assert futures[1].result(timeout=0).startswith("open: ")
    assert len(generation.core.farm.genomes) == before


def test_other_bytes_of_a_known_genome_are_refused(generation: OpenGeneration) -> None:
    generation.submit("a")
    generation.join()

    with pytest.raises(GenomeError, match="'a': the generation has it with other bytes"):
        OpenGeneration(generation.core).submit("a", b"2")


def test_params_are_recorded_with_a_genome(generation: OpenGeneration) -> None:
    generation.submissions.submit("a", b"1", {"rate": 0.5})
    generation.join()

    assert generation.core.farm.genomes[0].params == {"rate": 0.5}
