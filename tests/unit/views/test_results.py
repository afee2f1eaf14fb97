"""The rows of `attempts.csv` and `results.csv`."""

import json
from typing import Any

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    EvaluatorAccepted,
    Fact,
    GenomeAdded,
    Settlement,
    TrialSettled,
)
from pipeline.views.ranking import json_text, ranked
from pipeline.views.results import (
    ATTEMPT_COLUMNS,
    METRIC_NAMES_MAX,
    PARAM_NAMES_MAX,
    RESULT_COLUMNS,
    attempt_rows,
    evaluator_text,
    mixed_text,
    result_columns,
    result_rows,
    summary,
    version_text,
)
from tests.harness.core import SETTINGS, VERSION, CoreHarness, replace_struct

pytestmark = pytest.mark.rules


def attempts(core: CoreHarness) -> list[dict[str, Any]]:
    """The rows of attempts, by column."""
    return [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempt_rows(core.farm.attempts.values())]


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


def test_table_has_the_first_metrics_of_a_generation() -> None:
    """64 new names in every game: the first ones have a column, the others are counted."""
    core = CoreHarness("w0", genomes=6)
    core.run_until_ready()
    while core.farm.open_trials:
        for attempt in [*core.farm.workers["w0"].wanted.values()]:
            genome = attempt.trial.genome.number
            core.publish_result(attempt.id, metrics={f"m-{genome}-{number:02d}": 1.0 for number in range(64)})
        core.tick()

    rows = list(result_rows(core.farm))

    assert [len(row.keys() - set(RESULT_COLUMNS)) for row in rows] == [64, 64, 64, 64, 0, 0]
    assert "m-4-63" in rows[3]
    assert summary(core.farm)["metrics_left_out"] == 6 * 64 - METRIC_NAMES_MAX


def params(core: CoreHarness, genome: int, **given: Any) -> None:
    """Adds a genome with these params."""
    core.record(GenomeAdded(genome=genome, name=f"g{genome}", suffix="", size_bytes=1, sha256="0" * 64, params=given))


def test_params_have_columns_between_the_others_and_the_metrics() -> None:
    """With their values as they were given; a genome without one has none."""
    core = CoreHarness("w0", genomes=1)
    params(core, 2, rate=0.5, kind="=1")
    params(core, 3, rate=True)
    core.run_until_ready()
    for attempt in list(core.farm.attempts):
        core.publish_result(attempt, metrics={"a": 1.0})
    core.tick()

    assert result_columns(core.farm) == (*RESULT_COLUMNS, "param_kind", "param_rate", "a")
    rows = list(result_rows(core.farm))
    assert [(row.get("param_kind"), row.get("param_rate")) for row in rows] == [(None, None), ("=1", 0.5), (None, True)]


def test_params_have_their_types_in_json() -> None:
    """As they were given; a text is no number."""
    core = CoreHarness("w0", genomes=0)
    params(core, 1, elite=True, layers="3", rate=1.0, size=1)

    (row,) = json.loads(json_text(ranked([core.farm], "fitness", minimize=False, reverse=False)))

    found = [row[f"param_{name}"] for name in ("elite", "layers", "rate", "size")]
    assert list(map(repr, found)) == ["True", "'3'", "1.0", "1"]


def test_table_has_the_first_params_of_a_generation() -> None:
    """64 new names with every genome: the first ones have a column, the others are counted."""
    core = CoreHarness("w0", genomes=0)
    for genome in range(1, 7):
        params(core, genome, **{f"p-{genome}-{number:02d}": number for number in range(64)})

    rows = list(result_rows(core.farm))

    assert [len(row.keys() - set(RESULT_COLUMNS)) for row in rows] == [64, 64, 64, 64, 0, 0]
    assert summary(core.farm)["params_left_out"] == 6 * 64 - PARAM_NAMES_MAX


def test_no_two_columns_have_one_name() -> None:
    """A metric is renamed if its name is that of another column, or could be that of a param."""
    core = CoreHarness("w0", genomes=0)
    params(core, 1, x=0.5)
    core.run_until_ready()
    names = ("fitness", "metric_fitness", "metric_status", "status", "param_x", "generation", "score")
    core.publish_result(core.claim("w0"), metrics={name: float(n) for n, name in enumerate(names)})
    core.tick()

    columns = result_columns(core.farm)
    (row,) = result_rows(core.farm)
    assert len({*columns}) == len(columns) == len(RESULT_COLUMNS) + 1 + len(names)
    assert sorted(row[name] for name in columns[len(RESULT_COLUMNS) + 1 :]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert (row["param_x"], row["metric_param_x"], row["metric_generation"], row["score"]) == (0.5, 4.0, 5.0, 6.0)


def test_no_metric_is_left_out_of_few() -> None:
    """The same name in every game is one."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    for attempt in list(core.farm.attempts):
        core.publish_result(attempt, metrics={"score": 1.0})
    core.tick()

    assert summary(core.farm)["metrics_left_out"] == 0


def test_fitness_stands_beside_the_name() -> None:
    """A digest of 64 characters between them would put it off the screen of a spreadsheet."""
    assert RESULT_COLUMNS[:2] == ("genome", "fitness")


def test_means_have_the_digits_of_their_values() -> None:
    """Of fitness and of metrics; the sum of binary numbers would give 0.44250000000000006 and 0.19999999999999998."""
    core = CoreHarness("w0", genomes=1, trials=3, depth=3)
    core.run_until_ready()
    for attempt, fitness, score in zip(list(core.farm.attempts), (0.44, 0.4425, 0.445), (0.1, 0.2, 0.3), strict=True):
        core.publish_result(attempt, fitness=fitness, metrics={"score": score})
    core.tick()

    (row,) = result_rows(core.farm)

    assert (repr(row["fitness"]), repr(row["score"])) == ("0.4425", "0.2")


# -------------------------------------------------------------------------------------------------------- evaluators

OTHER = "fedcba9876543210"


def accept_other(core: CoreHarness) -> None:
    """The user goes on with another evaluator, which every worker has."""
    for worker in core.farm.workers.values():
        for attempt in list(worker.wanted.values()):
            core.record(AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, by_host=True))
    core.record(EvaluatorAccepted(version=OTHER))
    for share in core.shares.values():
        share.evaluator = OTHER


def with_one_trial_of(core: CoreHarness) -> CoreHarness:
    """The farm after its first trial."""
    core.run_until_ready()
    core.publish_result(core.claim("w0"))
    core.tick()
    return core


def before_versions(genome: int) -> list[Fact]:
    """The facts of a genome's only trial, as an earlier release of this program recorded them."""
    attempt = f"g0001-{genome:04d}-t1-a1-000000000001"
    return [
        AttemptIssued(attempt=attempt, genome=genome, trial=1, number=1, worker="w0", epoch=1, publication=genome),
        AttemptEnded(attempt=attempt, outcome=Outcome.COMPLETED, has_result=True, fitness=1.0, archived=True),
        TrialSettled(genome=genome, trial=1, settlement=Settlement.COMPLETED, attempt=attempt, fitness=1.0),
    ]


def test_rows_name_the_evaluator() -> None:
    """The version that played an attempt, and those of a genome's trials."""
    core = CoreHarness("w0", genomes=1, trials=2, depth=1)
    core.run_until_ready()
    core.play_all()

    assert [row["evaluator"] for row in attempts(core)] == [VERSION, VERSION]
    assert [row["evaluator"] for row in result_rows(core.farm)] == [VERSION]


def test_genome_of_two_evaluators_names_both() -> None:
    core = with_one_trial_of(CoreHarness("w0", genomes=1, trials=2, depth=1))
    accept_other(core)
    core.play_all()

    assert [row["evaluator"] for row in result_rows(core.farm)] == [f"{VERSION} {OTHER}"]


@pytest.mark.parametrize("outcome", [Outcome.UNDELIVERED, Outcome.INTERRUPTED])
def test_attempt_that_was_not_played_has_no_evaluator(outcome: Outcome) -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.publish_result(core.claim("w0"), outcome, evaluator=None)
    core.tick()

    assert attempts(core)[0]["evaluator"] == ""


def test_refused_result_does_not_name_the_evaluator_that_was_asked_for() -> None:
    """Another one played it, which is in the reason."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.publish_result(core.claim("w0"), evaluator=OTHER)
    core.tick()

    row = attempts(core)[0]
    assert (row["outcome"], row["evaluator"]) == (Outcome.CORRUPT, "")
    assert OTHER in row["reason"]


def test_mixed_generation_is_named() -> None:
    """In the counts and in words, with all versions that gave a fitness."""
    core = with_one_trial_of(CoreHarness("w0", genomes=2, depth=1))
    assert mixed_text(summary(core.farm)["evaluators"]) == ""
    assert evaluator_text(core.farm) == f"test, version {VERSION}"
    accept_other(core)
    assert version_text(core.farm) == f"version {OTHER}; its fitness so far is of evaluator {VERSION}"

    core.play_all()

    counts = summary(core.farm)
    assert (counts["evaluator"], counts["evaluators"]) == (OTHER, [VERSION, OTHER])
    mixed = f"mixed: its fitness is of evaluators {VERSION}, {OTHER}"
    assert mixed_text(counts["evaluators"]) == mixed
    assert evaluator_text(core.farm) == f"test, version {OTHER}; {mixed}"


def test_any_version_may_play_if_mixing_is_allowed() -> None:
    core = CoreHarness("w0", "w1", genomes=4, settings=replace_struct(SETTINGS, allow_mixed_evaluators=True))
    core.shares["w1"].evaluator = OTHER
    assert version_text(core.farm) == "any version"

    core.run_until_ready()
    core.play_all()

    counts = summary(core.farm)
    assert (counts["evaluator"], counts["evaluators"]) == ("", [VERSION, OTHER])
    assert version_text(core.farm) == f"any version; mixed: its fitness is of evaluators {VERSION}, {OTHER}"


def test_version_that_no_worker_has_named_is_not_known_yet() -> None:
    """The host does not know what its workers play."""
    core = CoreHarness("w0", settings=replace_struct(SETTINGS, evaluator_version=""))

    assert evaluator_text(core.farm) == "test, version not known yet"


def test_generation_from_before_versions_claims_none() -> None:
    """What is played today has a version, what was played then an unknown one."""
    core = CoreHarness("w0", genomes=2, depth=1, settings=replace_struct(SETTINGS, evaluator_version=""))
    core.record(*before_versions(1))
    assert (summary(core.farm)["evaluators"], [row["evaluator"] for row in result_rows(core.farm)]) == ([], ["", ""])
    core.record(*before_versions(2))
    assert evaluator_text(core.farm) == "test"


def test_generation_from_before_versions_is_continued() -> None:
    core = CoreHarness("w0", genomes=2, depth=1, settings=replace_struct(SETTINGS, evaluator_version=""))
    core.record(*before_versions(1))
    core.run_until_ready()
    core.play_all()

    assert [row["evaluator"] for row in result_rows(core.farm)] == ["unknown", VERSION]
    assert summary(core.farm)["evaluators"] == [VERSION, "unknown"]
