"""A logged-in SMB connection over a pair of sockets: ids, credits, deadlines, and peers that do not read."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from smbprotocol import Dialects
from smbprotocol.connection import Ciphers, Connection, SigningAlgorithms, SMB2TransformHeader
from smbprotocol.exceptions import SMBException
from smbprotocol.header import Commands, NtStatus, SMB2HeaderResponse
from smbprotocol.session import Session

from pipeline.shares.smb import messages, packets
from pipeline.shares.smb.channel import Credits, SealedChannel
from pipeline.shares.smb.frames import Frames, framed
from pipeline.shares.smb.receiver import Receiver
from pipeline.shares.smb.seal import Encryption, Seal, SessionKeys, Signing, UntrustedAnswer
from tests.harness.smb_forgery import ANSWER, SIGNED_ANSWER, bodies, forged_answers
from tests.harness.waiting import PATIENCE_S, eventually

BODIES = {**bodies(b"content"), Commands.SMB2_WRITE: bytes(16)}
KEY, OTHER_KEY = b"k" * 16, b"o" * 16


def keys(**other: object) -> SessionKeys:
    fields = {
        "session_id": 5,
        "dialect": Dialects.SMB_3_1_1,
        "cipher": Ciphers.AES_128_GCM,
        "signing_algorithm": SigningAlgorithms.AES_GMAC,
        "encryption_key": KEY,
        "decryption_key": OTHER_KEY,
        "signing_key": KEY,
    }
    return SessionKeys(**{**fields, **other})


class Peer:
    """The server's end of a channel; it answers when the test says so."""

    def __init__(self, allowed: int = 64, receiver: Receiver | None = None) -> None:
        ours, self.sock = socket.socketpair()
        receiver = receiver or Receiver()
        window = Credits(0, allowed, are_charged=True)
        self.channel = SealedChannel(ours, Signing(keys()), 5, 7, window, receiver=receiver)
        self._thread = receiver._thread

    def answer(self, **how: object) -> None:
        """Answers all requests that wait, signed as the server does it."""
        made = {"flags": SIGNED_ANSWER, "with_key": True, **how}
        self.sock.sendall(framed(forged_answers(self.channel, BODIES, **made)))

    def close(self) -> None:
        self.channel.end(SMBException("closed"))
        self.sock.close()
        assert eventually(lambda: self.channel.sock.fileno() == -1)

    def join(self) -> None:
        """Waits for the thread that received, which ends with its last connection."""
        if self._thread is not None:
            self._thread.join(PATIENCE_S)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()
    peer.join()


def soon() -> float:
    return time.monotonic() + PATIENCE_S


def test_exchange_returns_the_answers_in_order(peer: Peer) -> None:
    """One packet there, one back."""
    exchange = peer.channel.ask([messages.read(100), messages.close()])
    peer.answer()

    read, closed = exchange.replies(soon())

    assert messages.content(read) == b"content"
    assert closed.status == 0


def test_exchanges_may_overlap(peer: Peer) -> None:
    """As a pending change notification does with all others."""
    first, second = peer.channel.ask([messages.close()]), peer.channel.ask([messages.read(100)])
    peer.answer()

    assert messages.content(second.replies(soon())[0]) == b"content"
    assert first.replies(soon())[0].status == 0


def test_interim_answer_is_waited_out(peer: Peer) -> None:
    """It is not signed, and says only that there will be another one."""
    exchange = peer.channel.ask([messages.close()])
    peer.answer(flags=ANSWER, status=NtStatus.STATUS_PENDING, with_key=False)
    peer.answer()

    assert [reply.status for reply in exchange.replies(soon())] == [0]


def test_missing_answer_has_deadline(peer: Peer) -> None:
    with pytest.raises(SMBException, match="no answer in time"):
        peer.channel.ask([messages.close()]).replies(time.monotonic())


def test_end_of_connection_wakes_all_that_wait(peer: Peer) -> None:
    """And every later request fails at once."""
    done = threading.Event()
    waiting = [peer.channel.ask([messages.close()]), peer.channel.ask([messages.close()], lambda _: done.set())]
    peer.sock.close()

    for exchange in waiting:
        with pytest.raises(SMBException, match="closed the connection"):
            exchange.replies(soon())
    assert done.wait(PATIENCE_S)
    with pytest.raises(SMBException, match="closed the connection"):
        peer.channel.ask([messages.close()])


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"flags": ANSWER}, "not signed"),
        ({"with_key": False}, "another key"),
        ({"command": Commands.SMB2_NEGOTIATE}, "another kind of request"),
    ],
)
def test_untrusted_answer_ends_the_channel(peer: Peer, how: dict[str, object], error: str) -> None:
    """Every packet in it is refused, also those before the answer in question."""
    exchange = peer.channel.ask([messages.read(100)])
    peer.answer(**how)

    with pytest.raises(UntrustedAnswer, match=error):
        exchange.replies(soon())
    assert not peer.channel.is_open


def test_answer_to_no_request_ends_the_channel(peer: Peer) -> None:
    """Nothing is kept for later."""
    exchange = peer.channel.ask([messages.close()])
    pending = dict(peer.channel._pending)
    peer.answer()
    assert exchange.replies(soon())
    peer.channel._pending |= pending
    packet = forged_answers(peer.channel, bodies(), flags=SIGNED_ANSWER, with_key=True)
    peer.channel._pending.clear()

    peer.sock.sendall(framed(packet))

    assert eventually(lambda: not peer.channel.is_open)


def test_requests_beyond_the_credits_are_not_sent() -> None:
    """The server would end the connection; the answers to others bring new credits."""
    peer = Peer(allowed=2)
    exchange = peer.channel.ask([messages.close(), messages.close()])
    with pytest.raises(SMBException, match="too few requests"):
        peer.channel.ask([messages.close()])

    peer.answer()
    exchange.replies(soon())
    peer.channel.ask([messages.read(16 * messages.CREDIT_BYTES)])
    peer.close()
    peer.join()


def test_peer_that_does_not_read_stops_no_other() -> None:
    """What its socket does not take is sent as soon as it reads; meanwhile all others are received."""
    receiver = Receiver()
    busy, peer = Peer(allowed=100_000, receiver=receiver), Peer(receiver=receiver)
    content = bytes(24 * messages.CREDIT_BYTES)
    written = [busy.channel.ask([messages.write(content)])]
    while not busy.channel._unsent:  # some systems take megabytes
        written.append(busy.channel.ask([messages.write(content)]))

    for _ in range(3):
        exchange = peer.channel.ask([messages.close()])
        peer.answer()
        exchange.replies(soon())

    received, frames = list[bytes](), Frames()
    while len(received) < len(written):
        received += frames.feed(busy.sock.recv(2**16))
    busy.answer()
    assert all(exchange.replies(soon()) for exchange in written)
    assert all(content in packet for packet in received)
    for each in (busy, peer):
        each.close()
    peer.join()


def test_receiver_ends_with_the_last_connection() -> None:
    """And begins anew with the next one."""
    receiver, before = Receiver(), threading.active_count()
    for _ in range(2):
        peers = [Peer(receiver=receiver), Peer(receiver=receiver)]
        assert threading.active_count() == before + 1
        for peer in peers:
            exchange = peer.channel.ask([messages.close()])
            peer.answer()
            assert exchange.replies(soon())
            peer.close()
        peers[-1].join()
        assert threading.active_count() == before


# ------------------------------------------------------------------------------------------------------------- seals

SEALS: dict[str, Callable[[], Seal]] = {
    "AES-128-GCM": lambda: Encryption(keys()),
    "AES-256-GCM": lambda: Encryption(
        keys(cipher=Ciphers.AES_256_GCM, encryption_key=2 * KEY, decryption_key=2 * OTHER_KEY)
    ),
    "AES-128-CCM": lambda: Encryption(keys(cipher=Ciphers.AES_128_CCM)),
    "AES-256-CCM": lambda: Encryption(
        keys(cipher=Ciphers.AES_256_CCM, encryption_key=2 * KEY, decryption_key=2 * OTHER_KEY)
    ),
    "3.0": lambda: Encryption(keys(dialect=Dialects.SMB_3_0_0, cipher=None)),
    "AES-GMAC": lambda: Signing(keys()),
    "AES-CMAC": lambda: Signing(keys(signing_algorithm=SigningAlgorithms.AES_CMAC)),
    "HMAC-SHA256": lambda: Signing(keys(signing_algorithm=SigningAlgorithms.HMAC_SHA256)),
    "3.0, signed": lambda: Signing(keys(dialect=Dialects.SMB_3_0_2, signing_algorithm=None)),
}


def library(seal: str) -> tuple[Connection, Session]:
    """The other side, by smbprotocol: it decrypts what we encrypt, and the other way round."""
    connection = Connection(None, "server", 445)
    agreed = keys()
    cipher = {
        "AES-256-GCM": Ciphers.AES_256_GCM,
        "AES-128-CCM": Ciphers.AES_128_CCM,
        "AES-256-CCM": Ciphers.AES_256_CCM,
    }
    connection.cipher_id = cipher.get(seal, agreed.cipher)
    connection.dialect = Dialects.SMB_3_0_0 if seal.startswith("3.0") else Dialects.SMB_3_1_1
    connection.signing_algorithm_id = {
        "AES-CMAC": SigningAlgorithms.AES_CMAC,
        "HMAC-SHA256": SigningAlgorithms.HMAC_SHA256,
    }.get(seal, agreed.signing_algorithm)
    session = Session(connection, "account", "password")
    times = 2 if "256-" in seal else 1
    session.session_id, session.signing_key = agreed.session_id, KEY
    session.encryption_key, session.decryption_key = times * OTHER_KEY, times * KEY
    connection.session_table[agreed.session_id] = session
    return connection, session


REQUEST = packets.packed([messages.close()], [9], [1], packets.Addressee(5, 7, 0))
PLAIN_ANSWER = SMB2HeaderResponse()
PLAIN_ANSWER["message_id"], PLAIN_ANSWER["flags"] = 9, SIGNED_ANSWER
PLAIN = PLAIN_ANSWER.pack()


@pytest.mark.parametrize("name", [name for name in SEALS if "AES-1" in name or "AES-2" in name or name == "3.0"])
def test_smbprotocol_reads_and_writes_what_is_encrypted(name: str) -> None:
    """With every cipher that may be agreed on, in both directions."""
    seal, (connection, session) = SEALS[name](), library(name)
    header = SMB2TransformHeader()
    header.unpack(seal.close(REQUEST, [9]))

    assert connection._decrypt(header) == REQUEST[0]
    assert seal.open(connection._encrypt(PLAIN, session).pack()) == PLAIN


@pytest.mark.parametrize("name", [name for name in SEALS if "MAC" in name or "signed" in name])
def test_smbprotocol_signs_alike(name: str) -> None:
    """With every algorithm that may be agreed on, in both directions."""
    seal, (connection, _) = SEALS[name](), library(name)
    signed = seal.close(REQUEST, [9])
    ours = connection._generate_signature(signed, KEY, 9, False, Commands.SMB2_CLOSE)
    theirs = connection._generate_signature(PLAIN, KEY, 9, True, Commands.SMB2_CLOSE)

    assert signed[48:64] == ours
    (answer,) = packets.answers(seal.open(PLAIN[:48] + theirs + PLAIN[64:]))
    seal.check(answer)


@pytest.mark.parametrize("at", [0, 4, 20, 36, 42, 44, 52, -1])
def test_changed_packet_is_not_decrypted(at: int) -> None:
    """Whichever part of it was changed; the size before encryption is one of them."""
    connection, session = library("AES-128-GCM")
    packet = bytearray(connection._encrypt(PLAIN, session).pack())
    packet[at] ^= 1

    with pytest.raises(UntrustedAnswer):
        Encryption(keys()).open(bytes(packet))


def test_each_packet_has_its_own_nonce() -> None:
    """A second one with the same would give the key away."""
    seal = Encryption(keys())

    assert len({seal.close(REQUEST, [9])[20:36] for _ in range(100)}) == 100


# ------------------------------------------------------------------------------------------------------------ frames


def test_packets_are_found_however_they_arrive() -> None:
    """Byte by byte, or several at once."""
    stream = framed(b"one") + framed(b"two")

    assert Frames().feed(stream) == [b"one", b"two"]
    frames = Frames()
    assert [packet for byte in stream for packet in frames.feed(bytes([byte]))] == [b"one", b"two"]
    assert frames.due is None


def test_unfinished_packet_has_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from its first byte."""
    monkeypatch.setattr("pipeline.shares.smb.frames.FRAME_LIMIT_S", 0.0)
    frames = Frames()
    frames.require_progress()
    frames.feed(framed(b"one") + b"\0")

    with pytest.raises(UntrustedAnswer, match="not complete after"):
        frames.require_progress()
