"""`python -m docs.pictures.faults`: draws the table of `make faults` from its stored measurement."""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench.faults.measurement import Measurement, read
from bench.faults.table import as_rich, explained, versions

HERE = Path(__file__).parent
STORED = HERE / "faults.json"
PICTURE = HERE / "faults.svg"
COLUMNS = 110


def drawn(measurement: Measurement) -> str:
    """The table as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(as_rich(measurement), "")
    console.print(Text(f"{explained(measurement)} {versions(measurement)}.", style="dim"))
    return without_clips(console.export_svg(title="make faults"))


def without_clips(svg: str) -> str:
    """A picture of rich without the clip path of each line, which is a third of its bytes; no line is too long."""
    svg = re.sub(r'\s*<clipPath id="[\w-]+-line-\d+">.*?</clipPath>', "", svg, flags=re.DOTALL)
    return re.sub(r' clip-path="url\(#[\w-]+-line-\d+\)"', "", svg)


def draw() -> None:
    """Replaces the picture."""
    PICTURE.write_text(drawn(read(STORED)), encoding="utf-8")


if __name__ == "__main__":
    draw()
