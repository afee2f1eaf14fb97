"""SMB messages and packets: the bytes of requests, and the parsing of what a server answers."""

import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from smbprotocol.change_notify import SMB2ChangeNotifyRequest
from smbprotocol.file_info import FileInformationClass, FileRenameInformation, InfoType
from smbprotocol.header import Commands, Smb2Flags, SMB2HeaderRequest, SMB2HeaderResponse
from smbprotocol.open import (
    SMB2CloseRequest,
    SMB2CreateRequest,
    SMB2CreateResponse,
    SMB2FlushRequest,
    SMB2QueryDirectoryRequest,
    SMB2QueryInfoRequest,
    SMB2ReadRequest,
    SMB2ReadResponse,
    SMB2SetInfoRequest,
    SMB2WriteRequest,
)

from inbox_agent.protocol.files import Unavailable
from pipeline.shares.smb import messages, packets, statuses
from pipeline.shares.smb.messages import HEADER_BYTES, LAST_OPENED, SmbReply, SmbRequest, Steps
from tests.harness.smb_forgery import bodies

HANDLE = bytes(range(16))


def filled(structure: Any, **fields: Any) -> bytes:
    """The bytes that smbprotocol makes of a structure with these fields."""
    for name, value in fields.items():
        structure[name] = value
    return bytes(structure.pack())


def created(path: str, access: int, disposition: int, options: int, sharing: int = 7) -> bytes:
    return filled(
        SMB2CreateRequest(),
        impersonation_level=2,
        desired_access=access,
        share_access=sharing,
        create_disposition=disposition,
        create_options=options,
        buffer_path=path.encode("utf-16-le") or b"\0\0",
    )


def renamed(path: str, *, replace: bool) -> bytes:
    information = FileRenameInformation()
    information["replace_if_exists"], information["file_name"] = replace, path
    return filled(
        SMB2SetInfoRequest(),
        info_type=InfoType.SMB2_0_INFO_FILE,
        file_info_class=FileInformationClass.FILE_RENAME_INFORMATION,
        file_id=LAST_OPENED,
        buffer=information,
    )


def writing(data: bytes, offset: int, handle: bytes) -> bytes:
    return filled(SMB2WriteRequest(), offset=offset, file_id=handle, buffer=data)


def reading(length: int, offset: int, handle: bytes) -> bytes:
    return filled(SMB2ReadRequest(), length=length, offset=offset, file_id=handle, read_channel_info_length=0)


def querying(handle: bytes) -> bytes:
    return filled(
        SMB2QueryDirectoryRequest(),
        file_information_class=FileInformationClass.FILE_NAMES_INFORMATION,
        file_id=handle,
        output_buffer_length=messages.LISTING_BYTES,
        buffer="*".encode("utf-16-le"),
    )


def querying_space() -> bytes:
    return filled(
        SMB2QueryInfoRequest(),
        info_type=InfoType.SMB2_0_INFO_FILESYSTEM,
        file_info_class=3,
        output_buffer_length=24,
        file_id=HANDLE,
    )


def closing(handle: bytes) -> bytes:
    return filled(SMB2CloseRequest(), file_id=handle)


def noticing() -> bytes:
    return filled(SMB2ChangeNotifyRequest(), output_buffer_length=4096, file_id=HANDLE, completion_filter=1)


STEPS = Steps("vm-3")
OPEN_IF, OVERWRITE_IF, OPEN = 3, 5, 1
FOLDER, PLAIN = 0x1, 0x40 | 0x200000
CASES: dict[str, tuple[SmbRequest, bytes]] = {
    "open a file": (STEPS.open_plain("inbox/ä"), created(r"vm-3\inbox\ä", 0x1, OPEN, PLAIN)),
    "make a file": (STEPS.open_new("inbox/a"), created(r"vm-3\inbox\a", 0x10002, OVERWRITE_IF, 0x40, 5)),
    "open the share": (Steps().open_folder(""), created("", 0x1, OPEN, FOLDER)),
    "make a folder": (STEPS.make_folder("inbox")[0], created(r"vm-3\inbox", 0x80, OPEN_IF, FOLDER)),
    "remove": (STEPS.remove("inbox/a")[0], created(r"vm-3\inbox\a", 0x10000, OPEN, PLAIN | 0x1000)),
    "publish": (
        STEPS.publish("inbox/a", b"", durable=False)[1],
        renamed(r"vm-3\inbox\a", replace=False),
    ),
    "replace": (STEPS.replace("status/a", b"")[1], renamed(r"vm-3\status\a", replace=True)),
    "flush": (STEPS.publish("inbox/a", b"", durable=True)[2], filled(SMB2FlushRequest(), file_id=LAST_OPENED)),
    "write": (messages.write(b"content", 70_000, HANDLE), writing(b"content", 70_000, HANDLE)),
    "read": (messages.read(100_000, 2**33, HANDLE), reading(100_000, 2**33, HANDLE)),
    "list": (messages.query(HANDLE), querying(HANDLE)),
    "free space": (messages.query_space(HANDLE), querying_space()),
    "close": (messages.close(HANDLE), closing(HANDLE)),
    "wait for changes": (messages.change_notify(HANDLE, 1, 4096), noticing()),
}


@pytest.mark.parametrize("what", CASES)
def test_request_has_the_bytes_of_smbprotocol(what: str) -> None:
    """Two independent readings of MS-SMB2 agree on every kind of message that the program sends."""
    request, expected = CASES[what]

    assert request.body == expected


def test_header_has_the_bytes_of_smbprotocol() -> None:
    """Of the first and of the last message of a compound."""
    requests = [messages.write(b"abc", handle=HANDLE), messages.close()]
    to = packets.Addressee(session_id=2**63, tree_id=7, flags=Smb2Flags.SMB2_FLAGS_SIGNED)

    first, last = packets.packed(requests, [10, 11], [1, 1], to)

    common = {"credit_charge": 1, "credit_request": 1, "tree_id": 7, "session_id": 2**63}
    assert len(first) % 8 == 0
    assert first == filled(
        SMB2HeaderRequest(),
        command=Commands.SMB2_WRITE,
        flags=Smb2Flags.SMB2_FLAGS_SIGNED,
        next_command=len(first),
        message_id=10,
        data=requests[0].body + bytes(-len(requests[0].body) % 8),
        **common,
    )
    assert last == filled(
        SMB2HeaderRequest(),
        command=Commands.SMB2_CLOSE,
        flags=Smb2Flags.SMB2_FLAGS_SIGNED | Smb2Flags.SMB2_FLAGS_RELATED_OPERATIONS,
        message_id=11,
        data=requests[1].body,
        **common,
    )


@pytest.mark.parametrize(
    ("request_", "price"),
    [
        (messages.close(), 1),
        (messages.write(b""), 1),
        (messages.write(bytes(65_536)), 1),
        (messages.write(bytes(65_537)), 2),
        (messages.read(2**20), 16),
    ],
)
def test_each_64_kib_cost_one_credit(request_: SmbRequest, price: int) -> None:
    """Whichever way they go."""
    assert messages.credits_for(request_.payload_bytes) == price


# ---------------------------------------------------------------------------------------------------------- answers


def answer(**fields: Any) -> bytes:
    return filled(SMB2HeaderResponse(), command=Commands.SMB2_READ, **fields)


def test_answers_of_a_compound_are_told_apart() -> None:
    """Each ends where the next one begins."""
    body = bytes(8)
    packet = answer(message_id=4, next_command=HEADER_BYTES + 8, data=body) + answer(message_id=5, credit_response=3)

    first, last = packets.answers(packet)

    assert (first.message_id, first.body, first.credits) == (4, body, 0)
    assert (last.message_id, last.body, last.credits) == (5, b"", 3)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        answer()[:-1],
        b"\xfdSMB" + answer()[4:],
        answer(next_command=HEADER_BYTES),
        answer(next_command=HEADER_BYTES - 8) + answer(),
        answer(next_command=1) + answer(),
        answer(next_command=2**32 - 8) + answer(),
    ],
    ids=["empty", "cut", "another protocol", "no next one", "into itself", "without end", "beyond its end"],
)
def test_malformed_packet_is_refused(packet: bytes) -> None:
    """Without an endless loop, and without reading behind its end."""
    with pytest.raises(packets.MalformedPacket):
        list(packets.answers(packet))


READ = filled(SMB2ReadResponse(), data_offset=80, buffer=b"content")


def test_content_is_what_was_read() -> None:
    """Also if there is nothing."""
    assert messages.content(SmbReply(statuses.OK, READ)) == b"content"
    assert messages.content(SmbReply(statuses.OK, filled(SMB2ReadResponse(), data_offset=80, buffer=b""))) == b""


@pytest.mark.parametrize(
    "data", [READ[:15], READ[:-1], b"\x11\x00\x10" + READ[3:], b"\x11\x00\xff" + READ[3:]], ids=str
)
def test_content_outside_of_its_message_is_refused(data: bytes) -> None:
    """Cut, or said to be in the header or behind the end."""
    with pytest.raises(Unavailable, match="makes no sense"):
        messages.content(SmbReply(statuses.OK, data))


PARSERS: list[tuple[Callable[[SmbReply], object], int]] = [
    (messages.opened, Commands.SMB2_CREATE),
    (messages.content, Commands.SMB2_READ),
    (messages.information, Commands.SMB2_QUERY_DIRECTORY),
    (messages.free_bytes, Commands.SMB2_QUERY_DIRECTORY),
]


@pytest.mark.parametrize(("parse", "command"), PARSERS)
def test_every_cut_of_an_answer_is_refused_or_parsed(parse: Callable[[SmbReply], object], command: int) -> None:
    """No exception but the one of a malformed answer."""
    whole = bodies(b"content", struct.pack("<QQII", 0, 10, 8, 512))[command]
    assert parse(SmbReply(statuses.OK, whole)) is not None
    for length in range(len(whole)):
        try:
            parse(SmbReply(statuses.OK, whole[:length]))
        except Unavailable:
            continue


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if sys.platform != "win32":
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
    yield
    if sys.platform != "win32":
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("filetime", "unix_time"),
    [(0, -11_644_473_600), (133_000_000_000_000_000, 1_655_526_400), (2**64 - 1, 253_402_300_799.999_999)],
)
def test_any_time_of_a_server_is_accepted(filetime: int, unix_time: float, in_new_york: None) -> None:
    """A time after the year 9999 is cut: no function of Python takes it."""
    response = filled(SMB2CreateResponse(), file_id=bytes(16))
    reply = SmbReply(statuses.OK, response[:32] + filetime.to_bytes(8, "little") + response[40:])

    assert messages.opened(reply).changed_at == pytest.approx(unix_time)
