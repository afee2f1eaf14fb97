"""The trials of the open generation that wait for a worker. Pure.

Owns: which of them is taken next, in which order, and which are held back.
Not here: which worker takes one (`assignment`).
"""

from collections import OrderedDict

from pipeline.core.model import Genome, Trial, TrialState

TrialKey = tuple[int, int]  # numbers of genome and trial


class TrialQueue:
    """Pending trials by genome and number, in order of arrival."""

    def __init__(self) -> None:
        # Taken from the front: the first entry of a plain dict is found by passing over all that were removed.
        self.fresh = OrderedDict[TrialKey, Trial]()  #: without an attempt
        self.retries = OrderedDict[TrialKey, Trial]()
        self.held_back: dict[TrialKey, Trial] = {}  #: not assigned: see `Trial.is_held_back`

    def __bool__(self) -> bool:
        """Whether any trial may be assigned."""
        return bool(self.retries or self.fresh)

    def __len__(self) -> int:
        """How many trials may be assigned."""
        return len(self.retries) + len(self.fresh)

    def add_fresh(self, trial: Trial) -> None:
        """Adds a trial of a new genome."""
        self.fresh[_key(trial)] = trial

    def update(self, trial: Trial) -> None:
        """Takes a trial out, or appends it if it is pending now."""
        self._remove(trial)
        if trial.state is TrialState.PENDING:
            (self.held_back if trial.is_held_back else self.retries)[_key(trial)] = trial

    def update_held_back(self, genome: Genome) -> None:
        """Holds back the pending trials of a genome, or releases them, after a failure or its resolution."""
        for trial in genome.trials:
            key = _key(trial)
            if trial.state is TrialState.PENDING and trial.is_held_back != (key in self.held_back):
                self._remove(trial)
                released = self.retries if trial.attempts else self.fresh
                (self.held_back if trial.is_held_back else released)[key] = trial

    def _remove(self, trial: Trial) -> None:
        key = _key(trial)
        self.retries.pop(key, None)
        self.fresh.pop(key, None)
        self.held_back.pop(key, None)


def _key(trial: Trial) -> TrialKey:
    return trial.genome.number, trial.number
