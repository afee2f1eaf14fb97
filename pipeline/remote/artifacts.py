"""The artifacts of a genome on a server, as files of this computer.

Owns: a server chooses no path here: only names of artifacts are accepted, and only in the folder that was given.
"""

from pathlib import Path

from inbox_agent.protocol.layout import ARTIFACT_BYTES_MAX, ARTIFACTS_MAX, is_artifact, is_attempt
from pipeline.control.operations import ArtifactList
from pipeline.errors import disk_errors
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server


def download(server: Server, number: int, genome: str, folder: Path, patience: Patience) -> list[Path]:
    """Downloads the artifacts of the last attempt that has any; returns the files, which replace others of their names.

    Raises:
        NotFoundError: there is no such genome. RemoteError: no answer, or nonsense. HostError: they cannot be written.
    """
    path = ("generations", number, "genomes", genome, "artifacts")
    items = server.ask(ArtifactList, "GET", *path, patience=patience).items
    files = [each for each in items if each.attempt == items[-1].attempt]
    if len(files) > ARTIFACTS_MAX or not all(is_attempt(each.attempt) and is_artifact(each.name) for each in files):
        raise server.nonsense("it has other artifacts than a game may leave")
    if not all(0 <= each.size_bytes <= ARTIFACT_BYTES_MAX for each in files):
        raise server.nonsense("it has larger artifacts than a game may leave")
    written = list[Path]()
    for each in files:
        data = server.ask(bytes, "GET", *path, each.attempt, each.name, patience=patience, bytes_max=each.size_bytes)
        if len(data) != each.size_bytes:
            raise server.nonsense(f"the artifact {each.name} has another size than it said")
        with disk_errors(folder / each.name):
            (folder / each.name).write_bytes(data)
        written.append(folder / each.name)
    return written
