"""Commands in unusual environments: time zones that no library knows, no folder for temporary files."""

import re
import subprocess
import sys
import time
from datetime import datetime

import pytest

from tests.harness.farm_project import FarmProject, games
from tests.harness.other_user import UNKNOWN_UID, allow_traversal, reader_prefix

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

TIME_ZONES = [
    "UTC0",
    "GMT+12",
    "EST5EDT,M3.2.0,M11.1.0",
    '"Europe/Berlin"',
    "America/Los_Angeles ",
    "Foo/Bar",
    ":/nonexistent",
    "",
]


@pytest.mark.parametrize("zone", TIME_ZONES)
def test_any_time_zone_completes(project: FarmProject, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """A POSIX rule, a mistake or nothing: the run completes without a warning, and `status` tells the right time."""
    monkeypatch.setenv("TZ", zone)
    project.configure(workers=1)
    project.add_genomes(games(2))
    begun = int(time.time())

    code, out = project.run()

    assert code == 0, out
    assert not re.search("warn|tzlocal|Traceback", out), out
    project.assert_counted_once()
    assert project.run("explain", "local-0")[0] == 0
    code, out = project.run("status")
    assert code == 0, out
    said = re.search(r"last fact: (\S+ \S+)", out)
    assert said is not None, out
    assert begun <= datetime.fromisoformat(said[1]).timestamp() <= time.time(), out


def run_shell(project: FarmProject, before: str, *args: str) -> tuple[int, str]:
    """Runs a program of this package in a shell that first changes a limit."""
    ran = subprocess.run(
        ["sh", "-c", f'{before}; exec "$@"', "sh", sys.executable, "-m", *args],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_missing_temporary_folder_is_replaced(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no folder is not used."""
    monkeypatch.setenv("TEMP" if sys.platform == "win32" else "TMPDIR", str(project.root / "missing"))
    project.configure()
    project.add_genomes(games(1))

    for command in ("check", "run"):
        code, out = project.run(command, *(("--gen", "1") if command == "run" else ()))
        assert code == 0, out


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_no_temporary_folder_is_named(project: FarmProject) -> None:
    """Where no file can be written at all: one line with the variable to set, of the doctor of an agent as well."""
    project.configure()
    project.add_genomes(games(1))
    share = project.root / "share"
    share.mkdir()

    for command in (("check",), ("try", "genomes/gen-0001/g000.json")):
        code, out = run_shell(project, "ulimit -f 0", "pipeline", *command)
        assert (code, out.splitlines()[-1].partition(" [")[0]) == (
            2,
            "pipeline: No usable temporary directory found in",
        )
        assert out.endswith("; set TMPDIR to a folder that this user may write\n")
        assert "Traceback" not in out
    agent = ("inbox_agent", "doctor", "--share", "share", "--state", "state", "--python", "game:play")
    code, out = run_shell(project, "ulimit -f 0", *agent)
    assert code == 1, out
    assert re.search("evaluator: No usable temporary directory .*; set TMPDIR to a folder", out), out


@pytest.mark.needs("setpriv", root=True)
def test_keyring_of_user_without_home_is_refused(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without an entry, and no HOME: one line that names the secret, as for any keyring that cannot be
    asked."""
    worker = (
        '[[worker]]\nname = "vm"\nshare = "//127.0.0.1/share"\naccount = "player"\nsecret = "keyring:farm/player"\n'
    )
    project.configure(extra=worker)
    project.add_genomes(games(1))
    project.root.chmod(0o777)
    allow_traversal(project.root)
    monkeypatch.delenv("HOME", raising=False)

    ran = subprocess.run(
        [*reader_prefix(UNKNOWN_UID), sys.executable, "-m", "pipeline", "run", "--gen", "1"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    expected = "pipeline: worker 'vm': keyring:farm/player: the keyring cannot be asked: Could not determine home"
    assert ran.stderr.startswith(expected)
