"""The audit of results of an earlier generation that count again: each must be of the same game."""

from typing import Any

import pytest
from msgspec import structs

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    EvaluatorAccepted,
    EvaluatorFixed,
    Fact,
    GenomeAdded,
    GenomeReopened,
    ReusedResult,
    RunFinished,
    RunOpened,
    RunSettings,
    Settlement,
    TrialSettled,
)
from pipeline.inspection.archived_result import Evidence
from pipeline.inspection.audit import Audit, audit
from pipeline.inspection.reuse_audit import AcceptedGame, accepted_games, seed_of

pytestmark = pytest.mark.rules

ATTEMPT = "g0001-0001-t1-a1-000000000001"
SETTINGS = RunSettings(
    trials_per_genome=1,
    seed=0,
    settings={"level": 1},
    evaluator="test",
    time_limit_s=1.0,
    evaluator_version="v1",
    seeds="fixed",
    reuse="same-seeds",
)
BYTES = "0" * 64


def opened(generation: int, **changes: Any) -> RunOpened:
    return RunOpened(generation=generation, run=1, settings=structs.replace(SETTINGS, **changes))


def genome(sha256: str = BYTES, suffix: str = "") -> GenomeAdded:
    return GenomeAdded(genome=1, name="a", suffix=suffix, size_bytes=1, sha256=sha256)


def issued(attempt: str = ATTEMPT, number: int = 1) -> AttemptIssued:
    return AttemptIssued(attempt=attempt, genome=1, trial=1, number=number, worker="w", epoch=1, publication=number)


def completed(**changes: Any) -> AttemptEnded:
    ended = AttemptEnded(attempt=ATTEMPT, outcome=Outcome.COMPLETED, has_result=True, fitness=2.0, metrics={"n": 1.0})
    return structs.replace(ended, **changes)


REOPENED = GenomeReopened(genome=1, size_bytes=1, sha256="1" * 64)
REUSED = TrialSettled(
    genome=1,
    trial=1,
    settlement=Settlement.COMPLETED,
    attempt=ATTEMPT,
    fitness=2.0,
    reused=ReusedResult(generation=1, evaluator="v1", metrics={"n": 1.0}),
)


def accepted(*facts: Fact, generation: int = 1) -> dict[str, AcceptedGame]:
    return accepted_games((Entry(seq, 0.0, generation, 1, fact) for seq, fact in enumerate(facts, 1)), {ATTEMPT})


PLAYED = accepted(opened(1), genome(), issued(), completed())


def audit_of(
    games: dict[str, AcceptedGame], settled: TrialSettled = REUSED, added: GenomeAdded | None = None, **changes: Any
) -> Audit:
    """The audit of a second generation in which one trial is settled so."""
    facts = [opened(2, **changes), added or genome(), settled, RunFinished()]
    summary = {"generation": 2}
    evidence = Evidence(archived={}, snapshots={BYTES: "", "1" * 64: ""}, rows=None, summary=summary, accepted=games)
    return audit(facts, evidence)


def test_same_game_counts_again() -> None:
    """The version that gave the fitness is that of the generation before; no try was needed."""
    found = audit_of(PLAYED)

    assert (found.unexpected, found.others, found.lost, found.duplicated) == ([], [], [], [])
    assert (found.evaluators, found.recovered) == (["v1"], 0)


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        (structs.replace(REUSED, settlement=Settlement.TIMED_OUT), "which may not count again"),
        (structs.replace(REUSED, fitness=3.0), "had the fitness 2.0, counted was 3.0"),
        (structs.replace(REUSED, reused=ReusedResult(generation=1, evaluator="v1")), "had the fitness 2.0"),
        (structs.replace(REUSED, reused=ReusedResult(generation=4, evaluator="v1")), "generation 1, recorded is 4"),
        (structs.replace(REUSED, attempt="g0001-0009-t1-a1-000000000009"), "which never completed"),
        (structs.replace(REUSED, genome=9), "no such genome in the roster"),
    ],
)
def test_wrong_reuse_is_found(settled: TrialSettled, expected: str) -> None:
    assert expected in audit_of(PLAYED, settled).unexpected[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reuse": "none"}, "which may not count again"),
        ({"seeds": "per-generation"}, "seed "),
        ({"seed": 1}, "seed "),
        ({"settings": {"level": 2}}, "settings {'level': 1} instead of {'level': 2}"),
        ({"time_limit_s": 2.0}, "time_limit_s 1.0 instead of 2.0"),
        ({"evaluator": "other"}, "played_by 'test' instead of 'other'"),
        ({"evaluator_version": "v2"}, "evaluator 'v1' instead of 'v2'"),
    ],
)
def test_reuse_of_another_game_is_found(changes: dict[str, Any], expected: str) -> None:
    assert expected in audit_of(PLAYED, **changes).unexpected[0]


@pytest.mark.parametrize("added", [genome("1" * 64), genome(suffix=".bin")])
def test_reuse_for_another_genome_is_found(added: GenomeAdded) -> None:
    assert "which is another game" in audit_of(PLAYED, added=added).unexpected[0]


def test_result_of_the_same_generation_is_no_earlier_one() -> None:
    games = accepted(opened(2), genome(), issued(), completed(), generation=2)

    assert "generation 2, recorded is 1" in audit_of(games).unexpected[0]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([opened(1), genome(), issued()], id="not over"),
        pytest.param([opened(1), genome(), issued(), completed(outcome=Outcome.FAILED)], id="failed"),
        pytest.param([opened(1), issued(), completed()], id="of no genome"),
        pytest.param([opened(1), genome(), completed()], id="never issued"),
        pytest.param([REOPENED, issued("other"), RunFinished()], id="of others"),
    ],
)
def test_attempt_that_did_not_complete_has_no_game(facts: list[Fact]) -> None:
    assert accepted(*facts) == {}


def test_game_has_the_version_in_force_when_it_was_issued() -> None:
    """Fixed by the first worker, accepted later, or named by the result where any may play."""
    version = EvaluatorFixed(version="v2", worker="w")
    later = [EvaluatorAccepted(version="v3"), completed()]
    fixed = accepted(opened(1, evaluator_version=""), version, genome(), issued(), *later)
    mixed = accepted(opened(1, evaluator_version=""), genome(), issued(), completed(evaluator="v4"))

    assert [games[ATTEMPT].game.evaluator for games in (fixed, mixed)] == ["v2", "v4"]


def test_game_has_the_bytes_of_its_time() -> None:
    """Those that a genome was reopened with, for the attempts after that."""
    before = accepted(opened(1), genome(), issued(), REOPENED, completed())
    after = accepted(opened(1), genome(), REOPENED, issued(), completed())

    assert [games[ATTEMPT].game.genome for games in (before, after)] == [BYTES, "1" * 64]


def test_seeds_are_of_no_generation_if_they_are_fixed() -> None:
    assert seed_of(opened(1), 1) == seed_of(opened(2), 1)
    assert seed_of(opened(1, seeds="per-generation"), 1) != seed_of(opened(2, seeds="per-generation"), 1)
