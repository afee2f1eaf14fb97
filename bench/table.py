"""The table: one row per figure, its spread over the rounds and whether its target is met; as text and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.samples import Samples
from bench.targets import Target

HEAD = ("what", "median", "min - max", "reference", "ratio", "target", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. Without a target it is for information."""

    what: str
    figure: Samples | None = None  #: None: not measured, and `note` says why
    unit: str = ""
    reference: Samples | None = None
    against: str = ""  #: what the reference is
    target: Target | None = None  #: of the ratio if it is compared with something, else of the figure
    note: str = ""  #: why there is no figure or no ratio
    remark: str = ""  #: what a reader of the figure must know

    @property
    def name(self) -> str:
        """The same in every run: what was measured, and what it is compared with."""
        return f"{self.what}, relative to {self.against}" if self.against else self.what

    @property
    def ratio(self) -> Samples | None:
        """Figure over reference, round by round."""
        return self.figure.over(self.reference) if self.figure is not None and self.reference is not None else None

    @property
    def value(self) -> Samples | None:
        """What the target bounds."""
        return self.ratio if self.against else self.figure

    @property
    def verdict(self) -> str:
        """`missed`, `met`, `stretch met`, `for information`, or why there is none of these."""
        if self.value is None:
            return self.note or "not measured"
        return self.target.verdict(self.value.median) if self.target is not None else "for information"

    def cells(self, mark: str = "") -> tuple[str, ...]:
        """What the table shows; `mark` refers to the remark."""
        return (
            self.what,
            shown(self.figure.median, self.unit) if self.figure is not None else "-",
            _spread(self.figure),
            f"{self.against} {shown(self.reference.median, self.unit) if self.reference is not None else ''}".strip(),
            f"{self.ratio.median:.2f} ({_spread(self.ratio)})" if self.ratio is not None else "-",
            str(self.target) if self.target is not None else "-",
            f"{self.verdict} {mark}".rstrip(),
        )

    def as_json(self) -> dict[str, Any]:
        """All fields, with ratio and verdict; each figure as its median and the values of the rounds."""
        return {
            "what": self.what,
            "figure": _as_json(self.figure),
            "unit": self.unit,
            "against": self.against,
            "reference": _as_json(self.reference),
            "ratio": _as_json(self.ratio),
            "target": str(self.target) if self.target is not None else None,
            "verdict": self.verdict,
            "remark": self.remark,
        }


def render(rows: Sequence[Row]) -> str:
    """The table as text; remarks are below it, each once."""
    marks = {"": ""}
    for row in rows:
        marks.setdefault(row.remark, f"[{len(marks)}]")
    table = aligned([HEAD, *(row.cells(marks[row.remark]) for row in rows)])
    return "\n".join([table, *(f"{mark} {remark}" for remark, mark in marks.items() if remark)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as columns; the first line is their head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def shown(value: float, unit: str = "") -> str:
    """A figure with its unit, in as many digits as it is worth."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}".rstrip()


def _spread(samples: Samples | None) -> str:
    if samples is None or len(samples.values) == 1:
        return "-"
    return f"{shown(samples.least)} - {shown(samples.most)}"


def _as_json(samples: Samples | None) -> dict[str, Any] | None:
    return None if samples is None else {"median": samples.median, "rounds": list(samples.values)}
