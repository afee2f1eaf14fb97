"""When the game of an attempt was played, and that every view shows the same games."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import AttemptClaimed, AttemptEnded
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt
from pipeline.views.game_times import GameTimes, game_times
from pipeline.views.page_model import page_model
from pipeline.views.results import ATTEMPT_COLUMNS, attempt_rows
from tests.harness.core import CoreHarness
from tests.programs.faulty_run import FaultyRun

pytestmark = pytest.mark.rules

PLAYED = ("completed", "failed", "timed_out")


def attempt(**fields: Any) -> Attempt:
    """An attempt that was issued at 100."""
    core = CoreHarness("w0", genomes=1)
    made: dict[str, Any] = {"number": 1, "worker": "w0", "epoch": 1, "publication": 1, "issued_at": 100.0}
    made |= {"run_alone": False, "new_process": False, "wanted_evaluator": ""}
    return Attempt("a", core.farm.genomes[0].trials[0], **{**made, **fields})


@pytest.mark.parametrize(
    ("claimed", "ended", "seconds", "expected"),
    [
        (None, 110.0, 4.0, GameTimes(106.0, 110.0)),  # over before a scan saw its claim
        (None, 110.0, 0.0, GameTimes(110.0, 110.0)),
        (None, 110.0, 30.0, GameTimes(100.0, 110.0)),  # the worker's clock is faster than the host's
        (None, 90.0, 4.0, GameTimes(100.0, 100.0)),  # the host's clock was set back
        (107.0, 110.0, 4.0, GameTimes(106.0, 110.0)),  # a claim is seen some time after it was made
        (102.0, 500.0, 4.0, GameTimes(102.0, 106.0)),  # the host was down when the game ended
    ],
)
def test_game_with_result_is_dated_by_its_duration(
    claimed: float | None, ended: float, seconds: float, expected: GameTimes
) -> None:
    for outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT):
        fields = {"outcome": outcome, "has_result": True, "seconds": seconds}
        assert game_times(attempt(claimed_at=claimed, ended_at=ended, **fields)) == expected


@pytest.mark.parametrize("outcome", sorted({*Outcome} - {Outcome(name) for name in PLAYED}))
def test_game_without_its_own_result_is_dated_by_its_claim(outcome: Outcome) -> None:
    """Nothing is invented: without a claim it is not known whether there was a game."""
    over: dict[str, Any] = {"outcome": outcome, "ended_at": 130.0, "has_result": outcome is Outcome.CORRUPT}

    assert game_times(attempt(claimed_at=110.0, **over)) == GameTimes(110.0, 130.0)
    assert game_times(attempt(**over)) is None
    assert game_times(attempt(claimed_at=110.0)) == GameTimes(110.0, None)
    assert game_times(attempt()) is None


_TIME = st.floats(0, 2e9)


@given(claimed=st.none() | _TIME, ended=_TIME, seconds=st.floats(0, 1e6), outcome=st.sampled_from(PLAYED))
def test_game_lies_between_issue_and_end(claimed: float | None, ended: float, seconds: float, outcome: str) -> None:
    """Whatever the clocks do."""
    played = attempt(claimed_at=claimed, ended_at=ended, seconds=seconds, outcome=Outcome(outcome), has_result=True)

    found = game_times(played)

    assert found is not None and found.ended is not None
    assert played.issued_at <= found.began <= found.ended <= max(ended, played.issued_at)


def games_of(facts: list[Any]) -> set[str]:
    """The attempts with a game, from the facts alone."""
    claimed = {fact.attempt for fact in facts if isinstance(fact, AttemptClaimed)}
    ends = [fact for fact in facts if isinstance(fact, AttemptEnded)]
    return claimed | {fact.attempt for fact in ends if fact.has_result and fact.outcome in PLAYED}


def check_views(farm: Farm, facts: list[Any]) -> set[str]:
    """Checks that page and table show exactly the attempts with a game; returns those whose claim was not seen."""
    games = games_of(facts)
    bars = page_model(farm, [], {}, direction="maximize", live=None)["attempts"]
    rows = [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempt_rows(farm.attempts.values())]

    assert sorted(bars["id"]) == sorted(games)
    assert {row["attempt"] for row in rows if row["began"]} == games
    assert {row["attempt"] for row in rows if row["outcome"] in PLAYED} <= games
    assert all(len(column) == len(games) for column in bars.values())
    return games - {row["attempt"] for row in rows if row["claimed"]}


@pytest.mark.parametrize("seed", range(6))
def test_every_played_game_is_shown(seed: int) -> None:
    """In runs with every fault, also the games that were over before a scan saw their claims."""
    run = FaultyRun(genomes=24, trials=3, seed=seed)
    run.play(share=0.5)
    check_views(run.table.farm, [fact for fact, _at in run.table.facts])
    while not run.table.farm.finished:
        run._step()

    assert len(check_views(run.table.farm, [fact for fact, _at in run.table.facts])) >= 3


def test_game_that_was_over_before_a_scan_has_no_claim_in_the_table() -> None:
    """The column `claimed` is what was observed."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.publish_result(core.claim("w0"), seconds=0.05)
    core.tick(0.1)

    (row,) = [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempt_rows(core.farm.attempts.values())]

    assert (row["claimed"], row["issued"] <= row["began"] <= row["ended"]) == ("", True)
    assert row["began"]
