"""Python's garbage collector, which looks at all objects again and again while a ledger is replayed.

It belongs to the process, which may be a user's program, so it is left as it was found.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage is collected in a block that makes many objects and hardly any garbage; nor in other threads."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
