"""When the hook is to learn that no result comes any more. Pure: times are arguments.

Owns: since when a farm counts as silent, and that it is said once until the next result. A result is one that ended an
attempt, whatever its outcome: a farm whose games all fail is not silent.
Not here: running the hook (`hooks`). A host that is dead says nothing: the alert rules in docs/monitoring are for that.
"""

from collections.abc import Iterable

from pipeline.core.facts import AttemptEnded, Fact


class Silence:
    """Watches one host for silence."""

    def __init__(self, after_s: float | None) -> None:
        """`after_s`: how long no result may come while trials are open; None: for ever."""
        self._after_s = after_s
        self._since: float | None = None  #: the last result, or when trials became open; None while none is open
        self._said = False

    def begin(self) -> None:
        """Begins anew: a generation is played, before which results were not waited for."""
        self._since, self._said = None, False

    def note(self, facts: Iterable[Fact], open_trials: int, now: float) -> float:
        """Notes the facts of a tick. Returns how long no result has come if that is to be said now, otherwise 0."""
        if self._after_s is None:
            return 0.0
        if any(isinstance(fact, AttemptEnded) and fact.has_result for fact in facts):
            self._since, self._said = now, False
        if not open_trials:
            self._since = None  # nothing is waited for
        elif self._since is None:
            self._since = now
        if self._since is None or self._said or now - self._since < self._after_s:
            return 0.0
        self._said = True
        return now - self._since
