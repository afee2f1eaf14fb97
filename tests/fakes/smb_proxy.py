"""A proxy between an SMB client and its server: counts requests and responses, and drops a response on request.

Of the messages it knows only the position of the command in a header (MS-SMB2 2.2.1), to tell unencrypted ones apart.
"""

import threading
from collections import Counter

from tests.harness.smb_relay import Link, Relay


class Proxy(Relay):
    """A relay that counts."""

    def __init__(self, target: int) -> None:
        self.asked = 0  #: messages from the client; a compound counts once
        self.answered = 0  #: messages to the client, also unsolicited ones
        self.kinds: Counter[str] = Counter()  #: of the messages from the client
        self._lose = False
        self._lost = threading.Event()
        super().__init__(target, self._count_question, self._count_answer)

    def lose_next_answer(self) -> threading.Event:
        """The next request reaches the server, and the connection breaks before its response arrives."""
        self._lost.clear()
        self._lose = True
        return self._lost

    def _count_question(self, message: bytes, link: Link) -> None:
        self.asked += 1
        self.kinds[_kind(message)] += 1
        link.to_server(message)

    def _count_answer(self, message: bytes, link: Link) -> None:
        self.answered += 1
        if not self._lose:
            link.to_client(message)
            return
        self._lose = False
        link.cut()
        self._lost.set()


def _kind(body: bytes) -> str:
    """The kind of a message, from the commands of its members."""
    if not body.startswith(b"\xfeSMB"):
        return "encrypted"
    commands, at = set(), 0
    while True:
        commands.add(int.from_bytes(body[at + 12 : at + 14], "little"))
        step = int.from_bytes(body[at + 20 : at + 24], "little")
        if not step:
            break
        at += step
    kinds = {0x0F: "notify", 0x0E: "listing", 0x11: "publish", 0x09: "publish", 0x08: "read"}
    return next((name for command, name in kinds.items() if command in commands), "other")
