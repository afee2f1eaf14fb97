"""A Dask cluster of real processes: a scheduler, and supervised workers that may have networks of their own.

As in a deployment, something starts a worker again that has ended: workers of `distributed` end with their scheduler.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.harness.waiting import eventually

_DASK = [sys.executable, "-m", "dask"]
_ENVIRONMENT = {
    **os.environ,
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "warning",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
}


class SupervisedWorker:
    """A Dask worker, which is started again whenever it ends."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._command, self._log = command, log
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor-{name}", daemon=True)
        self._thread.start()

    def kill_worker(self) -> None:
        """Kills the process of a worker that has a nanny, which lives on."""
        assert self._process is not None
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
                return
        raise AssertionError(f"{self.name} has no worker process")

    def terminate(self) -> None:
        """Asks it to end, as a batch system does; `start_worker` without a nanny."""
        assert self._process is not None
        self._process.terminate()

    def close(self) -> None:
        """Ends it for good."""
        self._stop.set()
        self._kill()
        self._thread.join(10)

    def _supervise(self) -> None:
        with self._log.open("ab") as log:
            while not self._stop.is_set():
                self._process = subprocess.Popen(
                    self._command, stdout=log, stderr=log, env=_ENVIRONMENT, start_new_session=True
                )
                if self._stop.is_set():
                    self._kill()
                self._process.wait()
                self._stop.wait(0.2)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class DaskClusterProcesses:
    """A scheduler at an address, and its workers."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", options: Sequence[str] = ()) -> None:
        """`options` are those of scheduler and workers, as for TLS."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._host, self._options = folder, host, options
        self._port = free_port(host)
        self.workers: dict[str, SupervisedWorker] = {}
        self._scheduler: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> str:
        """Host and port of the scheduler."""
        return f"{self._host}:{self._port}"

    def start_scheduler(self) -> None:
        """Starts the scheduler, at the same address each time."""
        scheme = "tls" if self._options else "tcp"
        listen = ["--host", f"{scheme}://{self._host}", "--port", str(self._port)]
        with (self._folder / "scheduler.log").open("ab") as log:
            self._scheduler = subprocess.Popen(
                [*_DASK, "scheduler", *listen, "--no-dashboard", "--no-show", *self._options],
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT,
            )
        assert eventually(lambda: _answers(self._host, self._port))

    def kill_scheduler(self) -> None:
        """Kills it."""
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def start_worker(
        self,
        name: str,
        threads: int = 1,
        before: Sequence[str] = (),
        *,
        nanny: bool = False,
        options: Sequence[str] = (),
    ) -> SupervisedWorker:
        """Starts a worker; `before` is a program that starts it, with its arguments."""
        scheme = "tls" if self._options else "tcp"
        command = [*before, *_DASK, "worker", f"{scheme}://{self.place}", "--nthreads", str(threads)]
        command += ["--name", name] if name else []
        command += ["--no-dashboard", "--local-directory", str(self._folder / "scratch"), *self._options]
        command += [*options] if nanny else ["--no-nanny", *options]
        self.workers[name] = SupervisedWorker(name, command, self._folder / f"{name}.log")
        return self.workers[name]

    def close(self) -> None:
        """Ends all processes."""
        for worker in self.workers.values():
            worker.close()
        if self._scheduler is not None:
            self._scheduler.kill()
            self._scheduler.wait()


@contextlib.contextmanager
def dask_cluster(
    folder: Path, *names: str, threads: int = 1, options: Sequence[str] = ()
) -> Iterator[DaskClusterProcesses]:
    """A cluster on the loopback network."""
    cluster = DaskClusterProcesses(folder, options=options)
    try:
        cluster.start_scheduler()
        for name in names:
            cluster.start_worker(name, threads)
        yield cluster
    finally:
        cluster.close()


class Networks:
    """Network namespaces of this computer, joined by a bridge. Needs root, and the program `ip`."""

    def __init__(self, *names: str) -> None:
        self._id = f"{os.getpid() % 100000:05d}"
        self._bridge, self._names = f"br{self._id}", names
        self.host = f"10.213.{os.getpid() % 256}.1"
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.host}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number, name in enumerate(names):
            self._join(name, number)

    def inside(self, name: str) -> list[str]:
        """What starts a program in a namespace."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def cut_off(self, name: str) -> None:
        """Nothing passes from now on."""
        _ip("link", "set", self._device(name), "down")

    def reconnect(self, name: str) -> None:
        """Everything passes again."""
        _ip("link", "set", self._device(name), "up")

    def close(self) -> None:
        """Removes them."""
        for name in self._names:
            _ip("netns", "delete", self._namespace(name), check=False)
            _ip("link", "delete", self._device(name), check=False)
        _ip("link", "delete", self._bridge, check=False)

    def _join(self, name: str, number: int) -> None:
        namespace, outside = self._namespace(name), self._device(name)
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", outside, "master", self._bridge, "up")
        within = ("netns", "exec", namespace, "ip")
        _ip(*within, "address", "add", f"{self.host.rpartition('.')[0]}.{10 + number}/24", "dev", "eth0")
        _ip(*within, "link", "set", "eth0", "up")
        _ip(*within, "link", "set", "lo", "up")

    def _namespace(self, name: str) -> str:
        return f"{name}-{self._id}"

    def _device(self, name: str) -> str:
        return f"v{self._names.index(name)}-{self._id}"


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


def free_port(host: str) -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False
