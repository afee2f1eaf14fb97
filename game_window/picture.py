"""A picture of a part of the screen: colours are found in it, and it is written as PNG. Pure."""

from dataclasses import dataclass

Colour = tuple[int, int, int]  # red, green, blue

_PIXEL_BYTES = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows of pixels from the top; x and y count from the upper left corner."""

    width: int
    height: int
    bgrx: bytes  #: four bytes for each pixel: blue, green, red, and one without a meaning

    def __post_init__(self) -> None:
        if len(self.bgrx) != self.width * self.height * _PIXEL_BYTES:
            raise ValueError(f"{len(self.bgrx)} bytes are no picture of {self.width}x{self.height} pixels")

    def pixel(self, x: int, y: int) -> Colour:
        """The colour at a place. Raises IndexError if it is outside."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            raise IndexError(f"({x}, {y}) is outside of {self.width}x{self.height} pixels")
        at = (y * self.width + x) * _PIXEL_BYTES
        blue, green, red = self.bgrx[at : at + 3]
        return red, green, blue

    def find(self, colour: Colour, top: int = 0) -> tuple[int, int] | None:
        """The first pixel of exactly this colour, row by row from row `top`: of a rectangle, its upper left corner."""
        wanted = bytes(reversed(colour))
        at = self.bgrx.find(wanted, top * self.width * _PIXEL_BYTES)
        while at >= 0 and at % _PIXEL_BYTES:  # the end of one pixel and the beginning of the next
            at = self.bgrx.find(wanted, at + 1)
        if at < 0:
            return None
        y, x = divmod(at // _PIXEL_BYTES, self.width)
        return x, y

    def png(self) -> bytes:
        """The picture as a PNG file."""
        from mss.tools import to_png

        rgb = bytearray(self.width * self.height * 3)
        rgb[0::3], rgb[1::3], rgb[2::3] = self.bgrx[2::4], self.bgrx[1::4], self.bgrx[0::4]
        png = to_png(bytes(rgb), (self.width, self.height))
        assert png is not None, "it returns the file if it is given no path"
        return png
