"""`pipeline status`: the state of a generation in a few lines. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from inbox_agent.protocol.printable import escaped
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.farm import Farm
from pipeline.core.model import Trial, TrialState
from pipeline.views.progress import Progress
from pipeline.views.results import evaluator_text, summary

OPEN_SHOWN_MAX = 10
_COUNTED = ("submitted", "completed", "failed", "open", "lost", "duplicated")


def status_text(farm: Farm, last_at: float, live: Progress | None) -> str:
    """Counts, workers and open trials, from the ledger's facts; `live` is what the running host adds to them."""
    last = datetime.fromtimestamp(last_at, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    notes = {row.name: row.note for row in live.workers if not row.genome} if live is not None else {}
    host = "a host is running it" if live is not None else "no host is running it, this is how the last one left it"
    stuck = stuck_reason(farm, len(farm.workers))
    lines = [
        *_counts(farm),
        *_workers(farm, notes),
        *_open(farm),
        *([f"the farm cannot go on: {stuck}"] if stuck else []),
        f"{host}; last change: {last}",
    ]
    return "\n".join(escaped(line) for line in lines)


def _counts(farm: Farm) -> list[str]:
    counts = summary(farm)
    attempts = ", ".join(f"{n} {name}" for name, n in counts["attempts"].items() if n and name != "issued")
    return [
        f"generation {farm.generation}, run {farm.run}: {'finished' if farm.finished else 'not finished'}",
        f"evaluator: {evaluator_text(farm)}",
        "genomes: " + ", ".join(f"{counts[name]} {name}" for name in _COUNTED),
        f"attempts: {counts['attempts']['issued']} issued: {attempts or 'none'}",
    ]


def _workers(farm: Farm, notes: Mapping[str, str]) -> list[str]:
    return [
        f"{worker.name}: {worker.state}{', drained' if worker.drained else ''}, "
        f"epoch {worker.epoch}, holds {len(worker.may_be_playing)}"
        + (f"; {reason}" if (reason := worker.reason or notes.get(worker.name, "")) else "")
        for worker in sorted({**farm.retired, **farm.workers}.values(), key=lambda w: w.name)
    ]


def _open(farm: Farm) -> list[str]:
    trials = [t for g in farm.genomes for t in g.trials if t.state is not TrialState.SETTLED]
    lines = [_pending_line(trial) for trial in trials[:OPEN_SHOWN_MAX]]
    return lines + ([f"… and {len(trials) - OPEN_SHOWN_MAX} more trials open"] if trials[OPEN_SHOWN_MAX:] else [])


def _pending_line(trial: Trial) -> str:
    where = f"{trial.genome.name} trial {trial.number}"
    attempt = trial.open_attempt
    if attempt is not None:
        return f"{where}: {'played' if attempt.claimed_at else 'in the queue'} on {attempt.worker} as {attempt.id}"
    if trial.attempts:
        last = trial.attempts[-1]
        return f"{where}: pending again, last {last.outcome} on {last.worker} ({last.reason})"
    return f"{where}: waits for a worker"
