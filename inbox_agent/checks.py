"""The outcome of a check, in one shape for `inbox-agent doctor`, `pipeline doctor` and `pipeline vm check-template`."""

from msgspec import Struct


class CheckResult(Struct, frozen=True):
    """The outcome of one check; a check that may fail in several ways has one for each."""

    item: str  #: what was checked, or whose: a worker or the host of its machine
    ok: bool
    found: str
    fix: str = ""  #: how to correct it; empty if `ok`, or where `found` says it

    def __str__(self) -> str:
        return f"{self.item}: {self.found}" + (f"; {self.fix}" if self.fix else "")
