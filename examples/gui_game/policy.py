"""The policy: a genome is a JSON object whose numbers say which keys are held, given what is seen. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path

PADDLE_CENTRE, BALL_CENTRE = 24, 6  # from their left ends, in pixels
NUMBERS = ("aim", "dead_zone")


@dataclass(frozen=True, slots=True)
class Policy:
    """Moves the paddle below the ball."""

    aim: float  #: how far beside the ball it aims, in pixels; 0 is best
    dead_zone: float  #: it stands still while it is nearer than this to where it aims
    fault: str = ""  #: a fault that the game is asked to have, for tests

    def keys(self, ball_x: int, paddle_x: int) -> set[str]:
        """The keys to hold, given the left ends of ball and paddle."""
        distance = ball_x + BALL_CENTRE + self.aim - (paddle_x + PADDLE_CENTRE)
        if abs(distance) <= self.dead_zone:
            return set()
        return {"right"} if distance > 0 else {"left"}


def load(path: Path) -> Policy:
    """The policy of a genome. Raises ValueError, in one line, if it is none."""
    try:
        genome = json.loads(path.read_text(encoding="utf-8"))
        return Policy(*(float(genome[name]) for name in NUMBERS), fault=str(genome.get("fault", "")))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"not a genome of this game, a JSON object with {' and '.join(NUMBERS)}") from error
