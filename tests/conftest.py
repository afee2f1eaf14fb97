"""Fixtures that several test files share."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.farm_bed import FarmBed
from tests.guest import Guest
from tests.samba import SmbShares, samba
from tests.share_host import Host
from tests.windows.bed import NoBed, WindowsPython, windows_python
from tests.windows.left_out import pytest_collection_modifyitems, pytest_ignore_collect

__all__ = ["pytest_collection_modifyitems", "pytest_ignore_collect"]

# The same examples in every run, so that nothing fails by chance; `make prove` looks further.
settings.register_profile("steady", derandomize=True)
if "FARM_EXAMPLES" not in os.environ:
    settings.load_profile("steady")


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[FarmBed]:
    """A project folder with real processes; nothing of it is left running."""
    farm = FarmBed(tmp_path / "farm")
    yield farm
    farm.close()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """An agent on a share of this farm, on its own disk."""
    guest = Guest(tmp_path)
    guest.own()
    return guest


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host at first contact: the share has no folders yet."""
    state = tmp_path / "state"
    state.mkdir()
    return Host(state)


@pytest.fixture
def owner(host: Host) -> Host:
    """A host whose share is its own."""
    host.owns()
    return host


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A disk of 8 MiB that a test may fill."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = Path(tempfile.mkdtemp(prefix="tiny-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
    disk.rmdir()


@pytest.fixture(scope="session")
def windows() -> WindowsPython:
    """Windows CPython, under Wine."""
    try:
        return windows_python()
    except NoBed as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smb_shares() -> Iterator[SmbShares]:
    """A real Samba server with many empty shares."""
    with samba(*(f"share-{number}" for number in range(SmbShares.COUNT))) as server:
        shares = SmbShares(server)
        yield shares
        shares.close()
