"""Submitting over HTTP: every genome is counted exactly once, however often a request is repeated."""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from pipeline.control.operations import SubmissionAnswer
from pipeline.control.project_operations import ProjectOperations
from pipeline.errors import HostError, LedgerError, PipelineError, QueueFullError
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm, opened, problem, settled
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    project = FarmProject(tmp_path_factory.mktemp("submit") / "farm")
    project.configure(workers=2)
    with http_farm(project.root) as farm:
        yield farm


@pytest.fixture
def client(farm: HttpFarm) -> Iterator[httpx.Client]:
    with farm.client("control") as client:
        yield client


@pytest.fixture
def number(client: httpx.Client) -> Iterator[int]:
    """An open generation, which is stopped afterwards."""
    number = opened(client)
    yield number
    client.post(f"/generations/{number}/stop")


def bytes_of(number: int, **orders: object) -> bytes:
    return json.dumps({"n": number, **orders}).encode()


def batch(*names: str, **orders: object) -> dict[str, object]:
    """The body of a batch."""
    contents = [base64.b64encode(bytes_of(each, **orders)).decode() for each in range(len(names))]
    return {"genomes": [{"name": name, "content": content} for name, content in zip(names, contents, strict=True)]}


def states(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["state"] for each in answer.json()["answers"]]


def put(client: httpx.Client, number: int, name: str, content: bytes, **headers: str) -> httpx.Response:
    return client.put(
        f"/generations/{number}/genomes/{quote(name, safe='')}",
        content=content,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
    )


def test_generation_is_played_from_opening_to_end(client: httpx.Client, number: int, farm: HttpFarm) -> None:
    """Batches and single genomes; every one is counted once, with the fitness of its bytes."""
    names = [f"g{each}.json" for each in range(20)]
    assert states(client.post(f"/generations/{number}/genomes", json=batch(*names))) == ["accepted"] * 20
    assert put(client, number, "single.json", bytes_of(99)).status_code == 201
    assert client.post(f"/generations/{number}/close").json()["state"] in ("closed", "finished")

    found = settled(client, number, 21)

    assert found.keys() == {*names, "single.json"}
    assert all(item["status"] == "completed" and item["fitness"] is not None for item in found.values())
    assert {found[f"g{each}.json"]["sha256"] for each in range(20)} == {
        hashlib.sha256(bytes_of(each)).hexdigest() for each in range(20)
    }
    assert eventually(lambda: client.get(f"/generations/{number}").json()["state"] == "finished")
    status = client.get(f"/generations/{number}").json()
    assert (status["genomes"], status["completed"], status["failed"]) == (21, 21, 0)
    assert farm.operations.genomes(number).items[0].name == "g0.json"


def test_repeated_requests_submit_nothing_twice(client: httpx.Client, number: int) -> None:
    """In another order, too: a batch, a part of it, and single ones."""
    names = ["a.json", "b.json", "c.json"]
    path = f"/generations/{number}/genomes"
    assert states(client.post(path, json=batch(*names))) == ["accepted"] * 3
    assert states(client.post(path, json=batch(*names))) == ["known"] * 3
    assert states(client.post(path, json={"genomes": batch(*names)["genomes"][::-1]})) == ["known"] * 3  # type: ignore[index]
    assert put(client, number, "b.json", bytes_of(1)).status_code == 200
    client.post(f"/generations/{number}/close")
    assert settled(client, number, 3).keys() == {*names}
    assert client.get(f"/generations/{number}").json()["genomes"] == 3


def test_same_key_opens_one_generation(client: httpx.Client) -> None:
    """A lost answer is asked for again; another key opens the next one, when this one is stopped."""
    answers = [client.post("/generations", json={}, headers={"Idempotency-Key": "mine"}) for _ in range(3)]
    numbers = {answer.json()["number"] for answer in answers}
    assert {answer.status_code for answer in answers} == {201} and len(numbers) == 1
    (number,) = numbers
    assert {answer.headers["location"] for answer in answers} == {f"/v1/generations/{number}"}

    refused = client.post("/generations", json={"number": number + 5})
    assert problem(refused) == (409, "conflict")
    assert client.post(f"/generations/{number}/stop").json()["state"] == "stopped"
    assert opened(client) == number + 1
    client.post(f"/generations/{number + 1}/stop")


def test_next_generation_needs_a_key(client: httpx.Client) -> None:
    """Without one a repeated request would open two."""
    answer = client.post("/generations", json={})
    assert problem(answer) == (400, "bad-input")
    assert answer.json()["detail"].startswith("Idempotency-Key: is needed")


def test_other_bytes_under_a_known_name_are_a_conflict(client: httpx.Client, number: int) -> None:
    """What was submitted first stays."""
    assert put(client, number, "a.json", bytes_of(1)).status_code == 201
    assert problem(put(client, number, "a.json", bytes_of(2))) == (409, "conflict")
    assert states(client.post(f"/generations/{number}/genomes", json=batch("a.json"))) == ["refused"]
    found = client.get(f"/generations/{number}/genomes/a.json")
    assert settled(client, number, 1)["a.json"]["sha256"] == hashlib.sha256(bytes_of(1)).hexdigest()
    assert found.status_code == 200


QUOTES = "a'b.json" if sys.platform == "win32" else "a'b\"c.json"  # Windows has no such name


@pytest.mark.parametrize("name", ["größe 1.json", "a+b&c=d.json", "%2e%2e", "名前.json", QUOTES])
def test_unusual_names_stay_what_they_are(client: httpx.Client, number: int, name: str) -> None:
    """Percent-encoded in paths; in Location, too."""
    answer = put(client, number, name, bytes_of(1))
    assert answer.status_code == 201 and answer.json()["name"] == name
    again = client.get(answer.headers["location"].removeprefix("/v1"))
    assert again.status_code == 200 and again.json()["name"] == name


def test_params_travel_in_a_header(client: httpx.Client, number: int) -> None:
    headers = {"Genome_Params": '{"rate": 0.5, "kind": "deep", "layers": 3}'}
    assert put(client, number, "a.json", bytes_of(1), **headers).status_code == 201
    assert settled(client, number, 1)["a.json"]["params"] == {"rate": 0.5, "kind": "deep", "layers": 3}


@pytest.mark.parametrize("params", ["{", "[]", '{"a": null}', '{"a": [1]}', '{"a": NaN}', '{"a": {}}', "\xff"])
def test_params_that_are_no_plain_values_are_refused(client: httpx.Client, number: int, params: str) -> None:
    content = bytes_of(1)
    path = f"/generations/{number}/genomes/p.json"
    answer = client.put(path, content=content, headers={b"Genome-Params": params.encode("latin-1")})
    assert problem(answer) == (400, "bad-input")
    assert client.get(path).status_code == 404


def test_digest_is_compared(client: httpx.Client, number: int) -> None:
    """A body that was changed on its way is not stored."""
    right, wrong = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in (bytes_of(1), bytes_of(2)))
    changed = put(client, number, "a.json", bytes_of(1), Content_Digest=f"sha-256=:{wrong}:")
    assert problem(changed) == (422, "genome-refused")
    assert client.get(f"/generations/{number}/genomes/a.json").status_code == 404
    answer = put(client, number, "a.json", bytes_of(1), Content_Digest=f"sha-512=:eHg=:, sha-256=:{right}:")
    assert answer.status_code == 201


def test_waiting_genome_can_be_withdrawn(client: httpx.Client, number: int, tmp_path: Path) -> None:
    """One that has joined cannot."""
    gate = tmp_path / "go"
    names = [f"g{each:02d}.json" for each in range(40)]
    client.post(f"/generations/{number}/genomes", json=batch(*names, until=str(gate)))
    assert eventually(lambda: client.get(f"/generations/{number}").json()["genomes"] > 0)
    last = f"/generations/{number}/genomes/{names[-1]}"
    assert client.get(last).json()["status"] == "waiting"

    answer = client.delete(last)

    assert (answer.status_code, answer.content) == (204, b"")
    assert problem(client.delete(last)) == (404, "not-found")
    assert problem(client.delete(f"/generations/{number}/genomes/{names[0]}")) == (409, "conflict")
    gate.touch()
    client.post(f"/generations/{number}/close")
    assert settled(client, number, 39).keys() == {*names[:-1]}


def test_closed_generation_takes_no_genomes(client: httpx.Client, number: int) -> None:
    client.post(f"/generations/{number}/close")
    assert problem(put(client, number, "late.json", bytes_of(1))) == (409, "conflict")
    assert problem(client.post(f"/generations/{number}/genomes", json=batch("late.json"))) == (409, "conflict")


def test_failed_genomes_are_played_again(client: httpx.Client, number: int) -> None:
    """By a token of the largest scope, when the generation is finished."""
    put(client, number, "bad.json", bytes_of(1, do="raise"))
    client.post(f"/generations/{number}/close")
    assert settled(client, number, 1)["bad.json"]["status"] == "failed"
    assert eventually(lambda: client.get(f"/generations/{number}").json()["state"] == "finished")
    answer = client.post(f"/generations/{number}/reopen-failed", json={})
    assert answer.status_code == 200, answer.text
    assert eventually(lambda: client.get(f"/generations/{number}").json()["state"] == "finished")


class FailingOperations(ProjectOperations):
    """Errors that need a full disk or a damaged ledger."""

    error: PipelineError

    def submit_together(self, number: int, requests: object) -> list[list[SubmissionAnswer] | PipelineError]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected", "exit_code"),
    [
        (QueueFullError("20000 genomes wait"), (429, "queue-full"), 2),
        (HostError("state: No space left on device"), (503, "unavailable"), 3),
        (LedgerError("ledger.db: damaged"), (503, "unavailable"), 4),
    ],
)
def test_error_of_host_says_when_to_try_again(
    tmp_path: Path, error: PipelineError, expected: tuple[int, str], exit_code: int
) -> None:
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)
    failing = FailingOperations(project.root)
    failing.error = error
    with http_farm(project.root, control=False, farm=failing) as farm, farm.client("submit") as client:
        answer = put(client, 1, "a.json", bytes_of(1))
        assert problem(answer) == expected
        assert int(answer.headers["retry-after"]) >= 1
        assert (answer.json()["detail"], answer.json()["exit_code"]) == (str(error), exit_code)
        assert farm.audit()[-1]["outcome"] == expected[1]
    failing.close()


def test_defect_is_an_internal_error(tmp_path: Path) -> None:
    """Without its details; the audit log has the attempt."""
    project = FarmProject(tmp_path / "farm")
    project.configure(workers=1)

    class Broken(ProjectOperations):
        def submit_together(self, number: int, requests: object) -> list[list[SubmissionAnswer] | PipelineError]:
            raise ZeroDivisionError("secret of the program")

    broken = Broken(project.root)
    with http_farm(project.root, control=False, farm=broken) as farm, farm.client("submit") as client:
        answer = put(client, 1, "a.json", bytes_of(1))
        assert problem(answer) == (500, "internal") and answer.json()["exit_code"] == 70
        assert "secret" not in answer.text
        assert (farm.audit()[-1]["status"], farm.audit()[-1]["outcome"]) == (500, "internal")
        with farm.client("submit") as another:  # the server closes the connection on which it failed
            assert another.get("/project").status_code == 200
    broken.close()
