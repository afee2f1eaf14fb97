"""How much free space a disk must keep: the reserve, below which artifacts are left out, and when to warn. Pure."""

from pipeline.core.limits import Limits

_RESERVE_BYTES = 1024**3  #: of a large disk, unless another one is set
_RESERVE_FRACTION = 0.05  #: of a smaller one
_LOW_FACTOR = 2  #: a warning comes while there is so many times the reserve
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def reserve_bytes(limits: Limits, total_bytes: int) -> int:
    """Free space below which artifacts are left out, on a disk of this size."""
    return _default_reserve(total_bytes) if limits.disk_reserve_bytes is None else limits.disk_reserve_bytes


def low_bytes(limits: Limits, total_bytes: int) -> int:
    """Free space below which a warning is due: also without a reserve, because a full disk stops the run."""
    return _LOW_FACTOR * max(reserve_bytes(limits, total_bytes), _default_reserve(total_bytes))


def _default_reserve(total_bytes: int) -> int:
    return min(_RESERVE_BYTES, int(total_bytes * _RESERVE_FRACTION))


def bytes_text(size_bytes: int) -> str:
    """A number of bytes for people: `512 bytes`, `1.5 GiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    size, unit = size_bytes / 1024, 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}"
