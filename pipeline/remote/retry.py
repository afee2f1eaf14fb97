"""When a request that failed is sent again, and after which pause. Pure: the caller has clock and random numbers.

Owns: which answers are transient, exponential backoff with full jitter, how far `Retry-After` is followed.
Not here: sending and waiting (`server`).
"""

import math
import re
from dataclasses import dataclass

BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 32.0  #: also of a pause that a server asks for
TRIES_MAX = 3  #: of a request that does not belong to a generation
_DOUBLINGS_MAX = 5  #: from the base to the maximum

TOO_MANY_REQUESTS = 429
#: A server that is away, behind a proxy or by its own words. The same request may succeed later.
AWAY = (502, 503, 504)


def is_transient(status: int) -> bool:
    """Whether the same request may have another answer later."""
    return status == TOO_MANY_REQUESTS or status in AWAY


def retry_after_s(header: str | None) -> float | None:
    """The pause of a header `Retry-After`, at most `BACKOFF_MAX_S`; None: there is none, or it is no number."""
    if header is None or not re.fullmatch(r"[0-9]{1,9}", header.strip(), re.ASCII):
        return None  # a date: clocks of two computers differ, and the backoff does as well
    return min(float(header), BACKOFF_MAX_S)


def backoff_s(failures: int, draw: float, asked_s: float | None = None) -> float:
    """The pause after so many failures in a row: a random part of 1, 2, 4 … 32 s, and not less than the server asked.

    Args:
        failures: at least 1.
        draw: a random number from 0 to 1.
        asked_s: what `retry_after_s` found.
    """
    longest_s = BACKOFF_BASE_S * 2.0 ** min(failures - 1, _DOUBLINGS_MAX)
    return max(draw * longest_s, asked_s or 0.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried again."""

    tries_max: int | None = TRIES_MAX  #: None: any number
    away_s_max: float = math.inf  #: how long a server may be away before the request fails

    def pause_s(self, failures: int, away_s: float, draw: float, asked_s: float | None = None) -> float | None:
        """The pause before the next try; None: the request has failed.

        Args:
            failures: of this request, in a row.
            away_s: since the first of them; 0 while the server answers.
        """
        if self.tries_max is not None and failures >= self.tries_max:
            return None
        left_s = self.away_s_max - away_s
        if left_s <= 0:
            return None
        return min(backoff_s(failures, draw, asked_s), left_s)  # the last try is at the end of the patience
