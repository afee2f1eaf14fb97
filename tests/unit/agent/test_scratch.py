"""The scratch folder: which files are reused, and how an evaluation is protected from the previous one."""

import os
import sys
from pathlib import Path

import pytest

from inbox_agent.evaluation.scratch import Scratch
from inbox_agent.protocol.layout import ARTIFACT_BYTES_MAX


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "state" / "scratch", "settings.json")


def test_genome_file_is_reused(scratch: Scratch) -> None:
    """Creating files is slow: the next genome with the same suffix is written into the same file."""
    first = scratch.prepare(".py")
    first.write_bytes(b"1")
    node = first.stat().st_ino

    assert scratch.prepare(".py").stat().st_ino == node
    assert scratch.prepare(".onnx") == first.with_suffix(".onnx")
    assert not first.exists()


def test_rewritten_files_are_reused(scratch: Scratch) -> None:
    """The settings file is kept, a result file never is."""
    genome = scratch.prepare("")
    genome.with_name("settings.json").touch()
    scratch.result.touch()

    scratch.prepare("")

    assert genome.with_name("settings.json").exists()
    assert not scratch.result.exists()


def test_hard_linked_file_is_not_overwritten(scratch: Scratch, tmp_path: Path) -> None:
    """A hard link to the genome's file keeps its bytes; a read-only file does not block the next genome."""
    scratch.prepare("").write_bytes(b"the first")
    os.link(scratch.prepare(""), tmp_path / "kept")
    scratch.prepare("").write_bytes(b"the second")
    scratch.prepare("").chmod(0o400)
    scratch.prepare("").write_bytes(b"the third")

    assert (tmp_path / "kept").read_bytes() == b"the first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links need rights on Windows")
def test_links_are_removed_and_not_followed(scratch: Scratch, tmp_path: Path) -> None:
    """Neither cleaning nor collecting follows a link out of the folder."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    genome = scratch.prepare("")
    os.rmdir(genome.with_name("artifacts"))
    genome.with_name("artifacts").symlink_to(precious)
    genome.with_name("other").symlink_to(precious)
    genome.symlink_to(precious / "file")

    assert scratch.artifacts() == []
    genome = scratch.prepare("")

    assert not os.path.lexists(genome)
    assert (precious / "file").read_text() == "x"
    assert os.listdir(genome.parent) == ["artifacts"]


def test_too_large_artifact_is_left_out(scratch: Scratch) -> None:
    """The other artifacts are returned."""
    folder = scratch.prepare("").with_name("artifacts")
    (folder / "small").touch()
    with (folder / "large").open("wb") as file:
        file.truncate(ARTIFACT_BYTES_MAX + 1)

    assert scratch.artifacts() == [folder / "small"]


def test_removed_scratch_folder_is_created_again(scratch: Scratch) -> None:
    """A game may remove the whole folder; the next one finds it again."""
    scratch.prepare("")
    os.rmdir(scratch.folder / "artifacts")
    os.rmdir(scratch.folder)
    assert scratch.artifacts() == []

    genome = scratch.prepare("")

    assert os.listdir(genome.parent) == ["artifacts"]


@pytest.mark.skipif(sys.platform == "win32", reason="no folder so deep can be entered there")
def test_deep_tree_is_removed(scratch: Scratch) -> None:
    """It may be deeper than the recursion limit, and its paths longer than the system's limit."""
    start, here = scratch.prepare("").parent, os.getcwd()
    os.chdir(start)
    try:
        for _ in range(1500):
            os.mkdir("deeper")
            os.chdir("deeper")
            Path("file").touch()
    finally:
        os.chdir(here)

    scratch.prepare("")

    assert os.listdir(start) == ["artifacts"]


@pytest.mark.skipif(sys.platform == "win32", reason="read-only folders are no obstacle there")
def test_write_protected_folder_is_removed(scratch: Scratch) -> None:
    """Only root may remove its files otherwise."""
    start = scratch.prepare("").parent
    (start / "locked" / "inner").mkdir(parents=True)
    (start / "locked" / "inner" / "file").touch()
    (start / "locked" / "inner").chmod(0o500)
    (start / "locked").chmod(0o500)

    scratch.prepare("")

    assert os.listdir(start) == ["artifacts"]


def test_next_agent_clears_scratch_of_killed_agent(scratch: Scratch) -> None:
    """It may fill the disk, so that there is no room for a heartbeat."""
    (scratch.prepare("").parent / "large").touch()

    Scratch(scratch.folder)

    assert os.listdir(scratch.folder) == ["artifacts"]
