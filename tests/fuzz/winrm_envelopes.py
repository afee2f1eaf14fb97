"""What a Hyper-V host answers over WinRM, below HTTP: answers separated by a line, each with its HTTP status."""

import base64
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import requests

from hyperv_ops import MachineError
from hyperv_ops.hyperv.script_call import ScriptReply
from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner
from tests.fuzz.target import FuzzTarget

_NEXT = b"\n--next--\n"
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"


def _decode(data: bytes) -> None:
    answers = iter(data.split(_NEXT))

    def send(_adapter: object, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        answer = next(answers, None)
        if answer is None:
            raise requests.ConnectionError("no more answers")
        status, _, body = answer.partition(b"\n")
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = int(status) if status in (b"200", b"401", b"500", b"503") else 200
        response._content = body
        return response

    access = WinRmAccess(host="hv-1", account="a", password=lambda: "p", transport="https")
    with patch.object(requests.adapters.HTTPAdapter, "send", send):
        assert isinstance(WinRmRunner(access).run("Get-FarmVM", {}, timeout_s=2.0), ScriptReply)


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
    yield b"503\n<HTML>"


TARGET = FuzzTarget(_decode, (MachineError,), _seeds)
