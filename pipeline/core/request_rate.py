"""How many requests a client may make: a bucket of tokens that fills at a constant rate. Pure."""

from dataclasses import dataclass

_ROUNDING = 1e-6  #: a client that waits as long as it was told must be let in


@dataclass(frozen=True, slots=True)
class RequestRate:
    """What a client may do: `burst` requests at once, and `per_s` in the long run."""

    per_s: float
    burst: int


@dataclass(slots=True)
class RequestBucket:
    """The bucket of one client. It begins full."""

    rate: RequestRate
    left: float
    filled_at: float  #: monotonic

    @classmethod
    def full(cls, rate: RequestRate, now: float) -> "RequestBucket":
        """A bucket that no request was taken from yet."""
        return cls(rate, rate.burst, now)

    def take(self, now: float) -> float:
        """Takes one request. Returns 0; or how many seconds to wait for one, and then none was taken."""
        self.left = min(self.rate.burst, self.left + max(0.0, now - self.filled_at) * self.rate.per_s)
        self.filled_at = now
        if self.left < 1 - _ROUNDING:
            return (1 - self.left) / self.rate.per_s
        self.left -= 1
        return 0.0
