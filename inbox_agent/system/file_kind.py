"""What kind of file an `os.lstat` found: links are refused wherever a name may be another user's."""

import os
import stat


def is_link(info: os.stat_result) -> bool:
    """Whether it leads elsewhere: a symbolic link, or on Windows also a junction or mount point."""
    reparse = getattr(info, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    return stat.S_ISLNK(info.st_mode) or bool(reparse)


def is_regular(info: os.stat_result) -> bool:
    """Whether it is a regular file and not a link."""
    return stat.S_ISREG(info.st_mode) and not is_link(info)
