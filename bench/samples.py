"""The values that one figure had in the rounds of a run, or why it has none. Pure."""

import statistics
from dataclasses import dataclass

SHORTEST_S = 0.1  # the clocks of CPU time tick every 10 ms


class NotMeasured(Exception):
    """There is no figure; the message is the reason, in a few words."""


@dataclass(frozen=True, slots=True)
class Samples:
    """One value for each round, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure of the table."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest value."""
        return max(self.values)

    def over(self, other: "Samples") -> "Samples":
        """The ratio of each round: what disturbs a round disturbs both values. Zero stands for what has no ratio."""
        return Samples(
            tuple(mine / theirs if theirs else 0.0 for mine, theirs in zip(self.values, other.values, strict=False))
        )


def per_second(count: int, wall_s: float) -> float:
    """A rate.

    Raises:
        NotMeasured: the time is too short for one.
    """
    if wall_s < SHORTEST_S:
        raise NotMeasured(f"too short to measure: {count} results in {1000 * wall_s:.0f} ms")
    return count / wall_s
