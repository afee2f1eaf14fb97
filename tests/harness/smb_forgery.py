"""Answers to SMB requests that the server never gave, for a relay that sends them in its place.

The ids of the requests follow from their order, so an attacker knows them; here they are read from the client.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from smbprotocol.header import Commands, Smb2Flags, SMB2HeaderResponse
from smbprotocol.open import SMB2CloseResponse, SMB2CreateResponse, SMB2QueryDirectoryResponse, SMB2ReadResponse

from pipeline.shares.smb.channel import SealedChannel
from pipeline.shares.smb.packets import SIGNATURE_AT, SIGNATURE_BYTES
from pipeline.shares.smb.seal import Signing

ANSWER = Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR
SIGNED_ANSWER = ANSWER | Smb2Flags.SMB2_FLAGS_SIGNED


def bodies(content: bytes = b"", listing: bytes = b"") -> dict[int, bytes]:
    """A body for each command of reading and listing: every file has this content, every query this listing."""
    return {
        Commands.SMB2_CREATE: _filled(SMB2CreateResponse(), file_id=b"x" * 16, end_of_file=len(content)),
        Commands.SMB2_READ: _filled(SMB2ReadResponse(), data_offset=80, buffer=content),
        Commands.SMB2_QUERY_DIRECTORY: _filled(SMB2QueryDirectoryResponse(), buffer=listing),
        Commands.SMB2_CLOSE: _filled(SMB2CloseResponse()),
    }


def listing_of(names: Sequence[str]) -> bytes:
    """FileNamesInformation (MS-FSCC 2.4.28)."""
    found = b""
    for name in names:
        text = name.encode("utf-16-le")
        step = 0 if name is names[-1] else 12 + len(text)
        found += b"".join(number.to_bytes(4, "little") for number in (step, 0, len(text))) + text
    return found


def forged_answers(
    channel: SealedChannel,
    body_of: Mapping[int, bytes],
    *,
    flags: int,
    status: int = 0,
    command: int | None = None,
    with_key: bool = False,
) -> bytes:
    """One message with an answer to each request that waits for one; `with_key`: signed as the server would do it."""
    waiting = sorted((at, exchange.commands[number]) for at, (exchange, number) in channel._pending.items())
    message = b""
    for message_id, asked in waiting:
        body = body_of[asked]
        body += bytes(-len(body) % 8)
        header = SMB2HeaderResponse()
        header["command"] = asked if command is None else command
        header["message_id"] = message_id
        header["session_id"] = channel._to.session_id
        header["credit_response"] = 20
        header["flags"] = flags
        header["status"] = status
        header["next_command"] = 0 if message_id == waiting[-1][0] else 64 + len(body)
        header["data"] = body
        member = header.pack()
        if with_key:
            assert isinstance(channel.seal, Signing)
            signature = channel.seal._signature(member, message_id, is_answer=True)
            member = member[:SIGNATURE_AT] + signature + member[SIGNATURE_AT + SIGNATURE_BYTES :]
        message += member
    return message


def _filled(response: Any, **fields: Any) -> bytes:
    for name, value in fields.items():
        response[name] = value
    return bytes(response.pack())
