"""Local files that are replaced as a whole: a reader sees the old content or the new, also after a crash.

Not here: records of a share, which are published without replacing (`inbox_agent.protocol`).
"""

import os
import sys
from pathlib import Path

_NAME_CHARS_MAX = 50  # of the staged name: a file's own name may be as long as its disk allows


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes a hidden file beside `path`, then gives it that name. One thread may write a path at a time.

    Args:
        durable: it survives a power failure, or the old content does.

    Raises:
        OSError: the old content is kept; the hidden file may remain until the next call.
    """
    staged = path.with_name(f".{path.name[:_NAME_CHARS_MAX]}.new")
    with open(staged, "wb", buffering=0) as file:
        write_all(file.fileno(), data)
        if durable:
            os.fsync(file.fileno())
    os.replace(staged, path)
    if durable and sys.platform != "win32":  # Windows opens no folders; NTFS keeps a journal of its names
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`: a disk that fills up takes a part first, and fails at the next write."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])
