"""The host warns once before its disk is full."""

import logging
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.core.limits import Limits
from pipeline.host.disk_watch import INTERVAL_S, DiskWatch

GIB = 1024**3
Usage = namedtuple("Usage", "total used free")


class Disk:
    """A disk of 100 GiB, and a clock that each look finds half a minute later."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.looks, self._now = 0, 0, 0.0
        monkeypatch.setattr(shutil, "disk_usage", self._usage)
        self._watch = DiskWatch(Limits(), (folder,), lambda: self._now)

    def _usage(self, folder: Path) -> Usage:
        self.looks += 1
        if self.free < 0:
            raise FileNotFoundError(folder)
        return Usage(100 * GIB, 100 * GIB - self.free, self.free)

    def look(self, free_gib: float, after_s: float = INTERVAL_S) -> None:
        self.free = int(free_gib * GIB)
        self._now += after_s
        self._watch.look()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def test_warning_is_given_once(disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what happens next, and what helps; once more if it comes again after there was room."""
    caplog.set_level(logging.WARNING)

    for free in (3, 1.9, 1.5, 2.1, 1.9):
        disk.look(free)
    (warning,) = caplog.messages
    for free in (50, 1.9):
        disk.look(free)

    assert warning.startswith(f"{tmp_path}: only 1.9 GiB are free on its disk; below 1.0 GiB artifacts are left out")
    assert "pipeline prune --older-than 30d --what-if" in warning
    assert caplog.messages == [warning, warning]


def test_disk_is_looked_at_twice_a_minute(disk: Disk) -> None:
    """However often the loop asks."""
    disk.look(50)
    disk.look(50, after_s=INTERVAL_S / 2)
    disk.look(50, after_s=INTERVAL_S / 2)

    assert disk.looks == 2


def test_disk_that_cannot_be_asked_is_no_error(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    disk.look(-1)

    assert caplog.messages == []
