"""The artifacts of a genome: files that its games have left, as they are in the results folder.

Owns: only files of attempts that decided a trial are read, and nothing through a link.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import ARTIFACTS_MAX, is_artifact
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.control.operations import Artifact
from pipeline.core.model import Genome
from pipeline.errors import NotFoundError
from pipeline.paths import ATTEMPT_FILES, ATTEMPTS, ProjectPaths


@dataclass(frozen=True, slots=True)
class AttemptFiles:
    """Where the artifacts of an attempt are."""

    attempt: str
    results: Path  #: the folder of its generation


def deciding_attempts(paths: ProjectPaths, number: int, genome: Genome) -> Sequence[AttemptFiles]:
    """The attempts that decided the trials of a genome, by trial; of this generation or of earlier ones."""
    return [
        AttemptFiles(trial.decided_by, paths.results(number if trial.reused is None else trial.reused.generation))
        for trial in genome.trials
        if trial.decided_by
    ]


def artifacts_of(attempts: Sequence[AttemptFiles]) -> list[Artifact]:
    """The artifacts that are kept, by name within an attempt."""
    found = list[Artifact]()
    for each in attempts:
        files, folder = LocalFiles(each.results), _folder(each)
        try:
            names = sorted(filter(is_artifact, files.names(folder, ARTIFACTS_MAX)))
        except ShareError:  # hardly any attempt has one
            continue
        for name in names:
            try:
                size_bytes = files.size(f"{folder}/{name}")
            except ShareError:  # no regular file
                continue
            found.append(Artifact(attempt=each.attempt, name=name, size_bytes=size_bytes))
    return found


def artifact_content(attempts: Sequence[AttemptFiles], attempt: str, name: str, bytes_max: int) -> bytes:
    """The bytes of an artifact. Raises NotFoundError: there is none of that name, or it has more bytes."""
    for each in attempts:
        if each.attempt == attempt and is_artifact(name):
            try:
                return LocalFiles(each.results).read(f"{_folder(each)}/{name}", bytes_max)
            except ShareError as error:
                raise NotFoundError(f"attempt {attempt}: the artifact {name} cannot be read: {error.reason}") from error
    raise NotFoundError(f"attempt {attempt!r}: has decided no trial of this genome, or has no artifact {name!r}")


def _folder(each: AttemptFiles) -> str:
    return f"{ATTEMPTS}/{each.attempt}/{ATTEMPT_FILES}"
