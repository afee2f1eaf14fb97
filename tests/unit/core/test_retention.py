"""Which generations are pruned, what goes of them, and what others still need: by their facts alone."""

import itertools
from collections.abc import Iterable

import pytest

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
    HostStarted,
    ReusedResult,
    RunFinished,
    RunOpened,
    RunSettings,
    Settlement,
    TrialReopened,
    TrialSettled,
)
from pipeline.core.retention import PrunedKind, kinds_of, needed, old_runs, run_histories, without_files

pytestmark = pytest.mark.rules
SETTINGS = RunSettings(trials_per_genome=1, seed=0, settings={}, evaluator="game", time_limit_s=1.0)
FINISHED = RunFinished()
COMPLETED, FAILED, OPEN = "a-completed", "a-failed", "a-open"


def opened(generation: int, run: int = 1) -> RunOpened:
    return RunOpened(generation=generation, run=run, settings=SETTINGS)


def added(digest: str, number: int = 1) -> GenomeAdded:
    return GenomeAdded(genome=number, name=f"g{number}", suffix="", size_bytes=1, sha256=digest)


def ended(attempt: str, outcome: Outcome) -> AttemptEnded:
    return AttemptEnded(attempt=attempt, outcome=outcome)


def reused(attempt: str) -> TrialSettled:
    source = ReusedResult(generation=1, evaluator="v1")
    return TrialSettled(genome=1, trial=1, settlement=Settlement.COMPLETED, attempt=attempt, fitness=1.0, reused=source)


def ledger(*generations: tuple[int, Iterable[Fact]]) -> list[Entry]:
    """The facts of generations one after another; the time of a fact is its number."""
    facts = [(generation, fact) for generation, all_facts in generations for fact in all_facts]
    return [Entry(seq, float(seq), generation, 1, fact) for seq, (generation, fact) in enumerate(facts, 1)]


FIRST = (opened(1), added("a"), FINISHED)


@pytest.mark.parametrize(
    ("more", "is_old"),
    [
        ([], True),
        ([HostStarted(pid=1, workers=1)], True),
        ([added("b", 2)], False),
        ([TrialReopened(genome=1, trial=1)], False),
        ([GenomeReopened(genome=1, size_bytes=1, sha256="b")], False),
        ([opened(1, run=2)], False),
        ([added("b", 2), FINISHED], True),
        ([ended(COMPLETED, Outcome.LOST)], True),
    ],
)
def test_only_finished_generations_are_old(more: list[Fact], is_old: bool) -> None:
    """A generation that goes on keeps everything; facts of hosts do not open it again."""
    histories = run_histories(ledger((1, [*FIRST, *more])))

    assert bool(old_runs(histories.values(), before=100.0)) == is_old


@pytest.mark.parametrize(("before", "chosen"), [(3.0, []), (3.5, [1]), (7.5, [1, 2])])
def test_last_fact_of_a_generation_is_its_age(before: float, chosen: list[int]) -> None:
    """That of a host or share after its end does not make it younger."""
    second = (opened(2), added("b"), FINISHED)
    histories = run_histories(ledger((1, [*FIRST, HostStarted(pid=1, workers=1)]), (2, second)))

    assert [history.generation for history in old_runs(histories.values(), before)] == chosen


def test_facts_before_any_run_are_ignored() -> None:
    assert run_histories(ledger((0, [HostStarted(pid=1, workers=1)]))) == {}


def test_generation_needs_the_bytes_of_its_newest_run() -> None:
    """Not those of an earlier run, and not those that a genome had before it was reopened."""
    again = [opened(1, 2), added("b"), added("c", 2), GenomeReopened(genome=2, size_bytes=1, sha256="d"), FINISHED]
    histories = run_histories(ledger((1, [*FIRST, reused("a-old"), *again])))

    found = needed(histories.values(), [], {})

    assert (found.digests, found.attempts) == (frozenset({"b", "d"}), frozenset[str]())


def test_digest_of_two_generations_is_needed_by_the_one_that_is_kept() -> None:
    """Also if that one is not finished."""
    histories = run_histories(
        ledger((1, [opened(1), added("a"), added("b", 2), FINISHED]), (2, [opened(2), added("a")]))
    )

    assert needed(histories.values(), [1], {}).digests == {"a"}
    assert needed(histories.values(), [1, 2], {}).digests == frozenset()


def test_reused_attempt_is_needed_by_the_generation_in_which_it_counts() -> None:
    histories = run_histories(ledger((1, FIRST), (2, [opened(2), added("a"), reused("a-1"), FINISHED])))

    assert needed(histories.values(), [1], {}).attempts == {"a-1"}
    assert needed(histories.values(), [1, 2], {}).attempts == frozenset()


def test_versions_of_kept_generations_are_needed() -> None:
    """All that were in force."""
    facts = [opened(1), EvaluatorFixed(version="v1", worker="w"), EvaluatorAccepted(version="v2")]

    assert needed(run_histories(ledger((1, facts))).values(), [], {}).versions == {"", "v1", "v2"}


@pytest.mark.parametrize(
    ("kind", "facts", "digests", "attempts"),
    [
        (PrunedKind.GENOMES, 4, set[str](), {"a-1"}),
        (PrunedKind.FILES, 4, {"a"}, set[str]()),
        (PrunedKind.GENOMES, 3, {"a"}, {"a-1"}),
    ],
)
def test_pruned_generation_needs_nothing_until_it_goes_on(
    kind: PrunedKind, facts: int, digests: set[str], attempts: set[str]
) -> None:
    """It was pruned after the fact of this number; its last one is the fourth."""
    histories = run_histories(ledger((1, [opened(1), added("a"), reused("a-1"), FINISHED])))

    found = needed(histories.values(), [], {1: {kind: facts}})

    assert (set(found.digests), set(found.attempts)) == (digests, attempts)


def test_each_level_keeps_less_than_the_one_before() -> None:
    levels = [kinds_of(keep) for keep in ("all", "failed", "results", "summary")]

    assert not levels[0]
    assert all(less < more for less, more in itertools.pairwise(levels))


@pytest.mark.parametrize(
    ("keep", "gone"), [("all", set[str]()), ("failed", {COMPLETED}), ("results", {COMPLETED, FAILED})]
)
def test_files_of_attempts_go_by_their_outcome(keep: str, gone: set[str]) -> None:
    """Those of an attempt that is not over stay. A given-up attempt may complete later."""
    issued = AttemptIssued(attempt=OPEN, genome=1, trial=1, number=1, worker="w", epoch=1, publication=1)
    ends = [ended(COMPLETED, Outcome.LOST), ended(COMPLETED, Outcome.COMPLETED), ended(FAILED, Outcome.TIMED_OUT)]
    history = run_histories(ledger((1, [opened(1), issued, *ends])))[1]

    kinds = kinds_of(keep)  # type: ignore[arg-type]

    assert without_files(kinds, {**history.outcomes, OPEN: None}) == gone
