"""What has become of the trials since the host's start: whether a farm on which everything fails is recognised. Pure.

Part of the farm, so it follows from the facts. It begins anew with each host process and with each run.
Not here: stopping the run (`dispatcher.stuck_reason`), the order of trials (`assignment`).
"""

import re
from dataclasses import dataclass, field

GENOMES_ALIKE = 3  #: genomes that failed for the same reason, while none completed: the evaluator is the cause


@dataclass(slots=True)
class _Alike:
    """Failures for one reason."""

    first_reason: str
    genomes: set[int] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)


class SinceStart:
    """Counts since the host's start or the run's opening, whichever came later."""

    def __init__(self, *, evaluator_works: bool = False) -> None:
        """`evaluator_works`: the same host has completed games with the same version in another generation."""
        self.settled = 0  #: trials, without the skipped ones
        self.failed = 0  #: of these, without a fitness
        self.evaluator_works = evaluator_works  #: whether a trial has completed
        self._failed: set[int] = set()  #: genomes of which an attempt failed or timed out
        self._alike: dict[str, _Alike] = {}  #: by the reason without its numbers

    def note_settled(self, *, completed: bool, has_fitness: bool) -> None:
        """Counts a trial that was settled; after the first completed one failures are no longer counted."""
        self.settled += 1
        self.failed += not has_fitness
        if completed:
            self.evaluator_works = True
            self._alike.clear()

    def note_failed(self, genome: int, worker: str, reason: str, *, timed_out: bool) -> None:
        """Counts an attempt that failed or timed out. A time-out is normal for a random genome, so it is no sign of a
        broken evaluator.
        """
        if self.evaluator_works:
            return
        self._failed.add(genome)
        if not timed_out:
            alike = self._alike.setdefault(without_numbers(reason), _Alike(reason))
            alike.genomes.add(genome)
            alike.workers.add(worker)

    @property
    def tries_new_genomes(self) -> bool:
        """Whether genomes that were not tried yet come first: until a trial completes, or three genomes failed."""
        return not self.evaluator_works and len(self._failed) < GENOMES_ALIKE

    def common_failure(self, workers: int) -> str:
        """How many genomes failed for which reason, if three did while no trial completed; otherwise empty.

        If there are several workers, at least two must have failed them: one alone may be what is broken.
        """
        for alike in self._alike.values():
            if len(alike.genomes) >= GENOMES_ALIKE and len(alike.workers) >= min(2, workers):
                failed = f"{len(alike.genomes)} genomes failed for the same reason"
                reason = alike.first_reason or "none was given"
                return f"{failed}, and no genome has completed since this start; the reason: {reason}"
        return ""


def without_numbers(reason: str) -> str:
    """A reason with `#` for each number, so that those of two workers, trials or lines of a log can be compared."""
    return re.sub(r"\d+", "#", reason)
