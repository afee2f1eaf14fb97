"""The agent's next step, a pure function of the scanned share. No files, no clock, no processes.

Owns: which attempt is stopped, cleaned, reported or evaluated, and in which order.
Not here: how a step is executed (agent).
See: share_layout.md, laws 3, 4 and 7.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from inbox_agent.protocol.layout import HostRecord, Kind, Outcome, StartRecord


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the running evaluation: its start signal is gone."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove what the agent wrote for an attempt without a start signal."""

    attempt: str
    kinds: Collection[Kind]


@dataclass(frozen=True, slots=True)
class ReportUnplayed:
    """Publish a result for an attempt that was not evaluated to its end."""

    attempt: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """Claim this start signal and evaluate its genome."""

    start: StartRecord


@dataclass(frozen=True, slots=True)
class TakeDeployment:
    """Take this deployment: another evaluator is played from then on."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a change notification or the next poll."""


Step = Stop | Clean | ReportUnplayed | TakeDeployment | Run | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """What one scan of the share found."""

    owner: HostRecord | None  #: the `host.json` of the highest epoch; None: the share has no owner yet
    present: Collection[str]  #: attempts with a start signal that exists or is not confirmed absent
    #: the start signals that could be read, as `in_order` has sorted them
    starts: Mapping[str, StartRecord] = field(default_factory=dict)
    damaged: Collection[str] = ()  #: attempts whose start signal was read and is not valid
    #: attempts that were given up, with outcome and reason
    undeliverable: Mapping[str, tuple[Outcome, str]] = field(default_factory=dict)
    outbox: Mapping[str, Collection[Kind]]  #: contents of `outbox/`, by attempt
    running: str | None = None
    deployment: int | None = None  #: the deployment that may be taken now
    evaluator: str | None = None  #: the version of the evaluator that is loaded; None: nothing can be played yet
    #: claims published by this process without confirmation, not evaluated yet
    unconfirmed_claims: Collection[str] = ()


def in_order(starts: Mapping[str, StartRecord]) -> dict[str, StartRecord]:
    """Start signals in the order in which they are played; sorted once for each scan, of which many may be played."""
    return dict(sorted(starts.items(), key=lambda item: item[1].publication))


def next_step(state: ShareState) -> Step:
    """The next step. Called again after each step until it returns Wait or Run."""
    if state.owner is None:
        return Wait()  # law 7 of share_layout.md: claim nothing and remove nothing
    if state.running is not None and state.running not in state.present:
        return Stop(state.running)
    if unwanted := state.outbox.keys() - state.present:
        attempt = min(unwanted)
        return Clean(attempt, state.outbox[attempt])
    if (report := _next_report(state)) is not None:
        return report
    if state.deployment is not None and state.running is None:  # between two games
        return TakeDeployment(state.deployment)
    return _next_run(state) or Wait()


def apply_step(state: ShareState, step: Step) -> ShareState:
    """The state after a step. Only the agent writes `outbox/`, so no second scan is needed."""
    match step:
        case Stop():
            return replace(state, running=None)
        case Clean(attempt, _):
            return replace(state, outbox={a: kinds for a, kinds in state.outbox.items() if a != attempt})
        case ReportUnplayed(attempt):
            return replace(state, outbox={**state.outbox, attempt: {Kind.RESULT, *state.outbox.get(attempt, ())}})
        case TakeDeployment():
            return replace(state, deployment=None)
        case Run(start):  # its delivery was incomplete; the next one need not wait for it
            return replace(state, starts={a: other for a, other in state.starts.items() if a != start.attempt})
    return state


def _next_report(state: ShareState) -> ReportUnplayed | None:
    unfinished = {attempt for attempt, kinds in state.outbox.items() if Kind.RESULT not in kinds}
    for attempt in sorted(unfinished | (state.undeliverable.keys() - state.outbox.keys())):
        found = state.outbox.get(attempt, ())
        if attempt not in state.present or attempt == state.running:
            continue
        if Kind.STARTED in found:
            unconfirmed = attempt in state.unconfirmed_claims  # no genome is charged for an unconfirmed claim
            # Check the claim before the start signal: a crash of the machine may damage the unflushed signal, and the
            # genome that caused it must not be reported as "undelivered". Nor may the next claim be published before.
            known = _is_ours(state, attempt) or attempt in state.damaged or attempt in state.undeliverable
            if known and not unconfirmed:
                return ReportUnplayed(attempt, Outcome.INTERRUPTED, "the agent restarted while this attempt was played")
        if attempt in state.undeliverable:
            return ReportUnplayed(attempt, *state.undeliverable[attempt])
    return None


def _next_run(state: ShareState) -> Run | None:
    if state.evaluator is None:
        return None
    start = next_start(state)
    return Run(start) if start is not None and start.evaluator in (None, state.evaluator) else None


def next_start(state: ShareState) -> StartRecord | None:
    """The start signal to be played next; None if none waits, or while an evaluation runs."""
    if state.running is not None:
        return None
    # Never two claims at once: a crash must leave only the claim of the evaluation that was running.
    untouched = _unconfirmed(state) if state.unconfirmed_claims else []
    waiting = untouched or (a for a in state.starts if a not in state.outbox)
    return next((state.starts[a] for a in waiting if a in state.present and _is_ours(state, a)), None)


def _unconfirmed(state: ShareState) -> list[str]:
    return [a for a in state.unconfirmed_claims if a in state.outbox and Kind.RESULT not in state.outbox[a]]


def _is_ours(state: ShareState, attempt: str) -> bool:
    """Law 7 of share_layout.md: only signals of the share's current owner and epoch are evaluated or answered."""
    start, owner = state.starts.get(attempt), state.owner
    return (
        start is not None
        and owner is not None
        and (start.farm, start.worker, start.epoch) == (owner.farm, owner.worker, owner.epoch)
        and start.attempt == attempt
    )
