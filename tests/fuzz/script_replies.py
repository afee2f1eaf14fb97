"""Standard output and error of a PowerShell script, and the CLIXML in them."""

import base64
import json
from collections.abc import Iterator

from hyperv_ops import MachineError
from hyperv_ops.hyperv.script_call import ScriptReply, takes_another_job, unpack_reply
from tests.fuzz.target import FuzzTarget

_STDERR = b"\n--stderr--\n"


def _decode(data: bytes) -> None:
    """Of two streams, and of the reply that they would be in the right place."""
    stdout, _, stderr = data.partition(_STDERR)
    assert takes_another_job(stdout) in (None, False, True)
    refused: list[MachineError] = []
    for line in (stdout, b"reply:" + base64.b64encode(stdout) + b"\r\n"):
        try:
            reply = unpack_reply("host", line, stderr)
        except MachineError as error:
            assert str(error).isprintable()
            refused.append(error)
        else:
            assert isinstance(reply, ScriptReply)
    if len(refused) == 2:
        raise refused[0]


def _seeds() -> Iterator[bytes]:
    for reply in (
        {"ok": True, "value": '[{"name": "vm-1", "state": "Running"}]', "last": False},
        {"ok": False, "id": "NoSpace,New-FarmVM.ps1", "message": "no space\r\n\x1b[2J"},
        {"ok": True, "value": "{", "code_page": 850},
    ):
        text = json.dumps(reply).encode()
        yield text
        yield b"What if: \x81\r\nreply:" + base64.b64encode(text) + b"\r\n" + _STDERR
    yield b"reply:!" + _STDERR
    yield (
        _STDERR + b'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
        b'<S S="Error">At line:1_x000D__x000A_ &lt;x&gt; _xD800_</S></Objs>'
    )


TARGET = FuzzTarget(_decode, (MachineError,), _seeds)
