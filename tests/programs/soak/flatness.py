"""Whether a series of samples is flat: the last third is not above the middle one.

Medians are compared, so that a fault, which raises a few samples, does not matter; of the disk that `pipeline prune`
frees now and then, the lowest values. The first third is left out, because caches and pools fill up then. The constant
covers what is normal between two moments. A leak of a process would show in its memory, its descriptors or its threads
only as long as it lives, so the host's are checked over the longest life of a watch as well.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import median

from tests.programs.soak.samples import Sample

FRACTION = 0.10
#: Column -> what it may rise by beside the fraction.
CONSTANTS = {
    "host_mib": 4.0,
    "host_descriptors": 8.0,
    "host_threads": 4.0,
    "agents_mib": 60.0,  # one agent with its game more or less
    "agents_descriptors": 60.0,
    "agents_threads": 12.0,
    "page_mib": 4.0,
    "page_descriptors": 8.0,
    "page_threads": 4.0,
    "disk_limited_mib": 1.0,
    "cpu_percent": 5.0,
}
#: What falls at each `pipeline prune` and rises until the next one: its lowest values are compared, not its medians.
FALLS_AT_TIMES = {"disk_limited_mib"}
SECONDS_MIN, SAMPLES_MIN = 1200.0, 60  #: less says nothing: pools and caches still fill up


def can_be_judged(samples: Sequence[Sample]) -> bool:
    """Whether there are enough samples over enough time."""
    return len(samples) >= SAMPLES_MIN and samples[-1].seconds - samples[0].seconds >= SECONDS_MIN


def rises(samples: Sequence[Sample]) -> list[str]:
    """What is not flat, a line each; nothing if the samples cannot be judged."""
    if not can_be_judged(samples):
        return []
    found = [line for column in CONSTANTS if (line := _rise(samples, column, "all"))]
    life = longest_life(samples)
    if len(life) >= SAMPLES_MIN:
        of_host = [column for column in CONSTANTS if column.startswith("host_")]
        found += [line for column in of_host if (line := _rise(life, column, "the longest life of a watch"))]
    return found + _slower(samples) + _more_kept(samples)


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the watch that lived longest."""
    lives = [list(life) for pid, life in groupby(samples, key=lambda sample: sample.host_pid) if pid]
    return max(lives, key=len, default=[])


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The middle third and the last one."""
    third = len(samples) // 3
    return samples[-2 * third : -third], samples[-third:]


def medians(samples: Sequence[Sample], column: str) -> tuple[float, float]:
    """The medians of the middle third and of the last one; where there is no such process it does not count."""
    return _median(thirds(samples)[0], column), _median(thirds(samples)[1], column)


def lowest(samples: Sequence[Sample], column: str) -> tuple[float, float]:
    """The lowest values of the middle third and of the last one."""
    middle, last = thirds(samples)
    return min(getattr(sample, column) for sample in middle), min(getattr(sample, column) for sample in last)


def _median(samples: Sequence[Sample], column: str) -> float:
    get: Callable[[Sample], float] = lambda sample: getattr(sample, column)  # noqa: E731
    return median([value for sample in samples if (value := get(sample))] or [0])


def _rise(samples: Sequence[Sample], column: str, what: str) -> str:
    middle, last = (lowest if column in FALLS_AT_TIMES else medians)(samples, column)
    if last <= middle * (1 + FRACTION) + CONSTANTS[column]:
        return ""
    return f"{column} rises, in {what}: {middle:g} in the middle third, {last:g} in the last one"


def _slower(samples: Sequence[Sample]) -> list[str]:
    """The rate of settled trials follows the feeder: it may halve, but not end."""
    middle, last = map(rate_per_min, thirds(samples))
    return [f"the rate falls from {middle:.1f} to {last:.1f} trials per minute"] if last < middle / 2 else []


def _more_kept(samples: Sequence[Sample]) -> list[str]:
    """What stays by design grows with the trials, and not faster than they do."""
    middle, last = map(kept_kib_per_trial, thirds(samples))
    too_much = last > middle * (1 + FRACTION) + 1.0
    return [f"a trial leaves {last:.1f} KiB for good, and {middle:.1f} KiB before"] if too_much else []


def rate_per_min(samples: Sequence[Sample]) -> float:
    """Settled trials per minute."""
    passed = samples[-1].seconds - samples[0].seconds
    return 60 * (samples[-1].settled - samples[0].settled) / passed


def kept_kib_per_trial(samples: Sequence[Sample]) -> float:
    """What the ledger, the tables and the log grow by, for each trial that is settled."""
    settled = samples[-1].settled - samples[0].settled
    return 1024 * (samples[-1].disk_kept_mib - samples[0].disk_kept_mib) / max(1, settled)
