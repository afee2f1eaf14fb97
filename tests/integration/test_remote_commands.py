"""The commands that look on, at a project elsewhere: `--remote`."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ExitCode
from pipeline.remote import connect
from tests.fakes.hostile_http import answer, hostile_http
from tests.harness.command_line import pipeline
from tests.harness.farm_project import FarmProject
from tests.harness.http_farm import HttpFarm, http_farm
from tests.harness.samba import free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    """A server whose project has played two generations; one genome has failed."""
    project = FarmProject(tmp_path_factory.mktemp("commands") / "farm")
    project.configure(workers=1)
    with http_farm(project.root) as served, connect(served.url, token=served.secret("submit")) as farm:
        farm.evaluate({"a": b'{"n": 1}', "b": b'{"n": 2}', "bad": b'{"do": "raise"}'}, params={"a": {"rate": 0.5}})
        farm.evaluate({"c": b'{"n": 3}'})
        yield served


@pytest.fixture
def at(served: HttpFarm, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("PIPELINE_TOKEN", served.secret("read"))
    return ("--remote", served.url)


def test_status_of_a_project_elsewhere(at: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = pipeline(capsys, "status", *at, "--gen", 1)
    assert code == ExitCode.OK
    assert out.splitlines()[0] == "generation 1: finished"
    assert "genomes: 3 submitted, 2 completed, 1 failed" in out
    assert "trials: 3 of 3 settled, best " in out
    assert "local-0" in out


def test_top_prints_one_line(at: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of the generation that was played last."""
    code, out, _ = pipeline(capsys, "top", "--once", *at)
    assert code == ExitCode.OK
    assert out.startswith("generation 2: 1/1 trials, 1 of 1 genome completed, 0 failed, 0 waiting, best ")
    assert out.endswith(", finished\n")


def test_explain_says_why(at: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = pipeline(capsys, "explain", "bad", *at, "--gen", 1)
    assert code == ExitCode.OK
    assert "cannot be played" in out
    code, _, err = pipeline(capsys, "explain", "nothing", *at)
    assert (code, len(err.splitlines())) == (ExitCode.BAD_INPUT, 1)


def test_results_are_those_of_the_project(
    served: HttpFarm, at: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Sorted alike, in each form; what only the host knows is empty."""
    unknown = ("seconds", "attempts")
    for options in (
        ["--gen", "1"],
        ["--all"],
        ["--all", "--sort", "genome", "--reverse"],
        ["--top", "2", "--gen", "1"],
    ):
        _, there, _ = pipeline(capsys, "results", "--json", *options, "--root", served.root)
        code, here, _ = pipeline(capsys, "results", "--json", *options, *at)
        assert code == ExitCode.OK
        rows, expected = ([{**row, **dict.fromkeys(unknown)} for row in json.loads(text)] for text in (here, there))
        assert rows == expected
    assert "param_rate" in pipeline(capsys, "results", "--csv", "--gen", 1, *at)[1]
    assert pipeline(capsys, "results", "--gen", 1, *at)[1].splitlines()[3].split()[:5] == [
        "3",
        "–",
        "bad",
        "1",
        "failed",
    ]


def test_token_may_be_in_a_file(served: HttpFarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(served.secret("read"))
    (tmp_path / "token").chmod(0o600)
    assert pipeline(capsys, "status", "--remote", served.url, "--token-file", tmp_path / "token")[0] == ExitCode.OK
    code, _, err = pipeline(capsys, "status", "--remote", served.url)
    assert code == ExitCode.STOPPED
    assert "the token is missing, wrong or expired" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "--token-file", "x"], "belong to --remote"),
        (["status", "--remote", "https://a.example", "--root", "."], "cannot both be had"),
        (["results", "--remote", "https://a.example", "--unpack"], "on the server"),
        (["status", "--remote", "http://a.example"], "clear text"),
        (["status", "--remote", "https://a.example", "--token-file", "missing"], "missing"),
        (["status", "--remote", "https://a.example", "--ca-file", "missing"], "ca_file missing"),
    ],
)
def test_unusable_options_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = pipeline(capsys, *arguments)
    assert code == ExitCode.BAD_INPUT
    assert words in err


def test_server_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """After three tries; nothing is lost, so the exit code is that of what can be tried again."""
    url = f"http://127.0.0.1:{free_port()}"
    code, _, err = pipeline(capsys, "status", "--remote", url)
    assert code == ExitCode.STOPPED
    assert err.startswith(f"pipeline: {url}: no answer in 3 tries: ")
    assert len(err.splitlines()) == 1


def test_words_of_a_server_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J\x1b]0;title\x07red\r\nline"

    def attack(_line: str, connection: socket.socket) -> None:
        connection.sendall(answer({"text": text}))

    with hostile_http(attack) as server:
        _, out, _ = pipeline(capsys, "explain", "a", "--remote", server.url)
    assert not set(out) & {"\x1b", "\x07", "\r"}
    assert "line" in out
