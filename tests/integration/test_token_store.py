"""The file of tokens: no secret is in it, nobody else reads it, and what is wrong with it is said."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from inbox_agent.system.file_lock import FileLock
from pipeline.core.access import AccessScope, TokenState, token_state
from pipeline.errors import HostError, InputError, NotFoundError, ProjectBusyError
from pipeline.paths import ProjectPaths
from pipeline.storage import token_store as module
from pipeline.storage.token_store import TokenStore

READ, CONTROL = AccessScope.READ, AccessScope.CONTROL
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture
def paths(tmp_path: Path) -> ProjectPaths:
    return ProjectPaths(tmp_path)


@pytest.fixture
def store(paths: ProjectPaths) -> TokenStore:
    return TokenStore(paths)


def test_secret_finds_its_token(store: TokenStore, paths: ProjectPaths) -> None:
    """Also in another process; the file has no secret."""
    assert store.read() == () and store.find("anything") is None
    reader, writer = store.make("reader", READ, 100.0, None), store.make("ci", CONTROL, 100.0, 60.0)

    found = TokenStore(paths).find(writer)

    assert found is not None
    assert (found.name, found.scope, found.expires_at) == ("ci", CONTROL, 160.0)
    assert len(reader) == len(writer) == 43 and reader != writer
    assert not {reader, writer} & set(paths.tokens.read_text())
    assert reader not in paths.tokens.read_text()


@pytest.mark.parametrize(
    "change", [lambda s: s[:-1], lambda s: s + "x", str.swapcase, lambda s: "", lambda s: s + "\0"]
)
def test_other_secret_finds_nothing(store: TokenStore, change: "object") -> None:
    secret = store.make("reader", READ, 100.0, None)
    assert callable(change)
    assert store.find(change(secret)) is None
    assert store.find("\udce4" * 10) is None
    assert store.find(secret + " " * module.SECRET_CHARS_MAX) is None


def test_revoked_token_is_found_as_revoked(store: TokenStore, paths: ProjectPaths) -> None:
    """At once, by a process that has read it before; its name can be used again."""
    other = TokenStore(paths)
    secret = store.make("reader", READ, 100.0, None)
    assert other.find(secret) is not None

    store.revoke("reader")

    found = other.find(secret)
    assert found is not None and token_state(found, 101.0) is TokenState.REVOKED
    again = store.make("reader", CONTROL, 102.0, None)
    assert [token.scope for token in store.read()] == [CONTROL]
    assert store.find(secret) is None and store.find(again) is not None


def test_name_of_valid_token_is_refused(store: TokenStore) -> None:
    """Of one that has expired it is not."""
    store.make("reader", READ, 100.0, 60.0)
    with pytest.raises(InputError, match="there is one; choose another name, or `pipeline token revoke reader`"):
        store.make("reader", READ, 159.0, None)
    store.make("reader", READ, 160.0, None)
    assert len(store.read()) == 1


def test_unusable_names_and_unknown_tokens_are_refused(store: TokenStore) -> None:
    with pytest.raises(InputError, match="expected 1 to 64 letters"):
        store.make("../x", READ, 100.0, None)
    with pytest.raises(NotFoundError, match="there is none; `pipeline token list`"):
        store.revoke("nobody")


def test_number_of_tokens_is_limited(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_MAX", 2)
    store.make("a", READ, 100.0, None)
    store.make("b", READ, 100.0, None)
    with pytest.raises(InputError, match="there are 2 tokens, which is the limit"):
        store.make("c", READ, 100.0, None)


@posix
def test_only_this_user_may_read_the_file(store: TokenStore, paths: ProjectPaths) -> None:
    """Whatever the umask is; a file that others may read or write is not used."""
    before = os.umask(0)
    try:
        store.make("reader", READ, 100.0, None)
        store.revoke("reader")
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.tokens.stat().st_mode) == 0o600
    for mode in (0o640, 0o620, 0o604, 0o602):
        paths.tokens.chmod(mode)
        with pytest.raises(InputError, match=r"others may read or write it; `chmod 600 .*tokens\.json`"):
            store.read()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"version": 2, "tokens": [], "more": 1}', "is of version 2, this program knows 1"),
        (b'{"version": 1, "tokens": [{"name": "a"}]}', "is damaged"),
        (b'{"version": 1, "tokens": [], "more": 1}', "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b" " * (1024 * 1024 + 1), "more than 1048576 bytes"),
    ],
)
def test_file_that_is_not_understood_is_refused(
    store: TokenStore, paths: ProjectPaths, content: bytes, reason: str
) -> None:
    """A token that is not understood might be one that was revoked."""
    paths.state.mkdir()
    paths.tokens.write_bytes(content)
    paths.tokens.chmod(0o600)
    for use in (store.read, lambda: store.find("x"), lambda: store.make("a", READ, 1.0, None)):
        with pytest.raises(InputError, match=reason):
            use()
    assert paths.tokens.read_bytes() == content


def test_file_that_cannot_be_read_or_written_is_the_hosts_problem(store: TokenStore, paths: ProjectPaths) -> None:
    """A folder in its place; the tokens before are kept."""
    paths.tokens.mkdir(parents=True)
    with pytest.raises(HostError, match=r"tokens\.json"):
        store.read()


def test_one_process_at_a_time_changes_tokens(store: TokenStore, paths: ProjectPaths) -> None:
    lock = FileLock(paths.tokens_lock)
    try:
        with pytest.raises(ProjectBusyError, match="another `pipeline token` is at work here"):
            store.make("reader", READ, 100.0, None)
    finally:
        lock.release()
    store.make("reader", READ, 100.0, None)


def test_content_is_plain_json(store: TokenStore, paths: ProjectPaths) -> None:
    """With a version, for later programs."""
    store.make("reader", READ, 100.0, None)
    content = json.loads(paths.tokens.read_bytes())
    assert content["version"] == 1
    assert content["tokens"][0].keys() == {"name", "scope", "sha256", "made_at", "expires_at", "is_revoked"}
