"""What `explain` says of one attempt: when it began, how it ended, what that counts against. Told once per reason."""

import itertools

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.facts import DatedFact, Fact
from pipeline.core.model import Attempt
from pipeline.views.explain import OUTCOMES, explain_attempt, explain_genome, explain_worker, local_time
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules

DEPTH = {"w0": 2, "w1": 2}
REASON = "ValueError: the genome is not valid JSON: line 1 column 1"
GAMES = {Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT}
#: Outcomes that only an agent's result can give, and those that only the host gives.
ANSWERS, GIVEN_UP = GAMES | {Outcome.INTERRUPTED, Outcome.REJECTED, Outcome.CORRUPT}, {Outcome.WITHDRAWN, Outcome.LOST}


def combinations() -> list[tuple[Outcome, bool, bool, bool]]:
    """Outcome, claim seen, result there, charged: those that the rules allow."""
    return [
        (outcome, claimed, result, charged)
        for outcome, claimed, result, charged in itertools.product(Outcome, (True, False), (True, False), (True, False))
        if result or outcome not in ANSWERS
        if not result or outcome not in GIVEN_UP
        if charged == (outcome is Outcome.INTERRUPTED) or outcome is Outcome.LOST
    ]


def ended(outcome: Outcome, *, claimed: bool, result: bool, charged: bool = False) -> tuple[CoreHarness, Attempt]:
    """An attempt that was issued at 1000 s, maybe seen claimed at 1002 s, and ended at 1010 s after 4 s of playing."""
    core = CoreHarness("w0", genomes=1)
    core.now = 1000.0
    attempt = "g0001-0001-t1-a1-000000000001"
    core.record(f.AttemptIssued(attempt=attempt, genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1))
    core.now = 1002.0
    core.record(*[f.AttemptClaimed(attempt=attempt)] * claimed)
    core.now = 1010.0
    seconds = 4.0 if result and outcome in GAMES else 0.0
    by_host = outcome is Outcome.WITHDRAWN
    reason = "" if outcome is Outcome.COMPLETED else REASON
    end: Fact = f.AttemptEnded(
        attempt=attempt, outcome=outcome, has_result=result, seconds=seconds, reason=reason, by_host=by_host
    )
    core.record(end, *[f.GenomeCharged(attempt=attempt, genome=1, worker="w0")] * charged)
    return core, core.farm.attempts[attempt]


def begun(outcome: Outcome, *, claimed: bool, charged: bool) -> str:
    if claimed:
        return f"claimed {local_time(1002.0)}"
    if outcome in GAMES:
        return f"begun about {local_time(1006.0)}"
    return "begun, when is not known" if charged or outcome is Outcome.INTERRUPTED else "no claim seen"


BLAME = {
    Outcome.COMPLETED: "",
    Outcome.FAILED: "; that counts against the genome",
    Outcome.TIMED_OUT: "; that counts against the genome",
    Outcome.INTERRUPTED: "; that counts against the worker",
    Outcome.LOST: "; that counts against the worker",
    Outcome.UNDELIVERED: "; that counts against the worker",
    Outcome.CORRUPT: "; that counts against the worker",
    Outcome.WITHDRAWN: "; that counts against neither genome nor worker",
    Outcome.REJECTED: "; that counts against neither genome nor worker",
}
CHARGED = "; that is charged to the genome, and counts against the worker as long as the genome is not poison"


@pytest.mark.parametrize(("outcome", "claimed", "result", "charged"), combinations())
def test_attempt_is_told_as_it_was(outcome: Outcome, claimed: bool, result: bool, charged: bool) -> None:
    """A game that was played was begun, and one thing is told of what it counts against."""
    core, attempt = ended(outcome, claimed=claimed, result=result, charged=charged)

    line = explain_attempt(core.farm, attempt, DEPTH, playing=True)[1]

    after = " after 4.0 s" if outcome in GAMES else ""
    how = f"ended {local_time(1010.0)}{after} as {outcome.replace('_', ' ')}: {OUTCOMES[outcome]}"
    why = f" ({REASON})" if outcome is not Outcome.COMPLETED else ""
    blame = CHARGED if charged else BLAME[outcome]
    assert line.partition(f"issued {local_time(1000.0)}, ")[2] == (
        f"{begun(outcome, claimed=claimed, charged=charged)}, {how}{blame}{why}."
    )


@pytest.mark.parametrize("claimed", [True, False])
def test_open_attempt_is_claimed_or_not_yet(claimed: bool) -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    if claimed:
        core.claim("w0")
        core.tick()
    (attempt,) = core.farm.attempts.values()

    line = explain_attempt(core.farm, attempt, DEPTH, playing=True)[1]

    assert line.endswith(f"{f'claimed {local_time(core.now)}' if claimed else 'not claimed yet'}, not over.")


def test_charge_without_a_claim_does_not_name_one() -> None:
    """An attempt that ran alone on a share that could not be read is charged without anyone having seen its claim."""
    core = CoreHarness("w0", "w1", genomes=1)
    for number, worker in ((1, "w0"), (2, "w1")):
        attempt = f"g0001-0001-t1-a{number}-00000000000{number}"
        core.record(
            f.AttemptIssued(
                attempt=attempt, genome=1, trial=1, number=number, worker=worker, epoch=1, publication=number
            ),
            f.AttemptEnded(attempt=attempt, outcome=Outcome.LOST, reason=REASON, left_published=True, run_alone=True),
        )
    core.record(f.GenomeCharged(attempt=attempt, genome=1, worker="w1"))

    text = explain_genome(core.farm, core.farm.genomes[0], DEPTH, playing=True)

    assert text[1].endswith("nothing else was in that worker's queue.")
    assert not any("begun" in line or "claim was found" in line for line in text)


def failing(reason: str, genomes: int = 1, trials: int = 1) -> CoreHarness:
    """A farm in which every game fails with the same reason."""
    core = CoreHarness("w0", genomes=genomes, trials=trials)
    core.run_until_ready()
    while not core.farm.finished:
        for attempt in core.farm.workers["w0"].wanted:
            core.publish_result(attempt, Outcome.FAILED, reason=reason, seconds=0.3)
        core.tick(1.0)
    return core


def test_reason_of_many_attempts_is_told_once() -> None:
    core = failing(REASON, trials=3)

    text = "\n".join(explain_genome(core.farm, core.farm.genomes[0], DEPTH, playing=False))

    assert text.count(REASON) == 1
    assert f"Trial 1, seed {core.farm.genomes[0].trials[0].seed}, failed for good, decided by " in text
    assert text.count("(the same reason as trial 1)") == core.farm.outcomes[Outcome.FAILED] > 1


def test_params_of_a_genome_are_told() -> None:
    """A text is quoted, so that it is no number; nothing is said of a genome without params."""
    core = CoreHarness("w0", genomes=1)
    core.record(
        f.GenomeAdded(
            genome=2,
            name="b",
            suffix="",
            size_bytes=1,
            sha256="0" * 64,
            params={"layers": "3", "note": "\x1b", "x": 0.5},
        )
    )
    without, has = (explain_genome(core.farm, genome, DEPTH, playing=True) for genome in core.farm.genomes)

    assert has[1] == r"It was submitted with layers = '3', note = '\x1b', x = 0.5."
    assert "submitted" not in "\n".join(without)


def test_short_reason_is_repeated() -> None:
    """A reference would be longer."""
    core = failing("no such level")

    text = "\n".join(explain_genome(core.farm, core.farm.genomes[0], DEPTH, playing=False))

    assert text.count("no such level") == 1 + core.limits.failures_max


def test_history_of_a_worker_tells_a_reason_once() -> None:
    core = failing(REASON, genomes=3)
    history = [DatedFact(at, fact) for fact, at in core.facts]
    failed = [one.at for one in history if isinstance(one.fact, f.AttemptEnded) and one.fact.outcome is Outcome.FAILED]

    text = "\n".join(explain_worker(core.farm, "w0", history))

    later = [at for at in failed if local_time(at) != local_time(failed[0])]
    assert text.count(f"failed: the same reason as at {local_time(failed[0])}") == len(later) > 1
    assert text.count(REASON) == len(failed) - len(later)
