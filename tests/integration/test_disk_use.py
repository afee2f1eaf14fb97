"""Disk use: what `status` and `doctor` say of it, and that both and the running host warn before the disk is full."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import ExitCode
from pipeline.paths import ProjectPaths
from pipeline.storage.disk_use import DiskUse, disk_use, project_use
from tests.harness.command_line import pipeline

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert main.run_commands(["init", str(tmp_path)]) == ExitCode.OK
    return tmp_path


def without_room(project: Path) -> None:
    """No disk has the reserve that is configured."""
    with (project / "pipeline.toml").open("a") as file:
        file.write(f"\n[limits]\ndisk_reserve_bytes = {2**53}\n")


def test_status_ends_with_the_disk_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of results, snapshots and the rest of the state, which is counted without the snapshots."""
    pipeline(capsys, "run", "--gen", "1", "--root", project)
    (project / "state/genomes/more").write_bytes(bytes(3 * 2**20))
    (project / "results/more").write_bytes(bytes(2 * 2**20))

    code, out, _err = pipeline(capsys, "status", "--root", project)

    last = out.splitlines()[-1]
    assert code == ExitCode.OK
    assert re.fullmatch(r"disk: snapshots 3.0 MiB, other state [\d.]+ KiB, results 2.0 MiB, free .+ of .+", last), last


def test_doctor_counts_the_disk_use_if_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without -v it counts nothing, which may take long, and prints nothing."""
    assert pipeline(capsys, "doctor", "--root", project) == (ExitCode.OK, "", "")

    code, out, _err = pipeline(capsys, "doctor", "-v", "--root", project)

    assert (code, out.splitlines()[-1][:41]) == (ExitCode.OK, "disk: snapshots 0 bytes, other state 0 by")


def test_doctor_warns_before_the_disk_is_full(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with what helps."""
    without_room(project)

    code, out, _err = pipeline(capsys, "doctor", "--root", project)

    assert (code, out.count("\n")) == (ExitCode.FAILED, 1)
    assert out.startswith(f"disk: {project}: only ")
    assert out.endswith("`pipeline prune --older-than 30d --what-if` shows what can be removed of old generations\n")


def test_running_host_warns_once_before_the_disk_is_full(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run goes on: results need little room."""
    without_room(project)

    code, _out, err = pipeline(capsys, "run", "--gen", "1", "--root", project)

    assert code == ExitCode.OK
    assert err.count("are free on its disk; below 8192.0 TiB artifacts are left out") == 1
    assert "are free on its disk" in (project / "state/log/pipeline.jsonl").read_text(encoding="utf-8")


def test_look_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """And says that there is more."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results/file").write_bytes(b"1")

    assert disk_use(tmp_path, until=time.monotonic() - 1) == DiskUse(0, 0, complete=False)
    assert "results at least 0 bytes" in project_use(ProjectPaths(tmp_path), time_s=-1)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_links_are_not_followed(tmp_path: Path) -> None:
    """Nor a circle of them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/self").symlink_to(tmp_path)
    (tmp_path / "b").write_bytes(bytes(1000))

    found = disk_use(tmp_path)

    assert (found.files, found.bytes) == (2, 1000 + len(os.fspath(tmp_path)))


def test_missing_folder_takes_nothing(tmp_path: Path) -> None:
    assert disk_use(tmp_path / "missing") == DiskUse()
