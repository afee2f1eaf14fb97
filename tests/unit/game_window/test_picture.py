"""Pictures: colours are found where they are, and a PNG has the pixels."""

import struct
import zlib

import pytest

from game_window.picture import Colour, Picture

RED, GREEN, NIGHT = (255, 0, 0), (0, 255, 0), (0, 0, 60)


def painted(rows: list[list[Colour]], fourth: int = 0) -> Picture:
    data = b"".join(bytes([blue, green, red, fourth]) for row in rows for red, green, blue in row)
    return Picture(len(rows[0]), len(rows), data)


def test_colour_is_found_at_first_pixel_row_by_row() -> None:
    picture = painted([[NIGHT, NIGHT, NIGHT], [NIGHT, NIGHT, GREEN], [GREEN, RED, NIGHT]])
    assert picture.find(GREEN) == (2, 1)
    assert picture.find(GREEN, top=2) == (0, 2)
    assert picture.find((1, 2, 3)) is None
    assert picture.pixel(1, 2) == RED


def test_bytes_of_two_neighbours_are_no_pixel() -> None:
    """The meaningless fourth byte and the next pixel's first two can look like the wanted colour."""
    picture = painted([[NIGHT, (0, 7, 8), (9, 8, 7)]], fourth=9)
    assert picture.find((7, 8, 9)) is None
    assert picture.find((9, 8, 7)) == (2, 0)


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (2, 0), (0, 1)])
def test_place_outside_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="outside of 2x1 pixels"):
        painted([[RED, GREEN]]).pixel(*place)


def test_size_must_match_bytes() -> None:
    with pytest.raises(ValueError, match="3 bytes are no picture of 1x1 pixels"):
        Picture(1, 1, b"abc")


def test_png_has_the_pixels() -> None:
    png = painted([[RED, GREEN], [NIGHT, RED]]).png()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (2, 2)
    at = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[at - 4 : at])
    rows = zlib.decompress(png[at + 4 : at + 4 + length])
    assert rows == b"\0" + bytes([*RED, *GREEN]) + b"\0" + bytes([*NIGHT, *RED])
