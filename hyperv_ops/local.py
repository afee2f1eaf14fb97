"""Machines that are process groups of this computer: the default, the demo and the test environment.

A machine's disk is a folder; `restore` leaves the empty folders that it began with. A machine ends when its standard
input closes, whose writing end its owner holds: so it ends with its owner.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperv_ops.last_line import last_line_of
from hyperv_ops.machines import MachineError, MachineInfo, PowerState, Trouble, require_name

LOG_BYTES_MAX = 1024 * 1024
_KILL_WAIT_S = 5.0
if sys.platform == "win32":
    _CREATION_FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
else:
    _CREATION_FLAGS = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSpec:
    """The definition of a local machine."""

    argv: Sequence[str]
    disk: Path
    folders: Sequence[str] = ()  #: the empty folders on a new disk
    log: Path  #: its standard output and error; the previous file is kept as `.1`
    cwd: Path
    env: Mapping[str, str] | None = None  #: None: as this process


class LocalMachines:
    """`Power` over processes of this computer, and `restore`."""

    def __init__(self, specs: Mapping[str, LocalSpec], on_exit: Callable[[], None] = lambda: None) -> None:
        self._specs = dict(specs)
        self._on_exit = on_exit  #: called from a thread when a machine has ended, requested or not
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started_at: dict[str, float] = {}

    def names(self) -> list[str]:
        return list(self._specs)

    def infos(self) -> dict[str, MachineInfo]:
        return {name: self.info(name) for name in self._specs}

    def info(self, name: str) -> MachineInfo:
        self._spec(name)
        process = self._processes.get(name)
        if process is None:
            return MachineInfo(name=name, state=PowerState.OFF, note="not started")
        if process.poll() is not None:
            return MachineInfo(name=name, state=PowerState.OFF, note=self._exit_reason(name, process))
        uptime_s = time.monotonic() - self._started_at[name]
        return MachineInfo(name=name, state=PowerState.RUNNING, uptime_s=uptime_s, pid=process.pid)

    def start(self, name: str) -> None:
        spec = self._spec(name)
        if self.info(name).state is PowerState.RUNNING:
            return
        self._make_folders(name)
        try:
            spec.log.parent.mkdir(parents=True, exist_ok=True)
            if spec.log.exists() and spec.log.stat().st_size > LOG_BYTES_MAX:
                os.replace(spec.log, spec.log.with_name(spec.log.name + ".1"))
            with spec.log.open("ab") as out:
                self._processes[name] = subprocess.Popen(
                    list(spec.argv),
                    cwd=spec.cwd,
                    env=spec.env,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    # A new process group, so that only the owner handles Ctrl-C at its terminal.
                    start_new_session=sys.platform != "win32",
                    creationflags=_CREATION_FLAGS,
                )
        except OSError as error:
            raise MachineError(name, f"cannot be started: {error}") from error
        self._started_at[name] = time.monotonic()
        threading.Thread(
            target=self._watch_exit, args=(self._processes[name],), name=f"machine-{name}", daemon=True
        ).start()

    def shutdown(self, name: str, timeout_s: float) -> bool:
        process = self._running(name)
        if process is None:
            return True
        _close_stdin(process)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def power_off(self, name: str) -> None:
        process = self._running(name)
        if process is None:
            return
        _close_stdin(process)
        _kill_group(process)
        try:
            process.wait(_KILL_WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise MachineError(name, f"process {process.pid} does not die", Trouble.TIMED_OUT) from error

    def restore(self, name: str) -> None:
        """Kills it and empties its disk."""
        spec = self._spec(name)
        self.power_off(name)
        try:
            if spec.disk.exists():
                shutil.rmtree(spec.disk)
        except OSError as error:
            raise MachineError(name, f"its disk: {error}") from error
        self._make_folders(name)

    def close(self, timeout_s: float = 5.0) -> None:
        """Ends all machines: all gracefully at once, then those still running by power off."""
        running = [(name, process) for name in self._specs if (process := self._running(name)) is not None]
        for _name, process in running:
            _close_stdin(process)
        deadline = time.monotonic() + timeout_s
        for name, _process in running:
            if not self.shutdown(name, max(0.0, deadline - time.monotonic())):
                self.power_off(name)

    def _spec(self, name: str) -> LocalSpec:
        require_name(name, self.names())
        return self._specs[name]

    def _make_folders(self, name: str) -> None:
        spec = self._spec(name)
        try:
            for folder in spec.folders:
                (spec.disk / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(name, f"its disk cannot be made: {error}") from error

    def _watch_exit(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        _close_stdin(process)
        self._on_exit()

    def _running(self, name: str) -> "subprocess.Popen[bytes] | None":
        self._spec(name)
        process = self._processes.get(name)
        return process if process is not None and process.poll() is None else None

    def _exit_reason(self, name: str, process: "subprocess.Popen[bytes]") -> str:
        code = process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"
        last = last_line_of(self._specs[name].log)
        return f"{how}; {last}" if last else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return str(number)


def _close_stdin(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    if sys.platform == "win32":
        process.kill()  # its job ends with it and kills its children
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
