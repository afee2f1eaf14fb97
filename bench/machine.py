"""Describes the machine on which the figures were measured."""

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

FLUSHES = 50
PACKAGES = ("distributed", "ray", "pebble")


def describe(disk: Path) -> dict[str, Any]:
    """Cores, Python, system, load and the median time of an fsync in that folder, in milliseconds."""
    return {
        "cores": cores(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "disk": str(disk),
        "fsync_ms": round(fsync_ms(disk), 3),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_line(machine: dict[str, Any]) -> str:
    """The machine in one line of text."""
    packages = "".join(f", {name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cores']} cores (load {machine['load']}), Python {machine['python']}, {machine['system']}, "
        f"fsync {machine['fsync_ms']} ms in {machine['disk']}{packages}"
    )


def fsync_ms(folder: Path) -> float:
    """The median time that flushing a new small file takes."""
    times = []
    for number in range(FLUSHES):
        path = folder / f"flush-{number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"x" * 256)
        begun = time.perf_counter()
        os.fsync(descriptor)
        times.append(time.perf_counter() - begun)
        os.close(descriptor)
        path.unlink()
    return 1000 * statistics.median(times)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
