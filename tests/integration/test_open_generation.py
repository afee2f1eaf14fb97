"""An open generation of the API: genomes are submitted one at a time, and each result is told when it is there.

What does not need another farm than `farm` holds for one of this process and for one elsewhere, over HTTP.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, as_completed
from pathlib import Path

import pytest

from pipeline import Evaluator, FarmClosed, Fitness, GenomeError, HostError, InputError, StalledError, open_farm
from pipeline.api import OpenFarm
from pipeline.errors import ExitCode
from pipeline.host import submissions
from pipeline.remote import RemoteFarm, connect
from tests.harness.command_line import pipeline
from tests.harness.farm_project import GAMES, FarmProject
from tests.harness.http_farm import http_farm
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)


Farm = OpenFarm | RemoteFarm


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project folder, where it is played."""
    return tmp_path_factory.mktemp("farm")


@pytest.fixture(scope="module", params=["here", "elsewhere"])
def farm(request: pytest.FixtureRequest, root: Path) -> Iterator[Farm]:
    """One for all tests: each has generations of its own."""
    if request.param == "here":
        with open_farm(root / "here", evaluator=GAME, workers=2, trials_per_genome=1) as opened:
            yield opened
        return
    FarmProject(root / "elsewhere").configure(workers=2)
    with http_farm(root / "elsewhere") as served, connect(served.url, token=served.secret("control")) as connected:
        yield connected


def folder_of(farm: Farm, root: Path, kind: str) -> Path:
    """The folder of a kind of files of the generation that was evaluated last."""
    return root / ("here" if isinstance(farm, OpenFarm) else "elsewhere") / kind / f"gen-{farm.generation:04d}"


def genome(number: int, **orders: object) -> bytes:
    return json.dumps({"n": number, **orders}, default=str).encode()


def test_results_come_one_at_a_time(farm: Farm, root: Path, tmp_path: Path) -> None:
    """The first genome is told while the second one still plays: nothing waits for the end of a generation."""
    gate = tmp_path / "gate"
    with farm.open_generation() as number:
        slow = farm.submit(genome(1, until=gate))
        fast = farm.submit(genome(2))
        assert fast.result(timeout=60).status == "completed"
        assert not slow.done()
        gate.touch()

    assert number == farm.generation
    assert slow.result().value is not None
    assert set(farm.scores()) == {"000001", "000002"}
    assert (folder_of(farm, root, "results") / "results.csv").exists()


def test_fitness_is_that_of_the_submitted_bytes(tmp_path: Path) -> None:
    """For every trial, with the seed that the generation gives it."""
    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=2, seed=3) as farm:
        with farm.open_generation(4):
            futures = {name: farm.submit(genome(n), name=name) for n, name in enumerate("abc")}
        scores = farm.scores()
        whole = farm.evaluate({name: genome(n) for n, name in enumerate("abc")}, generation=4)

    assert {name: future.result() for name, future in futures.items()} == scores == whole
    assert len({score.value for score in scores.values()}) == 3


def test_results_are_told_in_the_order_of_completion(farm: Farm, tmp_path: Path) -> None:
    """`as_completed` yields them so, whatever the order of the calls."""
    gate = tmp_path / "gate"
    with farm.open_generation():
        long, short = farm.submit(genome(1, until=gate)), farm.submit(genome(2))
        told = as_completed([long, short])
        assert next(told) is short
        gate.touch()
        assert next(told) is long


def test_program_may_go_on_from_a_callback(farm: Farm) -> None:
    """A steady-state optimiser submits the next genome when a result is there."""
    done = threading.Event()
    results = list[Fitness]()

    def go_on(future: Future[Fitness]) -> None:
        results.append(future.result())
        if len(results) < 5:
            farm.submit(genome(len(results))).add_done_callback(go_on)
        else:
            done.set()

    with farm.open_generation():
        farm.submit(genome(0)).add_done_callback(go_on)
        assert done.wait(60)

    assert len(farm.scores()) == 5


def test_coroutines_wait_for_results(farm: Farm) -> None:
    """With `asyncio.wrap_future`; the farm needs no interface of its own for them."""

    async def play() -> list[Fitness]:
        return list(await asyncio.gather(*(asyncio.wrap_future(farm.submit(genome(n))) for n in range(4))))

    with farm.open_generation():
        assert all(score.status == "completed" for score in asyncio.run(play()))


def test_many_threads_submit(farm: Farm) -> None:
    """Each genome has a name of its own, and every one is counted once."""
    futures = list[Future[Fitness]]()

    def submit_some(first: int) -> None:
        futures.extend([farm.submit(genome(n)) for n in range(first, first + 10)])

    threads = [threading.Thread(target=submit_some, args=(10 * n,)) for n in range(4)]
    with farm.open_generation():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(farm.scores()) == 40
    assert all(future.result().status == "completed" for future in futures)


def test_genome_that_no_worker_has_room_for_can_be_cancelled(farm: Farm, root: Path, tmp_path: Path) -> None:
    """It leaves nothing; one that has begun cannot be cancelled."""
    gate = tmp_path / "gate"
    with farm.open_generation():
        futures = [farm.submit(genome(n, until=gate)) for n in range(20)]
        assert eventually(lambda: farm.progress().genomes)
        assert not futures[0].cancel()
        assert eventually(futures[0].running)
        assert futures[-1].cancel()
        gate.touch()

    with pytest.raises(CancelledError):
        futures[-1].result()
    assert len(farm.scores()) == 19
    assert "000020" not in farm.scores()
    assert not (folder_of(farm, root, "genomes") / "000020").exists()


def test_failed_genome_is_a_result(farm: Farm) -> None:
    """Its future does not raise; the others go on."""
    with farm.open_generation():
        bad, good = farm.submit(genome(1, do="raise")), farm.submit(genome(2))

    assert (bad.result().status, good.result().status) == ("failed", "completed")
    assert "cannot be played" in bad.result().reason


def test_same_program_resumes(tmp_path: Path) -> None:
    """What it submits again is answered from the ledger; only what is new is played."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm, farm.open_generation(3):
        before = [farm.submit(genome(n)).result() for n in range(3)]

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        with farm.open_generation(3):
            again = [farm.submit(genome(n)) for n in range(4)]
        attempts = (farm.results / "attempts.csv").read_text().count("\n") - 1

    assert [future.result() for future in again[:3]] == before
    assert again[3].result().status == "completed"
    assert attempts == 4


def test_other_bytes_under_a_known_name_are_refused(tmp_path: Path) -> None:
    """A generation has one genome of a name, also when the program is started again."""
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        with farm.open_generation(3):
            farm.submit(genome(1))
        with farm.open_generation(3), pytest.raises(GenomeError, match="'000001': the generation has it with other"):
            farm.submit(genome(2))


def test_name_is_submitted_once(farm: Farm) -> None:
    with farm.open_generation():
        farm.submit(genome(1), name="a")
        with pytest.raises(GenomeError, match="'a': was submitted before"):
            farm.submit(genome(1), name="a")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("text", "a", "a str may be content or path"),
        (7, "a", "expected bytes or a pathlib.Path, found int"),
        (b"1", "../a", "a plain file name is needed"),
        (b"1", 5, "genome name 5: expected a str"),
        (b"1", "a.tmp", "not taken for genomes"),
    ],
)
def test_bad_submission_is_refused_at_once(farm: Farm, content: object, name: object, words: str) -> None:
    """In the thread that calls; the generation goes on."""
    with farm.open_generation():
        with pytest.raises(GenomeError, match=words):
            farm.submit(content, name=name)  # type: ignore[arg-type]
        assert farm.submit(genome(1), name="b").result().status == "completed"

    assert set(farm.scores()) == {"b"}


def test_genome_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    """Its future raises; it does not take part in the generation."""
    (tmp_path / "pipeline.toml").write_text("[generation]\ngenome_bytes_max = 100\n")
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        with farm.open_generation():
            large, void, good = farm.submit(b"x" * 101), farm.submit(b""), farm.submit(genome(1))
        assert set(farm.scores()) == {"000003"}

    assert good.result().status == "completed"
    assert "101 bytes, allowed are 100" in str(large.exception())
    assert "empty" in str(void.exception())


def test_submit_needs_an_open_generation(farm: Farm) -> None:
    with pytest.raises(InputError, match="no generation is open"):
        farm.submit(genome(1))
    with farm.open_generation():
        pass
    with pytest.raises(InputError, match="no generation is open"):
        farm.submit(genome(1))


def test_generation_without_genomes_is_finished(farm: Farm, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with farm.open_generation() as number:
        pass
    assert farm.scores() == {}

    assert (
        pipeline(capsys, "verify", "--gen", number, "--root", folder_of(farm, root, "results").parents[1])[0]
        == ExitCode.OK
    )


def test_block_that_raises_stops_playing(farm: Farm, tmp_path: Path) -> None:
    """What has no result says so, what is counted stays, and the generation can be opened again."""
    gate = tmp_path / "gate"
    with pytest.raises(ZeroDivisionError), farm.open_generation() as number:
        fast, slow = farm.submit(genome(1)), farm.submit(genome(2, until=gate))
        fast.result()
        raise ZeroDivisionError

    assert fast.result().status == "completed"
    with pytest.raises(FarmClosed, match=rf"go on with open_generation\({number}\)"):
        slow.result(timeout=10)
    gate.touch()
    with farm.open_generation(number):
        assert farm.submit(genome(1)).result() == fast.result()
        assert farm.submit(genome(2, until=gate)).result().status == "completed"


def test_farm_that_cannot_go_on_tells_every_future(tmp_path: Path) -> None:
    """The end of the block raises the diagnosis, too, and the number with which to go on."""
    broken = Evaluator(python="game:no_such_function", folder=GAMES)
    with (
        open_farm(tmp_path, evaluator=broken, workers=1, trials_per_genome=1) as farm,
        pytest.raises(StalledError, match=r"no_such_function(.|\n)*go on with open_generation\(1\)"),
        farm.open_generation(),
    ):
        futures = [farm.submit(genome(n)) for n in range(50)]

    assert all(isinstance(future.exception(), StalledError) for future in futures)


def test_disk_that_fails_is_told_to_every_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's next call says the same."""

    def fail(*_args: object) -> None:
        raise HostError("the disk is gone")

    with (
        open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm,
        pytest.raises(HostError, match="the disk is gone"),
        farm.open_generation(),
    ):
        farm.submit(genome(1)).result()
        monkeypatch.setattr(submissions, "joining_facts", fail)
        lost = farm.submit(genome(2))
        assert isinstance(lost.exception(timeout=30), HostError)
        farm.submit(genome(3))
