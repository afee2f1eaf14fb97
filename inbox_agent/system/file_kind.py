"""What kind of file an `os.lstat` found: links are refused wherever a name may be another user's.

Not here: files over SMB, whose answers do not have the reparse tag (`pipeline.shares.smb`).
"""

import os
import stat

#: The bit of a reparse tag that says "stands for another file": symbolic links and junctions have it; deduplicated,
#: compressed and cloud files are reparse points without it (MS-FSCC 2.1.2.1, name surrogate).
_NAME_SURROGATE = 0x20000000


def is_link(info: os.stat_result) -> bool:
    """Whether it leads elsewhere: a symbolic link, or on Windows also a junction or any other name surrogate.

    Python follows the other reparse points: they have the attribute, and a tag only if no driver handles them.
    """
    return stat.S_ISLNK(info.st_mode) or bool(getattr(info, "st_reparse_tag", 0) & _NAME_SURROGATE)


def is_regular(info: os.stat_result) -> bool:
    """Whether it is a regular file and not a link."""
    return stat.S_ISREG(info.st_mode) and not is_link(info)
