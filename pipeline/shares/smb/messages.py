r"""SMB messages for the steps of the share protocol, and the parsing of their responses. No I/O.

No oplock or lease is requested, so the client caches nothing. Messages: MS-SMB2 2.2; structures inside messages:
MS-FSCC 2.4.
"""

import datetime
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from smbprotocol.file_info import FileAttributes, FileInformationClass, FileRenameInformation, InfoType
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    DirectoryAccessMask,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    ShareAccess,
    SMB2CloseRequest,
    SMB2CreateRequest,
    SMB2CreateResponse,
    SMB2FlushRequest,
    SMB2QueryDirectoryRequest,
    SMB2QueryDirectoryResponse,
    SMB2QueryInfoRequest,
    SMB2QueryInfoResponse,
    SMB2ReadRequest,
    SMB2ReadResponse,
    SMB2SetInfoRequest,
    SMB2WriteRequest,
)

from inbox_agent.protocol.files import Unavailable
from inbox_agent.protocol.layout import STAGING
from pipeline.shares.smb.statuses import OK, status_text

T = TypeVar("T")

CREDIT_BYTES = 64 * 1024  #: payload per credit (MS-SMB2 3.1.5.2)
CREDITS_MAX = 48  #: per message, of the 64 that every server grants; smbprotocol does not wait for more
PIECE_BYTES = LISTING_BYTES = 16 * CREDIT_BYTES
#: In a related compound: the file opened by the preceding create (MS-SMB2 3.2.4.1.4).
LAST_OPENED = b"\xff" * 16

MALFORMED = "the server's answer makes no sense"
_PLAIN = CreateOptions.FILE_NON_DIRECTORY_FILE | CreateOptions.FILE_OPEN_REPARSE_POINT
_SHARED = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE


@dataclass(frozen=True, slots=True)
class SmbReply:
    """The server's response to one message."""

    status: int
    data: bytes = b""

    @property
    def status_text(self) -> str:
        """The status as text."""
        return status_text(self.status)


class Steps:
    """The steps on the files below one folder of a share, each as the messages of one related compound."""

    def __init__(self, base: str = "") -> None:
        self._base = f"{base.strip('/')}/" if base.strip("/") else ""

    def size(self, path: str) -> list[Any]:
        """Opens a file for its attributes only: two messages."""
        return [self._create(path, FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES, options=_PLAIN), close()]

    def open_plain(self, path: str) -> Any:
        """Opens a file for reading with all sharing allowed; does not follow a link."""
        return self._create(path, FilePipePrinterAccessMask.FILE_READ_DATA, options=_PLAIN)

    def open_new(self, path: str) -> Any:
        """Opens an empty file that no record refers to yet."""
        return self._create(
            path,
            FilePipePrinterAccessMask.FILE_WRITE_DATA | FilePipePrinterAccessMask.DELETE,
            disposition=CreateDisposition.FILE_OVERWRITE_IF,
            options=CreateOptions.FILE_NON_DIRECTORY_FILE,
            sharing=ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_DELETE,
        )

    def open_folder(self, folder: str) -> Any:
        """Opens a folder for listing and change notifications."""
        return self._create(folder, DirectoryAccessMask.FILE_LIST_DIRECTORY, options=CreateOptions.FILE_DIRECTORY_FILE)

    def names(self, folder: str) -> list[Any]:
        """Lists a folder: four messages. The second query shows whether the first one was complete."""
        return [self.open_folder(folder), query(), query(), close()]

    def read(self, path: str, bytes_max: int) -> list[Any]:
        """Reads a small file, up to one byte more than allowed: three messages."""
        return [self.open_plain(path), read(min(bytes_max + 1, PIECE_BYTES)), close()]

    def fill(self, path: str, data: bytes) -> list[Any]:
        """Writes a small file that no record refers to yet."""
        writes = [write(data)] if data else []
        return [self.open_new(path), *writes, close()]

    def publish(self, path: str, data: bytes, *, durable: bool) -> list[Any]:
        """Stages a record and renames it to its final name, without replacing."""
        folder, _, name = path.rpartition("/")
        *filled, closed = self.fill(f"{folder}/{STAGING}/{name}", data)
        return [*filled, self._rename(path, replace=False), *([_flush()] if durable else []), closed]

    def replace(self, path: str, data: bytes) -> list[Any]:
        """Writes a second file and renames it over the first."""
        *filled, closed = self.fill(f"{path}.new", data)
        return [*filled, self._rename(path, replace=True), closed]

    def remove(self, path: str, *, folder: bool = False) -> list[Any]:
        """Removes a file, or an empty folder: two messages."""
        kind = CreateOptions.FILE_DIRECTORY_FILE if folder else CreateOptions.FILE_NON_DIRECTORY_FILE
        options = kind | CreateOptions.FILE_OPEN_REPARSE_POINT | CreateOptions.FILE_DELETE_ON_CLOSE
        return [self._create(path, FilePipePrinterAccessMask.DELETE, options=options), close()]

    def make_folder(self, folder: str) -> list[Any]:
        """Makes a folder, if it is not there: two messages."""
        made = self._create(
            folder,
            DirectoryAccessMask.FILE_READ_ATTRIBUTES,
            disposition=CreateDisposition.FILE_OPEN_IF,
            options=CreateOptions.FILE_DIRECTORY_FILE,
        )
        return [made, close()]

    def _path(self, path: str) -> bytes:
        return (self._base + path).strip("/").replace("/", "\\").encode("utf-16-le")

    def _create(
        self,
        path: str,
        access: int,
        *,
        disposition: int = CreateDisposition.FILE_OPEN,
        options: int = 0,
        sharing: int = _SHARED,
    ) -> Any:
        message = SMB2CreateRequest()
        message["impersonation_level"] = ImpersonationLevel.Impersonation
        message["desired_access"] = access
        message["share_access"] = sharing
        message["create_disposition"] = disposition
        message["create_options"] = options
        message["buffer_path"] = self._path(path) or b"\0\0"
        return message

    def _rename(self, path: str, *, replace: bool) -> Any:
        information = FileRenameInformation()
        information["replace_if_exists"] = replace
        information["file_name"] = self._path(path).decode("utf-16-le")
        message = SMB2SetInfoRequest()
        message["info_type"] = InfoType.SMB2_0_INFO_FILE
        message["file_info_class"] = FileInformationClass.FILE_RENAME_INFORMATION
        message["file_id"] = LAST_OPENED
        message["buffer"] = information
        return message


def close(handle: bytes = LAST_OPENED) -> Any:
    """Closes a handle."""
    message = SMB2CloseRequest()
    message["file_id"] = handle
    return message


def write(data: bytes, offset: int = 0, handle: bytes = LAST_OPENED) -> Any:
    """Writes a piece."""
    message = SMB2WriteRequest()
    message["offset"] = offset
    message["file_id"] = handle
    message["buffer"] = data
    return message


def read(length: int, offset: int = 0, handle: bytes = LAST_OPENED) -> Any:
    """Reads a piece."""
    message = SMB2ReadRequest()
    message["length"] = length
    message["offset"] = offset
    message["file_id"] = handle
    message["read_channel_info_length"] = 0
    return message


def query(handle: bytes = LAST_OPENED) -> Any:
    """Asks for the next names of a folder."""
    message = SMB2QueryDirectoryRequest()
    message["file_information_class"] = FileInformationClass.FILE_NAMES_INFORMATION
    message["file_id"] = handle
    message["output_buffer_length"] = LISTING_BYTES
    message["buffer"] = "*".encode("utf-16-le")
    return message


def query_space(handle: bytes = LAST_OPENED) -> Any:
    """Queries the free space of the volume (MS-FSCC 2.5.8, FileFsSizeInformation)."""
    message = SMB2QueryInfoRequest()
    message["info_type"] = InfoType.SMB2_0_INFO_FILESYSTEM
    message["file_info_class"] = 3
    message["output_buffer_length"] = 24
    message["file_id"] = handle
    return message


def _flush() -> Any:
    message = SMB2FlushRequest()
    message["file_id"] = LAST_OPENED
    return message


# -------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened file, as the server describes it."""

    handle: bytes
    size_bytes: int
    is_link: bool  #: or another reparse point: the answer has the attribute and no tag
    changed_at: float  #: by the server's clock, Unix time


def opened(reply: SmbReply) -> Opened:
    """Parses the response to a create. This and the next functions raise Unavailable if it is malformed."""
    response = unpacked(SMB2CreateResponse(), reply.data)
    return Opened(
        handle=bytes(response["file_id"].get_value()),
        size_bytes=int(response["end_of_file"].get_value()),
        is_link=response["file_attributes"].has_flag(FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT),
        changed_at=response["change_time"]
        .get_value()
        .replace(tzinfo=datetime.UTC)
        .timestamp(),  # datetime.max has no zone
    )


def content(reply: SmbReply) -> bytes:
    """Parses the response to a read."""
    response = unpacked(SMB2ReadResponse(), reply.data)
    return bytes(response["buffer"].get_value())


def free_bytes(reply: SmbReply) -> int:
    """Parses the response to `query_space`: total units, free units, sectors per unit, bytes per sector."""
    room = bytes(unpacked(SMB2QueryInfoResponse(), reply.data)["buffer"].get_value())
    if len(room) < 24:
        raise Unavailable(MALFORMED)
    free_units, sectors, sector_bytes = (
        int.from_bytes(room[at:end], "little") for at, end in ((8, 16), (16, 20), (20, 24))
    )
    return free_units * sectors * sector_bytes


def names(reply: SmbReply) -> Iterator[str]:
    """Parses the response to `query`."""
    if reply.status == OK:
        listing = bytes(unpacked(SMB2QueryDirectoryResponse(), reply.data)["buffer"].get_value())
        yield from (name for _, name in numbered_names(listing) if name not in (".", ".."))


def numbered_names(data: bytes) -> Iterator[tuple[int, str]]:
    """Parses entries of next offset, number, length and name: FileNamesInformation and FILE_NOTIFY_INFORMATION
    (MS-FSCC 2.4.28, 2.7.1). Raises Unavailable: an entry exceeds its bounds.
    """
    at = 0
    while True:
        step, number, length = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8))
        end, bound = at + 12 + length, at + step if step else len(data)
        if not end <= bound <= len(data):
            raise Unavailable(MALFORMED)
        yield number, data[at + 12 : end].decode("utf-16-le", "replace")
        if not step:
            return
        at += step


def unpacked(response: Any, data: bytes) -> Any:
    """Unpacks data into an empty response. Raises Unavailable."""
    try:
        response.unpack(data)
    except (struct.error, ValueError) as error:
        raise Unavailable(f"{MALFORMED}: {error}") from error
    return response


def each(replies: Sequence[SmbReply], count: int) -> Iterator[Sequence[SmbReply]]:
    """The replies in groups of `count`, one group per file."""
    return (replies[at : at + count] for at in range(0, len(replies), count))


def credits_for(size_bytes: int) -> int:
    """Credits for a message that carries so many bytes in either direction."""
    return max(1, -(-size_bytes // CREDIT_BYTES))


def affordable(items: Sequence[T], price: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in the same order, in groups that cost at most `CREDITS_MAX` (or one item)."""
    group: list[T] = []
    spent = 0
    for item in items:
        if group and spent + price(item) > CREDITS_MAX:
            yield group
            group, spent = [], 0
        group.append(item)
        spent += price(item)
    if group:
        yield group
