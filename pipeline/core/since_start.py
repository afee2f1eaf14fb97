"""What has become of the trials since the host's start: whether a farm on which everything fails is recognised. Pure.

Part of the farm, so it follows from the facts. It begins anew with each host process and with each run.
Not here: stopping the run (`dispatcher.stuck_reason`), the order of trials (`assignment`).
"""

import re

GENOMES_ALIKE = 3  #: genomes that failed for the same reason, while none completed: the evaluator is the cause


class SinceStart:
    """Counts since the host's start or the run's opening, whichever came later."""

    def __init__(self) -> None:
        self.settled = 0  #: trials, without the skipped ones
        self.failed = 0  #: of these, without a fitness
        self._completed = False
        self._failed: set[int] = set()  #: genomes of which an attempt failed or timed out
        self._alike: dict[str, dict[int, str]] = {}  #: reason without its numbers -> genome -> the reason itself

    def note_settled(self, *, completed: bool, has_fitness: bool) -> None:
        """Counts a trial that was settled; after the first completed one failures are no longer counted."""
        self.settled += 1
        self.failed += not has_fitness
        if completed:
            self._completed = True
            self._alike.clear()

    def note_failed(self, genome: int, reason: str, *, timed_out: bool) -> None:
        """Counts an attempt that failed or timed out. A time-out is normal for a random genome, so it is no sign of a
        broken evaluator.
        """
        if self._completed:
            return
        self._failed.add(genome)
        if not timed_out:
            self._alike.setdefault(without_numbers(reason), {}).setdefault(genome, reason)

    @property
    def tries_new_genomes(self) -> bool:
        """Whether genomes that were not tried yet come first: until a trial completes, or three genomes failed."""
        return not self._completed and len(self._failed) < GENOMES_ALIKE

    @property
    def common_failure(self) -> str:
        """How many genomes failed for which reason, if three did while no trial completed; otherwise empty."""
        for reasons in self._alike.values():
            if len(reasons) >= GENOMES_ALIKE:
                reason = next(iter(reasons.values())) or "none was given"
                failed = f"{len(reasons)} genomes failed for the same reason"
                return f"{failed}, and no genome has completed since this start; the reason: {reason}"
        return ""


def without_numbers(reason: str) -> str:
    """A reason with `#` for each number, so that those of two workers, trials or lines of a log can be compared."""
    return re.sub(r"\d+", "#", reason)
