"""Signs of life for systemd, received as systemd does."""

import socket
from pathlib import Path

import pytest

from pipeline.service.notify import ALIVE, READY, notify

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd runs on Linux")


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_states_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """At a socket in a folder, or at one of Linux's abstract names."""
    address = f"{tmp_path}/notify" if kind == "path" else f"@test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify(READY)
        notify(ALIVE)

        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@no-such-socket"])
def test_no_manager_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A terminal has none, and one may have ended."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY)
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify(READY)
