"""A row of bars, one character each, for a list of numbers. Pure."""

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-:=+*#"  #: for a terminal whose encoding has no others


def sparkline(values: Sequence[float], low: float, high: float, *, bars: str = BARS) -> str:
    """One bar per value: the lowest for `low`, the highest for `high`, one in the middle if these are equal."""
    top = len(bars) - 1
    # Halves, because the difference of two numbers may overflow.
    span = high / 2 - low / 2
    shares = [(value / 2 - low / 2) / span if span > 0 else 0.5 for value in values]
    return "".join(bars[round(min(1.0, max(0.0, share)) * top)] for share in shares)
