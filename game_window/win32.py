"""The desktop of a Windows session, by user32.

Sources: Microsoft, "SendMessageTimeoutW", "SetForegroundWindow", "SendInput", "SetErrorMode".
"""

import ctypes
import sys
from collections.abc import Sequence

if sys.platform == "win32":
    from ctypes import wintypes

    from game_window.desktop import DesktopError, Window
    from game_window.keys import Key
    from game_window.picture import Picture
    from game_window.screen import Screen

    _WM_NULL, _WM_CLOSE = 0x0000, 0x0010
    _SMTO_ABORTIFHUNG = 0x0002
    _ERROR_INVALID_WINDOW_HANDLE = 1400
    _SW_RESTORE = 9
    _MAPVK_VK_TO_VSC = 0
    _INPUT_KEYBOARD = 1
    _KEYEVENTF_EXTENDEDKEY, _KEYEVENTF_KEYUP, _KEYEVENTF_SCANCODE = 0x0001, 0x0002, 0x0008
    _UNASSIGNED_KEY = 0xE8  #: no keyboard has it and no program reacts to it
    _SEM_FAILCRITICALERRORS, _SEM_NOGPFAULTERRORBOX = 0x0001, 0x0002
    _DIALOG_CLASS = "#32770"
    _TEXT_CHARS = 512

    class _KeyboardInput(ctypes.Structure):
        _fields_ = [
            ("virtual_key", wintypes.WORD),
            ("scan_code", wintypes.WORD),
            ("flags", wintypes.DWORD),
            ("time", wintypes.DWORD),
            ("extra", ctypes.c_size_t),
        ]

    class _InputUnion(ctypes.Union):
        _fields_ = [("keyboard", _KeyboardInput), ("size_of_mouse_input", ctypes.c_byte * 32)]

    class _Input(ctypes.Structure):
        _fields_ = [("type", wintypes.DWORD), ("union", _InputUnion)]

    _user32 = ctypes.WinDLL("user32", use_last_error=True)
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _Enumerated = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
    # Without these a 64-bit handle would be truncated to the 32 bits of a C int.
    for _name, _arguments, _result in (
        ("EnumWindows", [_Enumerated, wintypes.LPARAM], wintypes.BOOL),
        ("GetClassNameW", [wintypes.HWND, wintypes.LPWSTR, ctypes.c_int], ctypes.c_int),
        ("GetClientRect", [wintypes.HWND, wintypes.LPRECT], wintypes.BOOL),
        ("ClientToScreen", [wintypes.HWND, ctypes.POINTER(wintypes.POINT)], wintypes.BOOL),
        ("GetForegroundWindow", [], wintypes.HWND),
        ("GetWindowTextW", [wintypes.HWND, wintypes.LPWSTR, ctypes.c_int], ctypes.c_int),
        ("GetWindowThreadProcessId", [wintypes.HWND, wintypes.LPDWORD], wintypes.DWORD),
        ("IsIconic", [wintypes.HWND], wintypes.BOOL),
        ("IsWindowVisible", [wintypes.HWND], wintypes.BOOL),
        ("MapVirtualKeyW", [wintypes.UINT, wintypes.UINT], wintypes.UINT),
        ("PostMessageW", [wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM], wintypes.BOOL),
        (
            "SendMessageTimeoutW",
            [
                *(wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM),
                *(wintypes.UINT, wintypes.UINT, ctypes.POINTER(ctypes.c_size_t)),
            ],
            wintypes.LPARAM,
        ),
        ("SetForegroundWindow", [wintypes.HWND], wintypes.BOOL),
        ("ShowWindow", [wintypes.HWND, ctypes.c_int], wintypes.BOOL),
        ("SendInput", [wintypes.UINT, ctypes.POINTER(_Input), ctypes.c_int], wintypes.UINT),
    ):
        _function = getattr(_user32, _name)
        _function.argtypes, _function.restype = _arguments, _result

    class Win32Desktop:
        """The desktop of this process's session."""

        def __init__(self) -> None:
            # The screen comes first: from then on this process sees real pixels, also in the places of windows.
            self._screen = Screen()
            # Inherited by the game: what crashes it ends it, instead of showing a dialog of Windows.
            _kernel32.SetErrorMode(_SEM_FAILCRITICALERRORS | _SEM_NOGPFAULTERRORBOX)

        def windows(self) -> Sequence[Window]:
            found: list[Window] = []

            def add(handle: int, _: int) -> bool:
                if _user32.IsWindowVisible(handle):
                    pid = wintypes.DWORD(0)
                    _user32.GetWindowThreadProcessId(handle, ctypes.byref(pid))
                    found.append(Window(handle, _title(handle), pid.value, _class(handle) == _DIALOG_CLASS))
                return True

            _user32.EnumWindows(_Enumerated(add), 0)
            return found

        def title(self, window: Window) -> str:
            return _title(window.handle)

        def activate(self, window: Window) -> None:
            if _user32.IsIconic(window.handle):
                _user32.ShowWindow(window.handle, _SW_RESTORE)
            if _user32.SetForegroundWindow(window.handle) and self.is_active(window):
                return
            # Windows allows it to the process that made the last input, and this makes it the one.
            self._send(_KeyboardInput(_UNASSIGNED_KEY, 0, 0, 0, 0))
            self._send(_KeyboardInput(_UNASSIGNED_KEY, 0, _KEYEVENTF_KEYUP, 0, 0))
            _user32.SetForegroundWindow(window.handle)

        def is_active(self, window: Window) -> bool:
            return bool(_user32.GetForegroundWindow() == window.handle)

        def responds(self, window: Window, within_s: float) -> bool:
            answer, limit_ms = ctypes.c_size_t(), max(1, round(within_s * 1000))
            sent = _user32.SendMessageTimeoutW(
                window.handle, _WM_NULL, 0, 0, _SMTO_ABORTIFHUNG, limit_ms, ctypes.byref(answer)
            )
            return bool(sent) or ctypes.get_last_error() == _ERROR_INVALID_WINDOW_HANDLE  # it is closing

        def request_close(self, window: Window) -> None:
            _user32.PostMessageW(window.handle, _WM_CLOSE, 0, 0)

        def press(self, key: Key) -> None:
            self._send(_by_scan_code(key, 0))

        def release(self, key: Key) -> None:
            self._send(_by_scan_code(key, _KEYEVENTF_KEYUP))

        def picture(self, window: Window | None = None) -> Picture:
            if window is None:
                return self._screen.picture()
            size, corner = wintypes.RECT(), wintypes.POINT(0, 0)
            if not _user32.GetClientRect(window.handle, ctypes.byref(size)) or _user32.IsIconic(window.handle):
                raise LookupError(f"the window {window.title!r} is gone or minimized")
            _user32.ClientToScreen(window.handle, ctypes.byref(corner))
            return self._screen.picture((corner.x, corner.y, size.right, size.bottom))

        def close(self) -> None:
            self._screen.close()

        def _send(self, keyboard: _KeyboardInput) -> None:
            one = _Input(_INPUT_KEYBOARD, _InputUnion(keyboard=keyboard))
            if _user32.SendInput(1, ctypes.byref(one), ctypes.sizeof(_Input)) != 1:
                raise DesktopError("Windows refuses keys: the screen is locked, or another program blocks the input")

    def _by_scan_code(key: Key, flags: int) -> _KeyboardInput:
        """DirectInput and SDL read scan codes, and not what a virtual key says."""
        code = _user32.MapVirtualKeyW(key.virtual_key, _MAPVK_VK_TO_VSC)
        extended = _KEYEVENTF_EXTENDEDKEY if key.is_extended else 0
        return _KeyboardInput(0, code, _KEYEVENTF_SCANCODE | extended | flags, 0, 0)

    def _title(handle: int) -> str:
        text = ctypes.create_unicode_buffer(_TEXT_CHARS)
        _user32.GetWindowTextW(handle, text, _TEXT_CHARS)
        return text.value

    def _class(handle: int) -> str:
        text = ctypes.create_unicode_buffer(_TEXT_CHARS)
        _user32.GetClassNameW(handle, text, _TEXT_CHARS)
        return text.value
