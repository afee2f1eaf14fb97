"""The scratch folder: what of it is reused, and what an evaluation may not do to the next."""

import os
from pathlib import Path

import pytest

from inbox_agent.scratch import Scratch
from inbox_agent.share_layout import ARTIFACT_BYTES_MAX


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "state" / "scratch", "settings.json")


def test_the_genomes_file_is_reused(scratch: Scratch) -> None:
    """Creating files is dear: the next genome of the same kind is written into the same file."""
    first = scratch.prepare(".py")
    first.write_bytes(b"1")
    node = first.stat().st_ino

    assert scratch.prepare(".py").stat().st_ino == node
    assert scratch.prepare(".onnx") == first.with_suffix(".onnx")
    assert not first.exists()


def test_what_its_owner_writes_every_time_is_reused_too(scratch: Scratch) -> None:
    """The settings file stays, a result file never does."""
    genome = scratch.prepare("")
    genome.with_name("settings.json").touch()
    scratch.result.touch()

    scratch.prepare("")

    assert genome.with_name("settings.json").exists()
    assert not scratch.result.exists()


def test_what_an_evaluation_kept_under_another_name_is_not_overwritten(scratch: Scratch, tmp_path: Path) -> None:
    """A second name of the genome's file keeps its bytes; a read-only file does not stop the next genome."""
    scratch.prepare("").write_bytes(b"the first")
    os.link(scratch.prepare(""), tmp_path / "kept")
    scratch.prepare("").write_bytes(b"the second")
    scratch.prepare("").chmod(0o400)
    scratch.prepare("").write_bytes(b"the third")

    assert (tmp_path / "kept").read_bytes() == b"the first"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links need rights on Windows")
def test_links_are_removed_and_not_followed(scratch: Scratch, tmp_path: Path) -> None:
    """Neither cleaning nor collecting leaves the folder, wherever a link in it leads."""
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


def test_an_artifact_that_is_too_large_is_left_out(scratch: Scratch) -> None:
    """The others come along all the same."""
    folder = scratch.prepare("").with_name("artifacts")
    (folder / "small").touch()
    with (folder / "large").open("wb") as file:
        file.truncate(ARTIFACT_BYTES_MAX + 1)

    assert scratch.artifacts() == [folder / "small"]


def test_a_folder_that_vanished_is_an_error(scratch: Scratch) -> None:
    """Without a scratch folder nothing can be played, and the caller has to know."""
    scratch.prepare("")
    os.rmdir(scratch.folder / "artifacts")
    os.rmdir(scratch.folder)

    assert scratch.artifacts() == []
    with pytest.raises(FileNotFoundError):
        scratch.prepare("")
