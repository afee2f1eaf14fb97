"""Draws samples as SVG: a panel for each quantity over time, with a mark where the watch was started anew."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, log10

from tests.programs.soak.samples import Sample

WIDTH, LEFT, RIGHT, TOP = 900, 64, 16, 44
PANEL_HEIGHT, GAP = 108, 38
POINTS_MAX = 450  #: of a line; of more samples, the means of equal parts are drawn
RATE_OVER = 12  #: samples, of which the rate is a mean
_COLOURS = ("#1f6f8b", "#c0562f", "#6b8e23")
_STYLE = (
    "text { font: 12px sans-serif; fill: #333 } .title { font-size: 15px; font-weight: bold } .small { fill: #666 }"
    " .grid { stroke: #ddd } .start { stroke: #bbb; stroke-dasharray: 2 3 } polyline { fill: none; stroke-width: 1.4 }"
)

Series = tuple[str, Sequence[float]]


@dataclass(frozen=True)
class Panel:
    """One quantity."""

    title: str
    series: tuple[Series, ...]


def panels(samples: Sequence[Sample]) -> list[Panel]:
    """What is drawn of the samples."""

    def series(label: str, column: str) -> Series:
        return label, [float(getattr(sample, column)) for sample in samples]

    return [
        Panel(
            f"{quantity}",
            tuple(series(label, f"{group}_{suffix}") for label, group in (*_GROUPS,)),
        )
        for quantity, suffix in (("memory, MiB", "mib"), ("open descriptors", "descriptors"), ("threads", "threads"))
    ] + [
        Panel(
            "disk, MiB",
            (series("what retention limits", "disk_limited_mib"), series("ledger, tables and log", "disk_kept_mib")),
        ),
        Panel("settled trials per minute", (("", _rates(samples)),)),
        Panel("processor time, % of one processor", (series("", "cpu_percent"),)),
    ]


_GROUPS = (("pipeline watch", "host"), ("all agents with their games", "agents"), ("pipeline serve", "page"))


def _rates(samples: Sequence[Sample]) -> list[float]:
    rates = []
    for number, sample in enumerate(samples):
        before = samples[max(0, number - RATE_OVER)]
        passed = sample.seconds - before.seconds
        rates.append(60 * (sample.settled - before.settled) / passed if passed else 0.0)
    return rates


def drawn(samples: Sequence[Sample], title: str) -> str:
    """The picture; there must be at least two samples."""
    rows = panels(samples)
    height = TOP + len(rows) * (PANEL_HEIGHT + GAP)
    starts = [after.seconds for before, after in pairwise(samples) if after.host_pid not in (0, before.host_pid)]
    until = samples[-1].seconds
    times = [sample.seconds for sample in samples]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    for number, panel in enumerate(rows):
        top = TOP + number * (PANEL_HEIGHT + GAP) + 16
        parts += _panel(panel, times, starts, until, top)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, times: Sequence[float], starts: Iterable[float], until: float, top: int) -> list[str]:
    largest = max(max(values) for _label, values in panel.series)
    step = _step(largest)
    limit, bottom = step * max(1, ceil(largest / step)), top + PANEL_HEIGHT

    def across(seconds: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * seconds / until:.1f}"

    def up(value: float) -> str:
        return f"{bottom - PANEL_HEIGHT * value / limit:.1f}"

    parts = [f'<text x="{LEFT}" y="{top - 6}">{escape(panel.title)}</text>']
    for number in range(round(limit / step) + 1):
        value = number * step
        y = up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="small" x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts += [f'<path class="start" d="M{across(at)} {top}V{bottom}"/>' for at in starts]
    for label, seconds in _time_labels(until):
        parts.append(f'<text class="small" x="{across(seconds)}" y="{bottom + 14}" text-anchor="middle">{label}</text>')
    x = WIDTH - RIGHT
    for number, (label, values) in reversed(list(enumerate(panel.series))):
        colour = _COLOURS[number]
        points = " ".join(f"{across(at)},{up(value)}" for at, value in _thinned(times, values))
        parts.append(f'<polyline stroke="{colour}" points="{points}"/>')
        parts.append(f'<text x="{x}" y="{top - 6}" text-anchor="end" style="fill: {colour}">{escape(label)}</text>')
        x -= 16 + 7 * len(label)
    return parts


def _thinned(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    size = ceil(len(values) / POINTS_MAX)
    parts = [slice(start, start + size) for start in range(0, len(values), size)]
    return [(_mean(times[part]), _mean(values[part])) for part in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _step(largest: float) -> float:
    """The distance of the lines of the grid: 1, 2 or 5 times a power of ten, for two to five lines."""
    power = 10 ** (ceil(log10(largest)) - 1) if largest > 0 else 1
    return next((factor * power for factor in (0.2, 0.5, 1, 2) if largest <= 5 * factor * power), 5 * power)


def _time_labels(until: float) -> list[tuple[str, float]]:
    """At most eight moments, in minutes or hours."""
    for unit, name, factors in ((1, "s", (5, 10, 20)), (60, "min", (1, 2, 5, 10, 15, 30)), (3600, "h", (1, 2, 3, 6))):
        for factor in factors:
            step = unit * factor
            if until / step <= 8:
                return [(f"{number * factor} {name}", number * step) for number in range(int(until / step) + 1)]
    return []
