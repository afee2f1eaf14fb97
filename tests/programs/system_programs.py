"""Programs of the system that tests need (and one library), each with its Debian package.

A test declares its programs with `@pytest.mark.needs("qemu-img")`, a fixture calls `require("smbd", root=True)`. Where
one of them is not in the PATH, the test is skipped with a line that names the package.
`python -m tests.programs.system_programs` installs all that are missing.

Only the standard library is imported: `make test-system` runs this before there is a virtual environment, and the bench
has no pytest.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from vm_image.build import TOOLS

QEMU = ("qemu-system-x86_64", "qemu-img")
SAMBA = ("smbd", "smbpasswd")
#: The libraries that Playwright's own Node.js needs.
BROWSER = ("chromium", "libatomic.so.1")
WINE = ("wine", "wineboot", "winecfg", "wineserver")
#: For a batch system of one computer.
SLURM = ("munged", "sbatch", "slurmctld", "slurmd")
#: For a manager of services that sees nothing of the others.
SYSTEMD = ("systemctl", "systemd-analyze", "unshare", "nsenter", "mount")
#: For `make test-vm`: its guests, and their image.
GUESTS = (*QEMU, *TOOLS)

PACKAGES = {
    **TOOLS,
    **dict.fromkeys(WINE, "wine"),
    "chattr": "e2fsprogs",
    "chromium": "chromium",
    "curl": "curl",
    "libatomic.so.1": "libatomic1",
    "make": "make",  # of .ci/run
    "mount": "mount",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    **dict.fromkeys(("prometheus", "promtool"), "prometheus"),
    **dict.fromkeys(("nsenter", "setpriv", "unshare"), "util-linux"),
    "munged": "munge",
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "smbd": "samba",
    "ssh-keygen": "openssh-client",
    "smbpasswd": "samba-common-bin",
    **dict.fromkeys(("systemctl", "systemd-analyze"), "systemd"),
    "testparm": "samba-common-bin",
    "Xvfb": "xvfb",
}
#: Packages that start a service when they are installed, and at each start of the system: no test needs it.
SERVICES = {
    "munge": "munge.service",
    "prometheus": "prometheus.service",
    "slurmctld": "slurmctld.service",
    "slurmd": "slurmd.service",
}
_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
_NEEDS, _INSTALL = "needs ", "(Debian: apt-get install "


def find(program: str) -> str | None:
    """The path of a program, under any of its names, or the name of a library; None if there is none."""
    assert program in PACKAGES, f"{program} has no package in the table"
    if ".so." in program:
        try:
            return ctypes.CDLL(program)._name
        except OSError:
            return None
    return next(filter(None, map(shutil.which, (program, *_OTHER_NAMES.get(program, ())))), None)


def missing(*programs: str, root: bool = False) -> str:
    """What this system lacks of them, with the packages to install; empty if nothing is missing."""
    absent = [program for program in programs if find(program) is None]
    lacking = ", ".join([*absent, *(["root"] if root and not is_root() else [])])
    install = " ".join(sorted({PACKAGES[program] for program in absent}))
    return f"{lacking} {_INSTALL}{install})" if install else lacking


def is_root() -> bool:
    """Whether this process has the rights of root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def require(*programs: str, root: bool = False) -> None:
    """Skips the running test if one of the programs, or the rights of root, are missing."""
    if lacking := missing(*programs, root=root):
        leave_out(lacking)


def leave_out(lacking: str) -> NoReturn:
    """Skips the running test for a missing program; the last line of the run counts it."""
    import pytest

    if sys.platform == "win32":
        pytest.skip(f"on Linux only: {lacking}")
    pytest.skip(f"{_NEEDS}{lacking}")


def left_out(skipped: Iterable[Any]) -> list[str]:
    """The reasons of skipped tests that lacked something; `skipped` are pytest's reports."""
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped]
    return [reason for reason in reasons if reason.startswith(_NEEDS)]


def closing_line(reasons: list[str]) -> str:
    """The number of tests left out, and the command that installs the programs; empty if there are none."""
    if not reasons:
        return ""
    packages = {name for reason in reasons for name in reason.partition(_INSTALL)[2].rstrip(")").split()}
    line = f"left out: {len(reasons)} test{'s' if len(reasons) > 1 else ''}"
    if packages or not is_root():
        line += "; make test-system installs what they need"
    if packages:
        line += f": {', '.join(sorted(packages))}"
    return line if is_root() else f"{line}; run it as root"


def main() -> int:
    """Installs the missing packages. Returns 1 if that is impossible here, otherwise apt-get's exit code."""
    packages = sorted({package for program, package in PACKAGES.items() if find(program) is None})
    if not is_root():
        print("test-system: only root can install packages and run the tests that need root", file=sys.stderr)
        return 1
    if packages and shutil.which("apt-get") is None:
        print(f"test-system: not Debian (no apt-get); install what holds: {', '.join(packages)}", file=sys.stderr)
        return 1
    if services := [SERVICES[package] for package in packages if package in SERVICES and shutil.which("systemctl")]:
        subprocess.run(["systemctl", "--quiet", "mask", *services], check=False)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]) if packages else ():
        if code := subprocess.run(["apt-get", "-qq", *command], env=quiet, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
