"""How much of the disk a project takes. Links are not followed."""

import contextlib
import os
import shutil
import stat
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from inbox_agent.system.file_kind import is_link
from pipeline.core.disk_room import bytes_text
from pipeline.paths import ProjectPaths


@dataclass(slots=True)
class DiskUse:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0
    complete: bool = True  #: False: there was no time for all of them

    def __add__(self, other: "DiskUse") -> "DiskUse":
        return DiskUse(self.files + other.files, self.bytes + other.bytes, self.complete and other.complete)


def is_folder(path: Path) -> bool:
    """Whether it is a folder and not a link to one."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and not is_link(info)


def disk_use(path: Path, *, until: float = inf, without: Path | None = None) -> DiskUse:
    """What a file takes, or a folder with all that is in it but `without`; `until` limits the time, as
    `time.monotonic`. What cannot be read is not counted.
    """
    found, left = DiskUse(), [os.fspath(path)]
    skipped = os.fspath(without) if without is not None else None
    while left:
        if time.monotonic() > until:
            found.complete = False
            break
        each = left.pop()
        try:
            info = os.lstat(each)
            if stat.S_ISDIR(info.st_mode) and not is_link(info):
                left += [entry.path for entry in os.scandir(each) if entry.path != skipped]
            else:
                found.files, found.bytes = found.files + 1, found.bytes + info.st_size
        except OSError:
            continue
    return found


def project_use(paths: ProjectPaths, time_s: float = inf) -> str:
    """What results, snapshots and the rest of the state take, in one line with the free space.

    It costs in proportion to their files, but not more than this time: then it says "at least".
    """
    until = time.monotonic() + time_s
    found = {
        "snapshots": disk_use(paths.snapshots, until=until),
        "other state": disk_use(paths.state, until=until, without=paths.snapshots),
        "results": disk_use(paths.all_results, until=until),
    }
    parts = [f"{what} {'' if use.complete else 'at least '}{bytes_text(use.bytes)}" for what, use in found.items()]
    with contextlib.suppress(OSError):
        disk = shutil.disk_usage(paths.root)
        parts.append(f"free {bytes_text(disk.free)} of {bytes_text(disk.total)}")
    return ", ".join(parts)
