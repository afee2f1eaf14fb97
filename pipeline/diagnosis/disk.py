"""`pipeline doctor` for this computer's disk: whether it is nearly full, and what the project takes of it."""

import shutil
from collections.abc import Iterator

from inbox_agent.checks import CheckResult
from pipeline.core.disk_room import bytes_text, low_bytes, reserve_bytes
from pipeline.core.limits import Limits
from pipeline.paths import ProjectPaths
from pipeline.storage.disk_use import project_use

_ITEM = "disk"


def check_disk(paths: ProjectPaths, limits: Limits, *, measured: bool) -> Iterator[CheckResult]:
    """Checks the disks of state and results; if `measured`, counts every file of them, which may take a while."""
    folders = {path if path.is_dir() else paths.root for path in (paths.state, paths.all_results)}
    for folder in sorted(folders):
        try:
            disk = shutil.disk_usage(folder)
        except OSError as error:
            yield CheckResult(_ITEM, ok=False, found=f"{folder}: its free space cannot be read: {error.strerror}")
            continue
        if disk.free < low_bytes(limits, disk.total):
            reserve = bytes_text(reserve_bytes(limits, disk.total))
            found = f"{folder}: only {bytes_text(disk.free)} are free; below {reserve} artifacts are left out"
            fix = "`pipeline prune --older-than 30d --what-if` shows what can be removed of old generations"
            yield CheckResult(_ITEM, ok=False, found=found, fix=fix)
            break  # the other folder is on the same disk, or comes next time
    if measured:
        yield CheckResult(_ITEM, ok=True, found=project_use(paths))
