"""The lock of a project: one process at a time changes its state folder and its results."""

from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from pipeline.errors import ProjectBusyError, disk_errors
from pipeline.paths import ProjectPaths


def lock_project(paths: ProjectPaths) -> FileLock:
    """Locks a project until the lock is released, or this process ends.

    Raises:
        ProjectBusyError: another process has this project open.
        HostError: the state folder cannot be written.
    """
    try:
        with disk_errors(paths.state):
            return FileLock(paths.lock)
    except AlreadyLocked as error:
        reason = f"another process has this project open, such as `pipeline run` or `pipeline watch`: {error}"
        reason += "; wait for it or stop it"
        raise ProjectBusyError(reason) from error
