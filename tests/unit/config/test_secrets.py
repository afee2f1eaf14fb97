"""Passwords are fetched when needed, referred to by name and never shown."""

import os
import sys
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend

from pipeline.config import Config, WorkerTable, load_config
from pipeline.config.machine_tables import HyperVTable
from pipeline.errors import ConfigError, SecretError
from pipeline.secrets import check_reference, fetch_secret
from tests.harness.other_user import NOBODY_UID


class RingInMemory(KeyringBackend):
    """A keyring for tests."""

    priority = 1

    def __init__(self) -> None:
        """Without the properties that keyring reads from the environment."""

    def get_password(self, service: str, username: str) -> str | None:
        return {("farm", "vm-3"): "from the ring"}.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


def test_secret_from_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FARM_SECRET", "of the environment")
    assert fetch_secret("env:FARM_SECRET", tmp_path) == "of the environment"
    monkeypatch.delenv("FARM_SECRET")
    with pytest.raises(SecretError, match="FARM_SECRET is not set"):
        fetch_secret("env:FARM_SECRET", tmp_path)


def test_secret_from_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(RingInMemory())
    try:
        assert fetch_secret("keyring:farm/vm-3", tmp_path) == "from the ring"
        with pytest.raises(SecretError, match="set it with `keyring set farm vm-4`"):
            fetch_secret("keyring:farm/vm-4", tmp_path)
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=ascii)
@pytest.mark.parametrize("password", ["of a file", "Pässwort 漢", "x"])
def test_secret_from_file(tmp_path: Path, password: str, end: str, encoding: str) -> None:
    """The path is relative to the project; a line end and a byte order mark are removed, and UTF-16 is read."""
    (tmp_path / "secret").write_bytes((password + end).encode(encoding))
    (tmp_path / "secret").chmod(0o600)
    assert fetch_secret("file:secret", tmp_path) == password


@pytest.mark.skipif(sys.platform == "win32", reason="rights are an ACL there")
def test_secret_file_readable_by_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of a file")
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(SecretError, match="others may read it; `chmod 600"):
        fetch_secret("file:secret", tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are an ACL there")
def test_secret_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the file chooses the password, and may read it. Root is believed: it may do anything."""
    (tmp_path / "secret").write_text("of a file")
    (tmp_path / "secret").chmod(0o600)
    if os.geteuid() == 0:
        assert fetch_secret("file:secret", tmp_path) == "of a file"
        os.chown(tmp_path / "secret", NOBODY_UID, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY_UID)

    with pytest.raises(SecretError, match="it belongs to another user, number"):
        fetch_secret("file:secret", tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipe has a path in a folder there")
def test_secret_from_pipe_or_device_is_refused_at_once(tmp_path: Path) -> None:
    """Without waiting for a writer, and without reading what never ends."""
    os.mkfifo(tmp_path / "secret", 0o600)
    for path in ("secret", "/dev/zero"):
        with pytest.raises(SecretError, match="it is no regular file"):
            fetch_secret(f"file:{path}", tmp_path)
    with pytest.raises(SecretError, match="Is a directory"):
        fetch_secret("file:.", tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\xff\xfe\r\0\n\0", "it is empty"),
        ("Pässwort".encode("latin-1"), "it is not text in UTF-8, UTF-16 or UTF-32; save it as UTF-8"),
        (b"\xff\xfeP\0a", "it is not text in UTF-8, UTF-16 or UTF-32; save it as UTF-8"),
        ("漢字 P".encode("utf-16-le"), "it is not text in UTF-8|it has zero characters"),
        (b"Pass\0wort", "it has zero characters"),
        (b"x" * 4097, "it has more than 4096 bytes"),
    ],
)
def test_unusable_secret_file_is_refused(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """No part of it is sent as a password, or shown."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
        (tmp_path / "secret").chmod(0o600)
    with pytest.raises(SecretError, match=expected) as caught:
        fetch_secret("file:secret", tmp_path)
    assert "wort" not in str(caught.value)


def test_no_reference_gives_no_secret(tmp_path: Path) -> None:
    """Windows then uses the account that runs the pipeline."""
    assert fetch_secret("", tmp_path) == ""


@pytest.mark.parametrize("reference", ["hunter2", "env:", "vault:x", "password: hunter2"])
def test_invalid_reference_is_refused_without_showing_it(reference: str, tmp_path: Path) -> None:
    """The value may be the password itself, so no message shows it."""
    with pytest.raises(SecretError, match="keyring:SERVICE/NAME, env:VARIABLE or file:PATH") as refused:
        check_reference(reference)
    assert "hunter2" not in str(refused.value)

    (tmp_path / "pipeline.toml").write_text(f"[[worker]]\nname = 'a'\nshare = '//srv/x'\nsecret = '{reference}'\n")
    with pytest.raises(ConfigError, match="worker 'a': secret") as invalid:
        load_config(tmp_path)
    assert "hunter2" not in str(invalid.value)


@pytest.mark.parametrize(
    ("share", "unc"),
    [
        (r"\\srv\exchange", ("srv", "exchange", "")),
        ("//srv/exchange/", ("srv", "exchange", "")),
        (r"\\10.0.0.7\farm\vm-3\x", ("10.0.0.7", "farm", "vm-3/x")),
        ("/mnt/share", None),
        (r"C:\exchange", None),
    ],
)
def test_unc_path_is_split(share: str, unc: tuple[str, str, str] | None) -> None:
    """Server, share, and the folder below it."""
    assert WorkerTable(name="a", share=share).unc == unc


@pytest.mark.parametrize("share", [r"\\srv", "//srv/", r"\\"])
def test_incomplete_unc_path_is_refused(share: str) -> None:
    with pytest.raises(ValueError, match=r"expected \\\\server\\share"):
        WorkerTable(name="a", share=share)


@pytest.mark.parametrize("key", ["account", "secret"])
def test_smb_keys_are_refused_for_path_share(key: str) -> None:
    """The setting would have no effect there."""
    smb: dict[str, Any] = {key: "env:X"}
    with pytest.raises(ValueError, match=f"{key} is for a UNC share"):
        Config(worker=[WorkerTable(name="a", share="/mnt/x", **smb)])


def test_no_reference_stays_in_the_environment_of_others() -> None:
    """Agents, games and hooks get every variable but those that a reference names, needed by this run or not."""
    worker = WorkerTable(name="vm-1", share="//srv/x", secret="env:OF_SHARE")
    machines = HyperVTable(host="hv", account="a", secret="env:OF_HOST", guest_account="g", guest_secret="env:OF_GUEST")
    own = {"PATH": "/bin", "OF_HOST_2": "kept", "file": "kept"}
    secret = {"OF_SHARE": "canary", "OF_HOST": "canary", "OF_GUEST": "canary"}

    assert Config(worker=[worker], hyperv={"": machines}).without_secrets({**own, **secret}) == own
    assert Config(worker=[WorkerTable(name="a", share="//srv/x", secret="file:PATH")]).without_secrets(own) == own


def test_windows_compares_variables_without_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    config = Config(worker=[WorkerTable(name="vm-1", share="//srv/x", secret="env:Of_Share")])

    assert config.without_secrets({"OF_SHARE": "canary", "of_share": "canary", "PATH": ""}) == {"PATH": ""}
