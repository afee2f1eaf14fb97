"""What pywinrm may send to a Hyper-V host, and which answers it may read.

Owns: that over HTTP nothing in the clear is sent or accepted once the logon is done, that the keys of a logon with NTLM
are strong, and how long an answer may be. pywinrm encrypts what it sends but also accepts answers in the clear, which
come from a host that need not know the password.
Not here: whether a certificate is trusted, which `requests` decides.
"""

import base64
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from winrm.transport import Transport

ANSWER_BYTES_MAX = 2 * 1024 * 1024  #: pywinrm asks for at most 150 KiB at a time
ANSWER_LIMIT_S = 60.0  #: for the body of one answer
_PIECE_BYTES = 64 * 1024
#: As pywinrm looks for it; a body of any other type is not decrypted. Source: MS-WSMV 2.2.9.1.
_SEALED = 'protocol="application/HTTP-SPNEGO-session-encrypted"'
#: Sign, seal, extended session security, 128 bit keys. Source: MS-NLMP 2.2.2.5.
_STRONG = 0x00000010 | 0x00000020 | 0x00080000 | 0x20000000
_NTLM, _AUTHENTICATE, _FLAGS_AT = b"NTLMSSP\0", 3, 60  #: Source: MS-NLMP 2.2.1.3
_FAULT = 500


class UntrustedAnswerError(Exception):
    """The host did not prove that it knows the password, or does not keep to the protocol."""


class SealedTransport(Transport):
    """pywinrm's transport; raises UntrustedAnswerError instead of returning an answer that anyone could have given."""

    def build_session(self) -> requests.Session:
        is_new = self.session is None
        session = super().build_session()
        if is_new:
            session.mount("https://", _Adapter(sealed=False))
            session.max_redirects = 0
        # A pywinrm that calls other methods must not go on without.
        assert isinstance(session.get_adapter(self.endpoint), _Adapter)
        return session

    def setup_encryption(self, session: requests.Session) -> None:
        session.mount("http://", _Adapter(sealed=True))
        super().setup_encryption(session)
        if getattr(session.auth, "session_security", session.auth) is None:
            raise UntrustedAnswerError("it asked for no password, so it proved nothing")


class _Adapter(HTTPAdapter):
    """Sends requests and reads their answers; with `sealed`, both are encrypted except for the logon itself."""

    def __init__(self, *, sealed: bool) -> None:
        super().__init__()
        self._sealed = sealed

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        if self._sealed:
            _require_sealed_request(request)
        response = super().send(request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        body = _read(response)
        if self._sealed:
            body = _sealed_body(response, body, is_logon=not request.body)
        # As `requests` itself does; reading it a second time is not possible.
        response._content, response._content_consumed = body, True
        return response


def _require_sealed_request(request: requests.PreparedRequest) -> None:
    if request.body and _SEALED not in request.headers.get("Content-Type", ""):
        raise UntrustedAnswerError("there is no logon to encrypt a message with")
    token = base64.b64decode(str(request.headers.get("Authorization", "")).partition(" ")[2])
    if token[: len(_NTLM)] == _NTLM and token[len(_NTLM)] == _AUTHENTICATE:
        flags = int.from_bytes(token[_FLAGS_AT : _FLAGS_AT + 4], "little")
        if flags & _STRONG != _STRONG:
            raise UntrustedAnswerError("it asked for a logon with weak keys")


def _read(response: requests.Response) -> bytes:
    """The body, not decompressed, within a limit of size and time."""
    body, until = bytearray(), time.monotonic() + ANSWER_LIMIT_S
    read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 has no read1
    try:
        while piece := read(_PIECE_BYTES, decode_content=False):
            body += piece
            if len(body) > ANSWER_BYTES_MAX or time.monotonic() > until:
                response.close()
                raise UntrustedAnswerError("an answer without an end")
    except HTTPError as error:
        raise requests.ConnectionError(error) from error
    response.raw.drain_conn()  # read1 does not notice the end of an empty body
    return bytes(body)


def _sealed_body(response: requests.Response, body: bytes, *, is_logon: bool) -> bytes:
    """The body if it is encrypted, which proves where it is from; of others, only the status of an error is used."""
    if body and _SEALED in response.headers.get("Content-Type", ""):
        return body
    if not is_logon and (response.ok or response.status_code == _FAULT):
        raise UntrustedAnswerError("its answer is not encrypted, so it need not know the password")
    return b""
