"""QMP connections to a QEMU process and to its guest agent, each within a deadline.

Connections are short, because QEMU serves one client at a time. Stale answers to an earlier client are discarded.
Sources: QEMU Machine Protocol Specification; QEMU Guest Agent Protocol Reference, guest-sync.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError
from qemu.qmp.qmp_client import GreetingError

from hyperv_ops.machines import MachineError, Trouble, one_line

ASK_LIMIT_S = 10.0
SOCKET_PATH_MAX = 107  #: Source: unix(7), sun_path
ANSWER_BYTES_MAX = 1024 * 1024  #: of one conversation, events included
_RETRY_S, _GOODBYE_S, _STALE_MAX = 0.05, 1.0, 100
_OTHER_GREETINGS = 5  #: connections that may begin with another message than the greeting


class Command(Protocol):
    """Sends one command and waits for its answer."""

    def __call__(self, command: str, arguments: Mapping[str, object] | None = None) -> Awaitable[Any]:
        """Raises errors that `QmpConnection.run` turns into a MachineError."""


Result = TypeVar("Result")
Conversation = Callable[[Command], Awaitable[Result]]


class QmpConnection:
    """Connects to a machine's monitor or its guest agent. Any thread may call; concurrent calls wait."""

    def __init__(self, name: str, socket: Path, *, guest: bool = False) -> None:
        self._name, self._socket, self._guest = name, socket, guest
        self._peer = "its guest agent" if guest else "QEMU"
        self._lock = threading.Lock()

    def ask(self, command: str, arguments: Mapping[str, object] | None = None, timeout_s: float = ASK_LIMIT_S) -> Any:
        """Sends one command. Raises MachineError, like `run`."""
        return self.run(lambda ask: ask(command, arguments), timeout_s)

    def run(self, conversation: Conversation[Result], timeout_s: float, *, bytes_max: int = ANSWER_BYTES_MAX) -> Result:
        """Connects, runs one conversation and disconnects.

        Raises:
            MachineError: UNREACHABLE if there is no connection, BUSY or TIMED_OUT if there was no answer in time,
                UNKNOWN_OUTCOME if the connection broke or the peer sent more than `bytes_max` or what cannot be read,
                OTHER with the peer's message if it refused.
        """
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            raise MachineError(self._name, f"another client is connected to {self._peer}", Trouble.BUSY)
        try:
            return asyncio.run(asyncio.wait_for(self._run(conversation, bytes_max), deadline - time.monotonic()))
        except ExecuteError as error:
            raise MachineError(self._name, f"{self._peer} says: {one_line(str(error))}", Trouble.OTHER) from error
        except ConnectError as error:
            reason = f"no way to {self._peer}: {one_line(str(error.exc))}"
            raise MachineError(self._name, reason, Trouble.UNREACHABLE) from error
        except TimeoutError as error:
            reason = f"{self._peer} did not answer in {timeout_s:g} s"
            raise MachineError(self._name, reason, Trouble.TIMED_OUT) from error
        except (QMPError, OSError, EOFError, AssertionError) as error:  # the library asserts that it still stands
            reason = f"the connection to {self._peer} broke: {one_line(str(error)) or 'it ended at once'}"
            raise MachineError(self._name, reason, Trouble.UNKNOWN_OUTCOME) from error
        except Exception as error:  # of the library, for an answer that it does not expect
            reason = f"{self._peer} sent what makes no sense: {one_line(repr(error))}"
            raise MachineError(self._name, reason, Trouble.UNKNOWN_OUTCOME) from error
        finally:
            self._lock.release()

    async def _run(self, conversation: Conversation[Result], bytes_max: int) -> Result:
        client = _BoundedClient(self._name, bytes_max)
        client.negotiate = client.await_greeting = not self._guest
        try:
            await self._connect(client)
            if self._guest:
                await _discard_old_answers(client)
            return await conversation(lambda command, arguments=None: client.execute(command, arguments))
        except ExecInterruptedError as error:
            await _goodbye(client)  # raises what ended the connection
            raise QMPError(str(error)) from error
        finally:
            with contextlib.suppress(Exception):
                await _goodbye(client)

    async def _connect(self, client: QMPClient) -> None:
        other_messages = 0
        while True:
            try:
                return await client.connect(str(self._socket))
            except ConnectError as error:
                # QEMU sends what an earlier client did not read, or an event, to the next client before the greeting.
                is_other_message = isinstance(error.exc, GreetingError)
                other_messages += is_other_message
                is_busy = isinstance(error.exc, BlockingIOError)  # two other clients: one served, one waiting
                if not is_busy and (not is_other_message or other_messages > _OTHER_GREETINGS):
                    raise
            await asyncio.sleep(_RETRY_S)


class _BoundedClient(QMPClient):
    """Reads a limited number of bytes, and no events: the library keeps them for a listener, without a bound."""

    def __init__(self, name: str, bytes_max: int) -> None:
        super().__init__(name, readbuflen=bytes_max)
        self._left_bytes = bytes_max
        self.events.event_filter = lambda _event: False

    def _cb_inbound(self, msg: Message) -> Message:
        # Not the library's own: it writes each message as text, for a log that is off.
        self._left_bytes -= len(bytes(msg))
        if self._left_bytes < 0:
            raise QMPError("more was sent than an answer has")
        return msg


async def _goodbye(client: QMPClient) -> None:
    await asyncio.wait_for(client.disconnect(), _GOODBYE_S)


async def _discard_old_answers(client: QMPClient) -> None:
    for _ in range(_STALE_MAX):
        number = secrets.randbelow(2**31)
        if await client.execute("guest-sync", {"id": number}) == number:
            return
