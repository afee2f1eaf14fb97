"""Checks from the facts of one farm alone that stragglers are copied as the rule says.

A game that is played, of a genome that took no worker down, is played once more by another worker, at once. It stays
published and keeps its worker busy until it is over, which holds nothing else. A trial has one second copy at most.
"""

from collections import defaultdict
from typing import Any

from tests.simulator.world import World

#: faults after which shares can be read as before
READABLE = {
    "lost notification",
    "doubled notification",
    "wall clock jump",
    "stale listing",
    "corrupting agent",
    "corrupted result",
    "ruined process",
    "slow load",
    "agent kill",
}
SECOND_COPY = "a second copy"  #: begins the reason of an attempt that is copied

Trial = tuple[int, int]  #: genome and number


class CopyChecker:
    """The stragglers of the open generation, and what their workers get."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trial_of: dict[str, Trial] = {}
        self._worker_of: dict[str, str] = {}
        self._claimed: set[str] = set()
        self._charged: set[int] = set()  #: genomes
        self._copied: dict[Trial, str] = {}  #: the straggler of each
        self._playing: dict[str, str] = {}  #: worker -> its straggler that is not over
        self._to_be_issued: dict[Trial, str] = {}  #: the straggler of each
        self._held: defaultdict[str, set[str]] = defaultdict(set)  #: worker -> its attempts that are not over
        self.copies = 0

    def note_fact(self, fact: dict[str, Any]) -> str:
        """Says what is wrong with a committed fact; the empty string if nothing is."""
        kind, worker, attempt = fact["fact"], fact.get("worker", ""), fact.get("attempt", "")
        if self._to_be_issued and kind not in ("attempt_ended", "attempt_issued"):
            return f"{min(self._to_be_issued.values())} was copied, and its trial was not issued again"
        match kind:
            case "run_opened":
                for known in (self._trial_of, self._worker_of, self._copied, self._playing, self._held):
                    known.clear()
                self._claimed.clear()
                self._charged.clear()
            case "attempt_issued":
                return self._issued(attempt, (fact["genome"], fact["trial"]), worker)
            case "attempt_claimed":
                self._claimed.add(attempt)
            case "genome_charged":
                self._charged.add(fact["genome"])
            case "genome_reopened":
                self._charged.discard(fact["genome"])
                self._copied = {trial: one for trial, one in self._copied.items() if trial[0] != fact["genome"]}
            case "run_finished" if self._playing and self._is_every_share_read:
                return f"{min(self._playing.values())} is played on after the run is finished"
            case "attempt_ended" if fact.get("reason", "").startswith(SECOND_COPY):
                return self._copy(attempt, fact)
            case "attempt_ended" | "attempt_released" | "result_late":
                self._held[self._worker_of.get(attempt, "")].discard(attempt)
                if self._playing.get(self._worker_of.get(attempt, "")) == attempt:
                    del self._playing[self._worker_of[attempt]]
            case "epoch_raised" | "recovery_started" | "worker_left":
                self._playing.pop(worker, None)
        return ""

    @property
    def _is_every_share_read(self) -> bool:
        """Whether no fault has occurred after which a host may be unable to read a share."""
        return not any(number for kind, number in self._world.fired.items() if kind not in READABLE)

    def _copy(self, attempt: str, fact: dict[str, Any]) -> str:
        self.copies += 1
        trial, worker = self._trial_of[attempt], self._worker_of[attempt]
        before, self._copied[trial] = self._copied.get(trial), attempt
        self._playing[worker] = self._to_be_issued[trial] = attempt
        if before is not None:
            return f"{attempt} was copied, although its trial is played by two workers: {before}"
        if attempt not in self._claimed or not fact.get("kept") or fact.get("answered"):
            return f"{attempt} was copied, and is not played on"
        self._held[worker].discard(attempt)
        if self._held[worker]:
            return f"{attempt} was copied, although {worker} also holds {min(self._held[worker])}"
        if trial[0] in self._charged:
            return f"{attempt} was copied, although its genome took a worker down"
        return "" if self._world.options.copies else f"{attempt} was copied, which nothing asks for"

    def _issued(self, attempt: str, trial: Trial, worker: str) -> str:
        self._trial_of[attempt], self._worker_of[attempt] = trial, worker
        self._held[worker].add(attempt)
        straggler = self._to_be_issued.pop(trial, "")
        if straggler and self._worker_of[straggler] == worker:
            return f"{straggler} was copied to its own worker"
        return f"{worker} got {attempt} while it plays {self._playing[worker]}" if worker in self._playing else ""
