"""Links to folders, as each system makes them without a special right."""

import contextlib
import sys
from pathlib import Path

import pytest


def link_folder(link: Path, target: Path) -> None:
    """Makes a link to a folder: a junction on Windows. Skips the test where there are none, as under Wine."""
    if sys.platform != "win32":
        link.symlink_to(target, target_is_directory=True)
        return
    import _winapi

    try:
        _winapi.CreateJunction(str(target), str(link))
    except OSError as error:
        with contextlib.suppress(OSError):
            link.rmdir()  # it may have been made, as a folder that leads nowhere
        pytest.skip(f"no junctions here: {error}")


def unlink_folder(link: Path) -> None:
    """Removes such a link; what it leads to stays."""
    if sys.platform == "win32":
        link.rmdir()
    else:
        link.unlink()
