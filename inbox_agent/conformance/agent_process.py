"""One process of the agent under test: started, killed, told to end; at the end nothing of it is left.

Owns: the placeholders of the command, and process control on all systems.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from inbox_agent.conformance.outcome import NotPossible

PLACEHOLDERS = ("share", "state", "python", "game")
_PLACEHOLDER = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")
_KILL_WAIT_S = 10.0
_LINE_CHARS_MAX = 200
#: A group of its own: what ends it does not reach the kit.
if sys.platform == "win32":
    _OWN_GROUP: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _OWN_GROUP: dict[str, Any] = {"start_new_session": True}


class AgentProcess:
    """A running agent. Its output goes to a file."""

    def __init__(self, command: Sequence[str], values: Mapping[str, str], output: Path) -> None:
        argv = [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in command]
        self._output = output
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,  # held open: an agent may end with its parent
                stdout=stream,
                stderr=subprocess.STDOUT,
                **_OWN_GROUP,
            )

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def epitaph(self) -> str:
        """Its exit code and last line."""
        lines = self._output.read_bytes().decode("utf-8", "replace").strip().splitlines()
        return f"exit code {self._process.returncode}: {(lines or ['no output'])[-1][:_LINE_CHARS_MAX]}"

    def kill(self) -> None:
        """Kills it alone, as a crash does: what it started may go on."""
        self._process.kill()
        self._process.wait(_KILL_WAIT_S)

    def ask_to_end(self) -> None:
        """SIGTERM, or Ctrl-Break on Windows. Raises NotPossible if there is no way to send it."""
        if sys.platform != "win32":
            self._process.terminate()
            return
        try:
            os.kill(self._process.pid, signal.CTRL_BREAK_EVENT)
        except OSError as error:
            raise NotPossible("no console to send Ctrl-Break") from error

    def close(self) -> None:
        """Kills it with all that it has started, as far as that can be found from outside."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_WAIT_S)
        if self._process.stdin is not None:
            self._process.stdin.close()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()


def running(pids: Iterable[int], program: Path) -> list[psutil.Process]:
    """The processes with these ids that have not ended and have the path of `program` in their command line."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and str(program) in process.cmdline():
                found.append(process)
    return found
