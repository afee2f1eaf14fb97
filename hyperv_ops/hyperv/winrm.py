"""Runs scripts over WinRM: one shell, one PowerShell and one deadline per call.

Owns: that shells are closed, and when an outcome is unknown: as soon as the script may have started.
Not here: which answers are trusted (`sealed_transport`).
Threads: any thread may call. Every call has its own session, because pywinrm's are not thread-safe.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
from spnego.exceptions import SpnegoError
from winrm.exceptions import (
    AuthenticationError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol as WinRm

from hyperv_ops.hyperv import script_call as scripts
from hyperv_ops.hyperv.script_call import ScriptReply
from hyperv_ops.hyperv.sealed_transport import SealedTransport, UntrustedAnswerError
from hyperv_ops.machines import MachineError, Trouble, one_line

log = logging.getLogger(__name__)

CALLS_MAX = 4  #: concurrent; Windows 10 and 11 accept five from one account
OPERATION_LIMIT_S, READ_LIMIT_S = 20, 30
_PIECE_BYTES = 64 * 1024  #: well below MaxEnvelopeSizekb (500), twice encoded
_UTF_8 = 65001
#: Their text says what happened. What else pywinrm raises comes from an answer that it could not read.
_EXPLAINED = (
    *(WinRMError, WinRMTransportError, WinRMOperationTimeoutError),
    *(requests.RequestException, OSError, SpnegoError),
)
_IDLE_LIMIT = "PT60S"  #: a shell closes itself if the reply with its id was lost
_QUOTA = "QuotaLimit"  #: too many shells, processes, users or calls. Source: DSP0226 14.15, wsman:QuotaLimit
_DENIED = "AccessDenied"  #: to the shell, for an account that may log on. Source: DSP0226 14.1, wsman:AccessDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRmAccess:
    """How a Hyper-V host is reached. The password is fetched when it is needed and not stored."""

    host: str
    account: str
    password: Callable[[], str] = field(repr=False)
    transport: Literal["ntlm", "kerberos", "https"] = "ntlm"
    port: int | None = None
    certificate: str | None = None  #: file of the authority that signed the host's certificate; None: the system's

    @property
    def endpoint(self) -> str:
        """The URL of its WinRM service."""
        scheme, port = ("https", 5986) if self.transport == "https" else ("http", 5985)
        return f"{scheme}://{self.host}:{self.port or port}/wsman"


class WinRmRunner:
    """`Runner` on another computer. Any thread may call; more than `CALLS_MAX` concurrent calls wait."""

    def __init__(self, access: WinRmAccess) -> None:
        self.where = access.host
        self._access = access
        self._turns = threading.Semaphore(CALLS_MAX)

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> ScriptReply:
        deadline = time.monotonic() + timeout_s
        if not self._turns.acquire(timeout=timeout_s):
            raise MachineError(self.where, "too many calls are under way", Trouble.BUSY)
        try:
            return _Call(self.where, self._connect(), deadline).run(scripts.pack_call(script, parameters))
        finally:
            self._turns.release()

    def close(self) -> None:
        """Nothing to release: each call has its own session."""

    def _connect(self) -> WinRm:
        access = self._access
        password = access.password()
        trusted: Any = access.certificate  # None: the system's; pywinrm's annotation lacks it
        method: Literal["ssl", "ntlm", "kerberos"] = "ssl" if access.transport == "https" else access.transport
        try:
            winrm = WinRm(
                access.endpoint,
                transport=method,
                username=access.account,
                password=password,
                operation_timeout_sec=OPERATION_LIMIT_S,
                read_timeout_sec=READ_LIMIT_S,
            )
            winrm.transport = SealedTransport(
                access.endpoint,
                auth_method=method,
                username=access.account,
                password=password,
                service="HTTP",
                message_encryption="auto" if access.transport == "https" else "always",
                server_cert_validation="validate",
                ca_trust_path=trusted,
                read_timeout_sec=READ_LIMIT_S,
                send_cbt=False,  # it is for NTLM and Kerberos over TLS
                proxy=None,
            )
        except Exception as error:
            raise _machine_error(self.where, error, begun=False) from error
        return winrm


class _Call:
    """One script run, from its shell's first message to its last."""

    def __init__(self, where: str, winrm: WinRm, deadline: float) -> None:
        self._where, self._winrm, self._deadline = where, winrm, deadline
        self._begun = False  #: whether the script may be running

    def run(self, stdin: bytes) -> ScriptReply:
        shell = command = ""
        try:
            shell = self._winrm.open_shell(codepage=_UTF_8, noprofile=True, idle_timeout=_IDLE_LIMIT)
            # Not console mode: its input would be echoed and split into lines.
            command = self._winrm.run_command(
                shell, "powershell", scripts.powershell_arguments(), console_mode_stdin=False
            )
            self._send(shell, command, stdin)
            return scripts.unpack_reply(self._where, *self._receive(shell, command))
        except MachineError:
            raise
        except Exception as error:
            # The clean-up needs a new session: this one's keys are lost with its connection.
            self._winrm.transport.close_session()
            raise _machine_error(self._where, error, begun=self._begun) from error
        finally:
            self._clean_up(shell, command)

    def _send(self, shell: str, command: str, stdin: bytes) -> None:
        for at in range(0, len(stdin), _PIECE_BYTES):
            last = at + _PIECE_BYTES >= len(stdin)
            self._begun = last  # the script only starts when its input is complete
            self._keep_within_deadline()
            try:
                self._winrm.send_command_input(shell, command, stdin[at : at + _PIECE_BYTES], end=last)
            except WinRMOperationTimeoutError:
                # A busy host may acknowledge late. Giving up now would end a running script.
                if not last:
                    raise

    def _receive(self, shell: str, command: str) -> tuple[bytes, bytes]:
        """Reads output until the command ends. Unlike pywinrm's own loop, it has a deadline."""
        out, err, done = bytearray(), bytearray(), False
        while not done:
            if time.monotonic() > self._deadline:
                raise MachineError(self._where, "no answer in time", Trouble.UNKNOWN_OUTCOME)
            self._keep_within_deadline()
            with contextlib.suppress(WinRMOperationTimeoutError):
                some_out, some_err, _, done = self._winrm.get_command_output_raw(shell, command)
                out += some_out
                err += some_err
            if len(out) + len(err) > scripts.REPLY_BYTES_MAX:
                raise MachineError(self._where, "an answer without an end", Trouble.UNKNOWN_OUTCOME)
        return bytes(out), bytes(err)

    def _keep_within_deadline(self) -> None:
        left_s = round(self._deadline - time.monotonic())
        self._winrm.operation_timeout_sec = min(max(1, left_s), OPERATION_LIMIT_S)

    def _clean_up(self, shell: str, command: str) -> None:
        # An open shell counts against the account's limit of thirty.
        if command:
            self._ignore_errors(lambda: self._winrm.cleanup_command(shell, command))
        if shell:
            self._ignore_errors(lambda: self._winrm.close_shell(shell, close_session=False))
        self._winrm.transport.close_session()

    def _ignore_errors(self, step: Callable[[], None]) -> None:
        for _ in range(2):
            try:
                step()
            except Exception as error:
                self._winrm.transport.close_session()
                log.debug("%s: while a shell was closed: %s", self._where, error)
            else:
                return


def _machine_error(where: str, error: Exception, *, begun: bool) -> MachineError:
    """The MachineError of a failed call; `begun`: whether the script may have run nevertheless."""
    match error:
        case AuthenticationError():
            return MachineError(where, "the account or its password was refused", Trouble.DENIED)
        case UntrustedAnswerError():
            return MachineError(where, str(error), Trouble.UNTRUSTED)
        case requests.exceptions.SSLError() if "CERTIFICATE" in str(error).upper():
            return MachineError(where, "its certificate is not trusted", Trouble.UNTRUSTED)
        case requests.ConnectionError() if not begun:
            return MachineError(where, "WinRM does not answer there", Trouble.UNREACHABLE)
        case WSManFaultError() if (error.fault_subcode or "").endswith(_QUOTA):
            return MachineError(where, "it takes no more calls for now", Trouble.BUSY)
        case WSManFaultError() if (error.fault_subcode or "").endswith(_DENIED):
            reason = "the account may not open a shell; `winrm configSDDL default` there gives it Read and Execute"
            return MachineError(where, reason, Trouble.DENIED)
    trouble = Trouble.UNKNOWN_OUTCOME if begun else Trouble.UNREACHABLE
    if not isinstance(error, _EXPLAINED):
        return MachineError(where, one_line(f"an answer that makes no sense: {error!r}"), trouble)
    return MachineError(where, one_line(str(error)) or type(error).__name__, trouble)
