"""A farm elsewhere, over HTTP: what differs from a farm of this process, and what its server may do meanwhile."""

import json
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from pipeline import FarmClosed, Fitness, GenomeError, InputError, Progress, RemoteError, StalledError
from pipeline.core.model import trial_seed
from pipeline.core.request_rate import RequestRate
from pipeline.errors import ConflictError, NotFoundError
from pipeline.http_api.gate import GateLimits
from pipeline.remote import RemoteFarm, connect, submissions
from pipeline.remote.submissions import BATCH_BYTES_MAX
from tests.fakes.lossy_relay import lossy_relay
from tests.harness.control_server import control_server
from tests.harness.farm_project import FarmProject
from tests.harness.games.game import fitness_of
from tests.harness.http_farm import HttpFarm, http_farm
from tests.harness.samba import free_port
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    """One server for all tests: each has generations of its own."""
    project = FarmProject(tmp_path_factory.mktemp("remote") / "farm")
    project.configure(workers=2, trials=2)
    with http_farm(project.root) as served:
        yield served


@pytest.fixture
def farm(served: HttpFarm) -> Iterator[RemoteFarm]:
    with connect(served.url, token=served.secret("control"), timeout_s=PATIENCE_S) as farm:
        yield farm


def genome(number: int, **orders: object) -> bytes:
    return json.dumps({"n": number, **orders}, default=str).encode()


def genomes(count: int) -> dict[str, bytes]:
    return {f"g{n:03d}": genome(n) for n in range(count)}


def test_evaluate_gives_the_fitness_of_each_genome(farm: RemoteFarm) -> None:
    """With all that a farm of this process gives, but files."""
    reports = list[Progress]()
    scores = farm.evaluate(genomes(20), params={"g003": {"rate": 0.5}}, on_progress=reports.append)

    seeds = [trial_seed(11, farm.generation, trial) for trial in (1, 2)]
    assert {name: score.trials for name, score in scores.items()} == {
        name: [fitness_of(content, seed) for seed in seeds] for name, content in genomes(20).items()
    }
    score = scores["g003"]
    assert (score.status, score.params, score.files, len(score.attempts)) == ("completed", {"rate": 0.5}, None, 2)
    assert score.metrics["size"] == len(genome(3))
    assert (reports[-1].settled, reports[-1].trials, reports[-1].finished) == (40, 40, True)
    assert reports[-1].leaders[0].fitness == max(one.value or 0 for one in scores.values())
    assert farm.table().rows()[3]["param_rate"] == 0.5
    assert farm.table()["fitness"] == [score.value for score in scores.values()]
    assert [worker.name for worker in farm.workers] == ["local-0", "local-1"]


def test_generation_is_resumed_by_its_number(farm: RemoteFarm) -> None:
    """What was submitted before is answered from the server's ledger."""
    first = farm.evaluate(genomes(3))
    again = farm.evaluate(genomes(4), generation=farm.generation)
    assert {name: again[name] for name in first} == first
    assert again.keys() == genomes(4).keys()


def test_without_genomes_no_generation_is_begun(farm: RemoteFarm) -> None:
    assert farm.evaluate({}) == {}
    assert farm.evaluate({}, generation=900_000) == {}
    assert farm.generation == 0
    assert farm.scores() == {}
    with pytest.raises(InputError, match="no generation was opened"):
        farm.progress()


def test_other_bytes_under_a_known_name_are_an_error_of_the_future(farm: RemoteFarm) -> None:
    with farm.open_generation() as number:
        farm.submit(genome(1), name="a")
    with farm.open_generation(number):
        refused, good = farm.submit(genome(2), name="a"), farm.submit(genome(2), name="b")
        assert isinstance(error := refused.exception(timeout=PATIENCE_S), GenomeError)
        assert "'a': the generation has it with other bytes" in str(error)
        assert farm.submit(genome(1), name="a").result(timeout=PATIENCE_S).status == "completed"
    assert good.result().status == "completed"


def test_genomes_that_the_server_refuses_are_named(farm: RemoteFarm) -> None:
    """All of them, one on a line; the generation does not go on playing."""
    with pytest.raises(GenomeError, match=r"'empty': it has 0 bytes.*\n.*'void': it has 0 bytes"):
        farm.evaluate({"good": genome(1), "empty": b"", "void": b""})
    assert farm.evaluate({"good": genome(1)}, generation=farm.generation).keys() == {"good"}


@pytest.mark.parametrize(
    ("content", "name"), [("text", "a"), (b"1", "../a"), (b"1", "a.tmp"), (7, "a")], ids=["str", "path", "tmp", "int"]
)
def test_unusable_genome_is_refused_before_a_generation_is_opened(farm: RemoteFarm, content: object, name: str) -> None:
    with pytest.raises(GenomeError):
        farm.evaluate({name: content})  # type: ignore[dict-item]
    assert farm.generation == 0


@pytest.mark.parametrize("number", [0, -1, 10**9, "7"])
def test_unusable_number_is_refused(farm: RemoteFarm, number: object) -> None:
    with pytest.raises(InputError, match="expected a number from 1"), farm.open_generation(number):  # type: ignore[arg-type]
        pass


def test_files_are_on_the_server(farm: RemoteFarm) -> None:
    with pytest.raises(InputError, match="the files are on http://127"):
        _ = farm.results


def test_large_genome_is_sent_alone(tmp_path: Path) -> None:
    """Between others, in their order."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    large = genome(1, filler="x" * (BATCH_BYTES_MAX + 1))
    with control_server(project.root) as server, connect(server.url, token=server.token) as farm:
        scores = farm.evaluate({"a": genome(0), "b +%ü": large, "c": genome(2)}, params={"c": {"x": 1}})
        with farm.open_generation(1), pytest.raises(GenomeError, match="other bytes"):
            farm.submit(large + b" ", name="b +%ü").result(timeout=PATIENCE_S)
    assert {score.status for score in scores.values()} == {"completed"}


def test_other_generation_that_is_played_is_a_conflict(farm: RemoteFarm, served: HttpFarm) -> None:
    """The generation of the other program goes on."""
    with connect(served.url, token=served.secret("submit")) as other, other.open_generation() as number:
        with pytest.raises(ConflictError, match=f"generation {number} is being played"):
            farm.evaluate(genomes(1))
        future = other.submit(genome(1))
    assert future.result().status == "completed"


def test_generation_that_is_stopped_on_the_server_ends(farm: RemoteFarm, served: HttpFarm, tmp_path: Path) -> None:
    """It is not opened again by itself: somewhere, that was meant."""
    with pytest.raises(FarmClosed, match="was stopped on the server; go on with open_generation"):  # noqa: SIM117
        with farm.open_generation() as number:
            future = farm.submit(genome(1, until=tmp_path / "gate"))
            assert eventually(lambda: farm.progress().genomes)
            served.operations.stop_generation(number)
            with pytest.raises(FarmClosed, match="was stopped on the server"):
                future.result(timeout=PATIENCE_S)
            farm.submit(genome(2))
    (tmp_path / "gate").touch()
    with farm.open_generation(number):
        assert farm.submit(genome(1, until=tmp_path / "gate")).result().status == "completed"


def test_generation_that_another_program_closes_ends(farm: RemoteFarm, served: HttpFarm, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was closed by another program"), farm.open_generation() as number:
        farm.submit(genome(1, until=tmp_path / "gate"))
        assert eventually(lambda: farm.progress().genomes)
        served.operations.close_generation(number)
        (tmp_path / "gate").touch()
        farm.submit(genome(2)).result(timeout=PATIENCE_S)


def test_generation_that_was_closed_is_played_to_its_end_first(served: HttpFarm, tmp_path: Path) -> None:
    """A program that is killed at the end of its block opens the same number again."""
    token = served.secret("submit")
    with connect(served.url, token=token) as killed:
        block = killed.open_generation()
        number = block.__enter__()
        killed.submit(genome(1, until=tmp_path / "gate"))
        assert eventually(lambda: killed.progress().genomes)
        served.operations.close_generation(number)
    timer = threading.Timer(0.3, (tmp_path / "gate").touch)
    timer.start()
    with connect(served.url, token=token) as farm, farm.open_generation(number):
        again = farm.submit(genome(1, until=tmp_path / "gate")), farm.submit(genome(2))
    timer.join()
    assert [future.result().status for future in again] == ["completed", "completed"]


def test_token_that_cannot_stop_leaves_a_generation_that_ends(served: HttpFarm) -> None:
    """A block that raises closes it then: what was submitted is played, and others can play."""
    with connect(served.url, token=served.secret("submit")) as farm:
        with pytest.raises(ZeroDivisionError), farm.open_generation() as number:
            farm.submit(genome(1)).result()
            farm.submit(genome(2))
            raise ZeroDivisionError
        with farm.open_generation(number):
            assert farm.submit(genome(1), name="000001").result().status == "completed"


def test_server_that_cannot_play_says_why(tmp_path: Path) -> None:
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1, evaluator='python = "game:no_such_function"')
    with (
        http_farm(project.root) as served,
        connect(served.url, token=served.secret("control")) as farm,
        pytest.raises(StalledError, match=r"no_such_function(.|\n)*go on with open_generation\(1\)"),
    ):
        farm.evaluate(genomes(12))


def test_server_is_started_again_in_a_generation(tmp_path: Path) -> None:
    """The generation goes on, and what waits for results gets them once."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=2)
    told = list[Future[Fitness]]()
    with control_server(project.root) as server, connect(server.url, token=server.token) as farm:
        with farm.open_generation():
            futures = [farm.submit(content, name=name) for name, content in genomes(10).items()]
            for future in futures:
                future.add_done_callback(told.append)
            assert eventually(lambda: told)
            server.restart()
            late = farm.submit(genome(99), name="late")
        assert late.result().status == "completed"
        assert farm.scores().keys() == {*genomes(10), "late"}
    assert len(told) == 10
    assert {*told} == {*futures}


def stored(served: HttpFarm, number: int) -> int:
    """How many genomes the server has of a generation."""
    status = served.operations.generation(number)
    return status.genomes + status.waiting


def test_lost_answers_change_nothing(served: HttpFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer to each kind of request is lost, when the server has carried it out already."""
    monkeypatch.setattr(submissions, "BATCH_BYTES_MAX", 1000)
    gate = tmp_path / "gate"
    with lossy_relay(served.port) as relay, connect(relay.url, token=served.secret("control")) as farm:
        with farm.open_generation() as number:
            futures = [farm.submit(genome(n, until=gate)) for n in range(30)]
            assert eventually(lambda: stored(served, number) == 30)
            assert eventually(lambda: farm.progress().genomes)
            assert futures[-1].cancel()
            gate.touch()
        assert farm.generation == number
        assert len(farm.scores()) == 29
        large = farm.evaluate({"large": genome(1, filler="x" * 1000)})
        with pytest.raises(GenomeError, match=r"genome 'huge': .*1048576 bytes"):
            farm.evaluate({"huge": b"x" * 2_000_000})
        with pytest.raises(ZeroDivisionError), farm.open_generation():
            raise ZeroDivisionError
    assert {future.result().status for future in futures[:-1]} == {"completed"}
    assert large["large"].status == "completed"
    kinds = {(request.split()[0], request.rpartition("/")[2]) for request in relay.seen}
    assert {("POST", "generations"), ("POST", "genomes"), ("DELETE", "000030"), ("PUT", "large")} <= kinds
    assert {("POST", "close"), ("POST", "stop"), ("GET", "settled"), ("GET", "genomes"), ("GET", "project")} <= kinds
    later = [generation.number for generation in served.operations.generations(after=number).items]
    assert later == [number + 1, number + 2, number + 3], "each was opened once"


def test_server_that_stays_away_is_given_up(tmp_path: Path) -> None:
    """After the time that the program gives it; its calls and futures say where, and what to do."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    with (
        control_server(project.root) as server,
        connect(server.url, token=server.token, timeout_s=1.0) as farm,
        pytest.raises(RemoteError, match=r"no answer in 1 s: .*look whether the server runs"),
        farm.open_generation(),
    ):
        future = farm.submit(genome(1, seconds=20))
        assert eventually(lambda: farm.progress().genomes)
        server.kill()
        with pytest.raises(RemoteError, match=server.url):
            future.result(timeout=PATIENCE_S)
        farm.submit(genome(2))


def test_connection_that_is_closed_elsewhere_ends_the_block(served: HttpFarm, tmp_path: Path) -> None:
    """Closed by another thread, e.g. one that was told to end."""
    entered = connect(served.url, token=served.secret("control"))
    farm = entered.__enter__()
    with pytest.raises(FarmClosed), farm.open_generation() as number:
        future = farm.submit(genome(1, until=tmp_path / "gate"))
        assert eventually(lambda: farm.progress().genomes)
        closer = threading.Thread(target=entered.__exit__, args=(None, None, None))
        closer.start()
        future.result(timeout=PATIENCE_S)
    closer.join()
    (tmp_path / "gate").touch()
    with pytest.raises(FarmClosed):
        farm.evaluate(genomes(1))
    with connect(served.url, token=served.secret("control")) as again, again.open_generation(number):
        pass


def test_many_requests_are_slowed_down_and_not_lost(tmp_path: Path) -> None:
    """A server that asks to wait is waited for."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    with http_farm(project.root, limits=GateLimits(rate=RequestRate(per_s=4.0, burst=4))) as served:  # noqa: SIM117
        with connect(served.url, token=served.secret("control")) as farm:
            assert len(farm.evaluate(genomes(3))) == 3


def test_generations_are_opened_in_turn(served: HttpFarm, tmp_path: Path) -> None:
    """On several servers; one that is away is left out, and a generation with a number is found where it is."""
    project = FarmProject(tmp_path / "second")
    project.configure(workers=1)
    with http_farm(project.root) as second:
        away = f"http://127.0.0.1:{free_port()}"
        tokens = {served.url: served.secret("control"), away: "", second.url: second.secret("control")}
        with connect([*tokens], token=tokens, timeout_s=PATIENCE_S) as farm:
            played = [(farm.evaluate(genomes(1)), farm.url, farm.generation) for _ in range(4)]
            assert [url for _scores, url, _number in played] == [served.url, second.url] * 2
        with connect([second.url, served.url], token=tokens) as farm:
            _scores, url, number = played[2]
            farm.evaluate(genomes(2), generation=number)
            assert farm.url == url
            with pytest.raises(InputError, match=r"generation 1 is on http://.* and http://.*; connect to the server"):
                farm.evaluate(genomes(1), generation=1)


def test_no_server_of_several_is_there() -> None:
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with connect(urls, timeout_s=0.1) as farm, pytest.raises(RemoteError) as error:
        farm.evaluate(genomes(1))
    assert all(url in str(error.value) for url in urls)


def test_callback_cannot_play_a_generation(farm: RemoteFarm) -> None:
    """It would wait for itself."""
    errors = list[Exception]()

    def evaluate(_done: Future[Fitness]) -> None:
        try:
            farm.evaluate(genomes(1))
        except InputError as error:
            errors.append(error)

    with farm.open_generation():
        farm.submit(genome(1)).add_done_callback(evaluate)
        with pytest.raises(InputError, match="this thread plays a generation already"):
            farm.evaluate(genomes(1))
    assert "a callback of a future cannot play a generation" in str(errors[0])


def test_other_thread_waits_for_its_turn(farm: RemoteFarm) -> None:
    """One generation is open at a time."""
    numbers = list[int]()
    thread = threading.Thread(target=lambda: numbers.append(len(farm.evaluate(genomes(2)))))
    with farm.open_generation() as number:
        thread.start()
        farm.submit(genome(1))
    thread.join()
    assert numbers == [2]
    assert farm.generation == number + 1


@pytest.mark.parametrize(("scope", "words"), [("", "the token is missing, wrong or expired"), ("read", "wider scope")])
def test_token_of_too_small_a_scope_is_refused(served: HttpFarm, scope: str, words: str) -> None:
    """With the exit code of a server that cannot be used."""
    with connect(served.url, token=served.secret(scope) if scope else "") as farm:
        with pytest.raises(RemoteError, match=words) as error:
            farm.evaluate(genomes(1))
        assert error.value.exit_code == 3


def test_token_is_nowhere(served: HttpFarm, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a representation, nor in a pickle, in logs of any level, or in errors."""
    secret = served.secret("read")
    with caplog.at_level(0), connect(served.url, token=secret) as farm, pytest.raises(RemoteError) as error:
        shown = [repr(farm), repr(vars(farm)), repr(vars(farm._servers.first)), pickle.dumps(farm).decode("latin-1")]
        farm.evaluate(genomes(1))
    assert secret not in "\n".join([*shown, str(error.value), repr(error.value), caplog.text])
    assert "127.0.0.1" in caplog.text  # of httpcore, which logs its requests


@pytest.mark.parametrize("urls", [[], "", 7, ["https://a.example", "nonsense"]])
def test_unusable_servers_are_refused(urls: object) -> None:
    with pytest.raises(InputError), connect(urls):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_unusable_patience_is_refused(timeout_s: float) -> None:
    with pytest.raises(InputError, match="timeout_s"), connect("https://a.example", timeout_s=timeout_s):
        pass


def test_unknown_generation_is_not_found(farm: RemoteFarm) -> None:
    """By what looks on; opening it begins it."""
    with pytest.raises(NotFoundError):
        farm._servers.first.ask(dict, "GET", "generations", 800_000)
