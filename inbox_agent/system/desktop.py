"""The desktop of an evaluator's windows: login session, desktop, screen size and graphics adapter.

An evaluator without a desktop does not fail: its windows are not drawn and its fitness is wrong. So every heartbeat
carries the session, and the host may refuse it (`[limits] needs_desktop`).
"""

import ctypes
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DesktopSession:
    """A login session, as a process in it sees it."""

    id: str = ""  #: Windows' number, XDG's name elsewhere; empty: none
    console: bool | None = None  #: whether it is on the machine's own screen; None where unknown
    desktop: str = ""  #: its name, or that of the display; empty: no window can be shown
    locked: bool = False  #: nothing is drawn until a user logs on
    width: int = 0  #: of the whole screen, in pixels; 0 where unknown
    height: int = 0
    adapter: str = ""  #: the graphics adapter's name

    def __str__(self) -> str:
        """One line for people; the empty string if no window can be shown."""
        if not self.desktop or self.locked:
            return ""
        size = f"{self.width}x{self.height}" if self.width else ""
        return ", ".join(filter(None, (self.desktop, size, self.adapter)))


if sys.platform == "win32":
    from ctypes import wintypes

    _USER_NAME, _USER_FLAGS = 2, 1  # UOI_NAME, UOI_FLAGS
    _WSF_VISIBLE = 1
    _DESKTOP_READOBJECTS = 1
    _SM_CXSCREEN, _SM_CYSCREEN = 0, 1
    _ATTACHED_TO_DESKTOP = 1

    class _UserFlags(ctypes.Structure):
        _fields_ = [("inherit", wintypes.BOOL), ("reserved", wintypes.BOOL), ("flags", wintypes.DWORD)]

    class _Display(ctypes.Structure):
        _fields_ = [
            ("cb", wintypes.DWORD),
            ("DeviceName", wintypes.WCHAR * 32),
            ("DeviceString", wintypes.WCHAR * 128),
            ("StateFlags", wintypes.DWORD),
            ("DeviceID", wintypes.WCHAR * 128),
            ("DeviceKey", wintypes.WCHAR * 128),
        ]

    _kernel32, _user32 = ctypes.WinDLL("kernel32"), ctypes.WinDLL("user32")
    # Without these a 64-bit handle would be truncated to the 32 bits of a C int.
    _station_of = _user32.GetProcessWindowStation
    _station_of.argtypes, _station_of.restype = [], wintypes.HANDLE
    _input_desktop = _user32.OpenInputDesktop
    _input_desktop.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _input_desktop.restype = wintypes.HANDLE
    _close_desktop = _user32.CloseDesktop
    _close_desktop.argtypes, _close_desktop.restype = [wintypes.HANDLE], wintypes.BOOL
    _information = _user32.GetUserObjectInformationW
    _information.argtypes = [wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD, wintypes.LPDWORD]
    _information.restype = wintypes.BOOL

    def look_at_session() -> DesktopSession:
        """The session of this process.

        Source: Microsoft, "Window Stations" and "Desktops": only a visible station's desktop is shown, and input goes
        to its desktop `Default`, or to another one (`Winlogon`) while it is locked.
        """
        number = wintypes.DWORD(0)
        known = _kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(number))
        desktop = _desktop()
        return DesktopSession(
            id=str(number.value) if known else "",
            console=bool(known) and number.value == _kernel32.WTSGetActiveConsoleSessionId(),
            desktop="Default" if desktop is not None and number.value != 0 else "",
            locked=desktop != "Default",
            width=_user32.GetSystemMetrics(_SM_CXSCREEN),
            height=_user32.GetSystemMetrics(_SM_CYSCREEN),
            adapter=_adapter(),
        )

    def _desktop() -> str | None:
        """The desktop with the screen now, empty if it may not be queried; None on an invisible station."""
        flags, size = _UserFlags(), wintypes.DWORD(0)
        asked = _information(_station_of(), _USER_FLAGS, ctypes.byref(flags), ctypes.sizeof(flags), ctypes.byref(size))
        if not asked or not flags.flags & _WSF_VISIBLE:
            return None
        desktop = _input_desktop(0, False, _DESKTOP_READOBJECTS)
        if not desktop:
            return ""
        try:
            name = ctypes.create_unicode_buffer(64)
            _information(desktop, _USER_NAME, name, ctypes.sizeof(name), ctypes.byref(size))
            return name.value
        finally:
            _close_desktop(desktop)

    def _adapter() -> str:
        display, number = _Display(cb=ctypes.sizeof(_Display)), 0
        while _user32.EnumDisplayDevicesW(None, number, ctypes.byref(display), 0):
            if display.StateFlags & _ATTACHED_TO_DESKTOP:
                return str(display.DeviceString)
            number += 1
        return ""

else:

    def look_at_session() -> DesktopSession:
        """The session of this process."""
        display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY", "")
        return DesktopSession(id=os.environ.get("XDG_SESSION_ID", ""), desktop=display)
