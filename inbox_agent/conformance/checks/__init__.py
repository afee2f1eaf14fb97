"""All checks, in the order in which they are reported."""

from types import ModuleType

from inbox_agent.conformance.check import Check
from inbox_agent.conformance.checks import (
    delivery,
    ownership,
    playing,
    records,
    restart,
    second_agent,
    stopping,
    withdrawal,
)

_SUBJECTS: tuple[ModuleType, ...] = (
    ownership,
    playing,
    records,
    delivery,
    withdrawal,
    restart,
    second_agent,
    stopping,
)

CHECKS: tuple[Check, ...] = tuple(
    value for subject in _SUBJECTS for value in vars(subject).values() if isinstance(value, Check)
)
