"""A Dask cluster as the host sees it: which workers its scheduler knows, and calls to their own servers.

The host needs no Dask client: a client ends some time after its scheduler, this asks the next scheduler at the same
address. Calls do not pass the scheduler, so a site goes on while there is none.
Threads: any may call; one of its own runs Dask's event loop.
"""

import asyncio
import contextlib
import logging
import pickle
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoResult
from dataclasses import dataclass
from typing import Any, TypeVar

from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.core import ConnectionPool
from distributed.security import Security

from inbox_agent.identity import agent_version
from inbox_agent.protocol.layout import clean
from pipeline.machines.sites.dask_plugin import OPERATION, SitePlugin
from pipeline.machines.sites.site_link import CONNECTION_ENDED, SiteRefused, SiteUnavailable

log = logging.getLogger(__name__)

NAME_CHARS_MAX = 100  #: of a Dask worker's name
CONNECT_LIMIT_S = 4.0  #: less than the limits of calls, so that a connection that fails is told from silence
SCHEDULER_LIMIT_S = 5.0
PLUGIN_LIMIT_S = 20.0  #: its import takes seconds on a slow disk
_PROBE_LIMIT_S = 1.0
_GRACE_S = 1.0  #: for a call that has timed out to end
_CONNECTIONS_MAX = 2048
_ERROR_CHARS_MAX = 200

#: To Dask the number 1 and the text "1" are different names; a site is found again by what is shown of its name.
SEVERAL = "several Dask workers have this name; give each another one"

#: The states of a worker that takes no plugin any more.
_ENDING = {"stopping", "stopped", "closing", "closing_gracefully", "closed", "failed"}

T = TypeVar("T")


class NotConnected(SiteUnavailable):
    """Dask has tried to connect until its time was over."""


class OddAnswer(SiteUnavailable):
    """A server has answered with an exception, or with what is no answer of Dask."""


@dataclass(frozen=True, slots=True)
class DaskWorker:
    """A worker that the scheduler knows."""

    name: str
    address: str
    threads: int
    #: Whether the name was given, and can be shown. One that Dask makes is another one after a restart.
    is_named: bool


class DaskCluster:
    """The cluster of the scheduler at an address, with Dask's own security."""

    def __init__(self, address: str, security: Security) -> None:
        self.address = address
        self._arguments: dict[str, Any] = security.get_connection_args("client")  # type: ignore[no-untyped-call]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, name="dask", daemon=True).start()
        self._pool: ConnectionPool = self._run(self._connected(), CONNECT_LIMIT_S)

    def answers(self, within_s: float) -> bool:
        """Whether there is a scheduler that answers soon."""
        with contextlib.suppress(SiteUnavailable):
            self.call(self.address, "identity", within_s)
            return True
        return False

    def workers(self) -> list[DaskWorker]:
        """The workers that do not end, sorted by name. Raises SiteUnavailable: no scheduler answers."""
        try:
            found = self.call(self.address, "identity", SCHEDULER_LIMIT_S)
            described = found["workers"].items()
            known = [(_worker(address, worker), str(worker.get("status"))) for address, worker in described]
        except NotConnected as error:
            raise SiteUnavailable(f"no connection: {self._reason()}") from error
        except (OddAnswer, AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, OddAnswer) and ("TLS" in str(error) or "encryption" in str(error)):
                raise  # by Dask, of the configuration on this computer
            raise SiteUnavailable(self._something_else()) from error
        except SiteUnavailable as error:
            if str(error) == CONNECTION_ENDED:
                raise SiteUnavailable(f"{error}: {self._something_else()}") from error
            raise
        return sorted((worker for worker, status in known if status not in _ENDING), key=lambda worker: worker.name)

    def call(self, address: str, operation: str, timeout_s: float, **message: object) -> Any:
        """The answer of a server of the cluster. Raises SiteUnavailable."""
        return self._run(getattr(self._pool(address), operation)(**message), timeout_s)

    def install(self, address: str) -> None:
        """Lets a worker answer the host's messages. Raises SiteRefused: it cannot; SiteUnavailable."""
        plugin = pickle.dumps(SitePlugin())  # a reference to the class, which must be installed there
        try:
            done = self.call(address, "plugin-add", PLUGIN_LIMIT_S, plugin=plugin, name=OPERATION)
        except OddAnswer as error:
            raise _not_installed(str(error)) from error
        if not isinstance(done, dict) or done.get("status") != "OK":
            text = done.get("exception_text") if isinstance(done, dict) else done
            raise _not_installed(str(text))

    def forget(self, address: str) -> None:
        """Ends the connections to a server, and the calls on them."""

        def remove() -> None:
            self._pool.remove(address)

        with contextlib.suppress(RuntimeError):  # the loop is closed, and all connections with it
            self._loop.call_soon_threadsafe(remove)

    def close(self) -> None:
        """Ends all connections."""
        try:
            self._run(self._pool.close(), SCHEDULER_LIMIT_S)
        except SiteUnavailable as error:
            log.warning("%s: %s", self.address, error)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _something_else(self) -> str:
        tls = "without" if self.address.startswith("tls:") else "with"
        return f"something else answers there, or a Dask scheduler of another version or {tls} TLS"

    def _reason(self) -> str:
        """Why there is no connection to the scheduler, which Dask does not always tell."""
        try:
            place = parse_host_port(parse_address(self.address)[1])
        except ValueError:  # of a cluster within one process
            return f"nothing answers at {self.address}"
        try:
            self._run(asyncio.to_thread(_connect, *place), _PROBE_LIMIT_S + _GRACE_S)
        except SiteUnavailable as error:
            match error.__cause__:
                case socket.gaierror():
                    return f"the name {place[0]} is not found"
                case ConnectionRefusedError():
                    return f"nothing listens at port {place[1]} there"
        return f"no answer in {CONNECT_LIMIT_S:g} s"

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()  # it holds three descriptors

    async def _connected(self) -> ConnectionPool:
        # What servers answer stays as it arrives: an exception of theirs is text here.
        pool = ConnectionPool(
            _CONNECTIONS_MAX,
            deserialize=False,
            serializers=["msgpack"],
            connection_args=self._arguments,
            timeout=CONNECT_LIMIT_S,
        )
        await pool.start()
        return pool

    def _run(self, call: Coroutine[Any, Any, T], timeout_s: float) -> T:
        async def limited() -> T:
            return await asyncio.wait_for(call, timeout_s)

        waited_for = limited()
        try:
            future = asyncio.run_coroutine_threadsafe(waited_for, self._loop)
        except RuntimeError as error:  # the loop is closed
            waited_for.close()
            call.close()
            raise SiteUnavailable(CONNECTION_ENDED) from error
        try:
            return future.result(timeout_s + _GRACE_S)
        except (TimeoutError, NoResult, CancelledError) as error:
            future.cancel()
            raise SiteUnavailable(f"no answer in {timeout_s:g} s") from error
        except FatalCommClosedError as error:
            raise SiteUnavailable(
                "no TLS connection: its certificate is not accepted here, or it uses no TLS"
            ) from error
        except CommClosedError as error:
            raise SiteUnavailable(CONNECTION_ENDED) from error
        except OSError as error:
            raise NotConnected(f"no connection: {clean(str(error), _ERROR_CHARS_MAX)}") from error
        except Exception as error:  # of a server, or of Dask about what a server has sent
            raise OddAnswer(clean(f"{type(error).__name__}: {error}", _ERROR_CHARS_MAX)) from error


class DaskLink:
    """The worker of one name, wherever it is now. Implements `SiteLink`."""

    def __init__(self, cluster: DaskCluster, name: str, address: str) -> None:
        self._cluster, self._name = cluster, name
        self._address: str | None = address
        self._installed_at = ""  #: the address of the process that has the plugin

    def call(self, message: bytes, timeout_s: float) -> object:
        """The answer of the worker with that name."""
        address = self._address or self._look()
        if address != self._installed_at:  # in one that has it already, nothing happens
            self._cluster.install(address)
            self._installed_at = address
        found = self._cluster.call(address, OPERATION, timeout_s, message=message)
        if found is None:  # Dask's answer to an unknown operation
            raise SiteUnavailable("its Dask worker ends, or another one is at its address")
        return found

    def reset(self) -> None:
        """Ends the calls under way; the next one asks the scheduler where the worker is."""
        address, self._address, self._installed_at = self._address, None, ""
        if address is not None:
            self._cluster.forget(address)

    def _look(self) -> str:
        try:
            known = self._cluster.workers()
        except SiteUnavailable as error:
            raise SiteUnavailable(f"the Dask scheduler: {error}") from error
        found = [worker.address for worker in known if worker.name == self._name]
        if len(found) > 1:  # each has its own disk
            raise SiteUnavailable(SEVERAL)
        if not found:
            raise SiteUnavailable(f"the Dask scheduler knows no worker {self._name}")
        self._address = found[0]
        return found[0]


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), _PROBE_LIMIT_S).close()


def _worker(address: str, known: dict[str, Any]) -> DaskWorker:
    """A worker as the scheduler describes it. Raises TypeError, KeyError: that is no description of one."""
    if not isinstance(address, str):
        raise TypeError(address)
    name, threads = known["name"], known["nthreads"]
    name = str(name) if isinstance(name, str | int) else ""
    is_named = name != address and bool(name.strip()) and name.isprintable() and len(name) <= NAME_CHARS_MAX
    return DaskWorker(name if is_named else address, address, threads if isinstance(threads, int) else 0, is_named)


def _not_installed(text: str) -> SiteRefused:
    text = clean(text, _ERROR_CHARS_MAX)
    install = f"install genome-pipeline[dask] {agent_version()} in its environment"
    if "No module named 'pipeline'" in text:
        return SiteRefused(f"genome-pipeline is not installed there; {install}", is_final=True)
    if "ModuleNotFoundError" in text or "ImportError" in text or "AttributeError" in text:
        return SiteRefused(
            f"genome-pipeline is incomplete there, or of another version ({text}); {install}", is_final=True
        )
    return SiteRefused(f"its Dask worker does not take the plugin: {text}", is_final=False)
