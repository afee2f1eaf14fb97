"""The cache folder for files that take minutes to make: outside of the checkout, shared by all checkouts of a user."""

import os
from pathlib import Path


def cache() -> Path:
    """The folder; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genome-pipeline"
