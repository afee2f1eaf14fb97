"""What the product must reach, as data: one constant for each row of the table that has a target.

A target bounds the ratio to the reference if the row has one, or else the figure in the unit of its row.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound, and a more ambitious one."""

    bound: float
    stretch: float | None = None
    is_minimum: bool = False

    def verdict(self, value: float) -> str:
        """`missed`, `met`, or `stretch met`."""
        if not self._reaches(value, self.bound):
            return "missed"
        return "stretch met" if self.stretch is not None and self._reaches(value, self.stretch) else "met"

    def __str__(self) -> str:
        sign = ">=" if self.is_minimum else "<="
        return f"{sign} {self.bound:g}" + (f" (stretch {self.stretch:g})" if self.stretch is not None else "")

    def _reaches(self, value: float, bound: float) -> bool:
        return value >= bound if self.is_minimum else value <= bound


def at_least(bound: float, stretch: float | None = None) -> Target:
    """A value that must not be smaller."""
    return Target(bound, stretch, is_minimum=True)


def at_most(bound: float, stretch: float | None = None) -> Target:
    """A value that must not be larger."""
    return Target(bound, stretch)


# No-op evaluations with two workers, on disk and on tmpfs.
NO_OP_RATE = {"dask.distributed": at_least(4.0, 5.0), "Ray": at_least(1.2, 2.0)}
NO_OP_CPU_US = at_most(600.0, 300.0)  # user and system, of all processes

# Two local workers.
GAP_MS = at_most(1.5)  # median, between two games of 20 ms
UTILISATION_PERCENT = at_least(85.0)  # in games of 5 ms
SPEED_UP_PER_WORKER = 0.95  # so two workers are at least 1.9 times as fast as one

# Evaluations over SMB, on loopback: by the number of shares, the ratio to the straightforward way with smbclient.
SMB_RATE = {1: at_least(2.5), 8: at_least(3.0)}
SMB_HOST_CPU_MS = at_most(4.0)
SMB_ON_RECORD_MS = at_most(10.0)  # median, from the end of a game
SMB_ROUND_TRIPS = at_most(3.2)  # publish, read, clean, and a few that are repeated

# Dask sites on one computer: two of them, of the rate of agents that play without a pause; and per request.
SITES_OF_IDEAL = at_least(0.8)
SITE_REQUEST_MS = at_most(5.0)  # median, beyond the time of the same request on a local disk

# Idle hosts.
IDLE_LOCAL_PERCENT = at_most(1.0)  # of a core
IDLE_SMB_PERCENT = at_most(10.0)
IDLE_PATH_PERCENT = at_most(15.0)
IDLE_PATH_THREADS = at_most(64.0)

# One generation of 100,000 genomes.
GROWTH_LAST_TENTH = at_least(0.9)  # of the rate of the first
GROWTH_PAUSE_MS = at_most(100.0)
GROWTH_RESUME_S = at_most(6.0)
GROWTH_MEMORY_MB = at_most(250.0)
GROWTH_REPORT_S = at_most(10.0)
GROWTH_REPORT_MB = at_most(400.0)

# Views of a running host.
FIRST_SCREEN_S = at_most(1.0)
REPORT_S = at_most(5.0)
WATCHING_PERCENT = at_most(2.0)  # of a core

# Programs elsewhere, over HTTP on loopback.
SUBMITS_PER_S = {64: at_least(1000.0)}  # genomes that are submitted one by one, by the number of clients
WATCHERS_PERCENT = at_most(5.0)  # of a core, for 200 clients
