"""An evaluator and the version of what it has loaded.

Owns: which version a result is reported with. The files are looked at before the evaluator reads them and once more
after; if they were changed meanwhile, it reads them again, and a game that may have read both counts for neither.
Not here: what a version is made of (version), how an evaluator is loaded (command, python_function).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from inbox_agent.evaluation.protocol import CannotLoad, EvaluationJob, EvaluationResult, GenomeEvaluator
from inbox_agent.evaluation.version import changed_files, in_one_line
from inbox_agent.protocol.layout import EVALUATOR_CHANGED

log = logging.getLogger(__name__)

LOAD_AGAIN_S = 10.0  #: after an evaluator could not be loaded
#: Loads of an evaluator that worked before, was killed, or whose files change meanwhile, before it counts as broken.
LOADS_MAX, NEXT_LOAD_S = 3, 2.0
CHECK_FILES_S = 1.0  #: between two looks at the files of an evaluator that has nothing to play
LOOK_FRACTION_MAX = 0.1  #: of the time is spent on such looks
_FILES_NAMED_MAX = 3
_IMPORTED = ".py"
_LOG_CHARS_MAX = 4000  #: of an import's output, in the agent's log


class FilesState(NamedTuple):
    """The state of an evaluator's files at one moment."""

    version: str
    stamp: object  #: differs from that of an earlier moment if a file was written between them
    files: Mapping[str, str]  #: path -> SHA-256


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """Whether the next game can be played, and by what."""

    version: str | None = None  #: of what is loaded; None: nothing is
    files: Mapping[str, str] = field(default_factory=dict, compare=False)  #: of what is loaded
    problem: str = ""  #: why it cannot be loaded, in one line; empty while it is being loaded

    @property
    def is_loading(self) -> bool:
        return self.version is None and not self.problem


class EvaluatorSource(NamedTuple):
    """What a `VersionedEvaluator` plays."""

    evaluator: GenomeEvaluator
    look_at_files: Callable[[], FilesState]  #: raises ValueError with one line if they cannot be read
    target: str = ""  #: the command or the function, as text


class VersionedEvaluator:
    """Loads an evaluator, and evaluates with it."""

    def __init__(
        self,
        source: EvaluatorSource,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = lambda seconds: threading.Event().wait(seconds),
    ) -> None:
        self._clock, self._pause = clock, pause
        self._begin(source)

    @property
    def progress(self) -> str:
        """As of `GenomeEvaluator`."""
        return self._evaluator.progress

    def load(self, timeout_s: float = 0.0) -> LoadStatus:
        """Loads the evaluator if it is not, and waits at most `timeout_s` for it. Not while an evaluation runs.

        One that could not be loaded is tried again after `LOAD_AGAIN_S`.
        """
        if self._clock() < self._load_again_at:
            self._pause(min(timeout_s, self._load_again_at - self._clock()))
        elif not self._is_still_loaded():
            self._status = self._load(timeout_s)
        return self._status

    def reload_if_changed(self, *, at_once: bool) -> None:
        """Drops what is loaded if its files were changed since; `at_once` looks also if it did a moment ago."""
        if not at_once and self._clock() < self._look_again_at:
            return
        is_loaded = self._status.version is not None and self._evaluator.loads == self._loads
        if not is_loaded and not self._status.problem:
            return  # the look from before this load is needed when it ends
        before = self._files.version if self._files is not None else None
        try:
            changed = self._look().version != before
        except ValueError:
            return  # reported when it has to be loaded
        if changed:
            self._drop()

    def renew(self) -> None:
        """Drops what is loaded if an earlier game may have changed it."""
        if not self._evaluator.is_unused:
            self._drop()

    def unload(self) -> None:
        """Drops what is loaded, so that its files can be replaced. Not while an evaluation runs."""
        self._drop()

    def switch(self, source: EvaluatorSource) -> None:
        """Plays another evaluator from now on. Not while an evaluation runs."""
        self._evaluator.close()
        self._begin(source)

    def prepare(self, suffix: str) -> Path:
        """As of `GenomeEvaluator`."""
        return self._evaluator.prepare(suffix)

    def start(self, job: EvaluationJob) -> None:
        """As of `GenomeEvaluator`."""
        self._evaluator.start(job)
        self._game_loads = self._evaluator.loads

    def wait(self, timeout_s: float) -> EvaluationResult | None:
        """As of `GenomeEvaluator`; the result names the version that was played."""
        finished = self._evaluator.wait(timeout_s)
        return replace(finished, evaluator=self._version_played()) if finished is not None else None

    def stop(self) -> None:
        """As of `GenomeEvaluator`."""
        self._evaluator.stop()

    def close(self) -> None:
        """As of `GenomeEvaluator`."""
        self._evaluator.close()

    # ------------------------------------------------------------------------------------------------------- loading

    def _begin(self, source: EvaluatorSource) -> None:
        self._evaluator, self._look_at_files, self.target = source
        self._status = LoadStatus()
        self._files: FilesState | None = None  #: when they were last looked at; None: they could not be read
        self._reads_data = False  #: whether a game may read some of them itself
        self._look_again_at: float = -1e9
        self._load_again_at: float = -1e9
        self._failures = 0  #: loads in a row that failed, or were given up because files changed meanwhile
        self._was_loaded = False
        self._loads = -1  #: of the evaluator, when it was last known which files it had read
        self._game_loads = -1  #: of the evaluator, after the running game was started

    def _is_still_loaded(self) -> bool:
        if self._status.version is None or self._evaluator.loads != self._loads:
            return False
        try:
            return self._evaluator.load(0.0)
        except CannotLoad:  # it is loaded once more, which raises it again
            return False

    def _load(self, timeout_s: float) -> LoadStatus:
        try:
            # An evaluator may have started its next process already: the look before that is the one to compare with.
            if self._files is None or self._evaluator.reads_files_at_each_game:
                self._look()
            if not self._evaluator.load(timeout_s):
                return self._status if self._status.problem else LoadStatus()
            before = self._files
            if not self._evaluator.reads_files_at_each_game and self._look() != before:
                return self._changed(before)
        except (CannotLoad, ValueError) as error:
            return self._failed(error)
        assert self._files is not None
        self._loads, self._failures, self._was_loaded = self._evaluator.loads, 0, True
        if self._status.version != self._files.version:
            log.info("the evaluator is loaded, version %s", self._files.version)
        return LoadStatus(version=self._files.version, files=self._files.files)

    def _changed(self, before: FilesState | None) -> LoadStatus:
        """Loads again what may have read some files before a change, and some after."""
        assert before is not None and self._files is not None
        self._drop()
        self._failures += 1
        if self._failures < LOADS_MAX:
            return LoadStatus()
        changes = in_one_line(changed_files(before.files, self._files.files), _FILES_NAMED_MAX) or "a file is rewritten"
        advice = "leave out what it writes with `files` in [evaluator]"
        return self._broken(CannotLoad(f"its files change whenever it is loaded: {changes}; {advice}"))

    def _failed(self, error: CannotLoad | ValueError) -> LoadStatus:
        """One that worked before, or was killed, is tried again soon: memory may be short, or a file open elsewhere."""
        self._failures += 1
        may_pass = self._was_loaded or (isinstance(error, CannotLoad) and error.was_killed)
        if may_pass and self._failures < LOADS_MAX:
            log.warning("the evaluator cannot be loaded, which is tried again: %s", error)
            self._load_again_at = self._clock() + NEXT_LOAD_S
            return LoadStatus()
        return self._broken(error)

    def _broken(self, error: CannotLoad | ValueError) -> LoadStatus:
        status = LoadStatus(problem=str(error))
        if status != self._status:
            output = error.log.decode("utf-8", "replace")[-_LOG_CHARS_MAX:] if isinstance(error, CannotLoad) else ""
            log.warning("the evaluator cannot be loaded: %s\n%s", error, output)
        self._load_again_at = self._clock() + LOAD_AGAIN_S
        return status

    def _look(self) -> FilesState:
        begun = self._clock()
        self._files = self._look_at_files()
        took_s = self._clock() - begun
        self._look_again_at = begun + max(CHECK_FILES_S, took_s / LOOK_FRACTION_MAX)
        self._reads_data = any(not path.endswith(_IMPORTED) for path in self._files.files)
        return self._files

    def _drop(self) -> None:
        self._evaluator.unload()
        self._status, self._load_again_at = LoadStatus(), -1e9

    def _version_played(self) -> str | None:
        if self._game_loads == self._loads and not self._reads_data:
            return self._status.version  # of files that were read before the game began
        before = self._files
        with contextlib.suppress(ValueError):
            now = self._look()
            is_same = now == before if self._game_loads != self._loads else _data_of(now) == _data_of(before)
            if is_same:
                return self._status.version
        self._drop()
        return EVALUATOR_CHANGED


def _data_of(state: FilesState | None) -> dict[str, str]:
    """The files that a function may read in every game: all but those that are imported once."""
    return {path: digest for path, digest in state.files.items() if not path.endswith(_IMPORTED)} if state else {}
