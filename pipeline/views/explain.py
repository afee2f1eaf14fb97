"""Explanations of a genome, an attempt or a worker: history, current state, what must happen next. Pure.

Built from facts, and from what a running host says of its workers. A test checks that every outcome, settlement,
pending reason and worker state has a text here.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from inbox_agent.protocol.layout import Outcome, clean
from pipeline.core import facts as f
from pipeline.core.facts import DatedFact, RecoveryAction, Settlement
from pipeline.core.farm import Farm
from pipeline.core.model import BLAMES_GENOME, LOSSES, Attempt, Genome, Trial, TrialState, Worker, WorkerState
from pipeline.core.pending import PendingReason, pending_reason
from pipeline.views.fact_text import counted, describe, duration
from pipeline.views.game_times import game_times
from pipeline.views.progress import AWAITED, LOADING, UNKNOWN, Progress
from pipeline.views.results import genome_status, played_by
from pipeline.views.worker_state import LEFT, NOT_CONFIGURED, ShownState, WorkerStates

OUTCOMES: dict[Outcome, str] = {
    Outcome.COMPLETED: "it was played to its end",
    Outcome.FAILED: "the game failed",
    Outcome.TIMED_OUT: "the game took longer than its limit and was ended",
    Outcome.INTERRUPTED: "the agent or its machine restarted in the middle of it",
    Outcome.LOST: "no result of it arrived",
    Outcome.UNDELIVERED: "it did not arrive there in full, or could not be started",
    Outcome.CORRUPT: "its result could not be used",
    Outcome.WITHDRAWN: "the host took it back",
    Outcome.REJECTED: "the agent speaks another version of the protocol",
}

REASON_CHARS_MAX = 300
REPEATED_CHARS_MAX = 40  #: longer reasons are given once

SETTLEMENTS: dict[Settlement, str] = {
    Settlement.COMPLETED: "completed",
    Settlement.FAILED: "failed for good",
    Settlement.TIMED_OUT: "took too long too often",
    Settlement.SKIPPED: "is skipped, because another trial of this genome failed for good",
}

#: Why a trial waits, and what must happen next.
PENDING_REASONS: dict[PendingReason, tuple[str, str]] = {
    PendingReason.RUNNING: ("it is being played", "its result ends it, or its time limit"),
    PendingReason.QUEUED_FIRST: (
        "it is the next one in its worker's queue",
        "the agent claims it when the game before has ended",
    ),
    PendingReason.QUEUED: (
        "it stands in its worker's queue behind another attempt",
        "the one before it ends, or the host takes it back for an idle worker",
    ),
    PendingReason.WORKER_RECOVERING: (
        "it is in the queue of a worker that is being recovered",
        "the worker recovers, or the host takes it back and gives it to another one",
    ),
    PendingReason.NO_WORKERS: (
        "no worker has joined yet",
        "one joins: start an agent with `inbox-agent --join`, or use `pipeline worker add`",
    ),
    PendingReason.ALL_WORKERS_DRAINED: (
        "every worker that is not out is drained",
        "`pipeline worker return` gives one of them work again",
    ),
    PendingReason.ALL_WORKERS_OUT: (
        "every worker is out",
        "repair one of them (`pipeline status` says why each is out), then run the same command again",
    ),
    PendingReason.NO_WORKER_READY: (
        "every worker that is not out is being recovered, quarantined or unfit",
        "one of them recovers, passes its probation or loads the right evaluator",
    ),
    PendingReason.NO_SHARE_READY: (
        "no ready worker's share has shown the `host.json` of this farm yet",
        "a share can be read and its agent sends heartbeats; `pipeline doctor` says what is missing",
    ),
    PendingReason.OTHER_TRIAL_FIRST: (
        "another trial of this genome failed, and is tried again first",
        "that trial completes, and this one gets its turn; or it fails for good, and this one is skipped",
    ),
    PendingReason.NEEDS_IDLE_WORKER: (
        "it is not known why its last attempt was lost, so it runs alone on a worker, and no worker is idle",
        "one worker becomes idle",
    ),
    PendingReason.QUEUES_FULL: ("every worker's queue is full", "an attempt ends"),
    PendingReason.NEEDS_OTHER_WORKER: (
        "every worker with a free slot has tried it already, and the queues of the others are full",
        "a worker that has not tried it gets a free slot",
    ),
    PendingReason.READY: (
        "a worker has a free slot for it",
        "the next tick gives it to that worker, if its evaluator is loaded and no faster worker plays it sooner",
    ),
    PendingReason.NO_HOST: ("no host is playing this generation", "run `pipeline run` for it"),
}

WORKERS: dict[WorkerState, tuple[str, str]] = {
    WorkerState.READY: ("is ready", "it plays what it is given"),
    WorkerState.RECOVERING: (
        "is being recovered",
        "a heartbeat ends that; without one the next recovery action follows",
    ),
    WorkerState.QUARANTINED: ("is quarantined", "after its back-off it gets one attempt on probation"),
    WorkerState.PROBATION: ("is on probation", "one finished attempt makes it a worker like any other"),
    WorkerState.UNFIT: (
        "cannot play this generation",
        "it gets work once its agent has loaded the right evaluator; the agent tries again every 10 s",
    ),
    WorkerState.OUT: ("is out for this run", "correct what is wrong and run the same command again: it starts fresh"),
}

#: The same for what is said of a worker beside its state.
SHOWN_STATES: dict[str, tuple[str, str]] = {
    "draining": (
        "is being drained",
        "it plays what it has begun, and gets no more work until `pipeline worker return {worker}`",
    ),
    "drained": ("is drained", "it gets no more work until `pipeline worker return {worker}`"),
    UNKNOWN: (
        "is unknown",
        "it gets no work until its share can be read, and what it holds is given to others after `silence_limit_s`",
    ),
    AWAITED: ("is awaited", "it gets work once its share can be read and its agent sends heartbeats"),
    LOADING: ("is loading", "it gets work once its agent has loaded the evaluator"),
    LEFT: ("has left", "it gets no more work"),
    NOT_CONFIGURED: ("is not in the configuration", "only a program that names it gives it work"),
}
ALL_KNOWN: Mapping[str, str] = {}

RECOVERY_ACTIONS: dict[RecoveryAction, str] = {
    RecoveryAction.RESTART_AGENT: "its agent was restarted",
    RecoveryAction.REBOOT: "its machine was shut down and started",
    RecoveryAction.POWER_CYCLE: "its machine was turned off and started",
    RecoveryAction.RESTORE: "its machine's clean checkpoint was restored",
}


def explain_genome(
    farm: Farm, genome: Genome, depth: Mapping[str, int], *, playing: bool, unknown: Mapping[str, str] = ALL_KNOWN
) -> list[str]:
    """Explains a genome, trial by trial. A reason that several attempts have is given once.

    `unknown` has the workers that the running host cannot observe, and why.
    """
    lines, given = [_headline(genome), *_params(genome)], _GivenReasons()
    for attempt in genome.charges:
        why = "it was being played there" if _has_begun(attempt) else "nothing else was in that worker's queue"
        lines.append(f"It is charged with the loss of {attempt.id} on {attempt.worker}: {why}.")
    for trial in genome.trials:
        lines += ["", *_conclusion(farm, trial, depth, given, playing=playing, unknown=unknown)]
        lines += [f"  {_attempt(attempt, given)}" for attempt in trial.attempts]
    return lines


def explain_attempt(
    farm: Farm, attempt: Attempt, depth: Mapping[str, int], *, playing: bool, unknown: Mapping[str, str] = ALL_KNOWN
) -> list[str]:
    """Explains an attempt and the state of its trial. `unknown` as of `explain_genome`."""
    trial, given = attempt.trial, _GivenReasons()
    lines = [f"{attempt.id} is {_try(attempt)} of {_name(trial.genome)}.", _attempt(attempt, given)]
    others = [other.id for other in trial.attempts if other is not attempt]
    if others:
        lines.append(f"The trial was tried as {', '.join(others)} as well.")
    return [*lines, "", *_conclusion(farm, trial, depth, given, playing=playing, unknown=unknown)]


def explain_worker(farm: Farm, name: str, history: Sequence[DatedFact], live: Progress | None = None) -> list[str]:
    """Explains a worker: its state, its attempts, and what happened to it when.

    `live` is what the running host says of the workers; None if none runs.
    """
    states = WorkerStates(farm, history, live)
    worker, state = states.find(name), states.of(name)
    mine = [attempt for attempt in farm.attempts.values() if attempt.worker == name]
    counts = Counter(attempt.outcome for attempt in mine)
    ends = [f"{counts[outcome]} {outcome.replace('_', ' ')}" for outcome in Outcome if counts[outcome]]
    epoch = f"Its share is in epoch {worker.epoch}. " if worker.epoch else ""
    is_observed = live is not None and state.word not in (UNKNOWN, LEFT, NOT_CONFIGURED)
    lines = [
        *_state(worker, state, is_played=live is not None),
        f"{epoch}In this generation it was given {counted(len(mine), 'attempt')}"
        + (f": {', '.join(ends)}." if ends else "."),
        *(_held(attempt, is_observed=is_observed) for attempt in worker.may_be_playing),
    ]
    happened = list(_happened(farm, name, history))
    return [*lines, "", *(happened or ["Nothing else happened to it."])]


def _state(worker: Worker, shown: ShownState, *, is_played: bool) -> Iterator[str]:
    """The state of a worker and what follows; of a drained one also what is wrong with it."""
    state, following = SHOWN_STATES.get(shown.word) or WORKERS[worker.state]
    why = f": {clean(shown.why, REASON_CHARS_MAX)}" if shown.why else ""
    if shown.word in ("draining", "drained"):
        yield f"{worker.name} {state}: {following.format(worker=worker.name)}."
        if why:
            other = WORKERS[worker.state][0] if worker.state is not WorkerState.READY else "has a problem"
            yield f"It {other}{why}."
        return
    if shown.since is not None:
        state += time.strftime(" on %Y-%m-%d at %H:%M:%S", time.localtime(shown.since))
    if not is_played and shown.word in ("ready", UNKNOWN):
        following = "no host is playing this generation, this is how the last one left it"
    yield f"{worker.name} {state}{why}; {following}."
    if worker.drained and worker.state is WorkerState.OUT and shown.word == worker.state:
        yield "It {}: {}.".format(*SHOWN_STATES["drained"]).format(worker=worker.name)


def _held(attempt: Attempt, *, is_observed: bool) -> str:
    """An attempt whose start signal is on the share of its worker."""
    what = f"trial {attempt.trial.number} of {_name(attempt.trial.genome)} as {attempt.id}"
    if attempt.outcome is Outcome.LOST:
        return f"It may still play {what}, which was given up."
    if attempt.claimed_at is not None:
        return f"It {'plays' if is_observed else 'was playing'} {what}."
    return f"It {'has' if is_observed else 'had'} in its queue {what}."


def _happened(farm: Farm, name: str, history: Iterable[DatedFact]) -> Iterator[str]:
    given = _GivenReasons()
    for one in history:
        fact = one.fact
        if isinstance(fact, f.AttemptEnded):
            attempt = farm.attempts.get(fact.attempt)
            if attempt is None or attempt.worker != name or fact.outcome in (Outcome.COMPLETED, Outcome.WITHDRAWN):
                continue
            where = f"trial {attempt.trial.number} of {_name(attempt.trial.genome)}"
            why = given.reason(fact.reason, f"at {local_time(one.at)}")
            yield f"{local_time(one.at)}  {where}: {fact.outcome.replace('_', ' ')}: {why}"
        elif getattr(fact, "worker", None) == name:
            if isinstance(fact, f.RecoveryStarted):
                yield f"{local_time(one.at)}  {RECOVERY_ACTIONS[fact.action]}: {clean(fact.reason, REASON_CHARS_MAX)}"
            elif words := describe(fact, farm):
                yield f"{local_time(one.at)}  {words.removeprefix(f'{name}: ')}"


def _headline(genome: Genome) -> str:
    what = f"{_name(genome)} is genome {genome.number}, {genome.size_bytes} bytes, sha256 {genome.sha256[:12]}…"
    match genome_status(genome):
        case "completed":
            return f"{what} Its fitness is {genome.fitness:g}, the mean of {len(genome.trials)} trials."
        case "failed":
            return f"{what} It has no fitness, because not every trial has one."
    settled = sum(trial.state is TrialState.SETTLED for trial in genome.trials)
    return f"{what} {settled} of its {len(genome.trials)} trials are settled, so it has no fitness yet."


def _params(genome: Genome) -> list[str]:
    """The params that a genome was submitted with, in a line."""
    texts = [clean(f"{name} = {value!r}", REASON_CHARS_MAX) for name, value in genome.params.items()]
    return [f"It was submitted with {', '.join(texts)}."] if texts else []


def _conclusion(
    farm: Farm,
    trial: Trial,
    depth: Mapping[str, int],
    given: "_GivenReasons",
    *,
    playing: bool,
    unknown: Mapping[str, str],
) -> list[str]:
    head = f"Trial {trial.number}, seed {trial.seed},"
    if trial.settlement is not None:
        fitness = f" with the fitness {trial.fitness:g}" if trial.fitness is not None else ""
        where = f" of generation {trial.reused.generation}, without a game" if trial.reused is not None else ""
        by = f", decided by {trial.decided_by}{where}" if trial.decided_by else ""
        why = f": {given.reason(trial.reason, f'trial {trial.number}')}" if trial.reason else ""
        return [f"{head} {SETTLEMENTS[trial.settlement]}{fitness}{by}{why}."]
    waits, following = PENDING_REASONS[pending_reason(farm, trial, depth, playing=playing)]
    attempt = trial.open_attempt
    if attempt is not None and attempt.worker in unknown:
        waits = (
            f"it was given to {attempt.worker}, which is unknown: {clean(unknown[attempt.worker], REASON_CHARS_MAX)}"
        )
        following = f"{attempt.worker} answers again, or another worker plays it after `silence_limit_s`"
    return [f"{head} is open: {waits}. Next: {following}."]


def _attempt(attempt: Attempt, given: "_GivenReasons") -> str:
    version = f" with evaluator {played_by(attempt)}" if played_by(attempt) else ""
    line = f"{attempt.id}, on {attempt.worker}{version}: issued {local_time(attempt.issued_at)}, {_begun(attempt)}"
    if attempt.outcome is None:
        return f"{line}, not over."
    played = f" after {duration(attempt.seconds)}" if attempt.has_result and attempt.seconds else ""
    blame = f"; {_blame(attempt)}" if attempt.outcome is not Outcome.COMPLETED else ""
    why = f" ({given.reason(attempt.reason, _try(attempt))})" if attempt.reason else ""
    ended = f"ended {local_time(attempt.ended_at)}{played} as {attempt.outcome.replace('_', ' ')}"
    superseded = " It does not count: the genome was reopened since." if attempt.superseded else ""
    is_copied = attempt.outcome is Outcome.WITHDRAWN and attempt.left_published
    meaning = "the host gave its trial to another worker as well" if is_copied else OUTCOMES[attempt.outcome]
    return f"{line}, {ended}: {meaning}{blame}{why}.{superseded}"


def _begun(attempt: Attempt) -> str:
    """When the game began, or what is known of it: a scan may see the result before the claim."""
    if attempt.claimed_at is not None:
        return f"claimed {local_time(attempt.claimed_at)}"
    if (game := game_times(attempt)) is not None:
        return f"begun about {local_time(game.began)}"
    if _has_begun(attempt):
        return "begun, when is not known"
    return "not claimed yet" if attempt.outcome is None else "no claim seen"


def _has_begun(attempt: Attempt) -> bool:
    """Whether it is known that the agent began it."""
    if game_times(attempt) is not None or attempt.outcome is Outcome.INTERRUPTED:
        return True
    # A loss is charged if its claim or an agent's word was found later; or because it was alone, claimed or not.
    return attempt.charged and not (attempt.run_alone and attempt.left_published)


def _blame(attempt: Attempt) -> str:
    """What an outcome other than completed counts against."""
    if attempt.outcome in BLAMES_GENOME:
        return "that counts against the genome"
    if attempt.charged:  # see `Transaction.charge`
        return "that is charged to the genome, and counts against the worker as long as the genome is not poison"
    if attempt.outcome in LOSSES and not attempt.by_host:
        return "that counts against the worker"
    return "that counts against neither genome nor worker"


class _GivenReasons:
    """The long reasons of one explanation, each given once: attempts at a broken genome all have the same one."""

    def __init__(self) -> None:
        self._where: dict[str, str] = {}

    def reason(self, reason: str, where: str) -> str:
        """The reason, or a reference to `where` it was given before."""
        text = clean(reason, REASON_CHARS_MAX)
        before = self._where.setdefault(text, where)
        return text if before == where or len(text) <= REPEATED_CHARS_MAX else f"the same reason as {before}"


def _try(attempt: Attempt) -> str:
    return f"try {attempt.number} at trial {attempt.trial.number}"


def _name(genome: Genome) -> str:
    return clean(genome.name, 200)


def local_time(at: float | None) -> str:
    """A wall time as `HH:MM:SS` in this computer's time zone; `?` for None."""
    return time.strftime("%H:%M:%S", time.localtime(at)) if at is not None else "?"
