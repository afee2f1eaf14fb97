"""Which files of a folder are read when its generation is opened and some are known to be complete."""

from pathlib import Path

import pytest

from pipeline.errors import GenomeError
from pipeline.host.genome_intake import GenomeIntake
from pipeline.storage.read_files import ReadFiles
from pipeline.storage.snapshots import GenomeFiles, Snapshots


@pytest.fixture
def files(tmp_path: Path) -> GenomeFiles:
    """A folder with a complete file, one that is being written, and one that is empty."""
    folder = tmp_path / "genomes" / "gen-0001"
    folder.mkdir(parents=True)
    for name, content in (("complete", b"genome"), ("half", b"gen"), ("empty", b"")):
        (folder / name).write_bytes(content)
    return GenomeFiles(Snapshots(tmp_path / "state"), folder, 1000)


def intake(files: GenomeFiles, *complete: str) -> GenomeIntake:
    read_files = ReadFiles(files.folder.parent / "read.json", files.snapshots)
    return GenomeIntake(files, read_files, 1, follows=True, resumes=False, complete=complete)


def test_only_complete_files_are_read(files: GenomeFiles) -> None:
    """One among them that cannot be a genome refuses no other."""
    taken = intake(files, "complete", "empty")

    assert [genome.name for genome in taken.genomes] == ["complete"]
    assert list(taken.refused) == ["empty"]
    assert "it is empty" in taken.refused["empty"]
    assert set(taken.before) == {"complete", "half", "empty"}


@pytest.mark.parametrize(("complete", "words"), [(("empty", "gone"), "it is empty"), ((), "no file there is complete")])
def test_generation_without_any_genome_is_refused(files: GenomeFiles, complete: tuple[str, ...], words: str) -> None:
    """With the reason for each file."""
    with pytest.raises(GenomeError, match=words) as error:
        intake(files, *complete)

    assert len(str(error.value).splitlines()) == max(1, len(complete))
