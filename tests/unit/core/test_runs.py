"""Runs of a generation: the facts that open, extend, reopen and close them."""

from typing import Any

import numpy as np
import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import Entry, Settlement
from pipeline.core.farm import Farm
from pipeline.core.model import GenomeFile
from pipeline.core.runs import (
    accepting_facts,
    changed_files,
    closing_facts,
    evaluator_differs,
    generation_number,
    is_begun,
    joining_facts,
    opening_facts,
    parse_generation,
    refuse_to_replace,
    reopening_facts,
    replacing_facts,
    replay,
    withdrawals,
)
from pipeline.errors import InputError
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules


def genome(name: str, sha256: str = "0" * 64) -> GenomeFile:
    return GenomeFile(name=name, suffix=".txt", size_bytes=1, sha256=sha256)


def opened(*names: str, trials: int = 1) -> Farm:
    """A farm whose generation was just opened."""
    farm = Farm("f00d", ["w0"])
    settings = replace_struct(SETTINGS, trials_per_genome=trials)
    for fact in opening_facts(farm, 1, [genome(name) for name in names], settings, fresh=False):
        farm.evolve(fact, 0.0)
    return farm


def complete(farm: Farm, number: int = 1) -> None:
    """Settles the genome's first trial with fitness 1."""
    attempt = f"g0001-{number:04d}-t1-a1-000000000000"
    for fact in (
        f.AttemptIssued(attempt=attempt, genome=number, trial=1, number=1, worker="w0", epoch=1, publication=1),
        f.AttemptEnded(attempt=attempt, outcome=Outcome.COMPLETED, has_result=True, fitness=1.0),
        f.TrialSettled(genome=number, trial=1, settlement=Settlement.COMPLETED, attempt=attempt, fitness=1.0),
    ):
        farm.evolve(fact, 0.0)


@pytest.mark.parametrize("given", [0, -1, 10**9, 1.5, "7", None])
def test_number_of_program_must_be_positive_integer(given: object) -> None:
    with pytest.raises(InputError, match="expected a number from 1 to 999999999"):
        generation_number(given)


def test_number_of_program_may_be_of_any_integer_type() -> None:
    assert [generation_number(given) for given in (7, np.int64(7))] == [7, 7]


@pytest.mark.parametrize(
    "text", ["7", "gen-7", "gen-0007", "genomes/gen-0007", "genomes/gen-7/", " 7 ", r"genomes\gen-7"]
)
def test_generation_number_is_parsed_from_all_spellings(text: str) -> None:
    """Also from a path that a shell has completed."""
    assert parse_generation(text) == 7


@pytest.mark.parametrize("text", ["", "0", "gen-", "-1", "seven", "7.5", "gen-7x", "9999999999", "٧"])
def test_invalid_generation_is_refused_with_example(text: str) -> None:
    with pytest.raises(InputError, match=r"expected a number from 1, e\.g\. 7"):
        parse_generation(text)


def test_new_files_extend_generation() -> None:
    """New files get the next numbers, and missing ones keep theirs."""
    farm = opened("a", "b")
    complete(farm)

    facts = opening_facts(farm, 1, [genome("b"), genome("c")], SETTINGS, fresh=False)

    assert [(fact.genome, fact.name) for fact in facts_of(facts, f.GenomeAdded)] == [(3, "c")]


def test_followed_folder_is_no_reason_to_change_a_generation() -> None:
    """A file with other bytes is named by the caller; a new one may be in the making, and joins later."""
    farm = opened("a", "b")
    complete(farm)
    files = [genome("a", "1" * 64), genome("b"), genome("c")]

    facts = opening_facts(farm, 1, files, SETTINGS, fresh=False, follow_folder=True)

    assert facts == []
    assert changed_files(farm, files) == [files[0]]


def test_genomes_join_with_the_next_numbers() -> None:
    """Known names are left out, whatever their bytes."""
    farm = opened("a", "b")

    facts = joining_facts(farm, [genome("d"), genome("a", "1" * 64), genome("c")])

    assert [(fact.genome, fact.name) for fact in facts_of(facts, f.GenomeAdded)] == [(3, "d"), (4, "c")]


def test_open_run_does_not_finish() -> None:
    """More genomes may join; it finishes in the first tick in which that is over."""
    core = CoreHarness("w0", genomes=1)
    core.is_open = True
    core.run_until_ready()
    core.publish_result(core.claim("w0"))
    core.tick()
    assert (core.farm.open_trials, core.farm.finished) == (0, False)

    core.record(*joining_facts(core.farm, [genome("late")]))
    core.tick()
    assert core.farm.open_trials == 1
    core.publish_result(core.claim("w0"))
    assert not facts_of(core.tick(), f.RunFinished)
    core.is_open = False
    assert facts_of(core.tick(), f.RunFinished)


def test_new_generation_opens_with_run_1() -> None:
    """Whatever the farm played before."""
    farm = opened("a")
    facts = opening_facts(farm, 2, [genome("x")], SETTINGS, fresh=False)

    assert [(fact.generation, fact.run) for fact in facts_of(facts[:1], f.RunOpened)] == [(2, 1)]
    assert [fact.name for fact in facts_of(facts[1:], f.GenomeAdded)] == ["x"]


OTHER_EVALUATOR = replace_struct(SETTINGS, evaluator_version="fedcba9876543210")


def test_changed_evaluator_opens_a_run_in_which_nothing_was_counted_again() -> None:
    """Without --fresh, like any other setting."""
    farm = opened("a")

    (opening, _added) = opening_facts(farm, 1, [genome("a")], OTHER_EVALUATOR, fresh=False)

    assert isinstance(opening, f.RunOpened)
    assert (opening.run, opening.settings) == (2, OTHER_EVALUATOR)


def test_changed_evaluator_of_a_counted_generation_is_told() -> None:
    """The caller refuses it or accepts it; the settings are not what has changed."""
    farm = opened("a", "b")
    complete(farm)

    assert opening_facts(farm, 1, [genome("a"), genome("b")], OTHER_EVALUATOR, fresh=False) == []
    assert evaluator_differs(farm, OTHER_EVALUATOR)
    assert not evaluator_differs(farm, SETTINGS)


def test_next_generation_has_the_evaluator_of_now() -> None:
    """In one open farm, which still holds the generation before."""
    farm = opened("a")
    complete(farm)

    opening = opening_facts(farm, 2, [genome("a")], OTHER_EVALUATOR, fresh=False)[0]

    assert isinstance(opening, f.RunOpened)
    assert opening.settings == OTHER_EVALUATOR


def test_unknown_evaluator_does_not_differ() -> None:
    """Of a host that does not know what its workers play."""
    farm = opened("a")

    assert not evaluator_differs(farm, replace_struct(SETTINGS, evaluator_version=""))


def test_fresh_run_has_the_evaluator_of_now() -> None:
    farm = opened("a")
    complete(farm)

    opening = opening_facts(farm, 1, [genome("a")], OTHER_EVALUATOR, fresh=True)[0]

    assert isinstance(opening, f.RunOpened)
    assert opening.settings.evaluator_version == OTHER_EVALUATOR.evaluator_version


def test_accepted_evaluator_withdraws_what_was_issued_for_the_other_one() -> None:
    farm = opened("a", "b")
    complete(farm)
    attempt = "g0001-0002-t1-a1-000000000000"
    farm.evolve(f.AttemptIssued(attempt=attempt, genome=2, trial=1, number=1, worker="w0", epoch=1, publication=2), 0.0)

    facts = accepting_facts(farm, OTHER_EVALUATOR)
    for fact in facts:
        farm.evolve(fact, 0.0)

    assert [fact.attempt for fact in facts_of(facts, f.AttemptEnded)] == [attempt]
    assert farm.evaluator_version == OTHER_EVALUATOR.evaluator_version


def test_generation_has_begun_when_a_game_has() -> None:
    """What was only issued can be played by any evaluator."""
    farm, attempt = opened("a"), "g0001-0001-t1-a1-000000000000"
    assert not is_begun(farm)
    farm.evolve(f.AttemptIssued(attempt=attempt, genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1), 0.0)
    assert not is_begun(farm)
    farm.evolve(f.AttemptClaimed(attempt=attempt), 0.0)
    assert is_begun(farm)
    other = opened("a")
    complete(other)
    assert is_begun(other)


def test_fresh_opens_next_run() -> None:
    """The ledger keeps the earlier run."""
    farm = opened("a")
    complete(farm)
    facts = opening_facts(farm, 1, [genome("a", "1" * 64)], SETTINGS, fresh=True)

    assert [(fact.generation, fact.run) for fact in facts_of(facts[:1], f.RunOpened)] == [(1, 2)]
    assert [fact.sha256 for fact in facts_of(facts[1:], f.GenomeAdded)] == ["1" * 64]


def test_settings_may_change_until_first_result() -> None:
    """No fitness was counted under the old settings."""
    farm = opened("a")
    facts = opening_facts(farm, 1, [genome("a")], replace_struct(SETTINGS, time_limit_s=9.0), fresh=False)

    assert [(fact.run, fact.settings.time_limit_s) for fact in facts_of(facts, f.RunOpened)] == [(2, 9.0)]


@pytest.mark.parametrize(
    ("changes", "sha256", "message"),
    [
        ({"time_limit_s": 9.0}, "0" * 64, "settings: time_limit_s was 60.0, is now 9.0"),
        ({}, "1" * 64, "bytes: a was 000000000000…, is now 111111111111…"),
    ],
)
def test_settings_may_not_change_after_first_result(changes: dict[str, Any], sha256: str, message: str) -> None:
    """The error says what changed and what to do."""
    farm = opened("a")
    complete(farm)

    with pytest.raises(InputError, match="--fresh") as refused:
        opening_facts(farm, 1, [genome("a", sha256)], replace_struct(SETTINGS, **changes), fresh=False)

    assert message in str(refused.value)


def test_retry_failed_reopens_trials_without_fitness() -> None:
    """Failed and skipped trials; completed ones keep their fitness."""
    farm = opened("a", "b", trials=2)
    complete(farm)
    for number, settlement in ((1, Settlement.FAILED), (2, Settlement.SKIPPED)):
        farm.evolve(f.TrialSettled(genome=2, trial=number, settlement=settlement), 0.0)

    assert [(fact.genome, fact.trial) for fact in facts_of(reopening_facts(farm), f.TrialReopened)] == [(2, 1), (2, 2)]


# --------------------------------------------------------------------------------------------------- replaced genomes


def settled(farm: Farm, number: int, settlement: Settlement = Settlement.FAILED) -> None:
    farm.evolve(f.TrialSettled(genome=number, trial=1, settlement=settlement), 0.0)


def test_settled_genome_is_played_again_with_the_same_bytes() -> None:
    """Its file may be gone. Nothing else is reopened."""
    farm = opened("a", "b")
    complete(farm)
    settled(farm, 2)

    facts = replacing_facts(farm, ["a"], [])

    assert facts == [f.GenomeReopened(genome=1, size_bytes=1, sha256="0" * 64)]


def test_genome_is_played_again_with_other_bytes() -> None:
    """Also while it is open: then what was issued for the bytes before is withdrawn."""
    farm = opened("a", "b")
    settled(farm, 2)
    attempt = "g0001-0001-t1-a1-000000000000"
    farm.evolve(f.AttemptIssued(attempt=attempt, genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1), 0.0)

    withdrawn, reopened = replacing_facts(farm, ["a"], [genome("a", "1" * 64)])

    assert isinstance(withdrawn, f.AttemptEnded)
    assert (withdrawn.attempt, withdrawn.outcome, withdrawn.by_host) == (attempt, Outcome.WITHDRAWN, True)
    assert reopened == f.GenomeReopened(genome=1, size_bytes=1, sha256="1" * 64)


def test_open_genome_with_the_same_bytes_is_continued() -> None:
    """The command was stopped, and is given again."""
    farm = opened("a", "b")
    settled(farm, 2)

    assert replacing_facts(farm, ["a"], [genome("a")]) == []


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["c"], {}, "generation 1 has not played c; `pipeline run --gen 1` without --only plays files that were"),
        (["a"], {}, "1 other genomes of generation 1 are open, e.g. b; `pipeline run --gen 1` without"),
        (["a", "b"], {"time_limit_s": 9.0}, "settings: time_limit_s was 60.0, is now 9.0"),
    ],
)
def test_genomes_that_cannot_be_replaced_are_refused(names: list[str], changes: dict[str, Any], message: str) -> None:
    farm = opened("a", "b")
    complete(farm)

    with pytest.raises(InputError) as refused:
        refuse_to_replace(farm, 1, names, replace_struct(SETTINGS, **changes))

    assert message in str(refused.value)


def test_generation_that_was_never_run_has_nothing_to_replace() -> None:
    with pytest.raises(InputError, match="generation 2 was never run"):
        refuse_to_replace(opened("a"), 2, ["a"], SETTINGS)


def test_evaluator_is_no_reason_to_refuse() -> None:
    """The caller refuses another one, or accepts it."""
    farm = opened("a")
    complete(farm)

    refuse_to_replace(farm, 1, ["a"], OTHER_EVALUATOR)


def test_withdrawals_include_removed_workers() -> None:
    """The ledger has their attempts."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.run_until_ready()
    reduced = Farm("f00d", ["w1"])
    for fact, at in core.facts:
        reduced.evolve(fact, at)

    ended = facts_of(withdrawals(reduced, "host ended"), f.AttemptEnded)
    assert {fact.attempt for fact in ended} == set(core.farm.attempts)
    (attempt,) = core.farm.workers["w1"].wanted
    ended = facts_of(withdrawals(reduced, "host ended", ["w1"]), f.AttemptEnded)
    assert [fact.attempt for fact in ended] == [attempt]


def test_closing_facts_withdraw_local_attempts_then_stop() -> None:
    """Local workers end with the host; attempts of other workers continue."""
    core = CoreHarness("local-0", "vm-0", genomes=2, depth=1)
    core.run_until_ready()

    *withdrawn, last = closing_facts(core.farm, ["local-0"], "stopped")

    assert [fact.attempt for fact in facts_of(withdrawn, f.AttemptEnded)] == list(core.farm.workers["local-0"].wanted)
    assert last == f.HostStopped(reason="stopped")


def test_ordered_restore_is_remembered_in_next_generation() -> None:
    """The share will be empty, which must not be taken for an unmounted one."""
    restored = f.RecoveryStarted(worker="w0", action=f.RecoveryAction.RESTORE, reason="it froze")
    entries = [
        Entry(1, 0.0, 1, 1, f.EpochRaised(worker="w0", epoch=1, reason="first contact")),
        Entry(2, 0.0, 1, 1, f.EpochOpened(worker="w0", epoch=1)),
        Entry(3, 0.0, 1, 1, restored),
    ]
    farm, later = Farm("f00d", ["w0"]), Farm("f00d", ["w0"])

    replay(entries, farm, generation=2)
    replay([*entries, Entry(4, 0.0, 1, 1, f.EpochRaised(worker="w0", epoch=2, reason="back"))], later, generation=2)

    assert farm.workers["w0"].reverting
    assert not later.workers["w0"].reverting


def test_replay_of_other_generations_keeps_only_share_state() -> None:
    """Epochs and publication numbers continue; attempts and fitness belong to their generation."""
    core = CoreHarness("w0", genomes=3)
    core.run_until_ready()
    entries = [Entry(seq, at, 1, 1, fact) for seq, (fact, at) in enumerate(core.facts, 1)]
    farm = Farm("f00d", ["w0"])

    replay(entries, farm, generation=2)

    assert (farm.workers["w0"].epoch, farm.workers["w0"].epoch_open, farm.workers["w0"].publications) == (1, True, 2)
    assert farm.attempts == {}
