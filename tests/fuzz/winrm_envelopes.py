"""What a Hyper-V host answers over WinRM: answers separated by a line, each with its HTTP status and one header."""

import base64
import io
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal, cast
from unittest.mock import patch

import requests
from urllib3 import HTTPResponse

from hyperv_ops import MachineError
from hyperv_ops.hyperv.script_call import ScriptReply
from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner
from tests.fuzz.target import FuzzTarget

_NTLM = b"ntlm\n"  #: at the beginning: a connection over HTTP with NTLM, otherwise over HTTPS
_NEXT = b"\n--next--\n"
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"


class _Body(io.BytesIO):
    """The body of an answer; requests_ntlm looks below it for the certificate of a connection."""

    fp = SimpleNamespace(raw=SimpleNamespace(_sock=None))


def _decode(data: bytes) -> None:
    answers = iter(data.removeprefix(_NTLM).split(_NEXT))

    def send(adapter: object, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        answer = next(answers, None)
        if answer is None:
            raise requests.ConnectionError("no more answers")
        head, _, body = answer.partition(b"\n")
        status, _, header = head.partition(b" ")
        response: Any = requests.Response()
        response.request, response.url, response.connection = request, request.url or "", adapter
        response.raw = HTTPResponse(body=_Body(body), preload_content=False)
        response.status_code = int(status) if status in (b"200", b"401", b"500", b"503") else 200
        name = "WWW-Authenticate" if response.status_code == 401 else "Content-Type"
        response.headers[name] = header.decode("latin-1")
        return cast(requests.Response, response)

    transport: Literal["ntlm", "https"] = "ntlm" if data.startswith(_NTLM) else "https"
    access = WinRmAccess(host="hv-1", account="a", password=lambda: "p", transport=transport)
    with patch.object(requests.adapters.HTTPAdapter, "send", send):
        assert isinstance(WinRmRunner(access).run("Get-FarmVM", {}, timeout_s=2.0), ScriptReply)


def _challenge(info: bytes) -> bytes:
    """An NTLM challenge with this target information. Source: MS-NLMP 2.2.1.2, 2.2.2.1 (AV_PAIR)."""
    head = struct.pack(
        "<8sIHHII8s8sHHI8s", b"NTLMSSP", 2, 4, 4, 56, 0xE28A8235, b"12345678", b"", *[len(info)] * 2, 60, b""
    )
    return b"401 Negotiate " + base64.b64encode(head + "HV".encode("utf-16-le") + info)


def _envelope(body: str) -> bytes:
    text = f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:r="{_SHELL}"><s:Header/>'
    return f"{text}<s:Body>{body}</s:Body></s:Envelope>".encode()


def _seeds() -> Iterator[bytes]:
    reply = base64.b64encode(b"reply:" + base64.b64encode(b'{"ok": true, "value": "[]"}') + b"\r\n").decode()
    shell = _envelope('<Selector Name="ShellId">1A</Selector>')
    command = _envelope("<r:CommandResponse><r:CommandId>2B</r:CommandId></r:CommandResponse>")
    sent = _envelope("<r:SendResponse/>")
    received = _envelope(
        f'<r:ReceiveResponse><r:Stream Name="stdout">{reply}</r:Stream><r:Stream Name="stderr">eA==</r:Stream>'
        f'<r:CommandState State="{_SHELL}/CommandState/Done"><r:ExitCode>0</r:ExitCode></r:CommandState>'
        "</r:ReceiveResponse>"
    )
    fault = _envelope(
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:QuotaLimit</s:Value></s:Subcode></s:Code>"
        '<s:Reason><s:Text>full</s:Text></s:Reason><s:Detail><f:WSManFault Code="2150859173" '
        'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"/></s:Detail></s:Fault>'
    )
    good = [b"200\n" + text for text in (shell, command, sent, received)]
    for count in range(1, len(good) + 1):
        yield _NEXT.join(good[:count])
        yield _NEXT.join([*good[: count - 1], b"500\n" + fault])
    yield b"200\n" + b"<a>" * 5000
    yield b'200\n<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'"><!ENTITY c "' + b"&b;" * 1000 + b'">]><a>&c;&c;&c;</a>'
    yield b"401\n"
    name = struct.pack("<HH", 2, 4) + "HV".encode("utf-16-le")
    time = struct.pack("<HHQ", 7, 8, 133_000_000_000_000_000)
    sealed = "application/HTTP-SPNEGO-session-encrypted"
    for info in (name + time + bytes(4), time[:8], struct.pack("<HHq", 7, 8, -1) + bytes(4), struct.pack("<HH", 7, 2)):
        for length in (b" type=application/soap+xml;charset=UTF-8;Length=10", b""):
            part = b"\r\n\tContent-Type: " + sealed.encode() + b"\r\n\tOriginalContent:" + length + b"\r\n"
            octets = b"\r\n\tContent-Type: application/octet-stream\r\n" + struct.pack("<I", 16) + bytes(26)
            body = b"--Encrypted Boundary" + part + b"--Encrypted Boundary" + octets + b"--Encrypted Boundary--\r\n"
            head = f'200 multipart/encrypted;protocol="{sealed}";boundary="Encrypted Boundary"\n'.encode()
            yield _NTLM + _NEXT.join((b"401 Negotiate", _challenge(info), b"200", head + body))
    yield _NTLM + b"200\n" + shell
    yield b"503\n<HTML>"


TARGET = FuzzTarget(_decode, (MachineError,), _seeds)
