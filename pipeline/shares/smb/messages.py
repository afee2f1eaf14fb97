r"""SMB messages for the steps of the share protocol, and the parsing of their responses. No I/O.

All fields of a message are packed at once: smbprotocol's structures take tens of microseconds for each of them.
No oplock or lease is requested, so the client caches nothing. Messages: MS-SMB2 2.2; structures inside messages:
MS-FSCC 2.4.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from smbprotocol.file_info import FileAttributes, FileInformationClass, InfoType
from smbprotocol.header import Commands
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    DirectoryAccessMask,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    ShareAccess,
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


#: Offsets in a message count from its header, of 64 bytes.
HEADER_BYTES = 64
_CREATE = struct.Struct("<HBBIQQIIIIIHHII")
_CLOSE = _FLUSH = struct.Struct("<HHI16s")
_WRITE = struct.Struct("<HHIQ16sIIHHI")
_READ = struct.Struct("<HBBIQ16sIIIHH")
_SET_INFO = struct.Struct("<HBBIHHI16s")
_RENAME = struct.Struct("<B7xQI")
_QUERY_DIRECTORY = struct.Struct("<HBBI16sHHI")
_QUERY_INFO = struct.Struct("<HBBIHHIII16s")
_CHANGE_NOTIFY = struct.Struct("<HHI16sII")

_CREATED = struct.Struct("<32xQ8xQI4x16s8x")
_DATA_READ = struct.Struct("<2xBxI8x")
_INFORMATION = struct.Struct("<2xHI")
_ENTRY = struct.Struct("<III")
#: FILETIME counts tenths of microseconds from 1601; a later time than datetime has is cut to the last one.
_EPOCH_S, _LATEST_S = 11_644_473_600, 253_402_300_799.999_999


class SmbRequest(NamedTuple):
    """A message without its header."""

    command: int
    body: bytes
    payload_bytes: int = 1  #: the most bytes that it, or the response to it, carries: they are paid with credits


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

    def size(self, path: str) -> list[SmbRequest]:
        """Opens a file for its attributes only: two messages."""
        return [self._create(path, FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES, options=_PLAIN), close()]

    def open_plain(self, path: str) -> SmbRequest:
        """Opens a file for reading with all sharing allowed; does not follow a link."""
        return self._create(path, FilePipePrinterAccessMask.FILE_READ_DATA, options=_PLAIN)

    def open_new(self, path: str) -> SmbRequest:
        """Opens an empty file that no record refers to yet."""
        return self._create(
            path,
            FilePipePrinterAccessMask.FILE_WRITE_DATA | FilePipePrinterAccessMask.DELETE,
            disposition=CreateDisposition.FILE_OVERWRITE_IF,
            options=CreateOptions.FILE_NON_DIRECTORY_FILE,
            sharing=ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_DELETE,
        )

    def open_folder(self, folder: str) -> SmbRequest:
        """Opens a folder for listing and change notifications."""
        return self._create(folder, DirectoryAccessMask.FILE_LIST_DIRECTORY, options=CreateOptions.FILE_DIRECTORY_FILE)

    def names(self, folder: str) -> list[SmbRequest]:
        """Lists a folder: four messages. The second query shows whether the first one was complete."""
        return [self.open_folder(folder), query(), query(), close()]

    def read(self, path: str, bytes_max: int) -> list[SmbRequest]:
        """Reads a small file, up to one byte more than allowed: three messages."""
        return [self.open_plain(path), read(min(bytes_max + 1, PIECE_BYTES)), close()]

    def fill(self, path: str, data: bytes) -> list[SmbRequest]:
        """Writes a small file that no record refers to yet."""
        writes = [write(data)] if data else []
        return [self.open_new(path), *writes, close()]

    def publish(self, path: str, data: bytes, *, durable: bool) -> list[SmbRequest]:
        """Stages a record and renames it to its final name, without replacing."""
        folder, _, name = path.rpartition("/")
        *filled, closed = self.fill(f"{folder}/{STAGING}/{name}", data)
        return [*filled, self._rename(path, replace=False), *([_flush()] if durable else []), closed]

    def replace(self, path: str, data: bytes) -> list[SmbRequest]:
        """Writes a second file and renames it over the first."""
        *filled, closed = self.fill(f"{path}.new", data)
        return [*filled, self._rename(path, replace=True), closed]

    def remove(self, path: str, *, folder: bool = False) -> list[SmbRequest]:
        """Removes a file, or an empty folder: two messages."""
        kind = CreateOptions.FILE_DIRECTORY_FILE if folder else CreateOptions.FILE_NON_DIRECTORY_FILE
        options = kind | CreateOptions.FILE_OPEN_REPARSE_POINT | CreateOptions.FILE_DELETE_ON_CLOSE
        return [self._create(path, FilePipePrinterAccessMask.DELETE, options=options), close()]

    def make_folder(self, folder: str) -> list[SmbRequest]:
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
    ) -> SmbRequest:
        name = self._path(path)
        fixed = _CREATE.pack(
            *(57, 0, 0, ImpersonationLevel.Impersonation, 0, 0),
            *(access, 0, sharing, disposition, options),
            *(HEADER_BYTES + _CREATE.size, len(name), 0, 0),
        )
        return SmbRequest(Commands.SMB2_CREATE, fixed + (name or bytes(2)))

    def _rename(self, path: str, *, replace: bool) -> SmbRequest:
        name = self._path(path)
        information = _RENAME.pack(replace, 0, len(name)) + name
        kind = FileInformationClass.FILE_RENAME_INFORMATION
        at = HEADER_BYTES + _SET_INFO.size
        fixed = _SET_INFO.pack(33, InfoType.SMB2_0_INFO_FILE, kind, len(information), at, 0, 0, LAST_OPENED)
        return SmbRequest(Commands.SMB2_SET_INFO, fixed + information)


def close(handle: bytes = LAST_OPENED) -> SmbRequest:
    """Closes a handle."""
    return SmbRequest(Commands.SMB2_CLOSE, _CLOSE.pack(24, 0, 0, handle))


def write(data: bytes, offset: int = 0, handle: bytes = LAST_OPENED) -> SmbRequest:
    """Writes a piece."""
    fixed = _WRITE.pack(49, HEADER_BYTES + _WRITE.size, len(data), offset, handle, 0, 0, 0, 0, 0)
    return SmbRequest(Commands.SMB2_WRITE, fixed + data, len(data))


def read(length: int, offset: int = 0, handle: bytes = LAST_OPENED) -> SmbRequest:
    """Reads a piece."""
    fixed = _READ.pack(49, 0, 0, length, offset, handle, 0, 0, 0, 0, 0)
    return SmbRequest(Commands.SMB2_READ, fixed + bytes(1), length)


def query(handle: bytes = LAST_OPENED) -> SmbRequest:
    """Asks for the next names of a folder."""
    kind, pattern = FileInformationClass.FILE_NAMES_INFORMATION, "*".encode("utf-16-le")
    at = HEADER_BYTES + _QUERY_DIRECTORY.size
    fixed = _QUERY_DIRECTORY.pack(33, kind, 0, 0, handle, at, len(pattern), LISTING_BYTES)
    return SmbRequest(Commands.SMB2_QUERY_DIRECTORY, fixed + pattern, LISTING_BYTES)


def query_space(handle: bytes = LAST_OPENED) -> SmbRequest:
    """Queries the free space of the volume (MS-FSCC 2.5.8, FileFsSizeInformation)."""
    return SmbRequest(
        Commands.SMB2_QUERY_INFO, _QUERY_INFO.pack(41, InfoType.SMB2_0_INFO_FILESYSTEM, 3, 24, 0, 0, 0, 0, 0, handle)
    )


def change_notify(handle: bytes, changes: int, room_bytes: int) -> SmbRequest:
    """Waits for changes of these kinds in a folder; `room_bytes`: for their names."""
    return SmbRequest(Commands.SMB2_CHANGE_NOTIFY, _CHANGE_NOTIFY.pack(32, 0, room_bytes, handle, changes, 0))


def _flush() -> SmbRequest:
    return SmbRequest(Commands.SMB2_FLUSH, _FLUSH.pack(24, 0, 0, LAST_OPENED))


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
    changed, size_bytes, attributes, handle = _fixed(_CREATED, reply)
    return Opened(
        handle=handle,
        size_bytes=size_bytes,
        is_link=bool(attributes & FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT),
        changed_at=min(changed / 1e7 - _EPOCH_S, _LATEST_S),
    )


def content(reply: SmbReply) -> bytes:
    """Parses the response to a read."""
    at, length = _fixed(_DATA_READ, reply)
    return _part(reply, at, length, _DATA_READ)


def free_bytes(reply: SmbReply) -> int:
    """Parses the response to `query_space`: total units, free units, sectors per unit, bytes per sector."""
    room = information(reply)
    if len(room) < 24:
        raise Unavailable(MALFORMED)
    _, free_units, sectors, sector_bytes = struct.unpack_from("<QQII", room)
    return int(free_units * sectors * sector_bytes)


def names(reply: SmbReply) -> Iterator[str]:
    """Parses the response to `query`."""
    if reply.status == OK:
        yield from (name for _, name in numbered_names(information(reply)) if name not in (".", ".."))


def information(reply: SmbReply) -> bytes:
    """The buffer of the response to a query, or of a change notification."""
    at, length = _fixed(_INFORMATION, reply)
    return _part(reply, at, length, _INFORMATION)


def numbered_names(data: bytes) -> Iterator[tuple[int, str]]:
    """Parses entries of next offset, number, length and name: FileNamesInformation and FILE_NOTIFY_INFORMATION
    (MS-FSCC 2.4.28, 2.7.1). Raises Unavailable: an entry exceeds its bounds.
    """
    at = 0
    while True:
        if at + _ENTRY.size > len(data):
            raise Unavailable(MALFORMED)
        step, number, length = _ENTRY.unpack_from(data, at)
        end, bound = at + 12 + length, at + step if step else len(data)
        if not end <= bound <= len(data):
            raise Unavailable(MALFORMED)
        yield number, data[at + 12 : end].decode("utf-16-le", "replace")
        if not step:
            return
        at += step


def _fixed(layout: struct.Struct, reply: SmbReply) -> tuple[Any, ...]:
    if len(reply.data) < layout.size:
        raise Unavailable(MALFORMED)
    return layout.unpack_from(reply.data)


def _part(reply: SmbReply, at: int, length: int, fixed: struct.Struct) -> bytes:
    """The bytes that a response has behind its fixed fields; `at` counts from its header."""
    start = at - HEADER_BYTES
    if length and not (fixed.size <= start and start + length <= len(reply.data)):
        raise Unavailable(MALFORMED)
    return reply.data[start : start + length] if length else b""


def each(replies: Sequence[SmbReply], count: int) -> Iterator[Sequence[SmbReply]]:
    """The replies in groups of `count`, one group per file."""
    return (replies[at : at + count] for at in range(0, len(replies), count))


def credits_for(size_bytes: int) -> int:
    """Credits for a message that carries so many bytes in either direction."""
    return max(1, -(-size_bytes // CREDIT_BYTES))


def affordable(items: Iterable[T], price: Callable[[T], int]) -> Iterator[list[T]]:
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
