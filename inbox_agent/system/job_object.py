"""Windows Job Objects: sets of processes that are killed together, and starting a process in one.

Owns: how kernel32 is called. On other systems this module is empty.
Not here: which processes belong together (process_tree).
"""

import sys

if sys.platform == "win32":
    import ctypes
    import subprocess
    import threading
    import time
    from collections.abc import Mapping, Sequence
    from ctypes import wintypes
    from pathlib import Path
    from typing import IO

    import psutil

    _KILL_ON_JOB_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    _BASIC_ACCOUNTING = 1  # JobObjectBasicAccountingInformation
    _EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
    _PROCESS_TERMINATE, _PROCESS_SET_QUOTA = 0x0001, 0x0100  # what AssignProcessToJobObject requires
    _EXIT_CODE = 1
    _CREATE_SUSPENDED = 0x4
    _PAUSE_S = 0.005  # between two checks of killed processes
    _Stream = int | IO[bytes] | None

    class _BasicLimits(ctypes.Structure):
        _fields_ = [
            ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
            ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        ]

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = [
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_ulonglong * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        ]

    class _Accounting(ctypes.Structure):
        _fields_ = [
            ("TotalUserTime", wintypes.LARGE_INTEGER),
            ("TotalKernelTime", wintypes.LARGE_INTEGER),
            ("ThisPeriodTotalUserTime", wintypes.LARGE_INTEGER),
            ("ThisPeriodTotalKernelTime", wintypes.LARGE_INTEGER),
            ("TotalPageFaultCount", wintypes.DWORD),
            ("TotalProcesses", wintypes.DWORD),
            ("ActiveProcesses", wintypes.DWORD),
            ("TotalTerminatedProcesses", wintypes.DWORD),
        ]

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    # Without these a 64-bit handle would be truncated to the 32 bits of a C int.
    _create = _kernel32.CreateJobObjectW
    _create.argtypes, _create.restype = [wintypes.LPVOID, wintypes.LPCWSTR], wintypes.HANDLE
    _set = _kernel32.SetInformationJobObject
    _set.argtypes = [wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD]
    _set.restype = wintypes.BOOL
    _query = _kernel32.QueryInformationJobObject
    _query.argtypes = [wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD, wintypes.LPDWORD]
    _query.restype = wintypes.BOOL
    _assign = _kernel32.AssignProcessToJobObject
    _assign.argtypes, _assign.restype = [wintypes.HANDLE, wintypes.HANDLE], wintypes.BOOL
    _terminate = _kernel32.TerminateJobObject
    _terminate.argtypes, _terminate.restype = [wintypes.HANDLE, wintypes.UINT], wintypes.BOOL
    _open_process = _kernel32.OpenProcess
    _open_process.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _open_process.restype = wintypes.HANDLE
    _current_process = _kernel32.GetCurrentProcess
    _current_process.argtypes, _current_process.restype = [], wintypes.HANDLE
    _close = _kernel32.CloseHandle
    _close.argtypes, _close.restype = [wintypes.HANDLE], wintypes.BOOL

    def _checked(result: int | None) -> int:
        if not result:
            raise ctypes.WinError(ctypes.get_last_error())
        return result

    class JobObject:
        """A job that kills its processes, and all that they start, when its last handle closes. Raises OSError."""

        def __init__(self) -> None:
            self._handle = _checked(_create(None, None))
            limits = _ExtendedLimits()
            limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE  # and no breakaway: no process can leave it
            try:
                _checked(_set(self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)))
            except OSError:
                self.close()
                raise

        def assign_this_process(self) -> None:
            """Assigns the calling process to the job; processes that it starts from now on inherit it."""
            _checked(_assign(self._handle, _current_process()))

        def assign(self, pid: int) -> None:
            """Assigns a process to the job. The caller holds a handle of it, so its id cannot have been reused."""
            process = _checked(_open_process(_PROCESS_SET_QUOTA | _PROCESS_TERMINATE, False, pid))
            try:
                _checked(_assign(self._handle, process))
            finally:
                _close(process)

        def end(self, within_s: float) -> None:
            """Kills every process of the job and of the jobs nested in it, waits for them, and closes the job."""
            try:
                deadline = time.monotonic() + within_s
                if self.active():
                    _checked(_terminate(self._handle, _EXIT_CODE))
                while self.active() and time.monotonic() < deadline:
                    threading.Event().wait(_PAUSE_S)
            finally:
                self.close()

        def close(self) -> None:
            """Closes the handle, which kills the processes still in the job."""
            _close(self._handle)

        def active(self) -> int:
            """How many of its processes have not ended."""
            found = _Accounting()
            _checked(_query(self._handle, _BASIC_ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None))
            return int(found.ActiveProcesses)

    def spawn_in_job(
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: _Stream,
        stdout: _Stream,
        stderr: _Stream,
    ) -> tuple[subprocess.Popen[bytes], JobObject]:
        """Starts a process in a new job. Raises OSError or ValueError when that fails."""
        job = JobObject()
        # Suspended until it is in its job, so that none of its children starts outside of it.
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP | _CREATE_SUSPENDED
        try:
            process = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, creationflags=flags
            )
        except (OSError, ValueError):
            job.close()
            raise
        try:
            job.assign(process.pid)
            psutil.Process(process.pid).resume()
        except (OSError, psutil.Error) as error:
            process.kill()
            process.wait()
            job.close()
            raise OSError(f"the process cannot join the job object: {error}") from error
        return process, job
