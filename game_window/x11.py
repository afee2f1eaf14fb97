"""A desktop of X11, with a window manager or, as Xvfb, without one.

Without one nothing gives a window the keyboard, keeps a list of windows or asks whether they respond; then this module
does it itself, by the same protocols (ICCCM, EWMH).
"""

import os
import threading
import time
from collections.abc import Sequence
from itertools import count

from mss import ScreenShotError
from Xlib import X, error
from Xlib.display import Display
from Xlib.ext import res, xtest
from Xlib.protocol.event import ClientMessage
from Xlib.xobject.drawable import Window as XWindow

from game_window.desktop import DesktopError, Window
from game_window.keys import Key
from game_window.picture import Picture
from game_window.screen import Screen

_POLL_S = 0.005
_TEXT_UNITS = 1024  # in units of four bytes
_GONE = (error.BadWindow, error.BadDrawable, error.BadMatch)


class X11Desktop:
    """The desktop of one display."""

    def __init__(self, display: str | None = None) -> None:
        """Raises DesktopError: there is no such display, or it lacks an extension."""
        name = display or os.environ.get("DISPLAY", "")
        if not name:
            raise DesktopError("no display: the variable DISPLAY is not set")
        try:
            self._display = Display(name)
        except (error.DisplayError, error.ConnectionClosedError, OSError) as problem:
            raise DesktopError(f"the display {name} cannot be used: {problem}") from problem
        lacking = [one for one in ("XTEST", "X-Resource") if not self._display.has_extension(one)]
        if lacking:
            self._display.close()
            raise DesktopError(f"the display {name} lacks {', '.join(lacking)}")
        self._display.set_error_handler(lambda *_: None)  # a window may be gone when a request without a reply arrives
        self._root = self._display.screen().root
        # Responses of windows are sent to the root window, to every program that listens there.
        self._root.change_attributes(event_mask=X.SubstructureNotifyMask)
        self._numbers = count(1)
        try:
            self._screen = Screen(name)
        except ScreenShotError as problem:
            self._display.close()
            raise DesktopError(f"the screen of {name} cannot be read: {problem}") from problem

    def windows(self) -> Sequence[Window]:
        found = []
        for window in self._top_level():
            try:
                if window.get_attributes().map_state == X.IsViewable:
                    found.append(Window(window.id, self._title(window), self._pid(window), self._is_dialog(window)))
            except _GONE:
                continue
        return found

    def title(self, window: Window) -> str:
        try:
            return self._title(self._of(window))
        except _GONE:
            return ""

    def activate(self, window: Window) -> None:
        target = self._of(window)
        if self._has_window_manager():
            data = (32, [2, X.CurrentTime, 0, 0, 0])  # 2: asked for by a tool of the user
            message = ClientMessage(window=target, client_type=self._atom("_NET_ACTIVE_WINDOW"), data=data)
            self._root.send_event(message, event_mask=X.SubstructureRedirectMask | X.SubstructureNotifyMask)
        else:
            target.configure(stack_mode=X.Above)
            target.set_input_focus(X.RevertToParent, X.CurrentTime)
        self._display.sync()

    def is_active(self, window: Window) -> bool:
        focus = self._display.get_input_focus().focus
        while isinstance(focus, XWindow) and focus.id != self._root.id:
            if focus.id == window.handle:
                return True
            try:
                focus = focus.query_tree().parent
            except _GONE:
                return False
        return False

    def responds(self, window: Window, within_s: float) -> bool:
        """By the protocol _NET_WM_PING, which SDL, Qt, GTK and Tk take part in."""
        target, ping, number = self._of(window), self._atom("_NET_WM_PING"), next(self._numbers)
        try:
            if ping not in target.get_wm_protocols():
                return True
        except _GONE:
            return True  # it is closing
        data = (32, [ping, number, window.handle, 0, 0])
        target.send_event(ClientMessage(window=target, client_type=self._atom("WM_PROTOCOLS"), data=data))
        self._display.flush()
        until, pause = time.monotonic() + within_s, threading.Event()
        while True:
            while self._display.pending_events():
                event = self._display.next_event()
                if isinstance(event, ClientMessage) and list(event.data[1][:2]) == [ping, number]:
                    return True
            if time.monotonic() >= until:
                return False
            pause.wait(_POLL_S)

    def request_close(self, window: Window) -> None:
        target, delete = self._of(window), self._atom("WM_DELETE_WINDOW")
        data = (32, [delete, X.CurrentTime, 0, 0, 0])
        target.send_event(ClientMessage(window=target, client_type=self._atom("WM_PROTOCOLS"), data=data))
        self._display.sync()

    def press(self, key: Key) -> None:
        self._send(X.KeyPress, key)

    def release(self, key: Key) -> None:
        self._send(X.KeyRelease, key)

    def picture(self, window: Window | None = None) -> Picture:
        if window is None:
            return self._screen.picture()
        try:
            target = self._of(window)
            size, place = target.get_geometry(), self._root.translate_coords(target, 0, 0)
            return self._screen.picture((place.x, place.y, size.width, size.height))
        except _GONE as problem:
            raise LookupError(f"the window {window.title!r} is gone") from problem

    def close(self) -> None:
        self._screen.close()
        self._display.close()

    # ---------------------------------------------------------------------------------------------------- requests

    def _top_level(self) -> Sequence[XWindow]:
        """The windows that programs made; a window manager puts them into frames of its own, and keeps a list."""
        if (listed := self._root.get_full_property(self._atom("_NET_CLIENT_LIST"), X.AnyPropertyType)) is not None:
            return [self._display.create_resource_object("window", number) for number in listed.value]
        return list(self._root.query_tree().children)

    def _has_window_manager(self) -> bool:
        check = self._atom("_NET_SUPPORTING_WM_CHECK")
        return self._root.get_full_property(check, X.AnyPropertyType) is not None

    def _title(self, window: XWindow) -> str:
        for name in ("_NET_WM_NAME", "WM_NAME"):
            found = window.get_property(self._atom(name), X.AnyPropertyType, 0, _TEXT_UNITS)
            if found is not None and found.value:
                value = found.value
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return ""

    def _pid(self, window: XWindow) -> int:
        """As the server knows it: the property _NET_WM_PID is what the program says, and some say nothing."""
        asked = [{"client": window.id, "mask": res.LocalClientPIDMask}]
        for found in self._display.res_query_client_ids(asked).ids:
            if found.value:
                return int(found.value[0])
        return 0

    def _is_dialog(self, window: XWindow) -> bool:
        kinds = window.get_full_property(self._atom("_NET_WM_WINDOW_TYPE"), X.AnyPropertyType)
        if kinds is not None and self._atom("_NET_WM_WINDOW_TYPE_DIALOG") in kinds.value:
            return True
        owner = window.get_wm_transient_for()
        return owner is not None and owner.id != self._root.id  # SDL names the root window for any window

    def _send(self, kind: int, key: Key) -> None:
        code = self._display.keysym_to_keycode(key.keysym)
        if not code:
            raise DesktopError(f"the keyboard of this display has no key for the keysym 0x{key.keysym:x}")
        xtest.fake_input(self._display, kind, code)
        self._display.sync()

    def _of(self, window: Window) -> XWindow:
        found = self._display.create_resource_object("window", window.handle)
        assert isinstance(found, XWindow)
        return found

    def _atom(self, name: str) -> int:
        return int(self._display.intern_atom(name))
