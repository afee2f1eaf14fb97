"""Python's garbage collector, which would look at all objects again and again while many are made.

It belongs to the process, which may be a user's program: whoever uses this leaves it as it was found.
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
