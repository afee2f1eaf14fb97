r"""`ShareFiles` over SMB: every step of the protocol is one compound message, one round trip.

It decides which messages make up a step and what each status means. A compound is not all-or-nothing, so the status of
every member counts (share_layout.md, law 3). No oplock and no lease is ever asked for, so nothing is cached on this
side; nothing is ever replaced but by `replace`. Statuses: MS-ERREF 2.3.1; messages: MS-SMB2 2.2.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from smbprotocol.file_info import (
    FileAttributes,
    FileInformationClass,
    FileRenameInformation,
    InfoType,
)
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
    SMB2ReadRequest,
    SMB2ReadResponse,
    SMB2SetInfoRequest,
    SMB2WriteRequest,
)

from inbox_agent.share_files import Absent, AlreadyThere, ShareError, Unavailable, Unfit
from inbox_agent.share_layout import INBOX, OUTBOX, STAGING, STATUS
from pipeline.edges.smb_session import Reply, SmbSession

#: A member of a related compound means the file that the create before it has opened (MS-SMB2 3.2.4.1.4).
_LAST_OPENED = b"\xff" * 16
_CREDIT_BYTES = 64 * 1024  #: what one credit pays for (MS-SMB2 3.1.5.2)
_CREDITS_MAX = 48  #: spent on one message, of the 64 that every server grants; smbprotocol does not wait for more
_PIECE_BYTES = 16 * _CREDIT_BYTES
_LISTING_BYTES = 16 * _CREDIT_BYTES

OK, PENDING = 0x00000000, 0x00000103
NO_MORE_FILES = 0x80000006
STOPPED_ON_SYMLINK = 0x8000002D
NO_SUCH_FILE, END_OF_FILE = 0xC000000F, 0xC0000011
ACCESS_DENIED = 0xC0000022
OBJECT_NAME_INVALID, OBJECT_NAME_NOT_FOUND, OBJECT_NAME_COLLISION = 0xC0000033, 0xC0000034, 0xC0000035
OBJECT_PATH_NOT_FOUND = 0xC000003A
SHARING_VIOLATION, DELETE_PENDING = 0xC0000043, 0xC0000056
DISK_FULL = 0xC000007F
FILE_IS_A_DIRECTORY, DIRECTORY_NOT_EMPTY, NOT_A_DIRECTORY = 0xC00000BA, 0xC0000101, 0xC0000103

_WORDS = {
    ACCESS_DENIED: "access denied",
    OBJECT_NAME_NOT_FOUND: "not found",
    OBJECT_PATH_NOT_FOUND: "folder not found",
    SHARING_VIOLATION: "in use by somebody else",
    DELETE_PENDING: "being deleted",
    DISK_FULL: "disk full",
    FILE_IS_A_DIRECTORY: "a folder",
}
_GONE = frozenset({OBJECT_NAME_NOT_FOUND, NO_SUCH_FILE, DELETE_PENDING})
_NO_FILE = frozenset({FILE_IS_A_DIRECTORY, STOPPED_ON_SYMLINK, NOT_A_DIRECTORY})
_PLAIN = CreateOptions.FILE_NON_DIRECTORY_FILE | CreateOptions.FILE_OPEN_REPARSE_POINT
_SHARED = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE


T = TypeVar("T")


class SmbFiles:
    """One share. One thread at a time."""

    def __init__(self, session: SmbSession, ring: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._ring = ring
        self._ears: Callable[[], bool] = lambda: False
        self._ears_of = 0  #: the connection on which the folder is listened to

    @property
    def hears(self) -> bool:
        """Whether the server tells of what arrives in `outbox/`."""
        return self._ears_of == self._session.generation and self._ears()

    # -------------------------------------------------------------------------------------------------- reading

    def names(self, folder: str) -> list[str]:
        if folder == OUTBOX:
            self._listen()  # before it is listed: what comes in between is told
        replies = self._ask([_open_folder(folder), _query(), _query(), _close()])
        self._require(replies[0], folder)
        found = list(_names_in(replies[1]))
        if replies[2].status != NO_MORE_FILES and replies[1].status == OK:
            found = self._names_of_many(folder)
        return [name for name in found if name not in (".", "..")]

    def _names_of_many(self, folder: str) -> list[str]:
        """A folder whose names do not fit into one answer."""
        handle = self._open(_open_folder(folder), folder)
        found: list[str] = []
        try:
            while (reply := self._ask([_query(handle)])[0]).status == OK:
                found += _names_in(reply)
        finally:
            self._shut(handle)
        if reply.status != NO_MORE_FILES:
            raise self._trouble(reply, folder)
        return found

    def size(self, path: str) -> int:
        replies = self._ask([_create(path, FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES, options=_PLAIN), _close()])
        return self._plain(replies[0], path)

    def read(self, path: str, bytes_max: int) -> bytes:
        (found,) = self.read_all([(path, bytes_max)])
        if isinstance(found, Exception):
            raise found
        return found

    def read_all(self, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        """Several small files, in as few round trips as that takes."""
        found: list[bytes | ShareError] = []
        for some in _affordable(asked, lambda ask: 2 + _credits(ask[1] + 1)):
            replies = self._ask([message for path, bytes_max in some for message in _read_small(path, bytes_max)])
            for (path, bytes_max), own in zip(some, _each(replies, 3), strict=True):
                # Alone, if it did not work: its neighbour's failure may be all that is wrong with it.
                settled = own[0].status == OK or len(some) == 1
                found.append(
                    self._content(own if settled else self._ask(_read_small(path, bytes_max)), path, bytes_max)
                )
        return found

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        digest, offset = hashlib.sha256(), 0
        handle, size = self._open_plain(path)
        try:
            if size > bytes_max:
                raise Unfit(f"{path}: larger than {bytes_max} bytes")
            with _local(), open(destination, "wb") as out:
                while piece := self._piece(handle, offset, path):
                    offset += len(piece)
                    if offset > bytes_max:
                        raise Unfit(f"{path}: larger than {bytes_max} bytes")
                    digest.update(piece)
                    out.write(piece)
        finally:
            self._shut(handle)
        return digest.hexdigest()

    # -------------------------------------------------------------------------------------------------- writing

    def deliver(self, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        """A payload and the record that speaks for it, in one round trip if the payload is small."""
        content = _content_of(source)
        if content is None:
            self.write(payload, source)
            self.publish(record, data)
            return
        delivery = _fill(payload, content)
        replies = self._ask([*delivery, *_publish(record, data, durable=False)])
        self._all_well(replies[: len(delivery)], payload)
        self._published(replies[len(delivery) :], record)

    def write(self, path: str, source: bytes | Path) -> None:
        layout_folder, *parents = path.split("/")[:-1]
        for depth in range(len(parents)):  # an artifact's folder; the layout's own folders are made once
            self._make_folder("/".join([layout_folder, *parents[: depth + 1]]))
        content = _content_of(source)
        if content is not None:
            self._all_well(self._ask(_fill(path, content)), path)
        else:
            with _local(), open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as pieces:
                self._write_large(path, pieces)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        self._published(self._ask(_publish(path, data, durable=durable)), path)

    def replace(self, path: str, data: bytes) -> None:
        staged = f"{path}.new"
        self._all_well(self._ask([*_fill(staged, data)[:-1], _rename(path, replace=True), _close()]), path)

    def remove(self, paths: Iterable[str]) -> None:
        for some in _affordable(list(paths), lambda _path: 2):
            replies = self._ask([message for path in some for message in _remove(path)])
            for path, own in zip(some, _each(replies, 2), strict=True):
                if own[0].status != OK or own[1].status != OK:
                    self._remove_one(path)

    def make_folders(self) -> None:
        for folder in (INBOX, f"{INBOX}/{STAGING}", OUTBOX, f"{OUTBOX}/{STAGING}", STATUS):
            self._make_folder(folder)

    # --------------------------------------------------------------------------------------------------- inside

    def _ask(self, messages: Sequence[Any]) -> list[Reply]:
        return self._session.exchange(messages)

    def _listen(self) -> None:
        if self.hears:
            return
        if self._ears_of != self._session.generation:
            self._handle = self._open(
                _create(OUTBOX, DirectoryAccessMask.FILE_LIST_DIRECTORY, options=CreateOptions.FILE_DIRECTORY_FILE),
                OUTBOX,
            )
        self._ears = self._session.listen(self._handle, self._ring)
        self._ears_of = self._session.generation

    def _open(self, message: Any, path: str) -> bytes:
        (reply,) = self._ask([message])
        self._require(reply, path)
        return bytes(_opened(reply)["file_id"].get_value())

    def _open_plain(self, path: str) -> tuple[bytes, int]:
        (reply,) = self._ask([_create(path, FilePipePrinterAccessMask.FILE_READ_DATA, options=_PLAIN)])
        size = self._plain(reply, path)
        return bytes(_opened(reply)["file_id"].get_value()), size

    def _shut(self, handle: bytes) -> None:
        self._ask([_close(handle)])

    def _piece(self, handle: bytes, offset: int, path: str) -> bytes:
        (reply,) = self._ask([_read(_PIECE_BYTES, offset, handle)])
        if reply.status == END_OF_FILE:
            return b""
        if reply.status != OK:
            raise self._trouble(reply, path)
        return _data_in(reply)

    def _write_large(self, path: str, pieces: BinaryIO) -> None:
        handle, offset = self._open(_create_new(path), path), 0
        try:
            while piece := pieces.read(_PIECE_BYTES):
                self._all_well(self._ask([_write(piece, offset, handle)]), path)
                offset += len(piece)
        finally:
            self._shut(handle)

    def _make_folder(self, folder: str) -> None:
        made = _create(
            folder,
            DirectoryAccessMask.FILE_READ_ATTRIBUTES,
            disposition=CreateDisposition.FILE_OPEN_IF,
            options=CreateOptions.FILE_DIRECTORY_FILE,
        )
        self._require(self._ask([made, _close()])[0], folder)

    def _remove_one(self, path: str) -> None:
        replies = self._ask(_remove(path))
        status = next((reply.status for reply in replies if reply.status != OK), OK)
        if status in (FILE_IS_A_DIRECTORY, DIRECTORY_NOT_EMPTY):
            # An attempt's artifacts: one flat folder, never a tree.
            for name in self.names(path):
                self._all_well(self._ask(_remove(f"{path}/{name}")), path)
            self._all_well(self._ask(_remove(path, folder=True)), path)
        elif status not in {OK, *_GONE}:
            raise self._trouble(Reply(status), path)

    def _plain(self, reply: Reply, path: str) -> int:
        """The size of what was opened, if it is a regular file."""
        if reply.status in _NO_FILE:
            raise Unfit(f"{path}: not a regular file")
        if reply.status in _GONE:
            raise Absent(f"{path}: not found")
        if reply.status == OBJECT_PATH_NOT_FOUND and path.count("/") > 1:
            self._shut(self._open(_open_folder(path.partition("/")[0]), path.partition("/")[0]))
            raise Absent(f"{path}: not found, and neither is its folder")
        if reply.status != OK:
            raise self._trouble(reply, path)
        opened = _opened(reply)
        if opened["file_attributes"].has_flag(FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT):
            raise Unfit(f"{path}: a link")
        return int(opened["end_of_file"].get_value())

    def _content(self, replies: Sequence[Reply], path: str, bytes_max: int) -> bytes | ShareError:
        opened, data, _ = replies
        try:
            size = self._plain(opened, path)
        except (Absent, Unfit) as error:
            return error
        if size > bytes_max:
            return Unfit(f"{path}: larger than {bytes_max} bytes")
        if data.status == END_OF_FILE:
            return b""
        if data.status != OK:
            raise self._trouble(data, path)
        content = _data_in(data)
        return content if len(content) <= bytes_max else Unfit(f"{path}: larger than {bytes_max} bytes")

    def _published(self, replies: Sequence[Reply], path: str) -> None:
        if any(reply.status == OBJECT_NAME_COLLISION for reply in replies):
            folder, _, name = path.rpartition("/")
            self.remove([f"{folder}/{STAGING}/{name}"])
            raise AlreadyThere(f"{path}: there is one of that name")
        self._all_well(replies, path)

    def _all_well(self, replies: Sequence[Reply], path: str) -> None:
        for reply in replies:
            self._require(reply, path)

    def _require(self, reply: Reply, path: str) -> None:
        if reply.status != OK:
            raise self._trouble(reply, path)

    def _trouble(self, reply: Reply, path: str) -> Unavailable:
        word = _WORDS.get(reply.status, f"status 0x{reply.status:08x}")
        return Unavailable(f"{self._session.access}: {path or 'the share'}: {word}")


# ------------------------------------------------------------------------------------------------------- messages


def _create(
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
    message["buffer_path"] = path.replace("/", "\\").encode("utf-16-le") if path else b"\0\0"
    return message


def _create_new(path: str) -> Any:
    return _create(
        path,
        FilePipePrinterAccessMask.FILE_WRITE_DATA | FilePipePrinterAccessMask.DELETE,
        disposition=CreateDisposition.FILE_OVERWRITE_IF,
        options=CreateOptions.FILE_NON_DIRECTORY_FILE,
        sharing=ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_DELETE,
    )


def _open_folder(folder: str) -> Any:
    return _create(folder, DirectoryAccessMask.FILE_LIST_DIRECTORY, options=CreateOptions.FILE_DIRECTORY_FILE)


def _close(handle: bytes = _LAST_OPENED) -> Any:
    message = SMB2CloseRequest()
    message["file_id"] = handle
    return message


def _write(data: bytes, offset: int = 0, handle: bytes = _LAST_OPENED) -> Any:
    message = SMB2WriteRequest()
    message["offset"] = offset
    message["file_id"] = handle
    message["buffer"] = data
    return message


def _read(length: int, offset: int = 0, handle: bytes = _LAST_OPENED) -> Any:
    message = SMB2ReadRequest()
    message["length"] = length
    message["offset"] = offset
    message["file_id"] = handle
    message["read_channel_info_length"] = 0
    return message


def _read_small(path: str, bytes_max: int) -> list[Any]:
    opened = _create(path, FilePipePrinterAccessMask.FILE_READ_DATA, options=_PLAIN)
    return [opened, _read(min(bytes_max + 1, _PIECE_BYTES)), _close()]


def _fill(path: str, data: bytes) -> list[Any]:
    """Puts a file in place that nothing refers to yet."""
    writes = [_write(data[at : at + _PIECE_BYTES], at) for at in range(0, len(data), _PIECE_BYTES)]
    return [_create_new(path), *writes, _close()]


def _publish(path: str, data: bytes, *, durable: bool) -> list[Any]:
    """Staged beside its folder's watched names, then moved up under its final one."""
    folder, _, name = path.rpartition("/")
    *filled, closed = _fill(f"{folder}/{STAGING}/{name}", data)
    return [*filled, _rename(path), *([_flush()] if durable else []), closed]


def _flush() -> Any:
    message = SMB2FlushRequest()
    message["file_id"] = _LAST_OPENED
    return message


def _rename(path: str, *, replace: bool = False) -> Any:
    information = FileRenameInformation()
    information["replace_if_exists"] = replace
    information["file_name"] = path.replace("/", "\\")
    message = SMB2SetInfoRequest()
    message["info_type"] = InfoType.SMB2_0_INFO_FILE
    message["file_info_class"] = FileInformationClass.FILE_RENAME_INFORMATION
    message["file_id"] = _LAST_OPENED
    message["buffer"] = information
    return message


def _remove(path: str, *, folder: bool = False) -> list[Any]:
    kind = CreateOptions.FILE_DIRECTORY_FILE if folder else CreateOptions.FILE_NON_DIRECTORY_FILE
    options = kind | CreateOptions.FILE_OPEN_REPARSE_POINT | CreateOptions.FILE_DELETE_ON_CLOSE
    return [_create(path, FilePipePrinterAccessMask.DELETE, options=options), _close()]


def _query(handle: bytes = _LAST_OPENED) -> Any:
    message = SMB2QueryDirectoryRequest()
    message["file_information_class"] = FileInformationClass.FILE_NAMES_INFORMATION
    message["file_id"] = handle
    message["output_buffer_length"] = _LISTING_BYTES
    message["buffer"] = "*".encode("utf-16-le")
    return message


# -------------------------------------------------------------------------------------------------------- answers


def _opened(reply: Reply) -> Any:
    response = SMB2CreateResponse()
    response.unpack(reply.data)
    return response


def _data_in(reply: Reply) -> bytes:
    response = SMB2ReadResponse()
    response.unpack(reply.data)
    return bytes(response["buffer"].get_value())


def _names_in(reply: Reply) -> Iterator[str]:
    """The names of one answer (MS-FSCC 2.4.28): offset of the next, index, length, name."""
    if reply.status != OK:
        return
    response = SMB2QueryDirectoryResponse()
    response.unpack(reply.data)
    listing, at = bytes(response["buffer"].get_value()), 0
    while True:
        step = int.from_bytes(listing[at : at + 4], "little")
        length = int.from_bytes(listing[at + 8 : at + 12], "little")
        yield listing[at + 12 : at + 12 + length].decode("utf-16-le", "replace")
        if step == 0:
            return
        at += step


def _content_of(source: bytes | Path) -> bytes | None:
    """What goes into one message; None if it is too large for that."""
    if isinstance(source, bytes):
        return source if len(source) <= _PIECE_BYTES else None
    with _local():
        return source.read_bytes() if source.stat().st_size <= _PIECE_BYTES else None


@contextmanager
def _local() -> Iterator[None]:
    """What fails on this computer's own disk has not reached the share either."""
    try:
        yield
    except OSError as error:
        raise Unavailable(str(error)) from error


def _credits(size_bytes: int) -> int:
    return max(1, -(-size_bytes // _CREDIT_BYTES))


def _affordable(items: Sequence[T], price: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in their order, in groups whose messages can be paid for."""
    group: list[T] = []
    spent = 0
    for item in items:
        if group and spent + price(item) > _CREDITS_MAX:
            yield group
            group, spent = [], 0
        group.append(item)
        spent += price(item)
    if group:
        yield group


def _each(replies: Sequence[Reply], count: int) -> Iterator[Sequence[Reply]]:
    """The replies of each file: so many."""
    return (replies[at : at + count] for at in range(0, len(replies), count))
