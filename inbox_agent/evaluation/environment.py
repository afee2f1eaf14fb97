"""The environment variables of a game: an allow-list, fixed values, and a fair number of threads. Pure.

Owns: which variables of the agent a game inherits. Its own ones, and secrets of the host, are not among them.
"""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

#: Patterns of variables that programs need, on any system.
_COMMON = (
    *("PATH", "TZ", "TMP", "TEMP", "LANG", "LANGUAGE", "LC_*", "PYTHON*", "VIRTUAL_ENV", "CONDA_*", "SSL_CERT_*"),
    *("CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "VK_*", "SDL_*", "QT_*"),
    *("OMP_*", "OPENBLAS_*", "MKL_*", "NUMEXPR_*", "VECLIB_*"),
)
_POSIX = (
    *("HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_*", "LIBGL_*", "MESA_*", "WINE*"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_*", "DBUS_SESSION_BUS_ADDRESS"),
)
_WINDOWS = (
    *("SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "OS", "COMPUTERNAME", "SESSIONNAME"),
    *("USERNAME", "USERDOMAIN", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "PUBLIC", "ALLUSERSPROFILE"),
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES*", "PROGRAMW6432", "COMMONPROGRAM*"),
    *("NUMBER_OF_PROCESSORS", "PROCESSOR_*", "DRIVERDATA", "PSMODULEPATH"),
)
#: Thread pools that would otherwise use every core in every worker.
THREAD_POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Set in every game, so that a program that plays games can tell that it was imported by one.
IN_A_GAME = "INBOX_AGENT_GAME"


def game_environment(
    inherited: Mapping[str, str], allow: Iterable[str], fixed: Mapping[str, str], *, threads: int, windows: bool
) -> dict[str, str]:
    """The variables of a game.

    Args:
        inherited: the agent's environment.
        allow: names beside those that programs usually need; `*` stands for any characters.
        fixed: variables with their values.
        threads: for thread pools that nothing else limits.
        windows: whether names are compared without case.
    """
    allowed = (*_COMMON, *(_WINDOWS if windows else _POSIX), *allow)
    patterns = [pattern.upper() if windows else pattern for pattern in allowed]
    passed = {
        name: value
        for name, value in inherited.items()
        if any(fnmatchcase(name.upper() if windows else name, pattern) for pattern in patterns)
    }
    return {
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # Python prints any character
        **dict.fromkeys(THREAD_POOLS, str(threads)),
        **passed,
        **({name.upper(): value for name, value in fixed.items()} if windows else fixed),
        IN_A_GAME: "1",
    }


def with_modules_of(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Python also finds the modules in a folder."""
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), environment.get("PYTHONPATH")))),
    }
