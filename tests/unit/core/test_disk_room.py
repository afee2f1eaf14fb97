"""The reserve of a disk, and when it is nearly full."""

import pytest

from pipeline.core.disk_room import bytes_text, low_bytes, reserve_bytes
from pipeline.core.limits import Limits

pytestmark = pytest.mark.rules
GIB = 1024**3


@pytest.mark.parametrize(
    ("reserve", "total", "kept", "low"),
    [
        (None, 1000 * GIB, GIB, 2 * GIB),
        (None, 10 * GIB, GIB // 2, GIB),
        (3 * GIB, 10 * GIB, 3 * GIB, 6 * GIB),
        (0, 1000 * GIB, 0, 2 * GIB),
    ],
)
def test_warning_comes_before_artifacts_are_left_out(reserve: int | None, total: int, kept: int, low: int) -> None:
    """At twice the reserve; also if there is none, because a full disk stops the run."""
    limits = Limits(disk_reserve_bytes=reserve)

    assert (reserve_bytes(limits, total), low_bytes(limits, total)) == (kept, low)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 * GIB // 2, "1.5 GiB"), (2**52, "4096.0 TiB")],
)
def test_bytes_are_worded(size: int, text: str) -> None:
    assert bytes_text(size) == text
