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
class Report:
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


Step = Stop | Clean | Report | Run | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look at the share found."""

    owner: HostRecord | None  #: the `host.json` of the highest epoch; None: the share is nobody's yet
    present: Collection[str]  #: attempts whose start signal is there, or not yet surely gone
    starts: Mapping[str, StartRecord] = field(default_factory=dict)  #: those of them that could be read
    hopeless: Mapping[str, tuple[Outcome, str]] = field(default_factory=dict)  #: given up on, with outcome and reason
    outbox: Mapping[str, Collection[Kind]]  #: what the agent's own folder holds, by attempt
    running: str | None = None
    half_claimed: Collection[str] = ()  #: claimed by this life of the agent, without an answer, and not played yet


def next_step(seen: Seen) -> Step:
    """The one thing to do now. Called again after each step until it says Wait or Run."""
    if seen.owner is None:
        return Wait()  # law 7: it claims nothing and removes nothing
    if seen.running is not None and seen.running not in seen.present:
        return Stop(seen.running)
    for attempt in sorted(seen.outbox):
        if attempt not in seen.present:
            return Clean(attempt, seen.outbox[attempt])
    return _report(seen) or _run(seen) or Wait()


def after(seen: Seen, step: Step) -> Seen:
    """What the share shows when a step was done; only this side writes `outbox/`, so no second look is needed."""
    match step:
        case Stop():
            return replace(seen, running=None)
        case Clean(attempt, _):
            return replace(seen, outbox={a: kinds for a, kinds in seen.outbox.items() if a != attempt})
        case Report(attempt):
            return replace(seen, outbox={**seen.outbox, attempt: {Kind.RESULT, *seen.outbox.get(attempt, ())}})
        case Run(start):  # it was not delivered yet: the next one need not wait for it
            return replace(seen, starts={a: other for a, other in seen.starts.items() if a != start.attempt})
    return seen


def _report(seen: Seen) -> Report | None:
    for attempt in sorted(seen.present):
        found = seen.outbox.get(attempt, ())
        if Kind.RESULT in found or attempt == seen.running:
            continue
        half_claimed = attempt in seen.half_claimed  # no genome pays for a claim whose answer was lost
        # The claim before the start signal: a genome that takes the machine down may take the unflushed signal with it,
        # and must not get away with "undelivered".
        if Kind.STARTED in found and not half_claimed and (_is_ours(seen, attempt) or attempt in seen.hopeless):
            return Report(attempt, Outcome.INTERRUPTED, "the agent restarted while this attempt was played")
        if attempt in seen.hopeless:
            return Report(attempt, *seen.hopeless[attempt])
    return None


def _run(seen: Seen) -> Run | None:
    if seen.running is not None:
        return None
    half_claimed = [a for a in seen.half_claimed if a in seen.outbox and Kind.RESULT not in seen.outbox[a]]
    # Never two claims at once: who dies in one game must not be found with the claim of another.
    untouched = half_claimed or [a for a in seen.starts if a not in seen.outbox]
    waiting = [seen.starts[a] for a in untouched if a in seen.present and _is_ours(seen, a)]
    return Run(min(waiting, key=lambda start: start.publication)) if waiting else None


def _is_ours(seen: Seen, attempt: str) -> bool:
    """Law 7: only signals of the share's present owner and epoch are played or answered."""
    start, owner = seen.starts.get(attempt), seen.owner
    return (
        start is not None
        and owner is not None
        and (start.farm, start.worker, start.epoch) == (owner.farm, owner.worker, owner.epoch)
        and start.attempt == attempt
    )
