"""What a scan is asked for: whose results are read, and of which the logs and artifacts too."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core import facts as f
from pipeline.core.limits import Limits
from pipeline.core.observation import CollectedResult
from pipeline.core.requests import ScanRequest, scan_request
from pipeline.core.share_problems import FLOODED, in_words
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness, facts_of

pytestmark = pytest.mark.rules


def asked(core: CoreHarness, worker: str = "w0") -> ScanRequest:
    return scan_request(core.farm, core.observed, worker, full=True)


def unknown(number: int) -> str:
    """An attempt id that was never issued."""
    return f"g0001-0001-t1-a7-{number:012d}"


def flood(core: CoreHarness, count: int, *, first: int = 0, worker: str = "w0") -> None:
    """Puts results of attempts that were never issued into a share."""
    share = core.shares[worker]
    for attempt in map(unknown, range(first, first + count)):
        share.results[attempt] = CollectedResult(attempt=attempt, record=None, data=b"{}")


def test_payloads_of_own_open_attempts_are_wanted() -> None:
    """Those of other workers are not, nor those of a result that was collected."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    first, second = core.farm.workers["w0"].wanted
    core.publish_result(first)
    core.tick()

    request = asked(core)

    assert {second} <= request.wanted == request.unanswered
    assert not request.wanted & ({first} | core.farm.workers["w1"].wanted.keys())
    assert (request.generation, request.reads_others) == (1, True)


def test_given_up_attempt_is_wanted_while_its_trial_is_open() -> None:
    """Then its result still counts; afterwards it is only noted, and its payloads are of no use."""
    core = CoreHarness("w0", "w1", genomes=1, machines=True)
    core.run_until_ready()
    first = core.farm.genomes[0].trials[0].attempts[0]
    core.outage(first.worker, 40)
    assert first.outcome is Outcome.LOST
    assert first.id in asked(core, first.worker).wanted

    core.publish_result(core.farm.genomes[0].trials[0].attempts[-1].id)
    core.run(3)

    assert core.farm.open_trials == 0
    request = asked(core, first.worker)
    assert first.id in request.unanswered - request.wanted

    core.publish_result(first.id)
    core.shares[first.worker].starts.add(first.id)  # so that the harness does not remove the result
    core.tick()
    assert first.id not in asked(core, first.worker).unanswered


def test_new_run_wants_nothing_of_the_last_one() -> None:
    """Its attempts are of another run, and unexpected results are counted anew."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    core.record(f.ResultUnexpected(attempt=unknown(1), worker="w0"))
    (held,) = core.farm.workers["w0"].wanted
    core.record(f.AttemptEnded(attempt=held, outcome=Outcome.WITHDRAWN, by_host=True))
    assert asked(core).unanswered == {held}

    core.record(f.RunOpened(generation=1, run=2, settings=core.settings))

    assert asked(core).unanswered == frozenset()
    assert core.farm.workers["w0"].unexpected == 0


def test_results_with_unknown_ids_are_noted_up_to_a_number() -> None:
    """Those beyond it are ignored, and so are those of later scans; the worker's own result counts."""
    core = CoreHarness("w0", "w1", genomes=1, limits=Limits(unknown_results_max=3))
    core.run_until_ready()
    attempt = core.farm.genomes[0].trials[0].attempts[0]
    flood(core, 5, worker=attempt.worker)
    noted = facts_of(core.tick(), f.ResultUnexpected)
    assert [fact.attempt for fact in noted] == [unknown(number) for number in range(3)]
    assert not asked(core, attempt.worker).reads_others

    flood(core, 5, first=5, worker=attempt.worker)
    core.publish_result(attempt.id, fitness=2.0)

    assert facts_of(core.tick(), f.ResultUnexpected) == []
    assert core.farm.genomes[0].fitness == 2.0


def test_flooded_share_is_told_and_other_workers_are_not_concerned() -> None:
    """The worker goes on: what it plays cannot take it down in this way."""
    core = CoreHarness("w0", "w1", genomes=4, limits=Limits(unknown_results_max=2))
    core.run_until_ready()
    flood(core, 2)
    core.tick()

    rows = measure_progress(core.farm, core.observed, core.now).workers

    assert [row.problem for row in rows] == [in_words(FLOODED), ""]
    assert asked(core, "w1").reads_others
    core.play_all()


def test_result_of_earlier_run_is_noted_on_flooded_share() -> None:
    """Its id was issued, so there are not more of them than attempts."""
    core = CoreHarness("w0", genomes=1, limits=Limits(unknown_results_max=1))
    core.run_until_ready()
    flood(core, 1)
    core.tick()
    core.shares["w0"].results[unknown(7)] = CollectedResult(attempt=unknown(7), record=None, issued_in_other_run=True)

    assert [fact.attempt for fact in facts_of(core.tick(), f.ResultLate)] == [unknown(7)]


def test_restart_looks_at_flooded_share_as_before() -> None:
    """The user may have cleaned it. What was noted is not noted again, but new ones are, up to the number."""
    core = CoreHarness("w0", genomes=1, limits=Limits(unknown_results_max=2))
    core.run_until_ready()
    flood(core, 2)
    core.tick()

    core.restart_host()
    assert asked(core).reads_others
    flood(core, 5)

    noted = facts_of(core.run(3), f.ResultUnexpected)
    assert [fact.attempt for fact in noted] == [unknown(2), unknown(3)]
