"""Checks how often epochs begin, from the facts of one farm alone.

A share that goes back in time begins an epoch, which costs a fact and a file: without the host's order only so often,
and once for each probation.
"""

from collections import Counter
from typing import Any

REVERTS_MAX = 3  #: reverts_max
BY_THE_USER = ("taken over by command", "the worker has joined again")


class EpochChecker:
    """The epochs of each worker since its host started."""

    def __init__(self) -> None:
        self._reverts: Counter[str] = Counter()
        self._probations: Counter[str] = Counter()
        self._restoring: set[str] = set()
        self._known: set[str] = set()

    def note_fact(self, fact: dict[str, Any]) -> str:
        """Says what is wrong with a committed fact; the empty string if nothing is."""
        worker = fact.get("worker", "")
        match fact["fact"]:
            case "host_started":
                self._reverts.clear()
                self._probations.clear()
            case "worker_joined":
                self._reverts[worker] = self._probations[worker] = 0
            case "probation_began":
                self._probations[worker] += 1
            case "recovery_started" if fact["rung"] == "restore":
                self._restoring.add(worker)
            case "epoch_raised":
                return self._raised(worker, fact["reason"])
        return ""

    def _raised(self, worker: str, reason: str) -> str:
        is_first, is_ordered = worker not in self._known, worker in self._restoring
        self._known.add(worker)
        self._restoring.discard(worker)
        if is_first or is_ordered or reason in BY_THE_USER:
            return ""
        self._reverts[worker] += 1
        if self._reverts[worker] > REVERTS_MAX + 1 + self._probations[worker]:
            return f"epoch {self._reverts[worker]} of {worker} without an order: {reason}"
        return ""
