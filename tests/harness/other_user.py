"""Access as another user of this computer: for tests of permissions, also where they run as root."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY_UID = 65534
#: Of no entry in the system's list of users.
UNKNOWN_UID = 23456


def allow_traversal(root: Path) -> None:
    """Lets any user traverse to a folder of root on this disk."""
    for parent in (root, *root.parents) if os.geteuid() == 0 else ():
        if parent == Path(tempfile.gettempdir()) or parent == Path("/"):
            break
        parent.chmod(parent.stat().st_mode | 0o011)


@contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """For the duration of the block, file permissions apply also to root. POSIX only."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(user)


def reader_prefix(uid: int) -> list[str]:
    """The beginning of a command line that runs as another user, who may read every file and write only his own.

    For root on Linux, with the program `setpriv`. Reading is allowed because this Python may be in a folder of root;
    `access(2)` ignores that, so the files of the test need `allow_traversal`.
    """
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *may_read]
