"""Which errors of the operating system say that a disk is full."""

import errno

#: Windows errors that may reach Python without an `errno` of their own: disk full, also of a handle; quota exceeded.
FULL_WINERRORS = frozenset({39, 112, 1295})


def is_disk_full(error: OSError) -> bool:
    """Whether the disk is full, or the user's quota on it is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or getattr(error, "winerror", None) in FULL_WINERRORS
