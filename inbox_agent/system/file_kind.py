"""What kind of file a name leads to: links are refused wherever a name may be another user's, and none is waited for.

Not here: files over SMB, whose answers do not have the reparse tag (`pipeline.shares.smb`).
"""

import contextlib
import errno
import os
import stat

#: The bit of a reparse tag that says "stands for another file": symbolic links and junctions have it; deduplicated,
#: compressed and cloud files are reparse points without it (MS-FSCC 2.1.2.1, name surrogate).
_NAME_SURROGATE = 0x20000000

#: For `os.open`: a link is not followed, a pipe is not waited for. What was opened must then be looked at.
SAFE_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
FOLLOWS_LINKS = not hasattr(os, "O_NOFOLLOW")  #: Windows: `os.open` follows a link whatever the flags are


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Opens a regular file, and nothing else. Raises OSError."""
    if FOLLOWS_LINKS:
        _refuse_link(path)
    descriptor = os.open(path, flags | SAFE_FLAGS, 0o666)
    try:
        if not is_regular(os.fstat(descriptor)):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_link(path: str | os.PathLike[str]) -> None:
    with contextlib.suppress(FileNotFoundError):  # it may be about to be made
        if is_link(os.lstat(path)):
            raise OSError(errno.ELOOP, "symbolic links and junctions are not followed", os.fspath(path))


def is_link(info: os.stat_result) -> bool:
    """Whether it leads elsewhere: a symbolic link, or on Windows also a junction or any other name surrogate.

    Python follows the other reparse points: they have the attribute, and a tag only if no driver handles them.
    """
    return stat.S_ISLNK(info.st_mode) or bool(getattr(info, "st_reparse_tag", 0) & _NAME_SURROGATE)


def is_regular(info: os.stat_result) -> bool:
    """Whether it is a regular file and not a link."""
    return stat.S_ISREG(info.st_mode) and not is_link(info)
