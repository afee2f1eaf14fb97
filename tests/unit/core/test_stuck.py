"""When a run stops because it cannot go on, and which genomes it tries before that is known."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.facts import Settlement
from pipeline.core.limits import Limits
from pipeline.core.since_start import without_numbers
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules


def ready_core(*workers: str, genomes: int, trials: int = 1, depth: int = 2, failures_max: int = 2) -> CoreHarness:
    limits = Limits(failures_max=failures_max)
    core = CoreHarness(*(workers or ("w0",)), genomes=genomes, trials=trials, depth=depth, limits=limits)
    core.run_until_ready()
    return core


def play_round(core: CoreHarness, outcome: Outcome = Outcome.FAILED, reason: str = "no module named game") -> int:
    """Every worker plays the first game of its queue; returns how many were played."""
    playing = [name for name, worker in core.farm.workers.items() if worker.wanted]
    for name in playing:
        core.publish_result(core.claim(name), outcome, reason=reason)
    core.tick()
    return len(playing)


def tried_genomes(core: CoreHarness) -> list[int]:
    """The genomes of all attempts, in the order in which they were issued."""
    return [attempt.trial.genome.number for attempt in core.farm.attempts.values()]


def test_finished_run_has_no_stuck_reason() -> None:
    """Nor has a run that makes progress."""
    core = ready_core(genomes=1)
    assert stuck_reason(core.farm, 1) == ""
    core.play_all()
    assert stuck_reason(core.farm, 1) == ""


# ------------------------------------------------------------------------------------------- every trial was settled


def test_first_trials_all_failing_stops_farm() -> None:
    """If the first five trials time out, the evaluator probably hangs."""
    core = ready_core(genomes=9, failures_max=1)
    for _ in range(5):
        assert stuck_reason(core.farm, 1) == ""
        play_round(core, Outcome.TIMED_OUT)

    assert stuck_reason(core.farm, 1) == "the first 5 trials since this start all failed"
    assert core.farm.open_trials


def test_farm_on_which_everything_times_out_is_noticed() -> None:
    """After three genomes the retries come first, so that trials are settled."""
    core = ready_core(genomes=104)
    played = 0
    while not stuck_reason(core.farm, 1):
        played += play_round(core, Outcome.TIMED_OUT)

    assert core.settlements().count(Settlement.TIMED_OUT) == 5
    assert played <= 2 * (5 + 3)


# --------------------------------------------------------------------------------------------------- the same reason


@pytest.mark.parametrize(("workers", "issued", "played"), [(1, 5, 3), (4, 12, 4)])
@pytest.mark.parametrize("trials", [1, 3])
def test_broken_evaluator_stops_run_after_three_genomes(workers: int, issued: int, played: int, trials: int) -> None:
    """One worker plays three games; of four, each has played one by then. Queues are filled again meanwhile."""
    core = ready_core(*(f"w{number}" for number in range(workers)), genomes=104, trials=trials)
    count = 0
    while not stuck_reason(core.farm, workers):
        count += play_round(core)

    assert (len(core.farm.attempts), count) == (issued, played)
    assert [a.outcome for a in core.farm.attempts.values() if a.by_host] == []
    assert not any(core.settlements())


@pytest.mark.parametrize("genomes", [3, 4])
def test_same_reason_stops_small_generation(genomes: int) -> None:
    """Whatever its size. The text has the reason, and that nothing completed."""
    core = ready_core(genomes=genomes)
    for _ in range(3):
        assert stuck_reason(core.farm, 1) == ""
        play_round(core, reason="/tmp/w0/game.py line 7: no module named game")

    text = stuck_reason(core.farm, 1)
    assert text.startswith("3 genomes failed for the same reason, and no genome has completed since this start")
    assert "/tmp/w0/game.py line 7: no module named game" in text


def test_one_of_two_workers_that_fails_everything_does_not_stop_run() -> None:
    """It may be what is broken: the other one has completed nothing yet, because its game is longer."""
    core = ready_core("broken", "slow", genomes=9, depth=1)
    core.claim("slow")
    for _ in range(3):
        core.publish_result(core.claim("broken"), Outcome.FAILED, reason="no display")
        core.tick()

    assert stuck_reason(core.farm, 2) == ""


def test_same_failure_without_reason_stops_run() -> None:
    """The text says that there was no reason."""
    core = ready_core(genomes=9)
    for _ in range(3):
        play_round(core, reason="")

    assert stuck_reason(core.farm, 1).endswith("the reason: none was given")


@pytest.mark.parametrize("genomes", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
def test_generation_of_one_or_two_genomes_finishes(genomes: int, workers: int) -> None:
    """All retries are played, and the genomes fail."""
    core = ready_core(*(f"w{number}" for number in range(workers)), genomes=genomes, trials=3)
    for _ in range(20):
        assert stuck_reason(core.farm, workers) == ""
        if core.farm.finished:
            break
        play_round(core)

    assert core.farm.finished
    assert core.settlements().count(Settlement.FAILED) == genomes


def test_different_reasons_do_not_stop_run() -> None:
    """Each of these genomes is broken in its own way."""
    core = ready_core(genomes=5)
    for reason in ("no such level", "division by zero", "no legs"):
        play_round(core, reason=reason)

    assert stuck_reason(core.farm, 1) == ""


def test_time_outs_are_no_common_failure() -> None:
    """Random genomes often hang."""
    core = ready_core(genomes=5)
    for _ in range(3):
        play_round(core, Outcome.TIMED_OUT, reason="")

    assert stuck_reason(core.farm, 1) == ""


def test_retries_of_one_genome_are_no_common_failure() -> None:
    """Three different genomes must fail."""
    core = ready_core(genomes=2, failures_max=9)
    for _ in range(6):
        play_round(core)

    assert stuck_reason(core.farm, 1) == ""


def test_completed_trial_ends_the_search_for_a_common_failure() -> None:
    """For good: the evaluator works, so whatever fails later is a genome."""
    core = ready_core(genomes=9)
    play_round(core)
    play_round(core)
    play_round(core, Outcome.COMPLETED, reason="")
    for _ in range(5):
        play_round(core)

    assert stuck_reason(core.farm, 1) == ""


def test_next_host_counts_anew() -> None:
    """The user may have repaired the evaluator; what failed before does not count."""
    core = ready_core(genomes=9)
    for _ in range(3):
        play_round(core)
    assert stuck_reason(core.farm, 1)

    core.restart_host()
    core.run_until_ready()

    assert stuck_reason(core.farm, 1) == ""
    play_round(core)
    play_round(core)
    assert stuck_reason(core.farm, 1) == ""
    play_round(core)
    assert stuck_reason(core.farm, 1)


def test_next_run_counts_anew() -> None:
    """With `--fresh`."""
    core = ready_core(genomes=9)
    for _ in range(3):
        play_round(core)
    for attempt in [a.id for a in core.farm.attempts.values() if a.outcome is None]:
        core.record(f.AttemptEnded(attempt=attempt, outcome=Outcome.WITHDRAWN, by_host=True))

    core.record(f.RunOpened(generation=1, run=2, settings=core.settings))
    core.record(f.GenomeAdded(genome=1, name="g1", suffix="", size_bytes=9, sha256="0" * 64))

    assert stuck_reason(core.farm, 1) == ""


def test_reasons_are_compared_without_numbers() -> None:
    """Names of workers and scratch folders, seeds and lines differ by their digits."""
    one, two = "/w/local-0/run-17/game.py, line 3: no level 4", "/w/local-12/run-8/game.py, line 33: no level 5"

    assert without_numbers(one) == without_numbers(two) == "/w/local-#/run-#/game.py, line #: no level #"
    assert without_numbers("no legs") == "no legs"


# -------------------------------------------------------------------------------------- what is tried in the meantime


def test_first_attempts_go_to_different_genomes() -> None:
    """Three trials of one genome would say nothing about the evaluator."""
    core = ready_core("w0", "w1", genomes=9, trials=3)

    assert tried_genomes(core) == [1, 2, 3, 4]


def test_new_genomes_are_tried_before_a_retry() -> None:
    """Until three genomes failed, for different reasons; then the retries come first again."""
    core = ready_core(genomes=9, depth=1)
    for reason in ("no such level", "division by zero", "no legs"):
        play_round(core, reason=reason)

    assert tried_genomes(core) == [1, 2, 3, 1]


def test_retry_comes_first_after_a_completed_trial() -> None:
    """The evaluator works, and the failure is to be resolved."""
    core = ready_core(genomes=9, depth=1)
    play_round(core)
    play_round(core, Outcome.COMPLETED, reason="")

    assert tried_genomes(core) == [1, 2, 1]


def test_lost_trial_is_tried_again_before_new_genomes() -> None:
    """It did not fail, so it says as much about the evaluator as a new one."""
    core = ready_core(genomes=9, depth=1)
    play_round(core)
    play_round(core, Outcome.UNDELIVERED)

    assert tried_genomes(core) == [1, 2, 2]


def test_reopened_genomes_are_tried_like_new_ones() -> None:
    """After `--retry-failed` with an evaluator that is still broken: one trial of each."""
    core = ready_core(genomes=3, trials=2, depth=1, failures_max=1)
    for reason in ("no such level", "division by zero", "no legs"):
        play_round(core, reason=reason)
    assert core.farm.finished
    core.restart_host()
    core.record(*(f.TrialReopened(genome=genome, trial=trial) for genome in (1, 2, 3) for trial in (1, 2)))
    before = len(core.farm.attempts)

    core.run_until_ready()
    play_round(core)
    play_round(core)

    assert tried_genomes(core)[before:] == [1, 2, 3]


def test_settled_trial_of_reopened_genome_is_not_tried() -> None:
    """It is tried with the trial that was reopened."""
    core = ready_core(genomes=1, trials=2, depth=1, failures_max=1)
    play_round(core, Outcome.COMPLETED, reason="")
    play_round(core)
    core.restart_host()
    core.record(f.TrialReopened(genome=1, trial=2))

    core.run_until_ready()

    assert [(a.trial.number, a.number) for a in core.farm.attempts.values()] == [(1, 1), (2, 1), (2, 2)]
