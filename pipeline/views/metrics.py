"""The farm in figures for a monitoring system, with the names that Prometheus asks for. Pure.

Owns: names, units, labels and buckets. Counters count facts over the whole life of the ledger, so they never fall, also
when trials are reopened or a generation begins; gauges are of the generation that is played, or was played last.
Every value of a label comes from the code or the configuration, so their number is bounded: names of genomes, reasons,
metrics of games and whatever else a guest writes are in none of them.
Not here: the text format (`ui.metrics_text`).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    HostStarted,
    RecoveryAction,
    RecoveryStarted,
    ResultLate,
    ResultUnexpected,
    Settlement,
    TrialSettled,
)
from pipeline.views.game_times import PLAYED
from pipeline.views.progress import Progress

#: Upper bounds of the lengths of games, in seconds: from a millisecond to half an hour.
GAME_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)
#: What a worker does or what is wrong with it, as `views.progress` says it.
WORKER_STATES = (
    "playing",
    "idle",
    "loading",
    "awaited",  #: no heartbeat yet
    "unknown",  #: its share cannot be read
    "draining",  #: it gets no more work, and finishes its game
    "drained",
    "at_rest",  #: its machine is saved or off until trials wait for it
    "recovering",
    "quarantined",
    "probation",
    "unfit",
    "out",
    "was_playing",  #: no host is running
    "other",  #: of another version of this program
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its samples: a value for each combination of the labels' values."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramMetric:
    """A distribution: how many values are at most as large as each bound, and their sum."""

    name: str
    help: str
    buckets: Mapping[float, int]
    sum: float


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, as the operating system reports it."""

    free_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What neither the ledger nor the running host says."""

    version: str
    at: float  #: wall time, as in the facts
    disks: Mapping[str, Disk]  #: by folder of the project
    ledger_bytes: int


class LedgerCounts:
    """Counts of the facts of a ledger; a fact costs the same however many there are."""

    def __init__(self) -> None:
        self.settled: Counter[Settlement] = Counter()
        self.ended: Counter[Outcome] = Counter()
        self.recoveries: Counter[RecoveryAction] = Counter()
        self.reused = self.issued = self.late = self.unexpected = self.host_starts = 0
        self.last_result_at: float | None = None  #: wall time
        self._games = [0] * (len(GAME_BUCKETS_S) + 1)
        self._games_s = 0.0

    def note(self, entry: Entry) -> None:
        """Counts a fact; facts come in their order."""
        match fact := entry.fact:
            case TrialSettled():
                self.settled[fact.settlement] += 1
                self.reused += fact.reused is not None
            case AttemptIssued():
                self.issued += 1
            case AttemptEnded():
                self._note_ended(fact, entry.at)
            case RecoveryStarted():
                self.recoveries[fact.action] += 1
            case ResultLate():
                self.late += 1
            case ResultUnexpected():
                self.unexpected += 1
            case HostStarted():
                self.host_starts += 1

    def _note_ended(self, fact: AttemptEnded, at: float) -> None:
        self.ended[fact.outcome] += 1
        if fact.has_result:
            self.last_result_at = at
        if fact.has_result and fact.outcome in PLAYED:
            self._games[bisect_left(GAME_BUCKETS_S, fact.seconds)] += 1
            self._games_s += fact.seconds

    def game_lengths(self) -> HistogramMetric:
        """The lengths of the games that are over, as the agents measured them."""
        counts = accumulate(self._games)
        return HistogramMetric(
            "pipeline_game_duration_seconds",
            "Lengths of the games of which a result was accepted, as the agents measured them.",
            dict(zip((*GAME_BUCKETS_S, float("inf")), counts, strict=True)),
            self._games_s,
        )


def farm_metrics(
    counts: LedgerCounts, now: Progress | None, surroundings: Surroundings
) -> list[Metric | HistogramMetric]:
    """All metrics; `now` is None while no generation was opened, then those of the generation are left out."""
    of_generation = [] if now is None else [*_of_generation(now), *_of_workers(now)]
    return [*_of_process(now, surroundings), *_of_ledger(counts, surroundings), *of_generation]


def _of_process(now: Progress | None, surroundings: Surroundings) -> Iterable[Metric]:
    yield _by("version", "pipeline_build_info", "The version that answers, as a label.", {surroundings.version: 1})
    playing = now is not None and now.playing
    yield _gauge("pipeline_host_playing", "Whether a host is running a generation: 1 or 0.", playing)
    disks, text = surroundings.disks, "bytes of the file system that a folder of the project is on."
    free = {folder: disk.free_bytes for folder, disk in disks.items()}
    used = {folder: disk.used_bytes for folder, disk in disks.items()}
    yield _by("folder", "pipeline_disk_free_bytes", f"Free {text}", free)
    yield _by("folder", "pipeline_disk_used_bytes", f"Used {text}", used)
    yield _gauge("pipeline_ledger_bytes", "The size of the ledger, without its log.", surroundings.ledger_bytes)


def _of_ledger(counts: LedgerCounts, surroundings: Surroundings) -> Iterable[Metric | HistogramMetric]:
    settled = {str(one): counts.settled[one] for one in Settlement}
    yield _by("settlement", "pipeline_trials_settled_total", "Trials that got a final state.", settled, "counter")
    text = "Of the completed trials: those with an earlier result."
    yield _counter("pipeline_trials_reused_total", text, counts.reused)
    yield _counter("pipeline_attempts_issued_total", "Attempts that got a place in a queue.", counts.issued)
    ended = {str(one): counts.ended[one] for one in Outcome}
    yield _by("outcome", "pipeline_attempts_ended_total", "Attempts that are over.", ended, "counter")
    yield _counter("pipeline_results_late_total", "Results of attempts that were over; never counted.", counts.late)
    text = "Results under ids that were never issued; never counted."
    yield _counter("pipeline_results_unexpected_total", text, counts.unexpected)
    recoveries = {str(one): counts.recoveries[one] for one in RecoveryAction}
    yield _by("action", "pipeline_recovery_actions_total", "Recovery actions begun.", recoveries, "counter")
    yield _counter("pipeline_host_starts_total", "Starts of a host.", counts.host_starts)
    yield counts.game_lengths()
    if counts.last_result_at is not None:  # absent while there was none: no number would be true
        age_s = max(0.0, surroundings.at - counts.last_result_at)
        yield _gauge("pipeline_last_result_age_seconds", "Time since the last result of any generation.", age_s)


def _of_generation(now: Progress) -> Iterable[Metric]:
    text = "The number of the generation that is played, or was played last."
    yield _gauge("pipeline_generation", text, now.generation)
    yield _gauge("pipeline_generation_genomes", "Its genomes.", now.genomes)
    pending = max(0, now.pending)
    states = {"pending": pending, "assigned": max(0, now.trials - now.settled - pending), "settled": now.settled}
    yield _by("state", "pipeline_generation_trials", "Its trials; pending ones are queued.", states)
    if now.fitness is not None:
        text = "fitness of its genomes of which every trial has one."
        yield _gauge("pipeline_generation_best_fitness", f"Best {text}", now.fitness.best)
        yield _gauge("pipeline_generation_mean_fitness", f"Mean {text}", now.fitness.mean)


def _of_workers(now: Progress) -> Iterable[Metric]:
    states = {row.name: _state(row.state) for row in now.workers}
    found = Counter(states.values())
    number = {state: found[state] for state in WORKER_STATES}
    yield _by("state", "pipeline_workers", "Workers of the configuration by state.", number)
    each: dict[tuple[str, ...], float] = dict.fromkeys(states.items(), 1.0)
    yield Metric("pipeline_worker_state", "gauge", "1 for the state of each worker.", each, ("worker", "state"))


def _state(state: str) -> str:
    name = state.replace(" ", "_")
    return name if name in WORKER_STATES else "other"


def _by(
    label: str, name: str, text: str, values: Mapping[str, float], kind: Literal["counter", "gauge"] = "gauge"
) -> Metric:
    return Metric(name, kind, text, {(key,): float(value) for key, value in values.items()}, (label,))


def _gauge(name: str, text: str, value: float) -> Metric:
    return Metric(name, "gauge", text, {(): float(value)})


def _counter(name: str, text: str, value: float) -> Metric:
    return Metric(name, "counter", text, {(): float(value)})
