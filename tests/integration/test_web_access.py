"""Under which names `pipeline serve` answers."""

import socket

import pytest

from pipeline.ui.own_names import is_own_name

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BEYOND = ("0.0.0.0", "::", "192.0.2.7", "farm.example", "")


@pytest.mark.parametrize("host", [*LOOPBACK, *BEYOND])
@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_foreign_name_is_refused(host: str, name: str) -> None:
    assert not is_own_name(name, host)


@pytest.mark.parametrize("host", [*LOOPBACK, *BEYOND])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_names_of_loopback_are_own(host: str, name: str) -> None:
    """Beyond loopback, too: through an SSH tunnel."""
    assert is_own_name(name, host)


def test_beyond_loopback_addresses_and_names_of_this_computer_are_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any address: it may be that of a router before this computer."""
    monkeypatch.setattr(socket, "gethostname", lambda: "FARM-1")
    for name in ("farm-1", "farm-1.local", "farm-1.lab.example", "203.0.113.9", "2001:db8::9"):
        assert is_own_name(name, "0.0.0.0")
        assert not is_own_name(name, "127.0.0.1")
    assert is_own_name("farm.example", "Farm.Example")
