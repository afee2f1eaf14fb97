"""Identifies the run of the operating system: a process can tell whether the system was restarted meanwhile."""

import sys
from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")
#: Windows counts its boots here. The time of the boot would not do: it moves with the clock, and by rounding.
_WINDOWS = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"


def boot_id() -> str:
    """The same until the system is restarted, also in other processes; empty if the system does not tell."""
    if sys.platform == "win32":
        return _windows_boot_id()
    try:
        return _LINUX.read_text(encoding="ascii").strip()
    except OSError:
        return ""


if sys.platform == "win32":
    import winreg

    def _windows_boot_id() -> str:
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _WINDOWS) as key:
                return f"boot-{int(winreg.QueryValueEx(key, 'BootId')[0])}"
        except (OSError, TypeError, ValueError):
            return ""
