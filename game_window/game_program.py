"""A game that was started as a program: its window, its keys, its picture, and what goes wrong with it.

Owns: when a game counts as crashed, hung, stalled or stopped by a dialog; that everything it opened is closed.
Not here: how a desktop does it (`desktop`), what a game's screen means (the evaluator).
Threads: one thread uses it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import psutil

from game_window.desktop import Window
from game_window.dialogs import dialog_of, game_window_of
from game_window.faults import FaultKind, GameFault, GameLimits
from game_window.keys import key_named
from game_window.picture import Picture
from game_window.system_desktop import open_desktop

_POLL_S = 0.05
_CHECK_EVERY_S = 0.5  #: windows are listed and asked so often, since both take time from the game
_RESPONSE_S = 0.25
_EXIT_LIMIT_S = 3.0  #: from the end of its window to the end of a program, which a crash may delay
_KILL_LIMIT_S = 5.0


class GameProgram:
    """A running game. Use it in a `with` block: at its end the window is closed, and what remains is killed."""

    def __init__(
        self,
        command: Sequence[str | Path],
        title: str,
        *,
        display: str | None = None,
        limits: GameLimits | None = None,
    ) -> None:
        """Starts the game, waits for its window and brings it to the front.

        Args:
            command: the program and its arguments.
            title: with what the title of its window begins.
            display: of X11; the variable DISPLAY by default. Windows has one desktop for each session.
            limits: for how long the game may do what.

        Raises:
            GameFault: it crashed, shows a dialog, or its window does not come or does not get the keyboard.
            DesktopError: no window can be shown here.
            OSError: there is no such program.
        """
        self._title_prefix, self._limits = title, limits or GameLimits()
        self._held: set[str] = set()
        self._known: dict[int, bool] = {}  # by process id: whether it is one of the game
        self._desktop = open_desktop(display)
        self._window: Window | None = None
        self._is_closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._unanswered_since: float | None = None
        self._progress: object = None
        with ExitStack() as failing:
            failing.callback(self.close)
            self._process = subprocess.Popen(list(command), env=_environment(display), stdin=subprocess.DEVNULL)
            self._window = self._wait_for_window()
            self._bring_to_front()
            failing.pop_all()
        self._checked_at = self._progressed_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def title(self) -> str:
        """The title of its window now; empty if the window is gone."""
        return self._desktop.title(self._shown())

    def picture(self) -> Picture:
        """What its window shows. Raises GameFault if that is gone."""
        try:
            return self._desktop.picture(self._shown())
        except LookupError as error:
            self._raise_gone(str(error))

    def screen(self) -> Picture:
        """What the whole screen shows, whatever has become of the game."""
        return self._desktop.picture()

    def hold(self, names: Collection[str]) -> None:
        """Presses these keys, and releases all others that it holds. Raises KeyError if a key has another name."""
        keys = {name: key_named(name) for name in {*names, *self._held}}
        for name in sorted(self._held - set(names)):
            self._desktop.release(keys[name])
            self._held.remove(name)
        for name in sorted(set(names) - self._held):
            self._desktop.press(keys[name])
            self._held.add(name)

    def pause(self, seconds: float) -> None:
        """Waits; returns at once if the game ends."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def check(self, progress: object) -> None:
        """Call it often while the game is played, with anything that changes as long as the game goes on.

        Raises:
            GameFault: what is wrong with the game.
        """
        self._require_running()
        now = time.monotonic()
        if progress != self._progress:
            self._progress, self._progressed_at = progress, now
        if now - self._checked_at < _CHECK_EVERY_S:
            return
        self._checked_at = now
        window = self._shown()
        windows = self._desktop.windows()
        # A game that shows a dialog may neither respond nor go on, so the dialog is the cause.
        if (dialog := dialog_of(windows, window, self._is_of_game)) is not None:
            raise self._fault(FaultKind.DIALOG, dialog.title or "without a title")
        if window.handle not in {one.handle for one in windows}:
            self._raise_gone("the window was closed, the program runs on")
        self._require_response(window)
        if time.monotonic() - self._progressed_at > self._limits.stall_s:
            raise self._fault(FaultKind.STALLED, f"no progress for {self._limits.stall_s:g} s")
        if not self._desktop.is_active(window):
            self._bring_to_front()

    def close(self) -> None:
        """Releases the keys, closes the window, kills what has not ended then, and leaves the desktop."""
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as always:  # also if the desktop itself is gone
            always.callback(self._desktop.close)
            if self._process is not None:
                always.callback(self._kill)
                self.hold(())
                self._ask_to_close()

    # ------------------------------------------------------------------------------------------------------ waiting

    def _wait_for_window(self) -> Window:
        until, seen = time.monotonic() + self._limits.window_s, None
        while time.monotonic() < until:
            self._require_running()
            windows = self._desktop.windows()
            if (window := game_window_of(windows, self._title_prefix, self._is_of_game)) is not None:
                return window
            # A window may get its title after it appeared, so another one counts only at the end.
            seen = dialog_of(windows, None, self._is_of_game)
            self.pause(_POLL_S)
        if seen is not None:
            raise self._fault(FaultKind.DIALOG, seen.title or "without a title")
        raise self._fault(
            FaultKind.NO_WINDOW, f"no title began with {self._title_prefix!r} in {self._limits.window_s:g} s"
        )

    def _bring_to_front(self) -> None:
        window, until = self._shown(), time.monotonic() + self._limits.front_s
        while True:
            self._desktop.activate(window)
            if self._desktop.is_active(window):
                return
            self._require_running()
            if time.monotonic() > until:
                raise self._fault(
                    FaultKind.NOT_IN_FRONT, f"another window kept the keyboard for {self._limits.front_s:g} s"
                )
            self.pause(_POLL_S)

    def _shown(self) -> Window:
        assert self._window is not None, "a game is used only after its window has appeared"
        return self._window

    # ------------------------------------------------------------------------------------------------------- faults

    def _fault(self, kind: FaultKind, detail: str) -> GameFault:
        return GameFault(kind, detail, self._desktop.picture())

    def _require_running(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code == 0:
            raise self._fault(FaultKind.ENDED, "exit code 0, before the evaluator was done with it")
        if code is not None:
            raise self._fault(FaultKind.CRASHED, _describe_exit(code))

    def _raise_gone(self, detail: str) -> NoReturn:
        """Raises what has become of a game whose window is gone: a program that ends loses its window first."""
        self.pause(_EXIT_LIMIT_S)
        self._require_running()
        raise self._fault(FaultKind.NO_WINDOW, detail)

    def _require_response(self, window: Window) -> None:
        asked_at = time.monotonic()
        if self._desktop.responds(window, _RESPONSE_S):
            self._unanswered_since = None
        elif self._unanswered_since is None:
            self._unanswered_since = asked_at
        elif time.monotonic() - self._unanswered_since > self._limits.hang_s:
            raise self._fault(FaultKind.HUNG, f"its window has not responded for {self._limits.hang_s:g} s")

    # ---------------------------------------------------------------------------------------------------- processes

    def _is_of_game(self, pid: int) -> bool:
        """Whether a process is the game's, or was started by one of it: SDL shows dialogs by a process of its own."""
        assert self._process is not None
        if pid not in self._known:
            self._known[pid] = False
            with contextlib.suppress(psutil.Error, OSError):
                family = [pid, *(parent.pid for parent in psutil.Process(pid).parents())] if pid else []
                self._known[pid] = self._process.pid in family
        return self._known[pid]

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            game = psutil.Process(self._process.pid)
            return [*game.children(recursive=True), game]
        except (psutil.Error, OSError):
            return []

    def _ask_to_close(self) -> None:
        assert self._process is not None
        window = self._window
        if window is None or self._process.poll() is not None or not self._desktop.responds(window, _RESPONSE_S):
            return
        self._desktop.request_close(window)
        self.pause(self._limits.close_s)

    def _kill(self) -> None:
        assert self._process is not None
        left = self._processes() if self._process.poll() is None else []
        for one in left:
            with contextlib.suppress(psutil.Error, OSError):
                one.kill()
        psutil.wait_procs(left, timeout=_KILL_LIMIT_S)
        self._process.wait(_KILL_LIMIT_S)


def _environment(display: str | None) -> dict[str, str]:
    """This process's variables, and the display of X11 if one is given."""
    variables = dict(os.environ)
    if display is not None:
        variables["DISPLAY"] = display
        variables.pop("WAYLAND_DISPLAY", None)  # toolkits prefer it to DISPLAY
    return variables


def _describe_exit(code: int) -> str:
    if code >= 0 or sys.platform == "win32":
        # Windows reports a crash as an NTSTATUS, which people look up in hexadecimal.
        return f"exit code {code if 0 <= code < 0x10000 else f'0x{code & 0xFFFFFFFF:08X}'}"
    try:
        return f"signal {signal.Signals(-code).name.removeprefix('SIG')}"
    except ValueError:
        return f"signal {-code}"
