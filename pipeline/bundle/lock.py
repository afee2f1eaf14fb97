"""The agent's locked requirements: a version of each, and the SHA-256 of its files. `make lock` writes them.

Owns: which files of a package index may go into a bundle.
"""

import hashlib
import re
from functools import cache
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

from pipeline.errors import BundleError

LOCK = Path(__file__).with_name("agent-requirements.txt")


@cache
def locked() -> dict[NormalizedName, tuple[str, frozenset[str]]]:
    """The version of each package, and the digests of its files."""
    found = re.findall(r"^([\w.-]+)==(\S+)((?:\s*\\\n +--hash=sha256:[0-9a-f]{64})+)$", LOCK.read_text("utf-8"), re.M)
    return {
        canonicalize_name(name): (version, frozenset(re.findall(r"sha256:(\w+)", digests)))
        for name, version, digests in found
    }


def refuse_other_files(wheels: Path) -> None:
    """Raises BundleError if a wheel of a locked package is not one of its locked files."""
    for path in sorted(wheels.iterdir()):
        name = parse_wheel_filename(path.name)[0]
        if name in locked() and hashlib.sha256(path.read_bytes()).hexdigest() not in locked()[name][1]:
            raise BundleError(f"{path.name}: the index serves other bytes than those of {LOCK.name}; do not use them")
