"""The URLs, tokens and refusals of servers."""

from pathlib import Path

import pytest

from pipeline.errors import (
    ConflictError,
    GenomeError,
    InputError,
    NotFoundError,
    PipelineError,
    RemoteError,
    SecretError,
)
from pipeline.remote.access import checked_token
from pipeline.remote.problems import REASON_CHARS_MAX, error_of, problem_of
from pipeline.remote.server_url import server_url


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://farm.example", "https://farm.example:443"),
        ("https://farm.example:8765/", "https://farm.example:8765"),
        ("HTTPS://FARM.example/team/", "https://farm.example:443/team"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://127.1.2.3", "http://127.1.2.3:80"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
    ],
)
def test_url_is_completed(given: str, used: str) -> None:
    url = server_url(given)
    assert str(url) == used
    assert url.is_encrypted == used.startswith("https")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("http://farm.example", "clear text; use https"),
        ("http://192.168.0.7:8765", "clear text"),
        ("http://localhost.example", "clear text"),
        ("http://127.0.0.1.example", "clear text"),
        ("farm.example", "give one such as"),
        ("ftp://farm.example", "give one such as"),
        ("file:///etc/passwd", "give one such as"),
        ("https://", "give one such as"),
        ("https://farm.example:99999", "give one such as"),
        ("https://[::1", "give one such as"),
        ("https://farm.example?token=x", "leave out what follows"),
        ("https://farm.example#x", "leave out what follows"),
        ("https://farm.example/a b", "characters that no URL has"),
        ("https://färm.example", "characters that no URL has"),
        ("https://farm.example\n", "characters that no URL has"),
        (7, "expected a text"),
    ],
)
def test_unusable_url_is_refused(given: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        server_url(given)


def test_password_in_url_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError) as error:
        server_url("https://me:secret@farm.example")
    assert "secret" not in str(error.value)


def test_names_are_steps_of_a_path() -> None:
    """Whatever characters they have."""
    url = server_url("https://farm.example/team").at("generations", 7, "genomes", "a/../b?c=ü%", query={"after": 0})
    assert url == "https://farm.example:443/team/v1/generations/7/genomes/a%2F..%2Fb%3Fc%3D%C3%BC%25?after=0"


def test_token_is_text_or_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TOKEN", "from-environment")
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "token").chmod(0o600)

    given = ["plain", "env:FARM_TOKEN", "file:token", ""]
    assert [checked_token(one, tmp_path) for one in given] == ["plain", "from-environment", "from-file", ""]


@pytest.mark.parametrize("given", ["secret\r\nHost: x", "sec ret", "secrét", "secret\0", "s" * 5000, b"secret"])
def test_unusable_token_is_refused_and_not_shown(given: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^token: ") as error:
        checked_token(given, tmp_path)
    assert "sec" not in str(error.value)


def test_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="env:NO_SUCH_VARIABLE: "):
        checked_token("env:NO_SUCH_VARIABLE", tmp_path)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, InputError, "why"),
        (401, RemoteError, "the token is missing, wrong or expired"),
        (403, RemoteError, "does not allow it: why"),
        (404, NotFoundError, "why"),
        (409, ConflictError, "why"),
        (413, GenomeError, "why"),
        (422, GenomeError, "why"),
        (307, RemoteError, "not followed"),
        (421, RemoteError, r"why \(status 421\)"),
        (500, RemoteError, "see the log of the server"),
        (501, RemoteError, "--control"),
        (999, RemoteError, "status 999"),
    ],
)
def test_status_is_an_error_of_this_package(status: int, kind: type[PipelineError], words: str) -> None:
    error = error_of(status, "why", "https://farm.example:443")
    assert type(error) is kind
    assert str(error).startswith("https://farm.example:443: ")
    with pytest.raises(kind, match=words):
        raise error


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"title": "Not found", "detail": "there is no generation 7", "more": 1}', "there is no generation 7"),
        (b'{"title": "Not found"}', "Not found"),
        (b'{"detail": 7}', "status 404"),
        (b"<html>", "status 404"),
        (b"\xff", "status 404"),
        (b"[" * 100_000, "status 404"),
        (b"", "status 404"),
    ],
)
def test_reason_is_that_of_the_server(body: bytes, reason: str) -> None:
    assert problem_of(404, body) == reason


def test_reason_of_a_server_is_cut_and_printable() -> None:
    reason = problem_of(404, b'{"detail": "\\u001b[31m' + b"x" * 10_000 + b'"}')
    assert len(reason) <= REASON_CHARS_MAX
    assert "\x1b" not in reason
