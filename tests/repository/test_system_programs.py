"""The tests on a machine with only git, make and Python: those that need more are skipped and counted, none fails."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.other_user import NOBODY_UID
from tests.programs.system_programs import PACKAGES, QEMU, SAMBA, WINE, closing_line, is_root, missing

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="the programs of a Linux system"),
]
#: Tests whose fixtures need programs.
WITH_FIXTURES = [
    "tests/integration/test_bundle_windows.py",
    "tests/end_to_end/test_end_to_end_smb.py",
    "tests/end_to_end/test_end_to_end_windows.py",
    "tests/integration/test_local_files.py",
    "tests/integration/test_qemu.py",
    "tests/integration/test_web_server.py::test_page_works_with_keyboard",
    "tests/integration/test_smb.py",
]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may write to, with a short path: the sockets of QEMU machines are in it."""
    with tempfile.TemporaryDirectory(prefix="bare-") as place:
        Path(place).chmod(0o777)
        yield Path(place)


@pytest.fixture
def python(place: Path) -> Run:
    """Runs Python in the checkout with an almost empty PATH, as a user other than root if that user can access it."""
    programs = place / "bin"
    programs.mkdir()
    for path in filter(None, map(shutil.which, ("git", "make", "rm", "sh"))):
        (programs / Path(path).name).symlink_to(path)
    environment = {"PATH": str(programs), "HOME": str(place), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str, **user: Any) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **user)

    other_user = {"user": NOBODY_UID, "group": NOBODY_UID, "extra_groups": []}
    try:
        unprivileged = is_root() and run("-c", "import pytest", **other_user).returncode == 0
    except PermissionError:  # this Python is in a folder of root
        unprivileged = False
    return lambda *arguments: run(*arguments, **(other_user if unprivileged else {}))


@pytest.fixture
def suite(python: Run, place: Path) -> Run:
    """Runs pytest in the same way."""
    options = ("-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={place / 'tests'}")
    return lambda *arguments: python(*options, *arguments)


def left_out(done: "subprocess.CompletedProcess[str]") -> tuple[int, set[str]]:
    """The number of tests that lacked something, and the packages that the last line names.

    Every such line names a package, unless the rights of root are missing; the last line has their number.
    """
    assert done.returncode == 0, done.stdout
    assert not re.search(r"^(FAILED|ERROR)|\d (failed|error)", done.stdout, re.MULTILINE), done.stdout
    lines = re.findall(r"^SKIPPED \[(\d+)\] \S+: needs (.+)$", done.stdout, re.MULTILINE)
    for _, lacking in lines:
        assert lacking == "root" or re.search(r"\(Debian: apt-get install [\w\d -]+\)$", lacking), lacking
    counts = re.findall(
        r"^left out: (\d+) tests?; make test-system installs what they need: (.+)$", done.stdout, re.MULTILINE
    )
    ((count, packages),) = counts
    assert int(count) == sum(int(number) for number, _ in lines)
    return int(count), set(packages.partition("; ")[0].split(", "))


def test_tests_that_declare_missing_programs_are_skipped(suite: Run) -> None:
    """For programs that a test itself declares; the guests of `make test-vm` are among them."""
    count, packages = left_out(suite("-m", "needs"))

    assert count >= 10
    assert packages >= {PACKAGES[name] for name in ("chattr", "mmdebstrap", "setpriv", "testparm", *QEMU)}


def test_tests_with_fixtures_that_need_programs_are_skipped(suite: Run) -> None:
    """The other tests in the same files run."""
    done = suite(*WITH_FIXTURES)
    count, packages = left_out(done)

    assert count >= 40, done.stdout
    assert packages >= {PACKAGES[name] for name in ("chromium", "mount", *QEMU, *SAMBA, *WINE)}
    assert re.search(r"\b\d+ passed", done.stdout)


def test_make_test_system_fails_if_test_is_skipped(suite: Run) -> None:
    done = suite("--nothing-left-out", "tests/integration/test_bundle_windows.py")

    assert done.returncode == 1
    assert "\nleft out: 1 test; make test-system installs what they need: wine" in done.stdout


def test_missing_installer_is_reported_in_one_line(python: Run) -> None:
    """The user is not root, or there is no apt-get."""
    done = python("-m", "tests.programs.system_programs")

    assert done.returncode == 1
    assert re.fullmatch(r"test-system: (only root can|not Debian).*\n", done.stderr)


def test_missing_program_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert missing("qemu-img", "wine", "wineboot") == (
        "qemu-img, wine, wineboot (Debian: apt-get install qemu-utils wine)"
    )
    with pytest.raises(AssertionError, match="no package"):
        missing("a-program-without-a-package")


def test_complete_run_prints_no_summary() -> None:
    assert closing_line([]) == ""


def test_only_one_module_looks_for_programs() -> None:
    """A test that searched the PATH itself would be skipped without being counted."""
    asking = [path.name for path in (ROOT / "tests").rglob("*.py") if "shutil.which" in path.read_text()]
    asking.remove("__main__.py")  # of tests/powershell, which are not Python tests: `make test-powershell`
    assert sorted(asking) == ["system_programs.py", "test_system_programs.py"]
