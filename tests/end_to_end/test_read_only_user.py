"""Commands that only read, for a user who may read a project and write nothing: during a run and after it."""

import contextlib
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.farm_project import FarmProject, games
from tests.harness.other_user import UNKNOWN_UID, allow_traversal, reader_prefix
from tests.harness.waiting import eventually
from tests.programs.system_programs import leave_out

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240), pytest.mark.needs("setpriv", root=True)]

COMMANDS = (("status",), ("results",), ("explain", "g000.json"), ("explain", "local-0"), ("verify",), ("top", "--once"))
READ_FIX = "give this user the right to read it"


class Reader:
    """Another user of this computer, who looks at a project whose owner lets others read `state/`."""

    def __init__(self, root: Path, own: Path) -> None:
        self.root, self.own = root, own
        own.mkdir()
        own.chmod(0o777)
        allow_traversal(root)
        (root / "state").mkdir()
        (root / "state").chmod(0o755)

    def command(self, *args: str) -> list[str]:
        return [*reader_prefix(UNKNOWN_UID), sys.executable, "-m", "pipeline", *args, "--root", str(self.root)]

    def run(self, *args: str) -> tuple[int, str]:
        ran = subprocess.run(self.command(*args), capture_output=True, text=True, check=False, cwd=self.own)
        return ran.returncode, ran.stdout + ran.stderr

    def assert_sees(self, state: str) -> None:
        """Every command that reads works; `status` says this."""
        for command in COMMANDS:
            code, out = self.run(*command)
            assert code == 0, (command, out)
            if command == ("status",):
                assert state in out, out
        page = self.own / "page.html"
        page.unlink(missing_ok=True)
        assert self.run("report", "--out", str(page))[0] == 0
        assert "g000.json" in page.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """The address of `pipeline serve`."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = self.command("serve", "--port", str(port))
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.own)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == f"http://127.0.0.1:{port}/\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.communicate(timeout=20)


def fetched(url: str) -> str:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def reader(project: FarmProject, tmp_path: Path) -> Reader:
    project.configure(time_limit_s=120.0)  # the last game waits for several commands of the reader
    return Reader(project.root, tmp_path / "own")


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "state").iterdir()}


def test_other_user_reads_during_and_after_run(project: FarmProject, reader: Reader) -> None:
    """The run is neither disturbed nor stopped, and no file of the reader is left."""
    gate = project.root / "gate"
    project.add_genomes({**games(4), "last.json": {"until": str(gate)}})
    host = project.start()
    project.wait_until(lambda: project.archived() == 4)

    reader.assert_sees("a host is running it")
    gate.touch()
    assert project.wait_for_end(host)[0] == 0
    project.assert_counted_once()
    left = names(project.root)
    assert "ledger.db-wal" not in left
    reader.assert_sees("no host is running it")

    assert names(project.root) == left


def test_page_of_other_user_follows_runs(project: FarmProject, reader: Reader) -> None:
    """It is opened when no host runs, and shows what the next run adds."""
    project.add_genomes(games(2))
    assert project.run()[0] == 0

    with reader.server() as url:
        before = re.search(r'"facts":(\d+)', fetched(f"{url}/data"))
        assert before is not None
        project.add_genomes({"new.json": {"n": 9}})
        assert project.run()[0] == 0
        assert eventually(lambda: "new.json" in fetched(f"{url}/data"))
    project.assert_counted_once()


def test_other_user_reads_after_host_was_killed(project: FarmProject, reader: Reader) -> None:
    """With the log that it left."""
    project.add_genomes({**games(4), "last.json": {"until": str(project.root / "gate")}})
    host = project.start()
    project.wait_until(lambda: project.archived() == 4)
    host.kill()
    host.wait()
    assert "ledger.db-wal" in names(project.root)

    assert eventually(lambda: "no host is running it" in reader.run("status")[1])
    code, out = reader.run("verify")
    assert (code, "verified so far" in out) == (0, True), out


@pytest.mark.needs("mount", root=True)
def test_read_only_disk_can_be_read(project: FarmProject, reader: Reader) -> None:
    """By root, whose rights nothing else limits."""
    project.add_genomes(games(1))
    assert project.run()[0] == 0
    subprocess.run(["mount", "--bind", project.root, project.root], check=False, capture_output=True)
    remount = ["mount", "-o", "remount,bind,ro", str(project.root)]
    if subprocess.run(remount, capture_output=True, check=False).returncode:
        leave_out("the right to mount, which root of an unprivileged container does not have")
    try:
        for command in COMMANDS:
            code, out = project.run(*command)
            assert code == 0, (command, out)
        code, out = project.run("report")
        assert (code, out.count("\n")) == (2, 1)
        assert "Read-only file system; give another place with --out" in out
        code, out = project.run()
        assert (code, out.count("\n")) == (3, 1), out
        assert "Read-only file system" in out
    finally:
        subprocess.run(["umount", project.root], check=True)


def test_missing_right_is_named(project: FarmProject, reader: Reader) -> None:
    """One line, and not the exit code of a damaged ledger."""
    project.add_genomes(games(1))
    assert project.run()[0] == 0

    code, out = reader.run("report")
    assert (code, out.count("\n")) == (2, 1)
    assert "Permission denied; give another place with --out" in out
    code, out = reader.run("run", "--gen", "1")
    assert (code, out.count("\n")) == (3, 1), out
    assert "host.lock: Permission denied" in out
