"""What a site answers is the input of another computer: everything that no site of this version answers is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import PayloadRef
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.machines.sites.messages import (
    ANSWER_BYTES_MAX,
    AnswerError,
    Executed,
    checked_response,
    decode_answer,
    encode,
)
from pipeline.shares.share_client import ShareResponse
from tests.harness import records
from tests.harness.records import WORKER, attempt, sha256

LOG, FILE = b"a line", PayloadRef(name="a.txt", size_bytes=4, sha256=sha256(b"four"))
RECORD = records.result(
    1, log=PayloadRef(name=f"{attempt(1)}.log", size_bytes=len(LOG), sha256=sha256(LOG)), artifacts=[FILE]
)
RESULT = CollectedResult(
    attempt=attempt(1), record=None, data=layout.encode(RECORD), log=LOG, artifacts=("a.txt",), missing=()
)
SCAN = ShareScan(worker=WORKER, full=True, claims=frozenset({attempt(1)}), answers=frozenset({attempt(1)}))
REQUEST = ScanRequest(worker=WORKER, full=True, handled=frozenset({attempt(9)}), wanted=frozenset({attempt(1)}))
ACTION = ShareAction(WORKER, remove=(attempt(2),), publish=(records.start(1),))


def response(**changes: Any) -> ShareResponse:
    """A response to a scan, with one result."""
    result = replace(RESULT, **changes.pop("result", {}))
    scan = replace(SCAN, **{"results": (result,), **changes})
    return ShareResponse(worker=WORKER, scan=scan)


def test_answer_survives_its_way() -> None:
    """The host reads the record from the bytes that the agent wrote."""
    answer = decode_answer(encode(Executed(response=response(result={"record": RECORD}))))

    assert isinstance(answer, Executed)
    checked = checked_response(REQUEST, answer.response)
    assert checked.scan is not None
    assert checked.scan.results == (replace(RESULT, record=RECORD),)
    assert checked.scan.requested_at == math.inf


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "it has answered NoneType instead of bytes"),
        ({"status": "error"}, "it has answered dict instead of bytes"),
        (b"", "its answer cannot be read"),
        (b"\x81\xa4type\xa4Oops", "its answer cannot be read"),
        (msgspec.msgpack.encode({"type": "Executed", "response": {"worker": 7}}), "its answer cannot be read"),
        (msgspec.msgpack.encode({"type": "Chunk", "data": "text"}), "its answer cannot be read"),
        (b"\x91" * 100_000, "its answer cannot be read"),
    ],
)
def test_answer_of_a_wrong_type_is_refused(answer: object, problem: str) -> None:
    """In one line."""
    with pytest.raises(AnswerError, match=problem) as error:
        decode_answer(answer)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_answer_that_is_too_large_is_refused() -> None:
    """Before it is decoded."""
    with pytest.raises(AnswerError, match=f"allowed are {ANSWER_BYTES_MAX}"):
        decode_answer(bytes(ANSWER_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"worker": "vm-9"}, "a scan of another share"),
        ({"requested_at": 0.0}, "a scan of another share"),
        ({"unknown_starts": frozenset({attempt(1)})}, "a scan of another share"),
        ({"full": False}, "a scan that it was not asked for"),
        ({"claims": frozenset({"../../etc"})}, "is no attempt"),
        ({"starts": frozenset({"g1\n"})}, "is no attempt"),
        ({"complete": frozenset({attempt(1)})}, "publications that it was not asked about"),
        ({"answers": frozenset()}, "a result that it was not asked for"),
        ({"results": (RESULT, RESULT)}, "two results of one attempt"),
        ({"result": {"attempt": attempt(9)}, "answers": frozenset({attempt(9)})}, "a result that it was not asked for"),
        ({"result": {"data": b"{}"}}, "its result of"),
        ({"result": {"data": b""}}, "has files and no record"),
        ({"result": {"artifacts": ("../x",)}}, "artifacts that its record does not name"),
        ({"result": {"artifacts": ("b.txt",)}}, "artifacts that its record does not name"),
        ({"result": {"log": b"another line"}}, "another log than its record names"),
        ({"result": {"log": bytes(layout.LOG_BYTES_MAX + 1)}}, "is none"),
        ({"result": {"collected_in_other_run": True}}, "is none"),
    ],
)
def test_scan_that_was_not_asked_for_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Names from a site never become part of a path before they are checked."""
    with pytest.raises(AnswerError, match=problem):
        checked_response(REQUEST, response(**changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: setattr(answer, "worker", "vm-9"),
        lambda answer: setattr(answer, "sent", {attempt(5): True}),
        lambda answer: setattr(answer, "removed", frozenset({attempt(1)})),
        lambda answer: setattr(answer, "held_open", frozenset({attempt(3)})),
        lambda answer: setattr(answer, "error", "x" * 1000),
        lambda answer: setattr(answer, "write_problem", "x" * 1000),
        lambda answer: setattr(answer, "scan", SCAN),
    ],
)
def test_response_about_something_else_is_refused(change: Callable[[ShareResponse], None]) -> None:
    """An action confirms what it was asked for, and nothing else."""
    answer = ShareResponse(worker=WORKER, sent={attempt(1): True}, removed=frozenset({attempt(2)}))
    assert checked_response(ACTION, answer) == answer
    change(answer)

    with pytest.raises(AnswerError):
        checked_response(ACTION, answer)


def test_scan_is_not_answered_with_an_action() -> None:
    """Nor with nothing."""
    answer = response()
    answer.sent = {attempt(1): True}
    with pytest.raises(AnswerError, match="what it has changed"):
        checked_response(REQUEST, answer)
    with pytest.raises(AnswerError, match="without what it has found"):
        checked_response(REQUEST, ShareResponse(worker=WORKER))


def test_failed_disk_of_a_site_is_no_failed_disk_of_this_host() -> None:
    """Its share is unknown; the host goes on."""
    checked = checked_response(REQUEST, ShareResponse(worker=WORKER, fatal="/var: no space\nleft"))

    assert checked.fatal == ""
    assert checked.scan is not None
    assert checked.scan.unknown == "its disk: /var: no space left"
