"""When the game of an attempt was played: the one definition for tables, explanations and the page. Pure.

The ledger has a claim only if a scan saw it before the result, which a short game may not allow. So a game with a
result is dated by its duration and by when the result was collected.
Not here: what was observed (`Attempt.claimed_at`).
"""

from dataclasses import dataclass

from inbox_agent.protocol.layout import Outcome
from pipeline.core.model import Attempt

PLAYED = frozenset({Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT})  #: outcomes of a game, whatever became of it


@dataclass(frozen=True, slots=True)
class GameTimes:
    """Wall times of a game; they are estimates, exact to about one scan of the share."""

    began: float
    ended: float | None  #: None while it is played


def has_played_result(attempt: Attempt) -> bool:
    """Whether a result says that the game was played, to its end or not."""
    return attempt.has_result and attempt.outcome in PLAYED


def game_times(attempt: Attempt) -> GameTimes | None:
    """When the game was played, between issue and end of its attempt; None if nothing shows that there was one.

    A claim was seen after the game began, a result collected after it ended. So with a result it began at the latest
    when its claim was seen, and its duration before the result was collected.
    """
    if attempt.ended_at is None or not has_played_result(attempt):
        return GameTimes(attempt.claimed_at, attempt.ended_at) if attempt.claimed_at is not None else None
    latest = attempt.ended_at - attempt.seconds
    if attempt.claimed_at is not None:
        latest = min(latest, attempt.claimed_at)
    began = max(attempt.issued_at, latest)
    return GameTimes(began, max(began, min(attempt.ended_at, began + attempt.seconds)))
