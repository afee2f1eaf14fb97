"""The workers on sites of a project, as its last host has found them: for commands that look on.

Owns: the file `state/sites.json`. Not here: the workers of `pipeline.toml`.
"""

import contextlib
from collections.abc import Sequence

import msgspec

from inbox_agent.system.atomic_file import replace_file
from pipeline.errors import disk_errors
from pipeline.paths import ProjectPaths


def write_site_workers(paths: ProjectPaths, names: Sequence[str]) -> None:
    """Notes the names. Raises HostError."""
    with disk_errors(paths.sites):
        if names:
            paths.state.mkdir(parents=True, exist_ok=True)
            replace_file(paths.sites, msgspec.json.encode(list(names)))
        else:
            paths.sites.unlink(missing_ok=True)


def read_site_workers(paths: ProjectPaths) -> list[str]:
    """The names; none if there are no sites, or the file cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(paths.sites.read_bytes(), type=list[str])
    return []
