"""`ShareFiles` over SMB: every step of the protocol is one compound message, one round trip.

Owns: what each status means for a file. A compound is not atomic, so the status of every member is checked (law 3 of
share_layout.md). Only `replace` replaces files. Not here: retries; the host plans a failed operation again.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from inbox_agent.protocol.files import (
    Delivery,
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    ShareError,
    Unavailable,
    require_few,
)
from inbox_agent.protocol.layout import ANSWERS, FOLDERS, OUTBOX, STAGING
from inbox_agent.protocol.local_files import NO_ROOM
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.shares.share_client import ENTRIES_MAX
from pipeline.shares.smb import messages as m
from pipeline.shares.smb import statuses as nt
from pipeline.shares.smb.change_notify import ChangeNotify
from pipeline.shares.smb.messages import SmbReply, SmbRequest
from pipeline.shares.smb.session import SmbSession

LISTING_LIMIT_S = 20.0  #: for all answers of one listing together; each of them has a deadline of its own


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A delivery and its messages."""

    delivery: Delivery
    filled: list[SmbRequest] | None  #: None if the payload is too large for one message
    published: list[SmbRequest]

    @property
    def requests(self) -> list[SmbRequest]:
        return [*(self.filled or ()), *self.published]

    @property
    def cost(self) -> int:
        """In credits; a large payload shares its exchange with nothing."""
        return (
            m.CREDITS_MAX if self.filled is None else sum(m.credits_for(each.payload_bytes) for each in self.requests)
        )


class SmbFiles:
    """One share, or a folder of one. One thread at a time."""

    def __init__(self, session: SmbSession, notify: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._steps = m.Steps(session.access.folder)
        self._notify = notify
        self._outbox = b""  #: handle of the open `outbox/` for change notifications
        self._change_notify: ChangeNotify | None = None
        self._notify_connection = 0  #: number of that handle's connection
        self._takes_compounds = True  #: whether the server accepts several files in one message

    @property
    def notifies(self) -> bool:
        """Whether the server now notifies of new files in `outbox/`."""
        return (
            self._notify_connection == self._session.connections
            and self._change_notify is not None
            and self._change_notify.listening
        )

    def close(self) -> None:
        """Closes the connection. The next call makes a new one."""
        self._session.drop("closed")

    # -------------------------------------------------------------------------------------------------- reading

    def names(self, folder: str, entries_max: int = ENTRIES_MAX) -> list[str]:
        if folder == OUTBOX:
            self._listen()  # before listing, so that files that arrive in between are notified
        replies = self._ask(self._steps.names(folder))
        self._require(replies[0], folder)
        if replies[1].status == nt.OK and replies[2].status != nt.NO_MORE_FILES:
            return self._many_names(folder, entries_max)
        if replies[1].status not in (nt.OK, nt.NO_MORE_FILES, nt.NO_SUCH_FILE):
            raise self._trouble(replies[1], folder)
        return require_few(list(islice(m.names(replies[1]), entries_max + 1)), folder, entries_max)

    def size(self, path: str) -> int:
        return self._require_regular(self._ask(self._steps.size(path))[0], path).size_bytes

    def read(self, path: str, bytes_max: int) -> bytes:
        (found,) = self.read_all([(path, bytes_max)])
        if isinstance(found, ShareError):
            raise found
        return found

    def read_all(self, asked: Sequence[tuple[str, int]]) -> list[bytes | ShareError]:
        found: list[bytes | ShareError] = []
        for some in m.affordable(asked, lambda ask: self._price(2 + m.credits_for(ask[1] + 1))):
            replies = self._ask([step for path, bytes_max in some for step in self._steps.read(path, bytes_max)])
            for (path, bytes_max), own in zip(some, m.each(replies, 3), strict=True):
                # Read again alone if it failed: the cause may be another file of the compound.
                settled = own[0].status == nt.OK or len(some) == 1
                replies_of_it = own if settled else self._ask(self._steps.read(path, bytes_max))
                found.append(self._content(replies_of_it, path, bytes_max))
        return found

    def fetch(self, path: str, destination: Path, bytes_max: int) -> str:
        digest, offset = hashlib.sha256(), 0
        found = self._require_regular(self._ask([self._steps.open_plain(path)])[0], path)
        with self._closing(found.handle):
            if found.size_bytes > bytes_max:
                raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
            with retry_while_busy(lambda: open(destination, "wb")) as out:
                length = m.PIECE_BYTES
                while length == m.PIECE_BYTES:  # a shorter piece is the last one (MS-SMB2 3.3.5.12)
                    piece = self._piece(found.handle, offset, path)
                    length = len(piece)
                    offset += length
                    if offset > bytes_max:
                        raise FileInvalid(f"{path}: larger than {bytes_max} bytes")
                    digest.update(piece)
                    out.write(piece)
        return digest.hexdigest()

    # -------------------------------------------------------------------------------------------------- writing

    def deliver(self, payload: str, source: bytes | Path, record: str, data: bytes) -> None:
        for error in self.deliver_all([Delivery(payload, source, record, data)]):
            if error is not None:
                raise error

    def deliver_all(self, deliveries: Iterable[Delivery]) -> Iterator[ShareError | None]:
        for some in m.affordable(map(self._prepared, deliveries), lambda it: self._price(it.cost)):
            outcomes = self._delivered(some)
            yield from outcomes
            if any(outcomes):
                return

    def write(self, path: str, source: bytes | Path) -> None:
        layout_folder, *parents = path.split("/")[:-1]
        for depth in range(len(parents)):  # folders of artifacts only; `make_folders` makes those of the layout
            self._make_folder("/".join([layout_folder, *parents[: depth + 1]]))
        content = _content_of(source)
        if content is not None:
            self._require_all(self._ask(self._steps.fill(path, content)), path)
        else:
            with _local(), open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as pieces:
                self._write_large(path, pieces)

    def publish(self, path: str, data: bytes, *, durable: bool = False) -> None:
        self._published(self._ask(self._steps.publish(path, data, durable=durable)), path)

    def replace(self, path: str, data: bytes) -> None:
        self._require_all(self._ask(self._steps.replace(path, data)), path)

    def remove(self, paths: Iterable[str]) -> None:
        for some in m.affordable(list(paths), lambda _path: self._price(2)):
            replies = self._ask([step for path in some for step in self._steps.remove(path)])
            for path, own in zip(some, m.each(replies, 2), strict=True):
                if any(reply.status != nt.OK for reply in own):
                    self._remove_alone(path)

    def make_folders(self) -> None:
        for folder in FOLDERS:
            self._make_folder(folder)

    # ------------------------------------------------------------------------------------------ for the doctor

    def free_bytes(self) -> int:
        """Free space in bytes. Raises Unavailable."""
        replies = self._ask([self._steps.open_folder(""), m.query_space(), m.close()])
        self._require_all(replies, "")
        return m.free_bytes(replies[1])

    def server_time(self, path: str) -> float:
        """Unix time of a file's last change, by the server's clock. Raises FileMissing, FileInvalid, Unavailable."""
        return self._require_regular(self._ask(self._steps.size(path))[0], path).changed_at

    # ----------------------------------------------------------------------------------------------- deliveries

    def _prepared(self, delivery: Delivery) -> "_Prepared":
        content = _content_of(delivery.source)
        filled = None if content is None else self._steps.fill(delivery.payload, content)
        return _Prepared(delivery, filled, self._steps.publish(delivery.record, delivery.data, durable=False))

    def _delivered(self, some: Sequence["_Prepared"]) -> list[ShareError | None]:
        """Why these are not confirmed: all of them, if the exchange failed that they have in common."""
        if len(some) == 1 and (some[0].filled is None or not self._takes_compounds):
            return [self._delivered_apart(some[0].delivery)]
        try:
            replies = iter(self._ask([request for each in some for request in each.requests]))
        except ShareError as error:
            return [error] * len(some)
        return [self._delivery_error(each, list(islice(replies, len(each.requests)))) for each in some]

    def _delivery_error(self, prepared: "_Prepared", replies: Sequence[SmbReply]) -> ShareError | None:
        at, delivery = len(prepared.filled or ()), prepared.delivery
        if any(created.status in nt.COMPOUND_UNSUPPORTED for created in (replies[0], replies[at])):
            self._takes_compounds = False
            return self._delivered_apart(delivery)
        try:
            self._require_all(replies[:at], delivery.payload)
            self._published(replies[at:], delivery.record)
        except ShareError as error:
            return error
        return None

    def _delivered_apart(self, delivery: Delivery) -> ShareError | None:
        try:
            self.write(delivery.payload, delivery.source)
            self.publish(delivery.record, delivery.data)
        except ShareError as error:
            return error
        return None

    # --------------------------------------------------------------------------------------------------- inside

    def _ask(self, requests: Sequence[SmbRequest]) -> list[SmbReply]:
        return self._session.exchange(requests)

    def _price(self, of_one: int) -> int:
        return of_one if self._takes_compounds else m.CREDITS_MAX

    def _listen(self) -> None:
        self._session.connect()
        same = self._notify_connection == self._session.connections
        if self.notifies or (same and self._change_notify is not None and self._change_notify.refused):
            return
        if not same or not self._outbox:
            (reply,) = self._ask([self._steps.open_folder(OUTBOX)])
            self._require(reply, OUTBOX)
            # While the handle is open the server keeps the changes between two requests.
            self._outbox, self._notify_connection = m.opened(reply).handle, self._session.connections
        self._change_notify = self._session.listen(self._outbox, self._notify, ANSWERS)

    def _many_names(self, folder: str, entries_max: int) -> list[str]:
        """Names of a folder, if they do not fit into one response. A listing without an end drops the connection."""
        deadline = time.monotonic() + LISTING_LIMIT_S
        (reply,) = self._ask([self._steps.open_folder(folder)])
        self._require(reply, folder)
        handle = m.opened(reply).handle
        found: list[str] = []
        with self._closing(handle):
            while (reply := self._ask([m.query(handle)])[0]).status == nt.OK:
                found += islice(m.names(reply), entries_max + 1 - len(found))
                if len(found) > entries_max or time.monotonic() > deadline:
                    self._session.drop("its listing did not end")
                    require_few(found, folder, entries_max)
                    raise Unavailable(f"{folder or 'the share'} was not listed in {LISTING_LIMIT_S:g} s")
        if reply.status != nt.NO_MORE_FILES:
            raise self._trouble(reply, folder)
        return found

    @contextmanager
    def _closing(self, handle: bytes) -> Iterator[None]:
        """Closes a handle at the end, unless its connection has ended, and with it the handle."""
        connection = self._session.connected
        try:
            yield
        finally:
            if connection == self._session.connected:
                self._ask([m.close(handle)])

    def _piece(self, handle: bytes, offset: int, path: str) -> bytes:
        (reply,) = self._ask([m.read(m.PIECE_BYTES, offset, handle)])
        if reply.status == nt.END_OF_FILE:
            return b""
        self._require(reply, path)
        return m.content(reply)

    def _write_large(self, path: str, pieces: BinaryIO) -> None:
        (reply,) = self._ask([self._steps.open_new(path)])
        self._require(reply, path)
        handle, offset = m.opened(reply).handle, 0
        with self._closing(handle):
            while piece := pieces.read(m.PIECE_BYTES):
                self._require_all(self._ask([m.write(piece, offset, handle)]), path)
                offset += len(piece)

    def _make_folder(self, folder: str) -> None:
        self._require(self._ask(self._steps.make_folder(folder))[0], folder)

    def _remove_alone(self, path: str) -> None:
        status = next((reply.status for reply in self._ask(self._steps.remove(path)) if reply.status != nt.OK), nt.OK)
        if status in (nt.FILE_IS_A_DIRECTORY, nt.DIRECTORY_NOT_EMPTY):
            # An attempt's artifacts: one flat folder, never a tree.
            for name in self.names(path):
                self._require_all(self._ask(self._steps.remove(f"{path}/{name}")), path)
            self._require_all(self._ask(self._steps.remove(path, folder=True)), path)
        elif status != nt.OK and status not in nt.GONE:
            raise self._trouble(SmbReply(status), path)

    def _require_regular(self, reply: SmbReply, path: str) -> m.Opened:
        """The opened file, if it is a regular one."""
        if reply.status in nt.NO_FILE:
            raise FileInvalid(f"{path}: not a regular file")
        if reply.status in nt.GONE:
            raise FileMissing(f"{path}: not found")
        if reply.status == nt.OBJECT_PATH_NOT_FOUND and path.count("/") > 1:
            self.names(path.partition("/")[0])  # raises if the layout's own folder is missing
            raise FileMissing(f"{path}: not found, and neither is its folder")
        self._require(reply, path)
        found = m.opened(reply)
        if found.is_link:
            raise FileInvalid(f"{path}: a link")
        return found

    def _content(self, replies: Sequence[SmbReply], path: str, bytes_max: int) -> bytes | ShareError:
        opened, data, _ = replies
        try:
            if self._require_regular(opened, path).size_bytes > bytes_max:
                return FileInvalid(f"{path}: larger than {bytes_max} bytes")
            if data.status == nt.END_OF_FILE:
                return b""
            self._require(data, path)
        except (FileMissing, FileInvalid, FileRefused) as error:
            return error
        found = m.content(data)
        return found if len(found) <= bytes_max else FileInvalid(f"{path}: larger than {bytes_max} bytes")

    def _published(self, replies: Sequence[SmbReply], path: str) -> None:
        if any(reply.status == nt.OBJECT_NAME_COLLISION for reply in replies):
            folder, _, name = path.rpartition("/")
            self.remove([f"{folder}/{STAGING}/{name}"])
            raise FileAlreadyExists(f"{path}: there is one of that name")
        self._require_all(replies, path)

    def _require_all(self, replies: Sequence[SmbReply], path: str) -> None:
        for reply in replies:
            self._require(reply, path)

    def _require(self, reply: SmbReply, path: str) -> None:
        if reply.status != nt.OK:
            raise self._trouble(reply, path)

    def _trouble(self, reply: SmbReply, path: str) -> Unavailable:
        kind = FileRefused if reply.status in nt.REFUSED else Unavailable
        return kind(f"{self._session.access}: {path or 'the share'}: {reply.status_text}", reply.status_text)


def _content_of(source: bytes | Path) -> bytes | None:
    """The bytes to write in one message; None if they are too many."""
    if isinstance(source, bytes):
        return source if len(source) <= m.PIECE_BYTES else None
    with _local():
        return source.read_bytes() if source.stat().st_size <= m.PIECE_BYTES else None


@contextmanager
def _local() -> Iterator[None]:
    """Turns errors of the local disk into Unavailable, except that it is full."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise Unavailable(str(error)) from error
