"""Outputs that take nothing, for the standard output or error of a process: without a reader, or without room."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

UselessOutput = Callable[[], AbstractContextManager[int]]


@contextmanager
def closed_pipe() -> Iterator[int]:
    """The writing end of a pipe whose reading end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    """A device that has no room; only Linux has one."""
    device = os.open("/dev/full", os.O_WRONLY)
    try:
        yield device
    finally:
        os.close(device)


def useless_outputs() -> list[UselessOutput]:
    """Those that this system has; the functions' names are for the names of tests."""
    return [closed_pipe, *([full_disk] if os.path.exists("/dev/full") else [])]
