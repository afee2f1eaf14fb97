"""Attacks on the way between the host and a real Samba server, and by a server: none is believed, none hangs."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from smbprotocol.header import Commands, NtStatus, Smb2Flags

from inbox_agent.protocol.files import ShareError, Unavailable
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.shares.share_client import ENTRIES_MAX
from pipeline.shares.smb import files as smb_files
from pipeline.shares.smb import frames, session
from pipeline.shares.smb.channel import SealedChannel
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.frames import FRAME_BYTES_MAX
from pipeline.shares.smb.seal import Encryption
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.harness.samba import ACCOUNT, PASSWORD, Samba, give_to_account, samba
from tests.harness.smb_forgery import ANSWER, SIGNED_ANSWER, bodies, forged_answers, listing_of
from tests.harness.smb_relay import Link, Relay, framed
from tests.harness.waiting import eventually

pytestmark = pytest.mark.timeout(120)

RECORD = "outbox/x.result.json"
HONEST, FORGED = b'{"fitness": 1.0}', b'{"fitness": 9.9}'
SEED, CHANGED_ANSWERS = 1, 150


@pytest.fixture(scope="module")
def encrypting() -> Iterator[Samba]:
    with _server(encrypt="required") as server:
        yield server


@pytest.fixture(scope="module")
def signing() -> Iterator[Samba]:
    with _server(encrypt="off") as server:
        yield server


@pytest.fixture(params=["encrypting", "signing"])
def server(request: pytest.FixtureRequest) -> Samba:
    """Each of them."""
    found: Samba = request.getfixturevalue(request.param)
    return found


@contextmanager
def _server(encrypt: str) -> Iterator[Samba]:
    with samba(encrypt=encrypt) as server:
        share = server.shares["exchange"]
        LocalFiles(share).make_folders()
        (share / RECORD).write_bytes(HONEST)
        give_to_account(share)
        yield server


class Victim:
    """A host's share behind a relay that attacks."""

    def __init__(self, server: Samba, limit_s: float = 5.0) -> None:
        self.relay = Relay(server.port)
        access = SmbAccess(
            server="127.0.0.1",
            share="exchange",
            port=self.relay.port,
            account=ACCOUNT,
            password=lambda: PASSWORD,
            encryption=server.encrypts,
        )
        self.session = SmbSession(access, limit_s=limit_s)
        self.files = SmbFiles(self.session)

    def log_in(self) -> SealedChannel:
        """Connects and reads once; the attack may begin."""
        assert self.read() == HONEST
        return self.session.connect()

    def read(self) -> bytes:
        """The record."""
        return self.files.read(RECORD, 100)

    def swallow_questions(self, answer: Callable[[], bytes]) -> None:
        """No request reaches the server from now on; the client gets this answer instead."""
        self.relay.on_question = lambda _message, link: link.to_client(answer())

    def close(self) -> None:
        """Drops everything."""
        self.session.drop()
        self.relay.close()


@pytest.fixture
def attack(server: Samba) -> Iterator[Victim]:
    victim = Victim(server)
    yield victim
    victim.close()


@pytest.fixture
def signed(signing: Samba) -> Iterator[Victim]:
    victim = Victim(signing)
    yield victim
    victim.close()


# ------------------------------------------------------------------------------------------------- forged answers


@pytest.mark.parametrize(
    "made_up",
    [
        {"flags": ANSWER},
        {"flags": SIGNED_ANSWER},
        {"flags": ANSWER, "command": Commands.SMB2_SESSION_SETUP},
        {"flags": SIGNED_ANSWER, "command": Commands.SMB2_SESSION_SETUP},
    ],
    ids=["unsigned", "wrong signature", "as if of a log-in", "as if of a log-in, wrong signature"],
)
def test_answer_made_up_on_the_way_is_not_believed(attack: Victim, made_up: dict[str, Any]) -> None:
    """It has no key, so it sends its answer in the clear. The next look has a new connection, and is right again."""
    channel = attack.log_in()
    attack.swallow_questions(lambda: forged_answers(channel, bodies(FORGED), **made_up))
    with pytest.raises(Unavailable):
        attack.read()
    assert not attack.session.connected

    attack.relay.on_question = attack.relay.forward_question
    assert eventually(lambda: _look(attack) == "right", 20)


def test_answer_with_signature_removed_is_not_believed(signed: Victim) -> None:
    """The real answer with other content, and without the flag that says it is signed."""

    def change(message: bytes, link: Link) -> None:
        changed = bytearray(message.replace(HONEST, FORGED))
        at = 0
        while True:
            changed[at + 16] &= ~Smb2Flags.SMB2_FLAGS_SIGNED
            changed[at + 48 : at + 64] = bytes(16)
            step = int.from_bytes(changed[at + 20 : at + 24], "little")
            if not step:
                break
            at += step
        link.to_client(bytes(changed))

    signed.log_in()
    signed.relay.on_answer = change
    with pytest.raises(Unavailable, match="not signed"):
        signed.read()


def test_own_request_is_not_taken_for_its_answer(signed: Victim) -> None:
    """It is signed with the same key, and reads as an answer that says "done": a record would be lost for good."""
    signed.log_in()
    signed.relay.on_question = lambda message, link: link.to_client(message)
    with pytest.raises(Unavailable, match="not signed"):
        signed.files.publish("inbox/x.start.json", b"record")


def test_answer_to_other_kind_of_request_is_refused(signed: Victim) -> None:
    """The library keeps every answer of the first kind for as long as the connection lasts."""
    channel = signed.log_in()
    signed.swallow_questions(
        lambda: forged_answers(channel, bodies(), flags=SIGNED_ANSWER, command=Commands.SMB2_NEGOTIATE, with_key=True)
    )
    with pytest.raises(Unavailable, match="another kind of request"):
        signed.read()


# ------------------------------------------------------------------------------------------------- changed answers


def test_changed_answer_costs_one_look(server: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of one message of the server is changed on the way, also of its log-in and of a message's length."""
    rng = random.Random(SEED)
    spared = 0

    def change(message: bytes, link: Link) -> None:
        nonlocal spared
        packet = framed(message)
        link.client.sendall(_with_bit_flipped(packet, rng) if spared == 0 else packet)
        spared -= 1

    monkeypatch.setattr(session, "CONNECT_LIMIT_S", 1.0)
    seen = {"right": 0, "refused": 0}
    for _ in range(CHANGED_ANSWERS):
        spared = rng.randrange(10)
        victim = Victim(server, limit_s=1.0)
        victim.relay.on_answer = change
        seen[_look(victim)] += 1
        victim.close()
    assert all(seen.values()), seen


def test_nonsense_of_server_costs_one_look(encrypting: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the keys, so what it sends is decrypted and parsed."""
    rng = random.Random(SEED)
    spared = 0
    decrypt = Encryption.open

    def change(seal: Encryption, packet: bytes) -> bytes:
        nonlocal spared
        spared -= 1
        found = decrypt(seal, packet)
        return _with_bit_flipped(found, rng) if spared < 0 else found

    monkeypatch.setattr(Encryption, "open", change)
    for _ in range(CHANGED_ANSWERS):
        spared = rng.randrange(3)
        victim = Victim(encrypting, limit_s=1.0)
        _look(victim, believed=True)
        victim.close()


def _with_bit_flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(8 * len(data))
    return bytes(byte ^ (1 << at % 8) if number == at // 8 else byte for number, byte in enumerate(data))


def _look(victim: Victim, *, believed: bool = False) -> str:
    """The outcome of a look. Anything else than the truth or an error of the share fails the test."""
    try:
        names, content = victim.files.names("outbox"), victim.read()
    except ShareError:
        return "refused"
    assert believed or (sorted(names), content) == (["tmp", "x.result.json"], HONEST)
    return "right"


# ------------------------------------------------------------------------------------------ size and time of messages


@pytest.mark.parametrize("logged_in", [False, True], ids=["before log-in", "after log-in"])
@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_message_of_senseless_length_is_refused(signed: Victim, length: int, logged_in: bool) -> None:
    """Before its memory is allocated."""
    if logged_in:
        signed.log_in()
    signed.relay.on_answer = lambda _message, link: link.client.sendall(length.to_bytes(4, "big"))
    with pytest.raises(Unavailable, match=f"a message of {length} bytes"):
        signed.read()


@pytest.mark.parametrize("logged_in", [False, True], ids=["before log-in", "after log-in"])
def test_dripping_message_has_deadline(encrypting: Samba, logged_in: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no connection."""
    stop = threading.Event()

    def drip(message: bytes, link: Link) -> None:
        for number in framed(message):
            link.client.sendall(bytes([number]))
            if stop.wait(0.02):
                break

    monkeypatch.setattr(frames, "FRAME_LIMIT_S", 0.3)
    victim = Victim(encrypting, limit_s=60)
    if logged_in:
        victim.log_in()
    victim.relay.on_answer = drip
    with pytest.raises(Unavailable, match="not complete after"):
        victim.read()
    stop.set()
    victim.close()


@pytest.mark.parametrize("logged_in", [False, True], ids=["before log-in", "after log-in"])
def test_silent_connection_has_deadline(server: Samba, logged_in: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open, and without any answer."""
    monkeypatch.setattr(session, "CONNECT_LIMIT_S", 1.0)
    victim = Victim(server, limit_s=1.0)
    if logged_in:
        victim.log_in()
    victim.relay.on_question = lambda _message, _link: None
    with pytest.raises(Unavailable):
        victim.read()
    victim.close()


def test_interim_answers_do_not_extend_deadline(signing: Samba) -> None:
    """They need no signature, and each of them asks the client to wait."""
    victim = Victim(signing, limit_s=1.0)
    channel = victim.log_in()
    stop = threading.Event()

    def keep_waiting(_message: bytes, link: Link) -> None:
        while not stop.wait(0.05):
            link.to_client(forged_answers(channel, bodies(), flags=ANSWER, status=NtStatus.STATUS_PENDING))

    victim.relay.on_question = keep_waiting
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer in time"):
        victim.read()
    stop.set()
    assert time.monotonic() - began < 10
    victim.close()


# ------------------------------------------------------------------------------------------------------------ listings


def test_listing_without_end_is_refused(signed: Victim) -> None:
    """The server always has more names; the host reads no more than it would accept."""
    names = listing_of([f"{number:06d}.started.json" for number in range(ENTRIES_MAX * 9 // 10)])
    asked = _list_for_ever(signed, names)
    with pytest.raises(Unavailable, match="more than 10000 entries"):
        signed.files.names("inbox")

    assert not signed.session.connected
    assert asked[0] == 4  # the first two queries are one message; then open, query, query


def test_listing_without_names_has_deadline(signed: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server always says that there is more, and names nothing."""
    monkeypatch.setattr(smb_files, "LISTING_LIMIT_S", 0.3)
    _list_for_ever(signed, listing_of(["."]))
    with pytest.raises(Unavailable, match="not listed in"):
        signed.files.names("inbox")

    assert not signed.session.connected


def _list_for_ever(victim: Victim, names: bytes) -> list[int]:
    channel = victim.log_in()
    asked = [0]

    def answer() -> bytes:
        asked[0] += 1
        return forged_answers(channel, bodies(listing=names), flags=SIGNED_ANSWER, with_key=True)

    victim.swallow_questions(answer)
    return asked
