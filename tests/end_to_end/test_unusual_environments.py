"""Commands in unusual environments: time zones that no library knows, no folder for temporary files, no inotify."""

import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.harness.farm_project import FarmProject, games
from tests.harness.other_user import UNKNOWN_UID, allow_traversal, reader_prefix
from tests.programs.system_programs import leave_out

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
    said = re.search(r"last change: (\S+ \S+)", out)
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


class InotifyLimits:
    """A user namespace with limits of its own."""

    def __init__(self, project: FarmProject, limit: str) -> None:
        self.project, self.limit = project, f"/proc/sys/user/{limit}"
        self.log = project.root / "state" / "log" / "pipeline.jsonl"

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts `pipeline run` where nothing of the limited kind is left."""
        return self.project.start(
            "run", "--gen", "1", before=("unshare", "-Ur", "sh", "-c", f'echo 0 >{self.limit}; exec "$@"', "sh")
        )

    def raise_limit(self, host: "subprocess.Popen[bytes]") -> None:
        command = ["nsenter", f"--target={host.pid}", "--user", "--preserve-credentials"]
        subprocess.run([*command, "sh", "-c", f"echo 100 >{self.limit}"], check=True)

    def warnings(self, path: Path) -> list[str]:
        """The lines about notifications in a log."""
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line for line in lines if "changes are" in line]


@pytest.mark.needs("unshare", "nsenter")
@pytest.mark.parametrize(
    ("limit", "sysctl"),
    [
        ("max_inotify_instances", "fs.inotify.max_user_instances"),
        ("max_inotify_watches", "fs.inotify.max_user_watches"),
    ],
)
def test_exhausted_inotify_is_told_once(project: FarmProject, limit: str, sysctl: str) -> None:
    """The run goes on by polling. Host and agents say once which limit to raise, and once that it was raised."""
    require_user_namespaces()
    project.configure(workers=2)
    project.add_genomes(games(6))
    gate = project.root / "gate"
    project.add_genomes({"last.json": {"until": str(gate)}})
    limits = InotifyLimits(project, limit)

    host = limits.start()
    project.wait_until(lambda: project.archived() == 6)
    limits.raise_limit(host)
    agents = [project.root / "state" / "local" / name / "agent.log" for name in ("local-0", "local-1")]
    project.wait_until(lambda: all(len(limits.warnings(log)) == 2 for log in (*agents, limits.log)), 60)
    gate.touch()
    code, out = project.wait_for_end(host)

    assert code == 0, out
    project.assert_counted_once()
    for log in (*agents, limits.log):
        warned, recovered = limits.warnings(log)
        assert "polling instead: this user has no inotify" in warned
        assert f"left; raise the sysctl {sysctl}" in warned
        assert "changes are notified again" in recovered
    shown = " ".join(out.split())
    assert (shown.count("changes are not notified"), shown.count("changes are notified again")) == (1, 1), out


def require_user_namespaces() -> None:
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False).returncode:
        leave_out("user namespaces, which this system forbids")
