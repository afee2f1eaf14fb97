"""The sealed SMB connection without a server; the attacks on it are in tests/integration/test_smb_attacks.py."""

import runpy

import pytest
from smbprotocol.connection import Connection

from pipeline.errors import MissingExtraError
from pipeline.shares.smb import messages
from pipeline.shares.smb.frames import FRAME_BYTES_MAX
from pipeline.shares.smb.sealed_connection import why_unsupported
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.harness.source_tree import ROOT

ACCESS = SmbAccess(server="127.0.0.1", share="exchange")


def test_installed_smbprotocol_is_supported() -> None:
    """If this fails after an update: does the library still ask for every message, and verify every answer?"""
    assert why_unsupported() == ""


def test_other_smbprotocol_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without a function that is replaced would believe everything again, and say nothing."""
    monkeypatch.delattr(Connection, "verify_signature")
    line = r"smbprotocol \S+ cannot be used, install smbprotocol 1\.17: no Connection\.verify_signature: force, .*"
    with pytest.raises(MissingExtraError, match=rf"^{line}$"):
        SmbSession(ACCESS)


def test_smbprotocol_that_does_not_verify_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the function, and its receiver thread does not call it."""

    def receive(self: Connection) -> None:
        while message := self.transport.recv(600):
            request = self.outstanding_requests[message[24:32]]
            request.response = message
            request.response_event.set()

    monkeypatch.setattr(Connection, "_process_message_thread", receive)
    with pytest.raises(MissingExtraError, match=r"no Connection\._process_message_thread: verify_signature$"):
        SmbSession(ACCESS)


def test_largest_answer_is_allowed() -> None:
    """A listing of two queries, and as many files as one message may read."""
    headers = 8 * 256
    assert 2 * messages.LISTING_BYTES + headers <= FRAME_BYTES_MAX
    costs = [messages.CREDIT_BYTES] * 100
    group = next(iter(messages.affordable(costs, lambda size: 2 + messages.credits_for(size + 1))))
    assert sum(group) + 3 * len(group) * 256 <= FRAME_BYTES_MAX


REPORT = runpy.run_path(str(ROOT / "docs/upstream/smbprotocol_answers.py"))


@pytest.mark.parametrize("name", [name for name in REPORT if name.startswith("test_")])
def test_upstream_report_is_still_true(name: str) -> None:
    """If this fails, smbprotocol refuses such an answer by itself: correct docs/upstream/smbprotocol.md."""
    with pytest.raises(AssertionError):
        REPORT[name]()
