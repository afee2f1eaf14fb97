"""`python -m docs.pictures.soak`: draws the picture of `make soak` from its stored samples."""

from pathlib import Path

from tests.programs.soak.picture import drawn
from tests.programs.soak.samples import read_samples

HERE = Path(__file__).parent
STORED = HERE / "soak.csv"  #: samples.csv of a run
PICTURE = HERE / "soak.svg"
TITLE = "make soak HOURS=2"


def draw() -> None:
    """Replaces the picture."""
    PICTURE.write_text(drawn(read_samples(STORED), TITLE), encoding="utf-8")


if __name__ == "__main__":
    draw()
