"""`pipeline status`: the state of a generation in a few lines. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime

from inbox_agent.protocol.layout import Outcome
from inbox_agent.protocol.printable import escaped
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import DatedFact
from pipeline.core.farm import Farm
from pipeline.core.model import Trial, TrialState, Worker
from pipeline.views.progress import UNKNOWN, Progress
from pipeline.views.results import evaluator_text, summary
from pipeline.views.worker_state import LEFT, NOT_CONFIGURED, WorkerStates

OPEN_SHOWN_MAX = 10
ABSENT = {UNKNOWN: "is unknown", LEFT: "has left", NOT_CONFIGURED: "is not in the configuration"}
_COUNTED = ("submitted", "completed", "failed", "open", "lost", "duplicated")


def status_text(farm: Farm, last_at: float, live: Progress | None, history: Iterable[DatedFact] = ()) -> str:
    """Counts, workers and open trials, from the ledger's facts; `live` is what the running host adds to them.

    `history` tells which workers have left: they are not listed.
    """
    last = datetime.fromtimestamp(last_at, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    states = WorkerStates(farm, history, live)
    host = "a host is running it" if live is not None else "no host is running it, this is how the last one left it"
    stuck = stuck_reason(farm, len(farm.workers))
    lines = [
        *_counts(farm),
        *(_worker(worker, states) for worker in states.current()),
        *_open(farm, states, is_played=live is not None),
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


def _worker(worker: Worker, states: WorkerStates) -> str:
    state, held = states.of(worker.name), worker.may_be_playing
    given_up = sum(attempt.outcome is Outcome.LOST for attempt in held)
    was = "was" if given_up == 1 else "were"
    return (
        f"{worker.name}: {state.word}, epoch {worker.epoch}, holds {len(held) - given_up}"
        + (f" and may still play {given_up} that {was} given up" if given_up else "")
        + (f"; {state.why}" if state.why else "")
    )


def _open(farm: Farm, states: WorkerStates, *, is_played: bool) -> list[str]:
    trials = [t for g in farm.genomes for t in g.trials if t.state is not TrialState.SETTLED]
    lines = [_pending_line(trial, states, is_played=is_played) for trial in trials[:OPEN_SHOWN_MAX]]
    return lines + ([f"… and {len(trials) - OPEN_SHOWN_MAX} more trials open"] if trials[OPEN_SHOWN_MAX:] else [])


def _pending_line(trial: Trial, states: WorkerStates, *, is_played: bool) -> str:
    where = f"{trial.genome.name} trial {trial.number}"
    attempt = trial.open_attempt
    if attempt is not None:
        state = states.of(attempt.worker).word
        absent = ABSENT.get(state, "")
        what = "played" if attempt.claimed_at else "in the queue"
        was = "was " if absent or not is_played else ""
        return f"{where}: {was}{what} on {attempt.worker}{f', which {absent},' if absent else ''} as {attempt.id}"
    if trial.attempts:
        last = trial.attempts[-1]
        return f"{where}: pending again, last {last.outcome} on {last.worker} ({last.reason})"
    return f"{where}: waits for a worker"
