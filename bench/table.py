"""The table: one row per comparison, its ratio and whether the target is met; as text and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("what", "figure", "reference or target", "ratio", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. Figure / reference must be at least `least`, or below `below`; with neither it is for information."""

    what: str
    figure: float | None = None  #: None: not measured, and `note` says why
    unit: str = ""
    reference: float | None = None
    against: str = ""  #: what the reference is
    least: float | None = None
    below: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Figure over reference."""
        return self.figure / self.reference if self.figure is not None and self.reference else None

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or why there is neither."""
        if self.ratio is None:
            return self.note or "not measured"
        if self.least is not None:
            return "met" if self.ratio >= self.least else "missed"
        if self.below is not None:
            return "met" if self.ratio < self.below else "missed"
        return "for information"

    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        figure = _shown(self.figure, self.unit) if self.figure is not None else "-"
        reference = f"{self.against} {_shown(self.reference, self.unit)}" if self.reference else self.against
        ratio = "-"
        if self.ratio is not None:
            bound = f" (>= {self.least:g})" if self.least is not None else ""
            bound = f" (< {self.below:g})" if self.below is not None else bound
            ratio = f"{self.ratio:.2f}{bound}"
        return (self.what, figure, reference.strip(), ratio, self.verdict)

    def as_json(self) -> dict[str, object]:
        """All fields, with ratio and verdict."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "ratio": self.ratio, "verdict": self.verdict}


def limit(what: str, figure: float | None, unit: str, target: float, note: str = "") -> Row:
    """A row whose figure must be below a target."""
    return Row(what=what, figure=figure, unit=unit, reference=target, against="<", below=1.0, note=note)


def render(rows: Sequence[Row]) -> str:
    """The table as text."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def _shown(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}".rstrip()
