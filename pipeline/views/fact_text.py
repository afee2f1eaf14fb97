"""Facts as lines of text, for logs and above the live display. Pure."""

from collections.abc import Iterable

from inbox_agent.protocol.layout import Outcome, clean
from inbox_agent.protocol.printable import escaped
from pipeline.core import facts as f
from pipeline.core.facts import Fact, Settlement
from pipeline.core.farm import Farm

JOINED_SHOWN_MAX = 5


_ROUTINE = (f.GenomeAdded, f.AttemptIssued, f.AttemptClaimed, f.AttemptReleased, f.TrialReopened)
_ROUTINE_ENDS = (Outcome.COMPLETED, Outcome.WITHDRAWN, Settlement.COMPLETED, Settlement.SKIPPED)


def is_routine(fact: Fact) -> bool:
    """Whether it is one of the many facts that are only counted: of genomes and games with which all is well."""
    match fact:
        case f.AttemptEnded():
            return fact.outcome in _ROUTINE_ENDS
        case f.TrialSettled():
            return fact.settlement in _ROUTINE_ENDS
    return isinstance(fact, _ROUTINE)


def describe(fact: Fact, farm: Farm) -> str:
    """A fact as one line; the empty string for a fact that is only counted."""
    return escaped(_describe(fact, farm))


def _describe(fact: Fact, farm: Farm) -> str:
    match fact:
        case f.AttemptEnded(outcome=Outcome.COMPLETED) | f.AttemptEnded(outcome=Outcome.WITHDRAWN):
            return ""
        case f.AttemptEnded():
            attempt = farm.attempts[fact.attempt]
            where = f"{attempt.trial.genome.name} trial {attempt.trial.number} on {attempt.worker}"
            return f"{where}: {fact.outcome}{_because(fact.reason)}"
        case f.TrialSettled(settlement=Settlement.FAILED | Settlement.TIMED_OUT):
            name = farm.genomes[fact.genome - 1].name
            return f"{name} trial {fact.trial}: settled as {fact.settlement}{_because(fact.reason)}"
        case f.GenomeCharged():
            return f"{farm.genomes[fact.genome - 1].name}: charged with the loss on {fact.worker}"
        case f.GenomePoisoned():
            return f"{farm.genomes[fact.genome - 1].name}: poison, it took down {fact.charges} workers' agents"
        case f.GenomeReopened():
            return f"{farm.genomes[fact.genome - 1].name}: played again, its earlier results do not count"
        case f.ResultLate():
            return f"{fact.worker}: late result of {fact.attempt} ({fact.outcome}), set aside"
        case f.ResultUnexpected():
            return f"{fact.worker}: result of {fact.attempt}, which was never issued, set aside"
        case f.EpochRaised(epoch=epoch) if epoch > 1:
            return f"{fact.worker}: epoch {epoch} begins{_because(fact.reason)}"
        case f.RecoveryStarted():
            return f"{fact.worker}: {fact.action}{_because(fact.reason)}"
        case f.WorkerQuarantined():
            return f"{fact.worker}: quarantined for {fact.back_off_s:g} s{_because(fact.reason)}"
        case f.WorkerUnfit():
            return f"{fact.worker}: gets no work{_because(fact.reason)}"
        case f.EvaluatorFixed():
            return f"evaluator {fact.version} of {fact.worker} is that of this generation"
        case f.EvaluatorAccepted():
            which = fact.version or "of the first worker"
            return f"evaluator {which} was accepted, it plays what is still open"
        case f.WorkerOut():
            return f"{fact.worker}: out{_because(fact.reason)}"
        case f.WorkerRecovered():
            return f"{fact.worker}: recovered"
        case f.ProbationBegan():
            return f"{fact.worker}: on probation"
        case f.WorkerJoined():
            return f"{fact.worker}: joined"
        case f.WorkerLeft():
            return f"{fact.worker}: left{_because(fact.reason)}"
        case f.WorkerDrained():
            return f"{fact.worker}: drained, it gets no more work"
        case f.WorkerReturned():
            return f"{fact.worker}: gets work again"
    return ""


def describe_any(fact: Fact, farm: Farm) -> str:
    """The same for facts of any run of the generation; empty for what the farm lacks, as it was of an earlier run."""
    if isinstance(fact, f.AttemptEnded) and fact.attempt not in farm.attempts:
        return ""
    of_genome = f.TrialSettled | f.GenomeCharged | f.GenomePoisoned | f.GenomeReopened
    if isinstance(fact, of_genome) and fact.genome > len(farm.genomes):
        return ""
    return describe(fact, farm)


def joined_text(facts: Iterable[Fact]) -> str:
    """The genomes among these facts that joined a running generation, as one line; empty if none did."""
    names = [clean(fact.name, 100) for fact in facts if isinstance(fact, f.GenomeAdded)]
    if not names:
        return ""
    shown = ", ".join(names[:JOINED_SHOWN_MAX]) + (", …" if names[JOINED_SHOWN_MAX:] else "")
    return f"joined: {shown}" if len(names) == 1 else f"{len(names)} genomes joined: {shown}"


def _because(reason: str) -> str:
    return f", {reason}" if reason else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun, which gets an `s` for any number but one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """A duration in at most six characters: `850 ms`, `12.3 s`, `4:05`, `2:00:00`; `?` for None."""
    if seconds is None:
        return "?"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
