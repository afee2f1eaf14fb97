"""The outcome of a check: the exception that ends it, and the line that reports it."""

import msgspec

OK, FAILED, LEFT_OUT = "ok", "FAILED", "left out"


class CheckFailed(Exception):
    """The agent did something else than what was expected; both are one line."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected, self.seen = expected, seen


class NotPossible(Exception):
    """This system cannot do what a check needs; the text says what."""


class CheckOutcome(msgspec.Struct, frozen=True):
    """How one check ended."""

    name: str
    word: str  #: OK, FAILED or LEFT_OUT
    text: str  #: one line: what was expected, or why it was not checked
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the agent did not pass it."""
        return self.word == FAILED

    def __str__(self) -> str:
        return f"{self.word:8}  {self.name} ({self.seconds:.1f} s)" + (f": {self.text}" if self.text else "")
