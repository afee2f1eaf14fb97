"""Where is kept what takes minutes to make: outside of the checkout, for all checkouts of a user."""

import os
from pathlib import Path


def cache() -> Path:
    """The folder; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genome-pipeline"
