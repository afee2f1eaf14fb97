"""A server that knows no password answers in the place of the Hyper-V host: nothing of what it says is believed."""

import pytest
import requests
from winrm.transport import Transport

from hyperv_ops import MachineError, Trouble
from hyperv_ops.hyperv.sealed_transport import ANSWER_BYTES_MAX
from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner
from tests.fakes.hostile_wsman import STRONG, Attack, HostileServer, hostile_wsman
from tests.harness.hyperv_farm import ACCOUNT, PASSWORD, refusal

pytestmark = pytest.mark.timeout(60)
SIGN, SEAL, EXTENDED, BITS_128 = 0x10, 0x20, 0x80000, 0x20000000
NOT_ENCRYPTED = "its answer is not encrypted, so it need not know the password"


def runner(server: HostileServer) -> WinRmRunner:
    return WinRmRunner(WinRmAccess(host="127.0.0.1", account=ACCOUNT, password=lambda: PASSWORD, port=server.port))


def error_of(server: HostileServer) -> MachineError:
    """The error of a call; one line, without the password."""
    error = refusal(lambda: runner(server).run("Get-FarmVM", {"Name": ["vm-1"]}, 20))
    assert "\n" not in str(error) and "canary" not in str(error)
    return error


@pytest.mark.parametrize("attack", [Attack.CLEAR, Attack.FAULT, Attack.EMPTY, Attack.REDIRECT])
def test_answer_in_the_clear_is_not_believed(attack: Attack) -> None:
    """A made-up challenge, then answers that need no password. The script is not sent."""
    with hostile_wsman(attack) as server:
        error = error_of(server)

    assert (error.trouble, error.reason) == (Trouble.UNTRUSTED, NOT_ENCRYPTED)
    assert not error.transient
    assert len(server.messages) == 1


@pytest.mark.parametrize("attack", [Attack.GARBAGE, Attack.LABELLED, Attack.PLAIN_PART])
def test_answer_that_cannot_be_decrypted_is_an_error(attack: Attack) -> None:
    """Whatever pywinrm raises for it."""
    with hostile_wsman(attack) as server:
        assert "makes no sense" in error_of(server).reason


def test_host_without_logon_is_not_trusted() -> None:
    """It asks for no password: there are no keys, and no message is sent in the clear."""
    with hostile_wsman(Attack.OPEN) as server:
        error = error_of(server)

    assert (error.trouble, error.reason) == (Trouble.UNTRUSTED, "it asked for no password, so it proved nothing")
    assert server.messages == []


@pytest.mark.parametrize("missing", [SIGN, SEAL, EXTENDED, BITS_128])
def test_logon_with_weak_keys_is_refused(missing: int) -> None:
    """The challenge decides on the strength of the keys. The response to it, which could be guessed, is not sent."""
    with hostile_wsman(flags=STRONG & ~missing) as server:
        error = error_of(server)

    assert (error.trouble, error.reason) == (Trouble.UNTRUSTED, "it asked for a logon with weak keys")
    assert server.logons == 0


def test_transport_needs_the_methods_of_pywinrm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of it that sets up the encryption elsewhere is refused, and no answer is read."""
    monkeypatch.setattr(Transport, "build_session", lambda transport: requests.Session())
    with hostile_wsman() as server:
        assert "makes no sense: AssertionError" in error_of(server).reason
    assert server.messages == []


@pytest.mark.parametrize("attack", [Attack.ENDLESS, Attack.ENDLESS_LOGON])
def test_endless_answer_is_cut_off(attack: Attack) -> None:
    """Before it is in memory, also in the answers to the clean-up."""
    with hostile_wsman(attack) as server:
        error = error_of(server)

    assert (error.trouble, error.reason) == (Trouble.UNTRUSTED, "an answer without an end")
    assert server.sent_bytes < 8 * ANSWER_BYTES_MAX
