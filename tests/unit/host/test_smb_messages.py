"""Parsing the responses of an SMB server."""

import datetime
import sys
import time
from collections.abc import Iterator

import pytest
from smbprotocol.open import SMB2CreateResponse

from pipeline.shares.smb import messages, statuses


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if sys.platform != "win32":
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
    yield
    if sys.platform != "win32":
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("filetime", [0, 1, 2**63 - 1])
def test_any_time_of_a_server_is_accepted(filetime: int, in_new_york: None) -> None:
    """smbprotocol reads a time after 9999 as one without time zone, which some systems cannot convert."""
    response = SMB2CreateResponse()
    response["file_id"] = bytes(16)
    response["change_time"] = filetime
    reply = messages.SmbReply(statuses.OK, response.pack()[:32] + filetime.to_bytes(8, "little") + response.pack()[40:])

    opened = messages.opened(reply)

    latest = datetime.datetime.max.replace(tzinfo=datetime.UTC).timestamp()
    assert opened.changed_at == (latest if filetime > 1 else pytest.approx(-11_644_473_600))
