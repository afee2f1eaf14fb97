"""The worker process of a Python evaluator: imports the function once, then answers requests one by one.

It reads its configuration and requests from standard input, ends when that ends, and imports as little as it can.
Owns: how an answer is written to the stream, and what is restored between two games.
Not here: whether an answer counts (protocol), when this process is replaced (python_function).
"""

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import TracebackType
from typing import IO, Any

PR_SET_PDEATHSIG, SIGKILL = 1, 9
_BYTES_MAX = 64 * 1024  # layout.RECORD_BYTES_MAX, which would cost too much to import; a test compares them

_LEFT_NAMED_MAX = 3  # threads that are named in a log
_RECENT_S = 2.0  # since a source was written: Python compares times of whole seconds, and those of FAT are even
_TEXT_CHARS_MAX = 1000  # of an error; the agent cuts it again

Function = Callable[[Path, Any], Any]


def main() -> None:
    """Serves until standard input ends. The arguments are only shown in the process list."""
    requests, replies = _take_streams()
    hello = json.loads(requests.readline() or "{}")
    if not hello:
        os._exit(0)  # the agent ended before it sent the first line
    _stay_with(hello["agent"])
    _prepare_output()
    # The agent's code must be importable wherever the agent was started, but never before the evaluator's modules.
    # Those are added after our imports: a user's file named like a standard module must not be imported by ours.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from inbox_agent.evaluation.trial import EvaluatorTrial

    _distrust_recent_copies()
    sys.path.insert(0, hello["folder"])
    os.environ["PYTHONPATH"] = hello["python_path"]  # for what the evaluator starts
    sys.argv = [hello["target"]]
    _RequestLoop(hello, requests, replies, EvaluatorTrial).serve()
    os._exit(0)  # threads of the evaluator must not keep the process alive


class _RequestLoop:
    def __init__(self, hello: dict[str, Any], requests: IO[str], replies: int, trial: Callable[..., Any]) -> None:
        self._marker, self._folder, self._target = hello["marker"].encode(), hello["folder"], hello["target"]
        self._worker = hello["worker"]
        self._requests, self._replies, self._trial = requests, replies, trial
        self._pid = os.getpid()

    def serve(self) -> None:
        handlers = _HandlerWatch()
        function = self._import()
        if function is None:
            return
        before = _ProcessState(handlers)
        self._send({"ready": True})
        genome = scratch = Path()
        for line in self._requests:
            request = json.loads(line)
            if request["genome"] != str(genome):  # usually the same file: creating a Path costs more than comparing
                genome, scratch = Path(request["genome"]), Path(request["scratch"])
            os.chdir(scratch)
            trial = self._trial(
                number=request["trial"],
                seed=request["seed"],
                worker=self._worker,
                settings=request["settings"],
                time_limit_s=request["time_limit_s"],
                scratch=scratch,
            )
            answer = self._play(function, genome, trial)
            if os.getpid() != self._pid:
                os._exit(0)  # the function forked, and this is the child
            with contextlib.suppress(OSError):  # the function removed the folder
                os.chdir(scratch)  # Windows cannot delete a folder that is a current folder
            left = before.left_running() + before.restore()
            self._send({"number": request["number"], "left": left, **answer})

    def _import(self) -> Function | None:
        module, _, name = self._target.partition(":")
        try:
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            if not callable(found):
                raise TypeError(f"{self._target} is not callable")
            return found
        except BaseException as error:  # report whatever an import raises, SystemExit included; do not exit
            self._print_traceback(error)
            self._send({"broken": f"cannot import {self._target}: {self._describe(error)}"})
            return None

    def _play(self, function: Function, genome: Path, trial: Any) -> dict[str, Any]:
        try:
            try:
                found = function(genome, trial)
            finally:
                _stop_timers()  # a handler that raises must do so in here
        except BaseException as error:  # also SystemExit and KeyboardInterrupt
            self._print_traceback(error)
            return {"error": self._describe(error)}
        return {"answer": found if isinstance(found, dict) else {"fitness": found}}

    def _send(self, message: dict[str, Any]) -> None:
        try:
            text = _encode(message)
            if len(text) > _BYTES_MAX:
                raise ValueError(f"it has {len(text)} bytes, allowed are {_BYTES_MAX}")
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"the answer cannot be used: {error}"
            text = json.dumps({"number": message.get("number"), "error": problem[:_TEXT_CHARS_MAX]})
        # Output before the answer is its log, so it must be in the stream before the answer.
        _flush_output()
        data = self._marker + text.encode() + b"\n"
        while data:
            data = data[os.write(self._replies, data) :]

    def _describe(self, error: BaseException) -> str:
        """`ZeroDivisionError: division by zero (game.py, line 12)`."""
        try:
            text = f"{type(error).__name__}: {error!s:.{_TEXT_CHARS_MAX}}".rstrip(": ")
            if isinstance(error, SyntaxError):
                return text  # its text names the place
            where = self._place(error.__traceback__)
        except BaseException:  # the exception's own __str__ failed
            return type(error).__name__
        return f"{text} ({where[0]}, line {where[1]})" if where else text

    def _place(self, traceback: TracebackType | None) -> tuple[str, int] | None:
        """File and line of the innermost frame in the evaluator's folder; of the innermost of all if there is none."""
        frames = list(_frames(traceback))
        own = [frame for frame in frames if frame[0].startswith(self._folder + os.sep)]
        for file, line in reversed(own or frames):
            return os.path.basename(file), line
        return None

    def _print_traceback(self, error: BaseException) -> None:
        import traceback  # slow to import, and rarely needed

        with contextlib.suppress(BaseException):  # stderr replaced by the evaluator, or an exception without a text
            rest = error.__traceback__.tb_next if error.__traceback__ else None  # without this file's frame
            traceback.print_exception(type(error), error, rest)


class _HandlerWatch:
    """Notes that a signal handler was set: comparing all of them after each game would cost more than a short game."""

    def __init__(self) -> None:
        self.changed = False
        self.set_handler = signal.signal
        signal.signal = self._note  # before the evaluator's modules take a name of their own for it

    def _note(self, signalnum: int, handler: Any) -> Any:
        self.changed = True
        return self.set_handler(signalnum, handler)


class _ProcessState:
    """What a game may change in its process, as it was when the function had been imported."""

    def __init__(self, handlers: _HandlerWatch) -> None:
        self._environ, self._variables = os.environ, _raw(os.environ).copy()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._outputs = _outputs()
        self._traces = sys.gettrace(), sys.getprofile()
        self._watch = handlers
        self._handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        handlers.changed = False
        self._threads = set(threading.enumerate())
        self._children = _count_children()

    def restore(self) -> list[str]:
        """Undoes what the last game changed; returns what cannot be undone, in words."""
        try:
            self._restore()
        except BaseException as error:  # whatever a game has put in place of something
            return [f"a change that cannot be undone ({type(error).__name__})"]
        return []

    def _restore(self) -> None:
        sys.settrace(self._traces[0])
        sys.setprofile(self._traces[1])
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            _flush_output()
            sys.stdin, sys.stdout, sys.stderr = self._streams
        if _outputs() != self._outputs or any(stream is not None and stream.closed for stream in self._streams):
            raise OSError("standard output or error was closed or redirected")
        os.umask(self._umask)
        os.environ = self._environ  # noqa: B003  the object, which a game may have replaced
        if _raw(os.environ) != self._variables:
            for name in _raw(os.environ).keys() - self._variables.keys():
                del os.environ[_decode(name)]
            os.environ.update((_decode(name), _decode(value)) for name, value in self._variables.items())
        if self._watch.changed:
            self._watch.changed = False
            for number, handler in self._handlers.items():
                if signal.getsignal(number) != handler and handler is not None:  # None: not set by Python
                    self._watch.set_handler(number, handler)

    def left_running(self) -> list[str]:
        """Threads and child processes that the last game has left behind, in words."""
        threads: list[threading.Thread] = []
        # Cheaper than a comparison of all threads, for the common case of one that is always there.
        if threading.active_count() != len(self._threads) or not all(thread.is_alive() for thread in self._threads):
            threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        children = _count_children() - self._children
        found = [f"thread {thread.name}" for thread in threads[:_LEFT_NAMED_MAX]]
        if len(threads) > _LEFT_NAMED_MAX:
            found.append(f"{len(threads) - _LEFT_NAMED_MAX} more threads")
        if children > 0:
            found.append(describe_children(children))
        return found


def _raw(environ: Any) -> dict[Any, Any]:
    """The variables as `os.environ` keeps them: comparing these costs 1 µs, comparing decoded ones 40."""
    return environ._data  # type: ignore[no-any-return]


def _outputs() -> list[tuple[int, int, int]]:
    """Which files standard output and error are; they may be closed or redirected below Python's streams."""
    # Windows numbers neither pipes nor devices, but tells them apart by their mode.
    return [(found.st_mode, found.st_dev, found.st_ino) for found in map(os.fstat, (1, 2))]


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced or closed by the evaluator
            stream.flush()


def _decode(text: bytes | str) -> str:
    return text if isinstance(text, str) else os.fsdecode(text)  # Windows keeps text


def describe_children(count: int) -> str:
    """Child processes that were left running, in words."""
    return "1 child process" if count == 1 else f"{count} child processes"


def _stop_timers() -> None:
    """Stops the timers whose signals would reach the next game."""
    if sys.platform != "win32":
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)


if sys.platform == "win32":

    def _count_children() -> int:
        """Always 0: the agent counts the processes of this one's job object."""
        return 0

else:

    def _count_children() -> int:
        """The child processes of this process that have not ended; those that multiprocessing keeps are not counted."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # the common case: there is none
            return 0
        kept = {
            getattr(getattr(sys.modules.get(f"multiprocessing.{module}"), name, None), attribute, None)
            for module, name, attribute in (
                ("resource_tracker", "_resource_tracker", "_pid"),
                ("forkserver", "_forkserver", "_forkserver_pid"),
            )
        }
        children: list[bytes] = []
        for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                children += file.read().split()
        return sum(int(pid) not in kept and _is_running(pid) for pid in children)


def _is_running(pid: bytes) -> bool:
    try:
        with open(f"/proc/{pid.decode()}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    """File and line of each call, outermost first, without this module and the import machinery."""
    while traceback is not None:
        frame = traceback.tb_frame
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in (__name__, "importlib"):
            yield frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def _plain(value: Any) -> Any:
    """Converts numbers of numpy and similar libraries for JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a number")


_encode = json.JSONEncoder(default=_plain).encode  # `dumps` would create a new encoder every time


def _take_streams() -> tuple[IO[str], int]:
    """Moves requests and replies to new descriptors, where the evaluator cannot read or close them by accident."""
    requests, replies = os.dup(0), os.dup(1)  # not inherited by the evaluator's children
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return open(requests, encoding="utf-8"), replies


def _prepare_output() -> None:
    """Flushes every line, Python's and C's: progress is visible in time, and the log survives a kill."""
    import ctypes

    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):  # set here because an embeddable Python ignores the environment
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.platform == "win32":
            runtime = ctypes.CDLL("ucrtbase")
            runtime.__acrt_iob_func.restype = ctypes.c_void_p
            stdout, mode = ctypes.c_void_p(runtime.__acrt_iob_func(1)), 4  # _IONBF: it has no line mode
        else:
            runtime = ctypes.CDLL(None)
            stdout, mode = ctypes.c_void_p.in_dll(runtime, "stdout"), 1  # _IOLBF
        runtime.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t]
        runtime.setvbuf(stdout, None, mode, 0 if mode == 4 else 4096)


def _distrust_recent_copies() -> None:
    """Imports what was just written from its source, and keeps no compiled copy of it.

    A second version of the same size and second would be taken for the first one, whose copy would be played.
    """
    of_source = SourceFileLoader.path_stats

    def path_stats(loader: SourceFileLoader, path: str) -> Mapping[str, Any]:
        stats = of_source(loader, path)
        if stats["mtime"] > time.time() - _RECENT_S:
            raise OSError(f"{path} was just written")  # as if the copy's age could not be told
        return stats

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign,assignment]


def _stay_with(agent: int) -> None:
    """Linux: this process dies with the agent, also during an evaluation."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != agent:  # it died before the call took effect
            os._exit(0)


if __name__ == "__main__":
    main()
