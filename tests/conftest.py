"""Fixtures that several test files share."""

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from inbox_agent.system.process_tree import ProcessTree
from tests.harness.agent_harness import AgentHarness
from tests.harness.farm_project import FarmProject
from tests.harness.host_share import HostShareHarness
from tests.harness.samba import SmbShares, samba
from tests.harness.wine import WindowsPython, WindowsUnavailable, windows_python
from tests.programs.system_programs import WINE, closing_line, leave_out, left_out, require
from tests.windows.left_out import pytest_collection_modifyitems, pytest_ignore_collect

__all__ = ["pytest_collection_modifyitems", "pytest_ignore_collect"]

# Derandomized, so that no test fails by chance; `make prove` runs more examples.
settings.register_profile("steady", derandomize=True)
if "FARM_EXAMPLES" not in os.environ:
    settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nothing-left-out", action="store_true", help="fail if a test lacks a program of the system")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for needs in item.iter_markers("needs"):
        require(*needs.args, **needs.kwargs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escapes invalid Unicode in captured output and logs, which xdist cannot send from one process to another."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--nothing-left-out") and not exitstatus and _left_out(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    if reasons := _left_out(terminalreporter.config):
        terminalreporter.write_line(closing_line(reasons), yellow=True)


def _left_out(config: pytest.Config) -> list[str]:
    return left_out(config.pluginmanager.getplugin("terminalreporter").stats.get("skipped", []))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[FarmProject]:
    """A project folder with real processes; nothing of it is left running."""
    farm = FarmProject(tmp_path / "farm")
    yield farm
    farm.close()


@pytest.fixture
def agent(tmp_path: Path) -> AgentHarness:
    """An agent on a share with a valid owner, on its own disk."""
    guest = AgentHarness(tmp_path)
    guest.publish_owner()
    return guest


@pytest.fixture
def host(tmp_path: Path) -> HostShareHarness:
    """A host before it takes the share: the folders do not exist yet."""
    state = tmp_path / "state"
    state.mkdir()
    return HostShareHarness(state)


@pytest.fixture
def owner(host: HostShareHarness) -> HostShareHarness:
    """A host that owns its share."""
    host.publish_owner()
    return host


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessTree]:
    """A process tree that the evaluators of a test module share."""
    tree = ProcessTree(tmp_path_factory.mktemp("agent") / "processes")
    yield tree
    tree.close()


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A disk of 8 MiB that a test may fill."""
    require("mount", root=True)
    disk = Path(tempfile.mkdtemp(prefix="tiny-"))
    mount: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        disk.rmdir()
        leave_out("the right to mount, which root of an unprivileged container does not have")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
    disk.rmdir()


@pytest.fixture(scope="session")
def windows() -> WindowsPython:
    """Windows CPython, under Wine."""
    require(*WINE)
    try:
        return windows_python()
    except WindowsUnavailable as error:
        leave_out(f"a Windows CPython under Wine: {error}")


@pytest.fixture(scope="session")
def smb_shares() -> Iterator[SmbShares]:
    """A real Samba server with many empty shares."""
    with samba(*(f"share-{number}" for number in range(SmbShares.COUNT))) as server:
        shares = SmbShares(server)
        yield shares
        shares.close()
