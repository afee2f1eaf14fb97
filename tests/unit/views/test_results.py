"""The rows of `attempts.csv` and `results.csv`."""

from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.views.results import ATTEMPT_COLUMNS, RESULT_COLUMNS, attempt_rows, result_rows
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules


def attempts(core: CoreHarness) -> list[dict[str, Any]]:
    """The rows of attempts, by column."""
    return [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempt_rows(core.farm)]


def test_attempt_row_of_completed_attempt() -> None:
    """What was issued, by whom it was played, and how it ended."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (attempt,) = core.farm.workers["w0"].wanted
    core.publish_result(attempt, fitness=2.5, seconds=1.25)
    core.tick()

    (row,) = attempts(core)

    assert (row["attempt"], row["genome"], row["trial"], row["number"]) == (attempt, "g1", 1, 1)
    assert (row["worker"], row["outcome"], row["fitness"], row["seconds"]) == ("w0", Outcome.COMPLETED, 2.5, 1.25)
    assert row["seed"] == core.farm.genomes[0].trials[0].seed


def test_unknown_values_are_empty() -> None:
    """An attempt that was issued and not claimed has neither end nor fitness."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()

    (row,) = attempts(core)

    assert [row[name] for name in ("fitness", "outcome", "claimed", "ended", "seconds")] == [None, None, "", "", None]


def test_result_row_of_failed_genome_names_the_trial() -> None:
    """Its fitness is empty."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    for _ in range(core.limits.failures_max):
        (attempt,) = core.farm.workers["w0"].wanted
        core.publish_result(attempt, Outcome.FAILED, reason="no such level")
        core.tick()

    (row,) = result_rows(core.farm)

    assert (row["status"], row["fitness"]) == ("failed", None)
    assert row["reason"] == "trial 1: failed: no such level"
    assert row.keys() >= set(RESULT_COLUMNS)
