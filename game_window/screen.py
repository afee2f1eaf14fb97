"""Reads the screen by mss. On Windows, opening it makes the process see real pixels on screens that are scaled."""

import sys

import mss

from game_window.picture import Picture

Area = tuple[int, int, int, int]  # left, top, width, height, on the whole screen


class Screen:
    """The screen of this session; on X11, of `display`."""

    def __init__(self, display: str | None = None) -> None:
        """Raises mss.ScreenShotError: there is no screen, or a library of X11 is missing."""
        self._mss = mss.MSS() if sys.platform == "win32" else mss.MSS(display=display)

    @property
    def area(self) -> Area:
        """The whole screen, all monitors together."""
        whole = self._mss.monitors[0]
        return whole["left"], whole["top"], whole["width"], whole["height"]

    def picture(self, area: Area | None = None) -> Picture:
        """What is shown there; without `area`, everything. Raises LookupError if the area is not on the screen."""
        left, top, width, height = _visible(area, self.area) if area else self.area
        shot = self._mss.grab({"left": left, "top": top, "width": width, "height": height})
        return Picture(shot.width, shot.height, bytes(shot.bgra))

    def close(self) -> None:
        """Releases the connection to the screen."""
        self._mss.close()


def _visible(area: Area, screen: Area) -> Area:
    """The part of an area that is on the screen: X11 refuses to read anything else."""
    left, top = max(area[0], screen[0]), max(area[1], screen[1])
    right = min(area[0] + area[2], screen[0] + screen[2])
    bottom = min(area[1] + area[3], screen[1] + screen[3])
    if right <= left or bottom <= top:
        raise LookupError(f"the area {area} is outside of the screen {screen}")
    return left, top, right - left, bottom - top
