"""Looking on over HTTP: pages, ETags, long polls, explanations."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from pipeline.control.operations import GenomePage
from pipeline.control.project_operations import ProjectOperations
from tests.harness.farm_project import FarmProject, games
from tests.harness.http_farm import HttpFarm, http_farm, opened, problem, settled
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

COUNT = 25


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    """Generation 1 is finished."""
    project = FarmProject(tmp_path_factory.mktemp("read") / "farm")
    project.configure(workers=2)
    project.add_genomes(games(COUNT))
    code, out = project.run()
    assert code == 0, out
    with http_farm(project.root) as farm:
        yield farm


@pytest.fixture
def client(farm: HttpFarm) -> Iterator[httpx.Client]:
    with farm.client("read") as client:
        yield client


def test_project_and_generation_in_numbers(client: httpx.Client, farm: HttpFarm) -> None:
    project = client.get("/project").json()
    assert (project["name"], project["is_controlled"]) == (farm.root.name, True)
    status = client.get("/generations/1").json()
    assert (status["state"], status["genomes"], status["completed"], status["settled"]) == (
        "finished",
        COUNT,
        COUNT,
        COUNT,
    )
    best = client.get(f"/generations/1/genomes/{status['best_genome']}").json()
    assert best["fitness"] == status["best"]


def test_pages_have_every_genome_once(client: httpx.Client) -> None:
    """In any size of page; the last one says that nothing follows."""
    for limit in (1, 7, COUNT, 1000):
        names, after = list[str](), 0
        while after is not None:
            page = client.get("/generations/1/genomes", params={"after": after, "limit": limit}).json()
            assert len(page["items"]) <= limit
            names += [item["name"] for item in page["items"]]
            after = page["next"]
        assert sorted(names) == sorted(games(COUNT))


def test_generations_are_pages_too(client: httpx.Client) -> None:
    page = client.get("/generations", params={"limit": 1}).json()
    assert [item["number"] for item in page["items"]] == [1]
    assert client.get("/generations", params={"after": 999_999_999}).json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "path", ["/project", "/generations", "/generations/1", "/generations/1/genomes", "/generations/1/genomes/g001.json"]
)
def test_unchanged_answer_is_not_sent_again(client: httpx.Client, path: str) -> None:
    """By its ETag; another one, or none, gets the whole answer."""
    first = client.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"') and first.status_code == 200

    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_tag_changes_with_the_content(client: httpx.Client, farm: HttpFarm) -> None:
    with farm.client("control") as control:
        before = client.get("/generations").headers["etag"]
        number = opened(control)
        assert client.get("/generations", headers={"If-None-Match": before}).status_code == 200
        control.post(f"/generations/{number}/stop")


def test_head_is_get_without_its_body(client: httpx.Client) -> None:
    answer = client.head("/generations/1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == client.get("/generations/1").headers["etag"]


def test_explanation_is_that_of_the_command(client: httpx.Client) -> None:
    answer = client.get("/explain", params={"what": "g001.json", "generation": 1}).json()
    assert answer["what"] == "g001.json"
    assert "g001.json is genome 2" in answer["text"]


@pytest.mark.parametrize(
    "path",
    [
        "/generations/7",
        "/generations/7/genomes",
        "/generations/7/settled",
        "/generations/7/genomes/g001.json",
        "/generations/1/genomes/missing.json",
        "/explain?what=missing.json",
        "/explain?what=g001.json&generation=7",
        "/nothing",
        "/generations/1/genomes/g001.json/more",
        "/project/",
    ],
)
def test_what_does_not_exist_is_not_found(client: httpx.Client, path: str) -> None:
    assert problem(client.get(path)) == (404, "not-found")


def test_settled_genomes_are_read_once_each(client: httpx.Client) -> None:
    """From fact to fact; then nothing follows, and a client that does not wait is answered at once."""
    found, after = list[str](), 0
    while page := client.get("/generations/1/settled", params={"after": after, "limit": 7}).json():
        if not page["items"]:
            break
        found += [item["name"] for item in page["items"]]
        after = page["next"]
    assert sorted(found) == sorted(games(COUNT))


def test_long_poll_waits_for_the_next_genome(farm: HttpFarm) -> None:
    """It is answered when the genome is settled, and not only when the time is over."""
    with farm.client("control") as client:
        number = opened(client)
        with ThreadPoolExecutor(1) as threads:
            begun = time.monotonic()
            waiting = threads.submit(client.get, f"/generations/{number}/settled", params={"wait_s": 25})
            assert eventually(lambda: client.get("/project").status_code == 200)
            client.put(f"/generations/{number}/genomes/a.json", content=b"{}")
            page = waiting.result().json()
        assert [item["name"] for item in page["items"]] == ["a.json"]
        assert time.monotonic() - begun < 20
        client.post(f"/generations/{number}/stop")


def test_long_poll_without_news_ends_in_time(farm: HttpFarm) -> None:
    with farm.client("control") as client:
        number = opened(client)
        begun = time.monotonic()
        page = client.get(f"/generations/{number}/settled", params={"wait_s": 0.5}).json()
        assert page["items"] == [] and 0.4 < time.monotonic() - begun < 10
        client.post(f"/generations/{number}/stop")


def test_many_waiting_clients_do_not_block_others(farm: HttpFarm) -> None:
    """There are fewer threads than clients; all of them are answered together."""
    with farm.client("control", limits=httpx.Limits(max_connections=100)) as client:
        number = opened(client)
        with ThreadPoolExecutor(60) as threads:
            polls = [
                threads.submit(client.get, f"/generations/{number}/settled", params={"wait_s": 25}) for _ in range(60)
            ]
            took_s = []
            for _ in range(20):
                begun = time.monotonic()
                assert client.get("/project").status_code == 200
                took_s.append(time.monotonic() - begun)
            assert not any(poll.done() for poll in polls)
            client.put(f"/generations/{number}/genomes/a.json", content=b"{}")
            pages = [poll.result().json() for poll in polls]
        assert all([item["name"] for item in page["items"]] == ["a.json"] for page in pages)
        assert sorted(took_s)[len(took_s) // 2] < 1.0
        client.post(f"/generations/{number}/stop")


def test_clients_that_ask_the_same_share_one_answer(tmp_path: Path) -> None:
    """However many wait for the next genome, it is read a few times only."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    operations = CountingOperations(project.root)
    operations.open_project()
    with closing(operations), http_farm(project.root, control=False, farm=operations) as farm:
        with (
            farm.client("control", limits=httpx.Limits(max_connections=40)) as client,
            ThreadPoolExecutor(30) as threads,
        ):
            number = opened(client)
            path, query = f"/generations/{number}/settled", {"wait_s": 25}
            polls = [threads.submit(client.get, path, params=query) for _ in range(30)]
            client.put(f"/generations/{number}/genomes/a.json", content=b"{}")
            pages = [poll.result().json() for poll in polls]
        assert all([item["name"] for item in page["items"]] == ["a.json"] for page in pages)
        assert operations.pages < 15


class CountingOperations(ProjectOperations):
    """Counts the pages of results that are read."""

    pages = 0

    def settled(self, number: int, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> GenomePage:
        self.pages += 1
        return super().settled(number, after=after, limit=limit, wait_s=wait_s)


def test_answers_do_not_wait_for_acknowledgements(client: httpx.Client) -> None:
    """A connection that holds back small packets would add 40 ms to each answer."""
    took_s = []
    for _ in range(40):
        begun = time.monotonic()
        client.get("/health")
        took_s.append(time.monotonic() - begun)
    assert sorted(took_s)[10] < 0.03


def test_project_that_another_process_plays_can_be_watched(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without a host of its own: `pipeline run` plays."""
    project = FarmProject(tmp_path_factory.mktemp("watched") / "farm")
    project.configure(workers=1)
    project.add_genomes(games(3))
    with http_farm(project.root, control=False) as farm, farm.client("read") as client:
        assert client.get("/generations").json() == {"items": [], "next": None}
        assert problem(client.get("/generations/1")) == (404, "not-found")
        code, out = project.run()
        assert code == 0, out
        assert settled(client, 1, 3).keys() == games(3).keys()
        assert client.get("/generations/1").json()["state"] == "finished"
