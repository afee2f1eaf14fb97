"""Packs the installed program as a wheel, from an editable or a regular installation.

The wheel contains exactly the code that runs here; neither a build nor a package index is needed.
"""

import base64
import hashlib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipeline.errors import BundleError

NAME = "genome-pipeline"
PACKAGES = ("game_window", "hyperv_ops", "inbox_agent", "pipeline")
_OF_THE_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def pack_own_wheel(folder: Path) -> Path:
    """Writes the wheel into `folder` and returns its path.

    Raises:
        BundleError: this program is not installed, so its requirements are unknown.
    """
    try:
        installed = distribution(NAME)
    except PackageNotFoundError as error:
        raise BundleError(f"{NAME} runs here without being installed; `pip install -e .` in its checkout") from error
    stem = f"{NAME.replace('-', '_')}-{installed.version}"
    contents: dict[str, bytes] = {}
    site = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        for path in sorted((site / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                contents[path.relative_to(site).as_posix()] = path.read_bytes()
    for entry in installed.files or ():
        place = entry.as_posix().partition(".dist-info/")[2]
        if place and place not in _OF_THE_INSTALLATION:
            contents[f"{stem}.dist-info/{place}"] = Path(str(entry.locate())).read_bytes()
    record = f"{stem}.dist-info/RECORD"
    contents[record] = "".join([*(_line(*one) for one in contents.items()), f"{record},,\n"]).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in contents.items():
            wheel.writestr(name, data)
    return path


def _line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"
