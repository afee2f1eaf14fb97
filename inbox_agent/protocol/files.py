"""The files of a share: the operations that host and agent need, and the errors they raise.

Not here: local disks (local_files) and SMB (pipeline.shares.smb), which implement `ShareFiles`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol


class ShareError(Exception):
    """Something about a share did not work."""


class Unavailable(ShareError):
    """The share could not be asked: this says nothing about whether a file is there."""


class FileRefused(Unavailable):
    """The share answers, and does not give this one file: somebody has it open, or a virus scanner keeps it."""


class ShareFull(Unavailable):
    """Its disk is full, or this account may use no more of it."""


class FileMissing(ShareError):
    """The file is not there, said by a successful open."""


class FileAlreadyExists(ShareError):
    """A record of that name exists; records are written once."""


class FileInvalid(ShareError):
    """There is something of that name, but it is not a regular file of the allowed size."""


class ShareFiles(Protocol):
    """The verbs of a share. Paths are relative, with forward slashes: `inbox/x.start.json`.

    Every verb raises `Unavailable` when the share cannot be asked, `Refused` among it when it is only about this file;
    and only `Absent` means that a file is not there.
    """

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in no order."""

    def size(self, path: str) -> int:
        """Size of a file in bytes. Raises Absent, Unfit."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """A whole small file. Raises Absent, Unfit (not a regular file, or larger than `bytes_max`)."""

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        """Copies a payload to a local file in pieces; returns the SHA-256 of what was copied.

        Raises:
            Absent, Unfit
            OSError: it cannot be written where it goes to, which is not the share's fault.
        """

    def write(self, path: str, source: bytes | Path) -> None:
        """Puts a payload in place; nothing refers to it yet. A local file is copied, or linked if it never changes."""

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Makes a record appear whole, without replacing; `durable`: it outlives a power cut. Raises
        FileAlreadyExists.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Replaces a file as a whole; for the heartbeat only."""

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files and flat folders, in the given order; what is not there is fine.

        Where that is one message, an entry that cannot be removed does not keep those behind it.
        """

    def make_folders(self) -> None:
        """Creates the folders of the layout."""

    def deliver(self, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        """Puts a payload in place, then publishes the record that speaks for it. Raises FileAlreadyExists."""

    def read_all(self, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        """Several small files, each with its `bytes_max`: the content, or the Absent, Unfit or Refused in its place."""


class OneByOne:
    """The verbs that speak of several files, for a share on which that saves nothing."""

    def deliver(self: ShareFiles, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        self.write(payload, source)
        self.publish(record, data)

    def read_all(self: ShareFiles, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        found: list[bytes | ShareError] = []
        for path, bytes_max in asked:
            try:
                found.append(self.read(path, bytes_max))
            except (FileMissing, FileInvalid, FileRefused) as error:
                found.append(error)
        return found
