"""A check: a behaviour of an agent that is observed in one scenario."""

from collections.abc import Callable
from dataclasses import dataclass

from inbox_agent.conformance.scenario import Scenario


@dataclass(frozen=True)
class Check:
    """One behaviour."""

    name: str
    behaviour: str  #: one sentence
    source: str  #: where share_layout.md asks for it
    run: Callable[[Scenario], None]  #: raises CheckFailed or NotPossible


def check(source: str) -> Callable[[Callable[[Scenario], None]], Check]:
    """Makes a check of a function: its name and the first line of its docstring say what is checked."""

    def make(function: Callable[[Scenario], None]) -> Check:
        behaviour = (function.__doc__ or "").strip().splitlines()[0]
        return Check(function.__name__.replace("_", "-"), behaviour, source, function)

    return make
