"""Workers that are described by files of their own, `workers/NAME.toml`: they may join and leave while a host runs.

Owns: which files are read, and who may write them: a description is trusted as `pipeline.toml` is.
Not here: what a worker may say of itself (`config.WorkerTable`), what follows when a file comes or goes
(`pipeline.host.membership`).
"""

import os
import stat
from pathlib import Path
from typing import Any

from inbox_agent.settings import read_table
from pipeline.errors import ConfigError

SUFFIX = ".toml"
FILE_BYTES_MAX = 64 * 1024
DESCRIPTIONS_MAX = 10_000
_ONLY_CONFIGURED = "its worker belongs into a [[worker]] table of pipeline.toml"


def description_files(folder: Path) -> dict[Path, tuple[int, ...]] | None:
    """The files of a folder that describe workers, each with what changes when it is replaced; None: no folder.

    Raises:
        ConfigError: the folder cannot be read, or there are too many.
    """
    found: dict[Path, tuple[int, ...]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    info = entry.stat(follow_symlinks=False)
                    found[Path(entry.path)] = (info.st_size, info.st_mtime_ns, info.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    if len(found) > DESCRIPTIONS_MAX:
        raise ConfigError(f"{folder}: more than {DESCRIPTIONS_MAX} worker descriptions; remove those that are not used")
    return dict(sorted(found.items()))


def read_description(path: Path) -> dict[str, Any]:
    """The content of a file: the keys of a `[[worker]]` without its name, and maybe a lease. A relative share is
    relative to the file's folder.

    Raises:
        FileNotFoundError: it was removed meanwhile.
        SettingsError: it is no TOML.
        ConfigError: it cannot be used, or others may write it.
    """
    try:
        _refuse_unsafe(path)
        table = read_table(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if "name" in table:
        raise ConfigError(f"{path}: `name` does not stand in a description; the file's name is the worker's")
    if "machine" in table:
        raise ConfigError(f"{path}: `machine` cannot be described; {_ONLY_CONFIGURED}")
    if str(table.get("secret", "")).startswith("env:"):
        raise ConfigError(f"{path}: a secret in a variable would be known to games that run already; use a file")
    share = table.get("share")
    if isinstance(share, str) and share and not share.replace("\\", "/").startswith("//"):
        table["share"] = str(path.parent / share)
    return table


def _refuse_unsafe(path: Path) -> None:
    info = os.lstat(path)
    if not stat.S_ISREG(info.st_mode) or info.st_size > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: not a file of at most {FILE_BYTES_MAX} bytes")
    if os.name == "nt":
        return  # its folder's access list decides
    for place, found in ((path.parent, os.stat(path.parent)), (path, info)):
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{place}: others may write it, and it names shares and accounts: chmod go-w it")
