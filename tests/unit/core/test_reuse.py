"""Results of the generation before that count again: which ones do, and what is played nevertheless."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Entry, Settlement
from pipeline.core.limits import Limits
from pipeline.core.reuse import EarlierResults, earlier_results
from pipeline.views.results import evaluators, mean_metrics, summary
from tests.harness.core import SETTINGS, VERSION, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

REUSING = replace_struct(SETTINGS, seeds="fixed", reuse="same-seeds")


def generation(number: int, before: CoreHarness | None = None, **changes: Any) -> CoreHarness:
    """A generation of two genomes with two trials each that has just begun; `changes` are of its settings."""
    settings = replace_struct(REUSING, **changes)
    earlier = results_of(before) if before is not None else None
    return CoreHarness("w0", "w1", genomes=2, trials=2, settings=settings, generation=number, earlier=earlier)


def results_of(core: CoreHarness) -> EarlierResults:
    """What the ledger of a generation gives the next one."""
    number = core.farm.generation
    entries = (Entry(seq, at, number, 1, fact) for seq, (fact, at) in enumerate(core.facts, 1))
    return earlier_results(entries, number)


def played(number: int = 1, **changes: Any) -> CoreHarness:
    core = generation(number, **changes)
    core.play_all()
    return core


def test_unchanged_genomes_are_not_played() -> None:
    """Their trials are settled by the attempts of the generation before, with their fitness and metrics."""
    before = generation(1)
    before.run_until_ready()
    for attempt in before.farm.attempts.values():
        before.publish_result(attempt.id, fitness=float(attempt.trial.genome.number), metrics={"steps": 3.0})
    before.play_all()

    core = generation(2, before)
    core.play_all()

    assert core.farm.finished and not core.farm.attempts
    assert [genome.fitness for genome in core.farm.genomes] == [1.0, 2.0]
    decided_by = [trial.decided_by for genome in core.farm.genomes for trial in genome.trials]
    assert decided_by == [trial.decided_by for genome in before.farm.genomes for trial in genome.trials]
    assert mean_metrics(core.farm, core.farm.genomes[0]) == {"steps": 3.0}
    assert evaluators(core.farm) == [VERSION]
    counts = summary(core.farm)
    assert (counts["completed"], counts["trials_reused"], counts["attempts"]["issued"]) == (2, 4, 0)


def test_all_generations_have_the_same_seeds_if_they_are_fixed() -> None:
    assert played(1).farm.seeds == played(2).farm.seeds != played(2, seeds="per-generation").farm.seeds


@pytest.mark.parametrize(
    "changes",
    [
        {"reuse": "none"},
        {"seeds": "per-generation"},
        {"seed": 8},
        {"settings": {"level": 2}},
        {"time_limit_s": 61.0},
        {"evaluator": "another"},
        {"evaluator_version": "f" * 16},
        {"allow_mixed_evaluators": True},
    ],
    ids=str,
)
def test_another_game_is_played(changes: dict[str, Any]) -> None:
    """Whatever of it differs; and all of them if reuse is off, or the evaluator may be any."""
    core = generation(2, played(), **changes)
    for share in core.shares.values():
        share.evaluator = core.settings.evaluator_version
    core.play_all()

    assert core.farm.finished
    assert len(core.farm.attempts) == 4


@pytest.mark.parametrize(("field", "value"), [("sha256", "e" * 64), ("suffix", ".bin")])
def test_another_genome_is_played(field: str, value: str) -> None:
    """One with other bytes, or a suffix by which an evaluator may tell its format. Its name does not matter."""
    core = generation(2, played())
    same = {"name": "renamed", "suffix": "", "size_bytes": 9, "sha256": f"{1:064x}"}
    core.record(f.GenomeAdded(genome=3, **same), f.GenomeAdded(genome=4, **{**same, field: value}))  # type: ignore[arg-type]
    core.play_all()

    assert {attempt.trial.genome.number for attempt in core.farm.attempts.values()} == {4}


def test_genome_that_joins_later_is_not_played_either() -> None:
    core = generation(2, played())
    core.is_open = True
    core.run_until_ready()
    core.record(f.GenomeAdded(genome=3, name="late", suffix="", size_bytes=9, sha256=f"{2:064x}"))
    core.is_open = False
    core.play_all()

    assert core.farm.finished and not core.farm.attempts


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_failures_are_played_again(outcome: Outcome) -> None:
    """Also a time-out that has a fitness: the next one may be in time."""
    before = CoreHarness(
        "w0",
        genomes=1,
        settings=replace_struct(REUSING, timed_out_fitness=-1.0),
        limits=Limits(failures_max=1),
    )
    before.run_until_ready()
    for attempt in list(before.farm.attempts):
        before.publish_result(attempt, outcome)
    before.tick()
    assert before.farm.finished

    core = CoreHarness("w0", genomes=1, settings=REUSING, generation=2, earlier=results_of(before))
    core.play_all()

    assert len(core.farm.attempts) == 1


def test_results_wait_until_the_version_of_the_evaluator_is_known() -> None:
    """A host that does not have the game learns it from the first worker, and nothing is issued before."""
    core = generation(2, played(), evaluator_version="")
    core.play_all()

    assert len(facts_of([fact for fact, _at in core.facts], f.EvaluatorFixed)) == 1
    assert core.farm.finished and not core.farm.attempts


def test_trial_that_was_tried_in_its_generation_is_played_on() -> None:
    """What this generation has found out counts more: its first attempt may have failed."""
    core = generation(2)
    core.run_until_ready()
    tried = {attempt.trial.number for attempt in core.farm.attempts.values() if attempt.trial.genome.number == 1}
    core.restart_host()
    core.earlier = results_of(played())
    core.play_all()

    assert tried and core.farm.finished
    reused = {trial.number for trial in core.farm.genomes[0].trials if trial.reused is not None}
    assert reused == {1, 2} - tried


def test_result_names_the_generation_that_played_it() -> None:
    """However many generations lie between."""
    first = played()
    second = generation(2, first)
    second.play_all()
    third = generation(3, second)
    third.play_all()

    assert not third.farm.attempts
    reused = [trial.reused for trial in third.farm.genomes[0].trials]
    assert [one.generation for one in reused if one is not None] == [1, 1]
    assert third.farm.trial(1, 1).decided_by in first.farm.attempts


def test_genome_that_the_user_reopens_is_played() -> None:
    """Its games were asked for; the counts of what was reused are taken back."""
    core = generation(2, played())
    core.play_all()
    core.earlier = results_of(played())
    core.record(f.GenomeReopened(genome=1, size_bytes=9, sha256=f"{1:064x}"))
    assert summary(core.farm)["trials_reused"] == 2
    core.play_all()

    assert {attempt.trial.genome.number for attempt in core.farm.attempts.values()} == {1}
    assert [trial.reused is None for genome in core.farm.genomes for trial in genome.trials] == [
        True,
        True,
        False,
        False,
    ]


def test_reused_results_do_not_prove_that_the_evaluator_works() -> None:
    """It has played nothing since the start: a farm on which every new genome fails is still recognised."""
    core = generation(2, played())
    core.play_all()

    assert not core.farm.since_start.evaluator_works
    assert core.farm.since_start.settled == 0


def test_result_of_an_unknown_evaluator_is_not_used() -> None:
    """Ledgers from before versions were recorded have some."""
    before = generation(1, evaluator_version="")
    attempt = "g0001-0001-t1-a1-000000010001"
    issued = f.AttemptIssued(attempt=attempt, genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1)
    ended = f.AttemptEnded(attempt=attempt, outcome=Outcome.COMPLETED, has_result=True, fitness=1.0)
    before.record(
        issued, ended, f.TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED, attempt=attempt, fitness=1.0)
    )

    core = generation(2, before)
    core.play_all()

    assert len(core.farm.attempts) == 4
