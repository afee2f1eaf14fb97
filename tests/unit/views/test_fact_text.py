"""Texts for users: facts as lines, durations, and the progress of a run."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import AgentRecord, AgentState, Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Fact, RecoveryAction, Settlement
from pipeline.views.fact_text import JOINED_SHOWN_MAX, describe, describe_any, duration, is_routine, joined_text
from pipeline.views.fitness_history import FitnessHistory, GenerationFitness
from pipeline.views.progress import Leader, WorkerRow, measure_progress
from pipeline.views.status import status_text
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules

HELD = "g0001-0001-t1-a1-000000020001"


@pytest.fixture
def core() -> CoreHarness:
    """One worker, one genome, one running attempt."""
    table = CoreHarness("w0", genomes=1)
    table.run_until_ready()
    assert list(table.farm.attempts) == [HELD]
    return table


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (f.AttemptEnded(attempt=HELD, outcome=Outcome.COMPLETED), ""),
        (f.AttemptEnded(attempt=HELD, outcome=Outcome.WITHDRAWN, reason="no matter"), ""),
        (f.AttemptEnded(attempt=HELD, outcome=Outcome.LOST, reason="silent"), "g1 trial 1 on w0: lost, silent"),
        (f.AttemptEnded(attempt=HELD, outcome=Outcome.FAILED), "g1 trial 1 on w0: failed"),
        (f.TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED), ""),
        (
            f.TrialSettled(genome=1, trial=1, settlement=Settlement.FAILED, reason="no level"),
            "g1 trial 1: settled as failed, no level",
        ),
        (f.GenomeCharged(attempt=HELD, genome=1, worker="w0"), "g1: charged with the loss on w0"),
        (f.GenomePoisoned(genome=1, charges=3), "g1: poison, it took down 3 workers' agents"),
        (
            f.ResultLate(attempt=HELD, worker="w0", outcome=Outcome.FAILED),
            f"w0: late result of {HELD} (failed), set aside",
        ),
        (f.ResultUnexpected(attempt=HELD, worker="w0"), f"w0: result of {HELD}, which was never issued, set aside"),
        (f.EpochRaised(worker="w0", epoch=1, reason="first contact"), ""),
        (f.EpochRaised(worker="w0", epoch=2, reason="it went back"), "w0: epoch 2 begins, it went back"),
        (f.RecoveryStarted(worker="w0", action=RecoveryAction.REBOOT, reason="silent"), "w0: reboot, silent"),
        (
            f.WorkerQuarantined(worker="w0", back_off_s=15, reason="losses"),
            "w0: quarantined for 15 s, losses",
        ),
        (f.WorkerOut(worker="w0", reason="gone"), "w0: out, gone"),
        (f.WorkerUnfit(worker="w0", reason="no game.py"), "w0: gets no work, no game.py"),
        (f.EvaluatorFixed(version="v1", worker="w0"), "evaluator v1 of w0 is that of this generation"),
        (f.EvaluatorAccepted(version="v2"), "evaluator v2 was accepted, it plays what is still open"),
        (
            f.EvaluatorAccepted(version=""),
            "evaluator of the first worker was accepted, it plays what is still open",
        ),
        (f.WorkerRecovered(worker="w0"), "w0: recovered"),
        (f.ProbationBegan(worker="w0"), "w0: on probation"),
        (f.WorkerJoined(worker="w9"), "w9: joined"),
        (f.WorkerLeft(worker="w9", reason="removed"), "w9: left, removed"),
        (f.WorkerDrained(worker="w0"), "w0: drained, it gets no more work"),
        (f.WorkerReturned(worker="w0"), "w0: gets work again"),
        (f.RunFinished(), ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fact) else "",
)
def test_fact_is_described_in_one_line(core: CoreHarness, fact: Fact, expected: str) -> None:
    """Subject, event and reason; no line for facts that are only counted."""
    assert describe(fact, core.farm) == expected
    assert not (expected and is_routine(fact)), "a reader keeps it"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "?"),
        (0, "0 ms"),
        (0.85, "850 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (245, "4:05"),
        (7200, "2:00:00"),
    ],
)
def test_duration_fits_six_characters(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_progress_counts_trials_and_workers(core: CoreHarness) -> None:
    """Counts of trials, an estimate as soon as possible, and the state of each worker."""
    now = measure_progress(core.farm, core.observed, core.now)
    assert (now.trials, now.settled, now.eta_s) == (1, 0, None)
    assert (now.workers[0].state, now.workers[0].waiting) == ("idle", 1)

    core.claim("w0")
    core.tick(10)
    now = measure_progress(core.farm, core.observed, core.now)
    assert (now.workers[0].state, now.workers[0].genome, now.workers[0].waiting) == ("playing", "g1", 0)

    core.publish_result(HELD, seconds=2.0)
    core.tick(10)
    now = measure_progress(core.farm, core.observed, core.now)
    assert (now.completed, now.settled, now.average_s, now.eta_s) == (1, 1, 2.0, 0.0)


def test_problem_of_a_share_is_shown_before_a_rule_acts_on_it(core: CoreHarness) -> None:
    """The share's own, then that of the heartbeat; the host sees both long before the silence limit."""
    core.shares["w0"].heartbeat_problem = "status/agent.json cannot be read"
    core.tick()
    assert measure_progress(core.farm, core.observed, core.now).workers[0].note == "status/agent.json cannot be read"
    live = measure_progress(core.farm, core.observed, core.now)
    assert "w0: ready, epoch 1, holds 1; status/agent.json cannot be read" in status_text(core.farm, 0.0, live)
    assert "cannot be read" not in status_text(core.farm, 0.0, None)

    core.observed.note_written("w0", "inbox/ cannot be written")
    assert measure_progress(core.farm, core.observed, core.now).workers[0].note == "inbox/ cannot be written"

    core.shares["w0"].heartbeat_problem, core.shares["w0"].unknown_heartbeat = "", "layout 9"
    core.observed.note_written("w0", "")
    core.tick()
    assert measure_progress(core.farm, core.observed, core.now).workers[0].note == "its agent writes layout 9"


def test_running_games_count_for_utilisation(core: CoreHarness) -> None:
    """And those that are over, whatever came of them; the time is that of all hosts of the run."""
    fitness = FitnessHistory("maximize")
    began = core.farm.spans[0][0]
    core.claim("w0")
    core.tick()
    core.tick(5.0)
    now = measure_progress(core.farm, core.observed, core.now, fitness)
    assert now.workers[0].playing_s == pytest.approx(5.0)
    assert now.utilisation == pytest.approx(5.0 / now.elapsed_s)

    ended = f.AttemptEnded(attempt=HELD, outcome=Outcome.TIMED_OUT, reason="slow", has_result=True, seconds=4.0)
    core.record(ended)
    fitness.note(1, ended)
    now = measure_progress(core.farm, core.observed, core.now, fitness)
    assert now.utilisation == pytest.approx(4.0 / now.elapsed_s)

    core.restart_host()
    now = measure_progress(core.farm, core.observed, core.now + 4.0, fitness)
    assert now.elapsed_s == 4.0
    assert now.utilisation == pytest.approx(4.0 / (core.now - began + 4.0))


def test_utilisation_before_anything_is_zero() -> None:
    """Neither time nor workers: no division by zero."""
    table = CoreHarness("w0", genomes=1)
    assert measure_progress(table.farm, table.observed, table.now).utilisation == 0.0


def test_last_game_of_a_worker_is_its_newest_one_that_is_over() -> None:
    """Of short games it says more than the time of the one that has just begun; None: none was played."""
    table = CoreHarness("w0", "w1", genomes=3)
    table.shares["w1"].sends_heartbeats = False
    table.run_until_ready()
    for seconds in (2.0, 0.25):
        table.publish_result(table.claim("w0"), seconds=seconds)
        table.tick()
    rows = measure_progress(table.farm, table.observed, table.now).workers
    assert [row.last_game_s for row in rows] == [0.25, None]


def test_progress_has_fitness_of_this_and_earlier_generations() -> None:
    """As the history that a host keeps has it, with the names of the genomes; without one nothing is known."""
    table = CoreHarness("w0", genomes=2)
    table.record(f.TrialSettled(genome=2, trial=1, settlement=Settlement.COMPLETED, fitness=5.0))
    fitness = FitnessHistory("minimize")
    for fact, _ in table.facts:
        fitness.note(1, fact)

    now = measure_progress(table.farm, table.observed, table.now, fitness)
    assert (now.direction, now.fitness, now.history) == ("minimize", GenerationFitness(1, 1, 5.0, 5.0), ())
    assert now.leaders == (Leader("g2", 5.0),)

    table.record(f.RunOpened(generation=2, run=1, settings=table.settings))
    now = measure_progress(table.farm, table.observed, table.now, fitness)
    assert (now.fitness, now.leaders, now.history) == (None, (), (GenerationFitness(1, 1, 5.0, 5.0),))

    bare = measure_progress(table.farm, table.observed, table.now)
    assert (bare.direction, bare.fitness, bare.leaders, bare.history) == ("maximize", None, (), ())


def beat(**changes: Any) -> AgentRecord:
    fields: dict[str, Any] = {"farm": "f00d", "worker": "w0", "epoch": 1, "boot_id": "b", "run_id": "r", "counter": 9}
    return AgentRecord(**{**fields, "state": AgentState.PLAYING, **changes})


def test_worker_note_shows_most_important_item(core: CoreHarness) -> None:
    """The worker's fault, else the evaluation's progress, else the share's fault, else the expected event.

    What is wrong can be told from what the game reports.
    """

    def row() -> WorkerRow:
        return measure_progress(core.farm, core.observed, core.now).workers[0]

    def note() -> str:
        return row().note

    seen = core.observed.workers["w0"]
    core.claim("w0")
    core.tick()
    seen.heartbeat = beat(attempt=HELD, progress="level 3\x1b[2J")
    assert (row().note, row().progress, row().problem) == ("level 3 [2J", "level 3 [2J", "")
    core.farm.workers["w0"].reason = "on fire"
    assert (row().note, row().progress, row().problem) == ("on fire", "level 3 [2J", "on fire")
    core.farm.workers["w0"].reason = ""
    seen.heartbeat = beat(attempt=None, progress="of an older game")
    assert (row().note, row().progress) == ("", "")
    seen.unknown = "no route"
    assert note() == "no route"
    core.farm.workers["w0"].reason = "on fire"
    assert note() == "on fire"

    fresh = CoreHarness("w0")
    assert measure_progress(fresh.farm, fresh.observed, fresh.now).workers[0].note == "its share was not reached yet"


def test_worker_row_shows_state_if_not_ready(core: CoreHarness) -> None:
    core.record(f.WorkerOut(worker="w0", reason="gone"))
    assert measure_progress(core.farm, core.observed, core.now).workers[0].state == "out"


def test_worker_that_loads_its_evaluator_is_shown(core: CoreHarness) -> None:
    """An import may take minutes, in which nothing is played."""
    fresh = CoreHarness("w0", genomes=1)
    fresh.shares["w0"].agent_state, fresh.shares["w0"].evaluator = AgentState.LOADING, None
    fresh.run_until_ready()

    row = measure_progress(fresh.farm, fresh.observed, fresh.now).workers[0]
    assert (row.state, row.note) == ("loading", "its agent loads the evaluator")


def test_worker_of_machine_at_rest_is_at_rest(core: CoreHarness) -> None:
    """Its silence is no fault."""
    core.observed.workers["w0"].at_rest = True
    assert measure_progress(core.farm, core.observed, core.now).workers[0].state == "at rest"


def test_progress_without_host_uses_ledger_time(core: CoreHarness) -> None:
    """From the ledger alone: its clock stands still, and no attempt counts as running."""
    core.claim("w0")
    core.tick(10)
    now = measure_progress(core.farm, None, core.now + 99_999)

    assert not now.playing
    assert now.elapsed_s <= 11
    assert (now.workers[0].state, now.workers[0].note) == ("was playing", "")
    fresh = CoreHarness("w0")
    assert measure_progress(fresh.farm, None, fresh.now).workers[0].state == "awaited"


def test_facts_of_earlier_run_have_no_line(core: CoreHarness) -> None:
    """A generation that was started again has no earlier attempts."""
    unknown = f.AttemptEnded(attempt="g0001-0001-t1-a9-000000000009", outcome=Outcome.LOST, reason="silent")
    removed = f.TrialSettled(genome=2, trial=1, settlement=Settlement.FAILED, reason="of a genome that was removed")

    assert describe_any(unknown, core.farm) == ""
    assert describe_any(removed, core.farm) == ""
    assert describe_any(f.GenomePoisoned(genome=2, charges=3), core.farm) == ""
    assert describe_any(f.WorkerRecovered(worker="w0"), core.farm) == "w0: recovered"


def test_genomes_that_joined_are_one_line(core: CoreHarness) -> None:
    """The first names, and how many they are."""

    def added(number: int) -> f.GenomeAdded:
        return f.GenomeAdded(genome=number, name=f"bot-{number:03}.json", suffix=".json", size_bytes=1, sha256="0" * 64)

    assert joined_text([f.RunFinished()]) == ""
    assert joined_text([added(17), f.RunFinished()]) == "joined: bot-017.json"
    many = [added(number) for number in range(1, JOINED_SHOWN_MAX + 3)]
    assert joined_text(many).startswith(f"{len(many)} genomes joined: bot-001.json, bot-002.json")
    assert joined_text(many).endswith(", …")
    assert describe(f.GenomeReopened(genome=1, size_bytes=1, sha256="0" * 64), core.farm).endswith(
        "played again, its earlier results do not count"
    )
    assert describe_any(f.GenomeReopened(genome=99, size_bytes=1, sha256="0" * 64), core.farm) == ""
