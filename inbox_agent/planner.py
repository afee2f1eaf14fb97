"""What the agent does next: a pure function of what its share shows. No files, no clock, no processes.

It decides which attempt is stopped, cleaned, reported or played, and in which order; it does not know how any of that
is done. Sources: `share_layout.md`, "The laws" 3, 4 and 7.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from inbox_agent.protocol.layout import HostRecord, Kind, Outcome, StartRecord


@dataclass(frozen=True, slots=True)
class Stop:
    """End the running evaluation: its start signal is gone, so nobody wants it any more."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove what the agent wrote for an attempt whose start signal is gone."""

    attempt: str
    kinds: Collection[Kind]


@dataclass(frozen=True, slots=True)
class ReportUnplayed:
    """Publish a result for an attempt that was not played to its end."""

    attempt: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """Claim this start signal and play it."""

    start: StartRecord


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until the doorbell or the poll."""


Step = Stop | Clean | ReportUnplayed | Run | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """What one look at the share found."""

    owner: HostRecord | None  #: the `host.json` of the highest epoch; None: the share is nobody's yet
    present: Collection[str]  #: attempts whose start signal is there, or not yet surely gone
    starts: Mapping[str, StartRecord] = field(default_factory=dict)  #: those of them that could be read
    #: given up on, with outcome and reason
    undeliverable: Mapping[str, tuple[Outcome, str]] = field(default_factory=dict)
    outbox: Mapping[str, Collection[Kind]]  #: what the agent's own folder holds, by attempt
    running: str | None = None
    #: claimed by this life of the agent, without an answer, and not played yet
    unconfirmed_claims: Collection[str] = ()


def next_step(state: ShareState) -> Step:
    """The one thing to do now. Called again after each step until it says Wait or Run."""
    if state.owner is None:
        return Wait()  # law 7: it claims nothing and removes nothing
    if state.running is not None and state.running not in state.present:
        return Stop(state.running)
    for attempt in sorted(state.outbox):
        if attempt not in state.present:
            return Clean(attempt, state.outbox[attempt])
    return _next_report(state) or _next_run(state) or Wait()


def apply_step(state: ShareState, step: Step) -> ShareState:
    """What the share shows when a step was done; only this side writes `outbox/`, so no second look is needed."""
    match step:
        case Stop():
            return replace(state, running=None)
        case Clean(attempt, _):
            return replace(state, outbox={a: kinds for a, kinds in state.outbox.items() if a != attempt})
        case ReportUnplayed(attempt):
            return replace(state, outbox={**state.outbox, attempt: {Kind.RESULT, *state.outbox.get(attempt, ())}})
        case Run(start):  # it was not delivered yet: the next one need not wait for it
            return replace(state, starts={a: other for a, other in state.starts.items() if a != start.attempt})
    return state


def _next_report(state: ShareState) -> ReportUnplayed | None:
    for attempt in sorted(state.present):
        found = state.outbox.get(attempt, ())
        if Kind.RESULT in found or attempt == state.running:
            continue
        unconfirmed = attempt in state.unconfirmed_claims  # no genome pays for a claim whose answer was lost
        # The claim before the start signal: a genome that takes the machine down may take the unflushed signal with it,
        # and must not get away with "undelivered".
        if Kind.STARTED in found and not unconfirmed and (_is_ours(state, attempt) or attempt in state.undeliverable):
            return ReportUnplayed(attempt, Outcome.INTERRUPTED, "the agent restarted while this attempt was played")
        if attempt in state.undeliverable:
            return ReportUnplayed(attempt, *state.undeliverable[attempt])
    return None


def _next_run(state: ShareState) -> Run | None:
    if state.running is not None:
        return None
    unconfirmed = [a for a in state.unconfirmed_claims if a in state.outbox and Kind.RESULT not in state.outbox[a]]
    # Never two claims at once: who dies in one game must not be found with the claim of another.
    untouched = unconfirmed or [a for a in state.starts if a not in state.outbox]
    waiting = [state.starts[a] for a in untouched if a in state.present and _is_ours(state, a)]
    return Run(min(waiting, key=lambda start: start.publication)) if waiting else None


def _is_ours(state: ShareState, attempt: str) -> bool:
    """Law 7: only signals of the share's present owner and epoch are played or answered."""
    start, owner = state.starts.get(attempt), state.owner
    return (
        start is not None
        and owner is not None
        and (start.farm, start.worker, start.epoch) == (owner.farm, owner.worker, owner.epoch)
        and start.attempt == attempt
    )
