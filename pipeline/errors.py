"""The errors of the host: what `open_farm` raises and what a command ends with, and the exit code of each.

    PipelineError
    ├── InputError            2  an argument, name or file cannot be used
    │   ├── ConfigError       2  pipeline.toml cannot be used
    │   ├── SecretError       2  a password cannot be fetched
    │   ├── GenomeError       2  a genome cannot be used
    │   ├── NotFoundError     2  there is no such generation, genome or worker
    │   └── ConflictError     2  it cannot be done now
    │       └── QueueFullError 2  too many genomes wait; submit again later
    ├── FarmClosed            2  the farm or its generation was closed
    ├── MissingExtraError     2  libraries of an extra are not installed, or cannot be used
    ├── ProjectBusyError      2  another process has this project open
    ├── TakeOverError         2  a share cannot be taken over
    ├── BundleError           2  the agent's bundle cannot be made
    ├── EvaluationFailed      1  a call of an executor has no value
    ├── VmError               1  a machine did not do what it was asked
    ├── HostError             3  this host's disk failed, or its cluster does not answer; run again
    ├── RemoteError           3  a server cannot be reached, or refuses the token
    ├── LedgerError           4  the ledger is damaged or of another version
    └── StalledError          4  no worker can go on

Every message is for the user: what is wrong, where, and what to do. Any other exception is a defect of this program.
Not here: the errors of `hyperv_ops` and `inbox_agent`, which know nothing of the host; it converts them.
"""

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

_OURS = ("hyperv_ops", "inbox_agent", "pipeline")


class ExitCode(enum.IntEnum):
    """How a command ended."""

    OK = 0
    #: some genomes have no fitness, some files were not counted, a check failed, or a machine did not do what it was
    #: asked
    FAILED = 1
    BAD_INPUT = 2
    STOPPED = 3  #: stopped early; the same command resumes
    #: no worker can go on, the evaluator cannot be loaded, everything fails, or the ledger cannot be used
    CANNOT_CONTINUE = 4
    FILES_DIFFER = 5  #: of `verify`: every genome is counted once, and files of the results are missing or changed
    INTERNAL_ERROR = 70  #: a defect of this program


class PipelineError(Exception):
    """Base class of all errors below; never raised itself."""

    exit_code: ClassVar[int]  #: what `pipeline` exits with


class InputError(PipelineError):
    """An argument, name or file cannot be used. Nothing was changed: correct what the message names, and try again."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(InputError):
    """`pipeline.toml`, or an argument of `open_farm` in its place, cannot be used. The message names the key."""


class SecretError(InputError):
    """A password cannot be fetched from the keyring, environment variable or file that the configuration names."""


class GenomeError(InputError):
    """Genomes of a generation cannot be used. One line per genome says why, and what to do with its file."""


class NotFoundError(InputError):
    """There is no generation, genome or worker of that name or number."""


class ConflictError(InputError):
    """It cannot be done now: another generation is played, this one is closed, or a name has other bytes."""


class QueueFullError(ConflictError):
    """Too many submitted genomes wait for a worker. Submit again when some of them have joined the generation."""


class FarmClosed(PipelineError):
    """The farm, or the block of its open generation, was left. Everything counted is kept; open it again."""

    exit_code = ExitCode.BAD_INPUT


class MissingExtraError(PipelineError, ImportError):
    """The libraries of an extra are not installed, or one cannot be used. Install what the message names."""

    exit_code = ExitCode.BAD_INPUT


class ProjectBusyError(PipelineError):
    """Another process has this project open. Wait for it or stop it."""

    exit_code = ExitCode.BAD_INPUT


class TakeOverError(PipelineError):
    """A share cannot be taken over because it does not answer. Run `pipeline doctor`, then try again."""

    exit_code = ExitCode.BAD_INPUT


class BundleError(PipelineError):
    """The agent's bundle cannot be made: its folder, Python, zip or a wheel cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class VmError(PipelineError):
    """A virtual machine, or the computer it runs on, could not be asked or did not do what it was asked."""

    exit_code = ExitCode.FAILED


class EvaluationFailed(PipelineError):
    """A call of an executor failed, or its value cannot come back. The message is the reason."""

    exit_code = ExitCode.FAILED


class HostError(PipelineError):
    """This host's own disk or state folder failed, or the cluster of its sites does not answer or has too few of them.
    Everything recorded is kept; run again to resume.

    Of an open farm: leave its block and open it again. It may have decided more than the ledger has.
    """

    exit_code = ExitCode.STOPPED


class RemoteError(PipelineError):
    """A server cannot be reached, refuses the token, or answers what it should not. Everything counted is kept there.

    Correct what the message names, or wait until the server is back; then open the generation again with its number.
    """

    exit_code = ExitCode.STOPPED


class LedgerError(PipelineError):
    """The ledger is damaged or of another version, and nothing goes on without it. Restore it from a backup."""

    exit_code = ExitCode.CANNOT_CONTINUE


class StalledError(PipelineError):
    """The run cannot go on: no worker is left, or everything fails. The message is the diagnosis.

    Everything done is recorded. To resume, evaluate again with the generation's number, which the message names:
    without a number the next generation begins.
    """

    exit_code = ExitCode.CANNOT_CONTINUE


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Around writing to this host's own disk: raises HostError for an OSError. `path`: what is written."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or path}: {error.strerror or error}"
        raise HostError(f"{reason}; nothing is lost, run again when it can be written") from error


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of modules that need an extra, e.g. `host`: raises MissingExtraError if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _OURS:
            raise
        reason = f'{missing} is not installed; run: pip install "genome-pipeline[{extra}]"'
        raise MissingExtraError(reason, name=error.name) from None
