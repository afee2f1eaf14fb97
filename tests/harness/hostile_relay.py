"""Relays between the host and an SMB server that attack the host, each once the host has logged in."""

import itertools
import os
import threading
from collections.abc import Callable

from tests.harness.smb_relay import Link, Relay, framed

ANSWERS_BEFORE = 40  #: are forwarded as they are, so that the worker gets work
ENCRYPTED, CLEAR = b"\xfdSMB", b"\xfeSMB"
DRIP_PAUSE_S = 0.5


class HostileRelay(Relay):
    """Forwards the first answers; a subclass decides what it does to the later ones."""

    def __init__(self, target: int) -> None:
        self._numbers = itertools.count(1)
        super().__init__(target, on_answer=self._answer)

    def _answer(self, message: bytes, link: Link) -> None:
        if next(self._numbers) <= ANSWERS_BEFORE:
            link.to_client(message)
        else:
            self.attack(message, link)

    def attack(self, message: bytes, link: Link) -> None:
        """Called with each answer of the server."""
        raise NotImplementedError


class ChangedAnswers(HostileRelay):
    """Changes one bit of every second answer."""

    def attack(self, message: bytes, link: Link) -> None:
        changed = message[:-1] + bytes([message[-1] ^ 1])
        link.to_client(changed if next(self._numbers) % 2 else message)


class ClearAnswers(HostileRelay):
    """Answers in the clear."""

    def attack(self, message: bytes, link: Link) -> None:
        link.to_client(CLEAR + message[4:16] + bytes(48) + os.urandom(256))


class SilentServer(HostileRelay):
    """Keeps the connection open and answers nothing."""

    def attack(self, message: bytes, link: Link) -> None:
        pass


class DrippingAnswers(HostileRelay):
    """Sends a byte of an answer now and then."""

    def attack(self, message: bytes, link: Link) -> None:
        for number in framed(message):
            link.client.sendall(bytes([number]))
            threading.Event().wait(DRIP_PAUSE_S)


class HugeAnswers(HostileRelay):
    """Announces messages of 4 GiB."""

    def attack(self, message: bytes, link: Link) -> None:
        link.client.sendall(b"\xff\xff\xff\xff" + os.urandom(4096))


class FloodOfAnswers(HostileRelay):
    """Sends encrypted messages that no key has made, for as long as the host reads them."""

    def attack(self, message: bytes, link: Link) -> None:
        made_up = framed(ENCRYPTED + os.urandom(64 * 1024))
        while True:  # until the connection is closed
            link.client.sendall(made_up)


SMB_ATTACKS: dict[str, Callable[[int], HostileRelay]] = {
    "SMB: changed answers": ChangedAnswers,
    "SMB: answers in the clear": ClearAnswers,
    "SMB: no answers": SilentServer,
    "SMB: answers that drip": DrippingAnswers,
    "SMB: messages of 4 GiB": HugeAnswers,
    "SMB: a flood of answers": FloodOfAnswers,
}
