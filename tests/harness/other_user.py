"""Access as another user of this computer: for tests of permissions, also where they run as root."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY_UID = 65534


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
