"""`pipeline token`: what it prints, and what it refuses."""

import time
from pathlib import Path

import pytest

from pipeline.core.access import AccessScope, may
from pipeline.errors import ExitCode
from pipeline.paths import ProjectPaths
from pipeline.storage.token_store import TokenStore
from tests.harness.command_line import pipeline
from tests.harness.farm_project import FarmProject

CaptureFixture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    FarmProject(tmp_path / "farm").configure()
    return tmp_path / "farm"


def test_made_token_is_printed_once_and_can_be_used(root: Path, capsys: CaptureFixture) -> None:
    code, out, err = pipeline(capsys, "token", "make", "ci", "--scope", "submit", "--days", "30", "--root", root)
    assert (code, err) == (ExitCode.OK, "")
    secret = out.strip()
    found = TokenStore(ProjectPaths(root)).find(secret)
    assert found is not None and found.expires_at is not None
    assert may(found, AccessScope.SUBMIT, time.time()) and not may(found, AccessScope.CONTROL, time.time())
    assert found.expires_at - found.made_at == 30 * 86400

    code, out, err = pipeline(capsys, "token", "list", "--root", root)
    assert (code, err) == (ExitCode.OK, "")
    assert out.splitlines()[1].split()[:2] == ["ci", "submit"] and out.splitlines()[1].endswith("valid")
    assert secret not in out and found.sha256 not in out


def test_revoked_token_is_listed_as_revoked(root: Path, capsys: CaptureFixture) -> None:
    pipeline(capsys, "token", "make", "ci", "--scope", "read", "--root", root)
    assert pipeline(capsys, "token", "revoke", "ci", "--root", root) == (ExitCode.OK, "ci is revoked\n", "")
    assert pipeline(capsys, "token", "list", "--root", root)[1].splitlines()[1].split()[-2:] == ["-", "revoked"]


def test_project_without_tokens_says_so(root: Path, capsys: CaptureFixture) -> None:
    assert pipeline(capsys, "token", "list", "--root", root) == (ExitCode.OK, "there are no tokens\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("make", "ci"),
        ("make", "ci", "--scope", "admin"),
        ("make", "ci", "--scope", "read", "--days", "0"),
        ("make", "a b", "--scope", "read"),
        ("revoke", "nobody"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_used_is_refused(root: Path, capsys: CaptureFixture, words: tuple[str, ...]) -> None:
    """And no token is made."""
    code, out, err = pipeline(capsys, "token", *words, "--root", root)
    assert (code, out) == (ExitCode.BAD_INPUT, "") and err
    assert not ProjectPaths(root).tokens.exists()


@pytest.mark.parametrize("words", [("make", "ci", "--scope", "read"), ("list",), ("revoke", "ci")], ids=" ".join)
def test_folder_that_is_no_project_is_refused(tmp_path: Path, capsys: CaptureFixture, words: tuple[str, ...]) -> None:
    """Nothing is made there."""
    code, _out, err = pipeline(capsys, "token", *words, "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT and "pipeline.toml" in err
    assert list(tmp_path.iterdir()) == []
