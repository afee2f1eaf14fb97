"""Runs scripts with the PowerShell of this computer, when it is the Hyper-V host itself. No WinRM, no password.

Owns: how long a PowerShell process is kept. Starting one costs about a hundred times as much as a job in a running one,
and machines are queried every few seconds on the computer that also runs the evaluations.
Threads: any thread may call. Each job has a process to itself, so a hung one delays no other; jobs share only the list
of idle processes.
"""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence

from hyperv_ops.hyperv import script_call as scripts
from hyperv_ops.hyperv.script_call import ScriptReply
from hyperv_ops.machines import MachineError, Trouble

if sys.platform == "win32":
    _CREATION_FLAGS = subprocess.CREATE_NO_WINDOW
else:
    _CREATION_FLAGS = 0

log = logging.getLogger(__name__)

IDLE_MAX = 4  #: processes that are kept; more are started when more jobs come at once
JOBS_MAX, AGE_MAX_S = 1000, 3600.0  #: then a process is replaced, which bounds what leaks in it
PROBE_LIMIT_S = 15.0  #: for a PowerShell to start and answer two empty jobs on a busy computer
_STDERR_BYTES_MAX = 64 * 1024
_EXIT_LIMIT_S = 5.0


class PowerShellRunner:
    """`Runner` on this computer."""

    where = "this computer"

    def __init__(
        self,
        program: Sequence[str] = ("powershell",),
        *,
        jobs_max: int = JOBS_MAX,
        age_max_s: float = AGE_MAX_S,
        probe_limit_s: float = PROBE_LIMIT_S,
    ) -> None:
        self._argv = [*program, *scripts.powershell_arguments()]
        self._jobs_max, self._age_max_s, self._probe_limit_s = jobs_max, age_max_s, probe_limit_s
        #: Whether one process takes several jobs; None until a probe has shown it.
        self.reuses: bool | None = None
        self._probing = threading.Lock()
        self._lock = threading.Lock()  #: guards `_idle`
        self._idle: list[_Process] = []
        # Also runs when this object is collected and when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end_all, self._lock, self._idle)

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> ScriptReply:
        job, deadline = scripts.pack_call(script, parameters), time.monotonic() + timeout_s
        self._probe(timeout_s / 2)
        process = self._take() if self.reuses else self._start()
        out, err = process.run(job, deadline - time.monotonic(), last=not self.reuses)
        if not (scripts.takes_another_job(out) and self._keep(process)):
            process.end()
        return scripts.unpack_reply(self.where, out, err)

    def close(self) -> None:
        self._finalizer()

    def _probe(self, limit_s: float) -> None:
        """Checks on first use whether a process answers a second job before its input ends.

        PowerShell 7 reads its standard input line by line. For Windows PowerShell 5.1 this is not verified; if it
        collected its input first, every job in a kept process would end at its time limit. Calls during another
        thread's probe start their own process.
        """
        if self.reuses is not None or not self._probing.acquire(blocking=False):
            return
        try:
            process, until = self._start(), time.monotonic() + min(self._probe_limit_s, limit_s)
            for _ in range(2):
                try:
                    out, _err = process.run(scripts.empty_job(), until - time.monotonic())
                except MachineError:
                    # A call with little time proves nothing.
                    self.reuses = False if limit_s >= self._probe_limit_s else None
                    break
                if not scripts.takes_another_job(out):  # it ended: the script's own call will report why
                    process.end()
                    break
            else:
                self.reuses = True
                if not self._keep(process):
                    process.end()
        finally:
            self._probing.release()
        if self.reuses is False:
            log.warning("PowerShell does not read its input line by line: a process is started for each call")

    def _take(self) -> "_Process":
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return self._start()
            if process.alive and time.monotonic() - process.started_at < self._age_max_s:
                return process
            process.end()

    def _start(self) -> "_Process":
        try:
            return _Process(self._argv)
        except OSError as error:
            reason = f"PowerShell cannot be started: {error}; is this a Windows computer with Hyper-V?"
            raise MachineError(self.where, reason, Trouble.NO_HYPER_V) from error

    def _keep(self, process: "_Process") -> bool:
        with self._lock:
            keeps = self._finalizer.alive and len(self._idle) < IDLE_MAX and process.jobs < self._jobs_max
            if keeps:
                self._idle.append(process)
            return keeps


class _Process:
    """A PowerShell process that runs one job at a time. A thread does the I/O, because pipes have no timeout."""

    def __init__(self, argv: list[str]) -> None:
        self._popen = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            creationflags=_CREATION_FLAGS,
        )
        self.started_at, self.jobs = time.monotonic(), 0
        self._jobs: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()
        self._outputs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._errors, self._errors_lock = bytearray(), threading.Lock()
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._error_reader.start()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def run(self, job: bytes, timeout_s: float, *, last: bool = False) -> tuple[bytes, bytes]:
        """Returns standard output until the reply, or until the process ended without one, and standard error.

        Args:
            job: one line of `script_call.pack_call`.
            timeout_s: how long to wait; then the process is killed.
            last: ends the process's input after this job.

        Raises:
            MachineError: UNKNOWN_OUTCOME: there was no answer in time.
        """
        self.jobs += 1
        with self._errors_lock:
            self._errors.clear()
        self._jobs.put((job, last))
        try:
            out = self._outputs.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            self._kill()
            raise MachineError(PowerShellRunner.where, "no answer in time", Trouble.UNKNOWN_OUTCOME) from None
        if scripts.takes_another_job(out) is None:
            self._error_reader.join(_EXIT_LIMIT_S)  # it ended: wait for the rest of its error output
        with self._errors_lock:
            return out, bytes(self._errors)

    def end(self) -> None:
        """Ends its input and waits for it to exit; kills it if it does not."""
        self._jobs.put(None)
        try:
            self._popen.wait(_EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        self._popen.kill()
        self._jobs.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_EXIT_LIMIT_S)

    def _serve(self) -> None:
        stdin, stdout = self._popen.stdin, self._popen.stdout
        assert stdin is not None and stdout is not None
        with stdout:
            while (request := self._jobs.get()) is not None:
                job, last = request
                with contextlib.suppress(OSError):  # it ended: its earlier output is still read
                    stdin.write(job)
                    stdin.flush()
                    if last:
                        stdin.close()
                self._outputs.put(self._read_reply())
            with contextlib.suppress(OSError):
                stdin.close()

    def _read_reply(self) -> bytes:
        assert self._popen.stdout is not None
        out = bytearray()
        while line := self._popen.stdout.readline(scripts.REPLY_BYTES_MAX):
            out += line
            if scripts.takes_another_job(line) is not None or len(out) > scripts.REPLY_BYTES_MAX:
                break
        return bytes(out)

    def _read_errors(self) -> None:
        assert self._popen.stderr is not None
        with self._popen.stderr as stderr:
            while data := os.read(stderr.fileno(), 4096):
                with self._errors_lock:
                    self._errors += data
                    del self._errors[:-_STDERR_BYTES_MAX]


def _end_all(lock: threading.Lock, idle: list[_Process]) -> None:
    with lock:
        processes, idle[:] = list(idle), []
    for process in processes:
        process.end()
