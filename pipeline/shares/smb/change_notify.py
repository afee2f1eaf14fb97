"""SMB change notifications: keeps one CHANGE_NOTIFY request pending on a folder.

Owns: which responses call `notify`: a new name with one of the suffixes, an overflow of the server's buffer, a
malformed response, a broken connection. Other changes only renew the request.
Threads: none of its own; it runs on the receiver's thread.
Source: MS-SMB2 2.2.35 and 2.2.36 (CHANGE_NOTIFY), MS-FSCC 2.7.1 (FILE_NOTIFY_INFORMATION).
"""

import logging
from collections.abc import Callable

from smbprotocol.change_notify import CompletionFilter

from inbox_agent.protocol.files import Unavailable
from pipeline.shares.smb.channel import Exchange, SealedChannel
from pipeline.shares.smb.messages import SmbReply, change_notify, information, numbered_names
from pipeline.shares.smb.statuses import OK

log = logging.getLogger(__name__)

_BUFFER_BYTES = 16 * 1024
_ADDED, _RENAMED_TO = 1, 5
_ERROR = 0xC0000000


class ChangeNotify:
    """Listens to one open folder of one connection until a name with one of `suffixes` arrives or listening fails.

    `notify` is called once; never if the server refuses.

    Raises:
        Exception: the request could not be sent.
    """

    def __init__(
        self, channel: SealedChannel, handle: bytes, notify: Callable[[], None], suffixes: tuple[str, ...]
    ) -> None:
        self._channel, self._notify, self._suffixes = channel, notify, suffixes
        self._request = change_notify(handle, CompletionFilter.FILE_NOTIFY_CHANGE_FILE_NAME, _BUFFER_BYTES)
        self.listening = True
        self.refused = False  #: the server does not support or allow notifications
        channel.ask([self._request], self._on_done)

    def _on_done(self, exchange: Exchange) -> None:
        try:
            (reply,) = exchange.outcome()
            if reply.status >= _ERROR:
                self.listening, self.refused = False, True  # do not notify: a new request would be refused at once, too
            elif self._is_relevant(reply):
                self._stop()
            else:
                self._channel.ask([self._request], self._on_done)  # the server kept the changes since
        except Exception as error:
            log.debug("cannot listen any more: %s", error)
            self._stop()

    def _stop(self) -> None:
        self.listening = False
        self._notify()

    def _is_relevant(self, reply: SmbReply) -> bool:
        """Whether a change matters; also true if it is unknown: a buffer overflow or a malformed response."""
        if reply.status != OK:
            return True
        try:
            changes = information(reply)
            return not changes or any(
                action in (_ADDED, _RENAMED_TO) and name.endswith(self._suffixes)
                for action, name in numbered_names(changes)
            )
        except Unavailable:
            return True
