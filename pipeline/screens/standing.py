"""`pipeline status`: where a generation stands, read from the ledger alone, also while a host is at work."""

from datetime import datetime
from pathlib import Path

from inbox_agent.settings_file import SettingsError
from pipeline.core.farm import Farm
from pipeline.core.roster import Trial, TrialState
from pipeline.edges.ledger import FILE_NAME, Ledger
from pipeline.generation import replay
from pipeline.screens.results import summary

OPEN_SHOWN_MAX = 10
_COUNTED = ("submitted", "completed", "failed", "open", "lost", "duplicated")


def standing(root: Path, generation: int | None) -> str:
    """Where a generation stands, in a few lines; the one played last if None. Raises SettingsError, LedgerError."""
    if not (root / "state" / FILE_NAME).exists():
        raise SettingsError(f"{root}: nothing was run here yet; `pipeline run --gen 1` begins")
    ledger = Ledger(root / "state", read_only=True)
    try:
        entries = list(ledger.entries())
    finally:
        ledger.close()
    chosen = generation if generation is not None else max((e.generation for e in entries[-1:]), default=0)
    farm = Farm(ledger.farm_id, [])
    replay(entries, farm, chosen)
    if not farm.generation:
        raise SettingsError(f"{root}: generation {chosen} was never run here")
    last = datetime.fromtimestamp(entries[-1].at).isoformat(sep=" ", timespec="seconds")
    return "\n".join([*_counts(farm), *_workers(farm), *_open(farm), f"last fact: {last}"])


def _counts(farm: Farm) -> list[str]:
    counts = summary(farm)
    attempts = ", ".join(f"{n} {name}" for name, n in counts["attempts"].items() if n and name != "issued")
    return [
        f"generation {farm.generation}, run {farm.run}: {'finished' if farm.finished else 'not finished'}",
        "genomes: " + ", ".join(f"{counts[name]} {name}" for name in _COUNTED),
        f"attempts: {counts['attempts']['issued']} issued: {attempts or 'none'}",
    ]


def _workers(farm: Farm) -> list[str]:
    return [
        f"{worker.name}: {worker.state}, epoch {worker.epoch}, holds {len(worker.wanted)}"
        + (f"; {worker.reason}" if worker.reason else "")
        for worker in sorted(farm.retired.values(), key=lambda w: w.name)
    ]


def _open(farm: Farm) -> list[str]:
    trials = [t for g in farm.genomes for t in g.trials if t.state is not TrialState.SETTLED]
    lines = [_waits(trial) for trial in trials[:OPEN_SHOWN_MAX]]
    return lines + ([f"… and {len(trials) - OPEN_SHOWN_MAX} more trials open"] if trials[OPEN_SHOWN_MAX:] else [])


def _waits(trial: Trial) -> str:
    where = f"{trial.genome.name} trial {trial.number}"
    attempt = trial.open_attempt
    if attempt is not None:
        return f"{where}: {'played' if attempt.claimed_at else 'in the queue'} on {attempt.worker} as {attempt.id}"
    if trial.attempts:
        last = trial.attempts[-1]
        return f"{where}: pending again, last {last.outcome} on {last.worker} ({last.reason})"
    return f"{where}: waits for a worker"
