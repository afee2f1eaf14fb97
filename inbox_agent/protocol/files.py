"""File operations on a share, for host and agent, and the errors they raise.

Not here: local disks (local_files) and SMB (pipeline.shares.smb), which implement `ShareFiles`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class ShareError(Exception):
    """Base class: an operation on a share failed; `reason` is why, without the file where that can be told apart."""

    def __init__(self, text: str = "", reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text


class Unavailable(ShareError):
    """The share could not be asked; whether a file exists is unknown."""


class FileRefused(Unavailable):
    """The share answers but refuses this file: it is open elsewhere, or a virus scanner blocks it."""


class ShareFull(Unavailable):
    """The share's disk is full, or the account's quota is used up."""


class FileMissing(ShareError):
    """The share confirmed that the file does not exist."""


class FileAlreadyExists(ShareError):
    """A record of this name exists; records are written once."""


class FileInvalid(ShareError):
    """The name exists but is not a regular file of the allowed size."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A payload and the record that refers to it; `source`: the payload's bytes, or a local file that has them."""

    payload: str
    source: bytes | Path
    record: str
    data: bytes


class ShareFiles(Protocol):
    """Operations on a share. Paths are relative, with forward slashes: `inbox/x.start.json`.

    Every operation raises `Unavailable` when the share cannot be asked, or its subclass `FileRefused` when only this
    file is refused. Only `FileMissing` means that a file does not exist.
    """

    def names(self, folder: str, entries_max: int = sys.maxsize) -> list[str]:
        """The names in a folder, unordered. Unavailable if there are more than `entries_max`; no more are read then."""

    def size(self, path: str) -> int:
        """Size of a file in bytes. Raises FileMissing, FileInvalid."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """Content of a small file. Raises FileMissing, FileInvalid (not a regular file, or larger than `bytes_max`)."""

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        """Copies a payload to a local file in pieces; returns the SHA-256 of what was copied.

        Raises:
            FileMissing, FileInvalid
            OSError: the local destination cannot be written.
        """

    def write(self, path: str, source: bytes | Path) -> None:
        """Writes a payload that no record refers to yet. A local file is copied and never linked."""

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Publishes a record atomically, without replacing; `durable`: it survives a power failure.

        Raises FileAlreadyExists.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Replaces a file atomically; for the heartbeat only."""

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files and flat folders, in the given order; missing ones are ignored.

        Where that is one message, an entry that cannot be removed does not stop the removal of later ones.
        """

    def make_folders(self) -> None:
        """Creates the folders of the layout."""

    def deliver(self, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        """Writes a payload, then publishes the record that refers to it. Raises FileAlreadyExists."""

    def deliver_all(self, deliveries: Iterable[Delivery]) -> Iterator[ShareError | None]:
        """Makes deliveries in this order, perhaps several in one exchange.

        Returns for each that was tried why it is not confirmed, or None. After an error the others may be left out.
        """

    def read_all(self, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        """Reads small files, each with its `bytes_max`: content, or FileMissing, FileInvalid or FileRefused instead."""


def require_few(names: list[str], folder: str, entries_max: int) -> list[str]:
    """These names. Raises Unavailable: they are more than `entries_max`."""
    if len(names) > entries_max:
        raise Unavailable(f"{folder or 'the share'} holds more than {entries_max} entries, a flood")
    return names


class OneByOne:
    """Default multi-file operations: one call per file."""

    def deliver(self: ShareFiles, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        self.write(payload, source)
        self.publish(record, data)

    def deliver_all(self: ShareFiles, deliveries: Iterable[Delivery]) -> Iterator[ShareError | None]:
        for each in deliveries:
            try:
                self.deliver(each.payload, each.source, each.record, each.data)
            except ShareError as error:
                yield error
                return
            yield None

    def read_all(self: ShareFiles, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        found: list[bytes | ShareError] = []
        for path, bytes_max in asked:
            try:
                found.append(self.read(path, bytes_max))
            except (FileMissing, FileInvalid, FileRefused) as error:
                found.append(error)
        return found
