"""SMB change notifications: keeps one CHANGE_NOTIFY request pending on a folder.

Owns: which responses call `notify`: a new name with one of the suffixes, an overflow of the server's buffer, a
malformed response, a broken connection. Other changes only renew the request.
Threads: none of its own; it runs on smbprotocol's receiver thread.
Source: MS-SMB2 2.2.35 and 2.2.36 (CHANGE_NOTIFY), MS-FSCC 2.7.1 (FILE_NOTIFY_INFORMATION).
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from smbprotocol.change_notify import CompletionFilter, SMB2ChangeNotifyRequest, SMB2ChangeNotifyResponse
from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus

from inbox_agent.protocol.files import Unavailable
from pipeline.shares.smb.messages import numbered_names, unpacked

log = logging.getLogger(__name__)

_BUFFER_BYTES = 16 * 1024
_ADDED, _RENAMED_TO = 1, 5
_ERROR = 0xC0000000
_TROUBLE = (SMBException, OSError, ValueError, KeyError)


class ChangeNotify:
    """Listens to one open folder of one connection until a name with one of `suffixes` arrives or listening fails.

    `notify` is called once, from a thread of smbprotocol's; never if the server refuses.

    Raises:
        SMBException, OSError: the request could not be sent.
    """

    def __init__(
        self,
        connection: Connection,
        session_id: int,
        tree_id: int,
        handle: bytes,
        notify: Callable[[], None],
        suffixes: tuple[str, ...],
    ) -> None:
        self._connection, self._session_id, self._tree_id = connection, session_id, tree_id
        self._handle, self._notify, self._suffixes = handle, notify, suffixes
        self.listening = True
        self.refused = False  #: the server does not support or allow notifications
        self._send_request()

    def _send_request(self) -> None:
        message = SMB2ChangeNotifyRequest()
        message["output_buffer_length"] = _BUFFER_BYTES
        message["file_id"] = self._handle
        message["completion_filter"] = CompletionFilter.FILE_NOTIFY_CHANGE_FILE_NAME
        request = self._connection.send(message, sid=self._session_id, tid=self._tree_id)
        event = _NotifyEvent(lambda: self._on_response(request))
        early, request.response_event = request.response_event, event
        if early.is_set():  # the response came before the event was replaced
            event.set()

    def _on_response(self, request: Any) -> None:
        response = request.response
        lost = response is None or not self._connection.transport.connected
        if not lost and response["status"].get_value() == NtStatus.STATUS_PENDING:
            return
        if not lost:  # else smbprotocol is iterating over them
            self._connection.outstanding_requests.pop(request.message["message_id"].get_value(), None)
        if not self.listening:
            return
        if not lost and response["status"].get_value() >= _ERROR:
            self.listening, self.refused = False, True  # do not notify: a new request would be refused at once, too
            return
        if lost or self._is_relevant(response):
            self._stop()
            return
        try:
            self._send_request()  # the server kept the changes since: the folder is still open
        except _TROUBLE as error:
            log.debug("cannot listen any more: %s", error)
            self._stop()

    def _stop(self) -> None:
        self.listening = False
        self._notify()

    def _is_relevant(self, response: Any) -> bool:
        """Whether a change matters; also true if it is unknown: a buffer overflow or a malformed response."""
        if response["status"].get_value() != NtStatus.STATUS_SUCCESS:
            return True
        try:
            changes = unpacked(SMB2ChangeNotifyResponse(), response["data"].get_value())["buffer"].get_value()
            return not changes or any(
                action in (_ADDED, _RENAMED_TO) and name.endswith(self._suffixes)
                for action, name in numbered_names(bytes(changes))
            )
        except Unavailable:
            return True


class _NotifyEvent(threading.Event):
    """The event of a pending request; setting it calls `on_set`."""

    def __init__(self, on_set: Callable[[], None]) -> None:
        super().__init__()
        self._on_set = on_set

    def set(self) -> None:
        super().set()
        self._on_set()
