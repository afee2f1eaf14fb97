"""Each reader of external bytes returns a value or its own error: no other exception, and without delay.

Random bytes, and messages that are almost valid. Names and records of a share: `test_share_names.py`,
`test_share_records.py`; their effect on both sides: `test_hostile.py`.
"""

import base64
import contextlib
import json
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from qemu.qmp import QMPClient
from smbprotocol.change_notify import SMB2ChangeNotifyResponse
from smbprotocol.connection import SMB2NegotiateResponse
from smbprotocol.header import SMB2HeaderResponse
from smbprotocol.open import (
    SMB2CreateResponse,
    SMB2QueryDirectoryResponse,
    SMB2QueryInfoResponse,
    SMB2ReadResponse,
)

from hyperv_ops import MachineError
from hyperv_ops.hyperv.script_call import ScriptReply, unpack_reply
from hyperv_ops.machines import Ran
from hyperv_ops.qemu import guest_agent
from hyperv_ops.qemu.guest_agent import GuestAgent
from hyperv_ops.qemu.qmp import QmpConnection
from inbox_agent.evaluation.answer import parse_json, read_answer
from inbox_agent.evaluation.python_function import FunctionEvaluator
from inbox_agent.evaluation.scratch import InvalidAnswer
from inbox_agent.protocol.files import Unavailable
from inbox_agent.protocol.layout import Outcome
from inbox_agent.system.process_tree import ProcessTree
from pipeline.config import Config, load_config
from pipeline.core.facts import AttemptEnded, Entry, Fact, kind_of
from pipeline.errors import ConfigError, LedgerError
from pipeline.paths import LEDGER_FILE, LIVE_FILE
from pipeline.shares.smb import messages as smb
from pipeline.shares.smb import session, statuses
from pipeline.shares.smb.change_notify import ChangeNotify
from pipeline.shares.smb.channel import Exchange, OnDone, SealedChannel
from pipeline.shares.smb.session import SmbAccess, SmbSession
from pipeline.storage import ledger_rows
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatus, read_live_status
from tests.harness.evaluator_harness import FUNCTION, SCRIPTED, EvaluatorHarness, evaluator_options
from tests.harness.records import attempt

posix = pytest.mark.skipif(sys.platform == "win32", reason="QEMU machines run on Linux")
# A fixture may be reused: each example overwrites the files of the last one.
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
some = settings(deadline=None, max_examples=60, suppress_health_check=CHECKS)
few = settings(some, max_examples=20)

DEEP = b"[" * 5_000
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    10**30,
    1.5,
    "",
    "x",
    "\0\n\x1b[2J",
    "é" * 300,
    [],
    [[]],
    {},
    {"": None},
    [{}],
    [1, "x"],
]
VALUES = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes, truncated, or with some of them replaced."""

    def replaced(places: list[tuple[int, int]]) -> bytes:
        found = bytearray(data)
        for place, byte in places:
            found[place] = byte
        return bytes(found)

    one = st.tuples(st.integers(0, len(data) - 1), st.sampled_from([0, 1, 127, 255]) | st.integers(0, 255))
    return st.integers(0, len(data)).map(lambda cut: data[:cut]) | st.lists(one, max_size=4).map(replaced)


def nearly(message: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The message with a field that is changed or missing, damaged, or replaced as a whole."""
    names = st.sampled_from(sorted(message))
    odd = st.builds(lambda name, value: {**message, name: value}, names, VALUES)
    missing = names.map(lambda gone: {name: value for name, value in message.items() if name != gone})
    whole = (odd | missing | VALUES).map(lambda value: json.dumps(value).encode())
    hollow = (names | st.just("new")).map(
        lambda name: json.dumps({**message, name: "HERE"}).encode().replace(b'"HERE"', DEEP)
    )
    return whole | hollow | spoilt(json.dumps(message).encode()) | st.binary(max_size=100)


# ------------------------------------------------------------------------------------------------------- our own files

ENDED = AttemptEnded(attempt=attempt(1), outcome=Outcome.COMPLETED, has_result=True, fitness=1.0, metrics={"x": 1.0})


@given(body=nearly({"fact": kind_of(ENDED), **structs.asdict(ENDED)}))
@example(body=b'{"fact": "host_stopped", "reason": "", "new": ' + DEEP)
@some
def test_ledger_row_is_fact_or_ledger_error(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    """Also where the checksum is right."""
    folder = tmp_path_factory.getbasetemp() / "ledger of hostile bytes"
    if not folder.exists():
        ledger = Ledger(folder)
        ledger.append([ENDED], at=1.0, generation=1, run=1)
        ledger.close()
    db = sqlite3.connect(folder / LEDGER_FILE)
    crc = ledger_rows._checksum((1, 1, 1.0, 1, 1, 0), body)
    db.execute("UPDATE commits SET body = ?, crc = ?", (body, crc))
    db.commit()
    db.close()

    ledger = Ledger(folder, read_only=True)
    try:
        (entry,) = ledger.entries()
        assert isinstance(entry, Entry)
        assert isinstance(entry.fact, Fact)
    except LedgerError as error:
        assert "restore the state folder from a backup" in str(error)
    finally:
        ledger.close()


@given(data=nearly({"at": 1.0, "pid": 1, "progress": {}}), pid=VALUES)
@example(data=b'{"at": 1, "pid": 1, "progress": ' + DEEP, pid=1)
@example(data=b"", pid=2**31)
@some
def test_live_file_is_status_or_none(tmp_path: Path, data: bytes, pid: object) -> None:
    """Also with any process id, in a new file."""
    for content in (data, json.dumps({"at": time.time(), "pid": pid, "progress": None}).encode()):
        (tmp_path / LIVE_FILE).write_bytes(content)

        assert isinstance(read_live_status(tmp_path), LiveStatus | None)


# ------------------------------------------------------------------------------------------------------------ settings

TOML = ["1", "-1", "1.5", "1e999", "nan", "true", '""', '"x"', "[]", "{}", "[1]", '["x"]', "[[]]", "[{}]", "{a={}}"]
TOML += ["1979-05-27", "07:32:00", "9" * 5000, "[" * 5000, "{a=" * 5000, r'"a\nb\u001b[2J"', r'"\u0000"', r"'\\a'"]
TOML += [r"'\\a\b\c'", '"{seed} {sead}"', '["{sead}"]', '"mod:fun"', '"10.0.0.0/8"', '"env:X"', '"x:y:z"']


def tables() -> st.SearchStrategy[str]:
    """One key of one table has any value; only the required keys are added."""
    found = []
    for table in structs.fields(Config):
        kinds = [table.type, *getattr(table.type, "__args__", ())]
        struct_types = [kind for kind in kinds if isinstance(kind, type) and hasattr(kind, "__struct_fields__")]
        keys = struct_types[0].__struct_fields__ if struct_types else ("x", '"a\\nb\\u001b"')
        head = "[[worker]]\nname = 'other'\nshare = '/s'\n[[worker]]" if table.name == "worker" else f"[{table.name}]"
        found += [f"{head}\n{key} =" for key in keys]
        found.append(f"{table.name} =")
    return st.builds(lambda place, value: f"{place} {value}\n", st.sampled_from(found), st.sampled_from(TOML))


@given(text=tables() | st.text(max_size=100) | tables().flatmap(lambda text: spoilt(text.encode())))
@example(text='"a\\nb\\u001b" = 1')
@example(text=f'"{"a" * 10_000}" = 1')
@example(text="[settings]\n'a' = inf")
@settings(some, max_examples=300)
def test_settings_are_config_or_settings_error(tmp_path: Path, text: str | bytes) -> None:
    """Any error in the file is reported in one printable line."""
    path = tmp_path / "pipeline.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        assert isinstance(load_config(tmp_path), Config)
    except ConfigError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert message.isprintable()
        assert len(message) < len(str(path)) + 1000


# ------------------------------------------------------------------------------------------------------------- replies


@given(answer=nearly({"fitness": 1.0, "metrics": {"x": 1.0}}))
@some
def test_evaluator_result_is_fitness_or_failure(answer: bytes) -> None:
    try:
        fitness, metrics = read_answer(parse_json(answer, "the answer"), "the answer")
    except InvalidAnswer as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
    else:
        assert isinstance(fitness, float)
        assert isinstance(metrics, dict)


REPLAY = """
frame = sys._getframe()
while not hasattr(frame.f_locals.get('self'), '_marker'):
    frame = frame.f_back
child = frame.f_locals['self']
os.write(child._replies, child._marker + bytes.fromhex('{reply}') + b'\\n')
return 2.0
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvaluatorHarness]:
    folder = tmp_path_factory.mktemp("agent")
    tree = ProcessTree(folder / "processes")
    evaluator = FunctionEvaluator(FUNCTION, SCRIPTED, folder / "scratch", tree, evaluator_options())
    yield EvaluatorHarness(evaluator, folder / "scratch")
    evaluator.close()
    tree.close()


REPLIES: tuple[dict[str, Any], ...] = (
    {"number": 1, "answer": {"fitness": 1.0}},
    {"number": 1, "error": "x"},
    {"broken": "x"},
)


@given(reply=st.one_of(*map(nearly, REPLIES)).filter(lambda reply: b"\n" not in reply and len(reply) < 4000))
@few
def test_worker_reply_ends_evaluation_or_is_ignored(harness: EvaluatorHarness, reply: bytes) -> None:
    """A game that writes replies of its worker process affects only its own evaluation."""
    finished = harness.play(REPLAY.format(reply=reply.hex()))

    assert finished.outcome in (Outcome.COMPLETED, Outcome.FAILED)
    assert harness.play("return 1.0").fitness == 1.0


@given(reply=nearly({"ok": True, "value": "[1]"}) | nearly({"ok": False, "id": "NoSpace,x", "message": "m"}))
@some
def test_script_output_is_reply_or_machine_error(reply: bytes) -> None:
    """In valid Base64, and without it."""
    for line in (base64.b64encode(reply), reply):
        try:
            assert isinstance(unpack_reply("host", b"said\xff\r\nreply:" + line, reply), ScriptReply)
        except MachineError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000


# ---------------------------------------------------------------------------------------------------------------- QEMU


class Socket:
    """A server on a socket: sends a greeting, then a response to each request. Empty: closes the connection."""

    def __init__(self, server: socket.socket, greeting: bytes, answer: Callable[[bytes], bytes]) -> None:
        self._server, self._greeting, self._answer = server, greeting, answer
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Socket":
        self._server.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # where shutdown does not end the wait, closing does
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the server is closed
            while True:
                caller, _ = self._server.accept()
                with contextlib.suppress(OSError), caller:  # the client closed the connection
                    self._talk(caller)

    def _talk(self, caller: socket.socket) -> None:
        caller.settimeout(1)
        caller.sendall(self._greeting)
        while (asked := caller.recv(65536)) and (answer := self._answer(asked)):
            caller.sendall(answer)


def unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    return server


GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
STATUS = {"return": {"status": "running", "running": True}, "id": "__qmp#00000"}


@posix
@given(greeting=nearly(GREETING) | st.just(json.dumps(GREETING).encode()), answer=nearly(STATUS))
@few
def test_qemu_output_is_response_or_machine_error(tmp_path: Path, greeting: bytes, answer: bytes) -> None:
    """For any output of its monitor, of any length."""
    answers = iter((b'{"return": {}}\n', answer + b"\n", b""))
    with Socket(unix(tmp_path / "monitor"), greeting + b"\n", lambda _asked: next(answers)):
        try:
            QmpConnection("vm-1", tmp_path / "monitor").ask("query-status", timeout_s=0.05)
        except MachineError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000


@posix
@given(values=nearly({"exited": True, "exitcode": 0, "out-data": "eA==", "err-data": ""}), pid=VALUES)
@example(values=b'{"exited": true, "out-data": "x"}', pid=1)
@few
def test_guest_response_is_result_or_machine_error(tmp_path: Path, values: bytes, pid: object) -> None:
    """A guest may be controlled by an attacker."""

    def answer(asked: bytes) -> bytes:
        question = json.loads(asked)
        value = values
        if question["execute"] == "guest-sync":
            value = json.dumps(question["arguments"]["id"]).encode()
        elif question["execute"] == "guest-exec":
            value = json.dumps({"pid": pid}).encode()
        return b'{"id": "%s", "return": %s}\n' % (question["id"].encode(), value)

    with Socket(unix(tmp_path / "guest"), b"", answer):
        agent = GuestAgent("vm-1", tmp_path / "guest", tmp_path / "heard")
        with patch.object(guest_agent, "ASK_LIMIT_S", 0.05):
            try:
                assert isinstance(agent.run("/bin/true", [], timeout_s=0.0), Ran)
            except MachineError as error:
                assert str(error).isprintable()
                assert len(str(error)) < 1000


@posix
@pytest.mark.parametrize("early", [b"", b"no JSON\n"], ids=["nothing", "garbage"])
def test_guest_that_writes_before_it_is_asked_is_machine_error(
    tmp_path: Path, early: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asserts that the connection still stands when it has been made."""
    connect = QMPClient.connect

    async def connect_to_early_writer(client: QMPClient, _address: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(early)
        await connect(client, ours)

    monkeypatch.setattr(QMPClient, "connect", connect_to_early_writer)

    with pytest.raises(MachineError, match="the connection to its guest agent broke: "):
        QmpConnection("vm-1", tmp_path / "guest", guest=True).ask("guest-ping", timeout_s=5)


# ----------------------------------------------------------------------------------------------------------------- SMB


def filled(response: Any, **fields: Any) -> bytes:
    for name, value in fields.items():
        response[name] = value
    return bytes(response.pack())


def entries(*names: str) -> bytes:
    """A listing, or a change notification: the structures are the same."""
    found = b""
    for name in names:
        text = name.encode("utf-16-le")
        step = 0 if name == names[-1] else 12 + len(text)
        found += struct.pack("<III", step, 1, len(text)) + text
    return found


NAMES = entries(".", attempt(1) + ".result.json", "b")
NEWS = filled(SMB2ChangeNotifyResponse(), buffer=NAMES)
ANSWERS: dict[Callable[[smb.SmbReply], object], bytes] = {
    smb.opened: filled(SMB2CreateResponse(), file_id=b"x" * 16),
    smb.content: filled(SMB2ReadResponse(), data_offset=80, buffer=b"content"),
    smb.free_bytes: filled(SMB2QueryInfoResponse(), buffer=b"\1" * 24),
    lambda reply: list(smb.names(reply)): filled(SMB2QueryDirectoryResponse(), buffer=NAMES),
}


@given(data=st.data())
@settings(some, max_examples=200)
def test_smb_response_is_parsed_or_unavailable(data: st.DataObject) -> None:
    """Each response is parsed or treated as no response."""
    read, whole = data.draw(st.sampled_from(list(ANSWERS.items())))
    answer = data.draw(spoilt(whole) | st.binary(max_size=100))
    with contextlib.suppress(Unavailable):
        read(smb.SmbReply(statuses.OK, answer))


def test_overlapping_names_are_refused() -> None:
    """A megabyte of them would expand to an enormous text."""
    listing = struct.pack("<III", 12, 0, 2**20) * 50_000
    answer = filled(SMB2QueryDirectoryResponse(), buffer=listing)

    with pytest.raises(Unavailable, match="makes no sense"):
        list(smb.names(smb.SmbReply(statuses.OK, answer)))


class Wire:
    """The part of a channel that change notifications use."""

    def __init__(self) -> None:
        self.asked: list[Exchange] = []

    def ask(self, requests: Sequence[smb.SmbRequest], on_done: OnDone) -> Exchange:
        self.asked.append(Exchange(requests, on_done))
        return self.asked[-1]


@given(news=spoilt(NEWS) | st.binary(max_size=100))
@some
def test_change_response_notifies_or_rearms(news: bytes) -> None:
    """An exception in the thread that receives for all connections would end another one."""
    wire, rings = Wire(), []
    ChangeNotify(cast("SealedChannel", wire), b"x" * 16, lambda: rings.append(1), (".result.json",))

    wire.asked[0].take(0, smb.SmbReply(statuses.OK, news))

    assert (len(rings), len(wire.asked)) in ((1, 1), (0, 2))


HELLO = filled(SMB2HeaderResponse(), data=filled(SMB2NegotiateResponse()))


@given(body=spoilt(HELLO) | st.binary(max_size=100))
@few
def test_arbitrary_server_output_is_unavailable(body: bytes) -> None:
    """From its first message on."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with Socket(server, b"", lambda _asked: struct.pack(">I", len(body)) + body):
        access = SmbAccess(server="127.0.0.1", share="s", port=port, account="a", password=lambda: "p")
        with pytest.raises(Unavailable), patch.object(session, "CONNECT_LIMIT_S", 1):
            SmbSession(access).connect()
