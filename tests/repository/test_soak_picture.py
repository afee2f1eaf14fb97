"""The picture of the soak is that of the stored samples, and they are flat."""

import pytest

from docs.pictures.soak import PICTURE, STORED, TITLE
from tests.programs.soak.flatness import can_be_judged, rises
from tests.programs.soak.picture import drawn
from tests.programs.soak.samples import read_samples

pytestmark = pytest.mark.source


def test_picture_is_that_of_stored_samples() -> None:
    """After a soak, copy its samples.csv here; `python -m docs.pictures.soak` draws it again."""
    assert PICTURE.read_text(encoding="utf-8") == drawn(read_samples(STORED), TITLE)


def test_stored_samples_are_flat() -> None:
    samples = read_samples(STORED)
    assert can_be_judged(samples)
    assert rises(samples) == []
