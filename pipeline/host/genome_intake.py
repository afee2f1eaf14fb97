"""The genomes of a folder when its generation is opened or resumed: read, remembered, or refused.

Owns: which files are read, which were read before and need not be read again, what a folder without files means.
Not here: files that appear afterwards (`genome_folder`), how a file is read (`storage.snapshots`).
"""

import contextlib
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline.core.folder_looks import Stamp
from pipeline.core.model import GenomeFile
from pipeline.errors import GenomeError
from pipeline.host.genome_folder import take_valid
from pipeline.storage.read_files import ReadFiles
from pipeline.storage.snapshots import GenomeFiles


class GenomeIntake:
    """The files of one folder. With `follows` it is looked at first, so that a file that changes later is noticed.

    If the generation is not resumed, `complete` are the files to be read, by default all: others may be in the making.

    Raises:
        GenomeError: a file cannot be a genome, or there is none. If the generation is resumed that is no reason, and
            with `complete` only if none of these can be one.
        HostError: a snapshot cannot be written.
    """

    def __init__(
        self,
        files: GenomeFiles,
        read_files: ReadFiles,
        generation: int,
        *,
        follows: bool,
        resumes: bool,
        complete: Collection[str] | None = None,
    ) -> None:
        self._generation, self._read_files = generation, read_files
        self._looked_at_ns = time.time_ns()
        self.before = stamps(files) if follows else {}
        self._known = read_files.unchanged(generation, self.before, files.bytes_max) if resumes else {}
        followed = self.before if follows and resumes else None
        #: what is in the folder, and for each file that is refused the reason
        self.genomes, self.refused = (
            _import_genomes(files, followed, self._known, resumes=resumes)
            if resumes or complete is None
            else _import_complete(files, complete)
        )

    def remember(self) -> None:
        """Notes for the next start which files were read; without that they are read again."""
        if self._known.keys() != self.before.keys():
            with contextlib.suppress(OSError):
                self._read_files.remember(self._generation, self.before, self._looked_at_ns, self.genomes)


def _import_genomes(
    files: GenomeFiles, followed: Collection[str] | None, known: Mapping[str, GenomeFile], *, resumes: bool
) -> tuple[list[GenomeFile], dict[str, str]]:
    """The genomes of a folder, and what else is in one that is `followed` and resumed: it is looked at again."""
    try:
        return files.snapshots.import_folder(files.folder, bytes_max=files.bytes_max, known=known), {}
    except GenomeError:
        if not resumes or (followed is None and _holds_files(files.folder)):
            raise
        # The genomes are fixed; those whose files went missing still belong to the generation.
        return take_valid(files, followed or (), known)


def _import_complete(files: GenomeFiles, names: Collection[str]) -> tuple[list[GenomeFile], dict[str, str]]:
    """The genomes among these files, and why the others are none."""
    files.snapshots.keep_new()
    genomes, refused = take_valid(files, names, {})
    if not genomes:
        raise GenomeError("\n".join(refused.values()) or f"{files.folder}: no file there is complete")
    return genomes, refused


def stamps(files: GenomeFiles) -> dict[str, Stamp]:
    """A look at the folder; empty if it cannot be listed: the import says what is wrong."""
    try:
        return files.look()
    except OSError:
        return {}


def _holds_files(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # cannot be listed, so it may hold files
        return True
