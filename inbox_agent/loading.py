"""The agent's evaluator between two games: loaded for the start signal that waits, and what the heartbeat says of it.

Owns: when the evaluator is loaded anew, and when a load is reported. Not here: how it is loaded (evaluation), which
start signal waits (planner), when a heartbeat is due (agent).
"""

import contextlib
from collections.abc import Callable

from inbox_agent.evaluation.version import shortened
from inbox_agent.evaluation.versioned import EvaluatorSource, LoadStatus, VersionedEvaluator
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import ShareError, ShareFiles
from inbox_agent.protocol.layout import EVALUATOR, STATUS, EvaluatorRecord, StartRecord

LOADING_REPORTED_AFTER_S = 1.0  #: if the evaluator was loaded before
IDLE_S = 1.0  #: without a start signal, before the files of the evaluator are looked at


class EvaluatorLoader:
    """Loads one evaluator."""

    def __init__(self, evaluator: VersionedEvaluator, files: ShareFiles, clock: Callable[[], float]) -> None:
        self._evaluator, self._files, self._clock = evaluator, files, clock
        self.status = LoadStatus()
        self._reported = LoadStatus()
        self._replaced_at: float | None = None  #: when the load of a replaced process began; None: of the first one
        self._wanted_at = -1e9  #: when a start signal last waited
        self._described: str | None = None  #: the version that `status/evaluator.json` describes

    def wait(self, timeout_s: float) -> None:
        """Waits until the evaluator is loaded or the timeout has passed."""
        self.status = self._evaluator.load(timeout_s)

    def load_for(self, start: StartRecord | None) -> str | None:
        """The version that is loaded to play this start signal, or the next one that comes; None if none is."""
        # The files are not looked at while what is loaded is what is wanted: editing them must not disturb a generation
        # that is played. Between two short games nothing is checked: it would cost a part of a game.
        if start is None:
            if self.status.version is not None and self._clock() < self._wanted_at + IDLE_S:
                return self.status.version
            self._evaluator.reload_if_changed(at_once=False)
        else:
            self._wanted_at = self._clock()
            if start.evaluator not in (None, self.status.version):
                self._evaluator.reload_if_changed(at_once=True)
            if start.new_process:
                self._evaluator.renew()
        was_loaded = self.status.version is not None
        self.status = self._evaluator.load()
        if was_loaded and self.status.is_loading:
            self._replaced_at = self._clock()
        return self.status.version

    def unload(self) -> None:
        """Drops what is loaded, so that its files can be replaced. Not while an evaluation runs."""
        self._evaluator.unload()
        self.status = LoadStatus()

    def switch(self, source: EvaluatorSource) -> None:
        """Loads another evaluator from now on. Not while an evaluation runs."""
        self._evaluator.switch(source)
        self.status, self._replaced_at = LoadStatus(), None

    def report(self) -> LoadStatus:
        """What the heartbeat says. A process that is replaced within a second is not mentioned: the host would give
        no work to this worker until it reads the next heartbeat.
        """
        replaced_at = self._replaced_at
        is_short = replaced_at is not None and self._clock() < replaced_at + LOADING_REPORTED_AFTER_S
        if not (self.status.is_loading and is_short):
            self._reported = self.status
        return self._reported

    def describe(self) -> None:
        """Writes what a newly loaded evaluator consists of, for people. An error is ignored until the next call."""
        loaded = self.status
        if loaded.version in (None, self._described):
            return
        record = EvaluatorRecord(
            evaluator=loaded.version,
            target=layout.clean(self._evaluator.target, layout.TARGET_CHARS_MAX),
            files=shortened(loaded.files, layout.FILES_BYTES_MAX),
            files_count=len(loaded.files),
        )
        with contextlib.suppress(ShareError):
            self._files.replace(f"{STATUS}/{EVALUATOR}", layout.encode(record))
            self._described = loaded.version
