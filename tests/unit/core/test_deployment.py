"""Deployments: which evaluator is sent to which worker, and when."""

from dataclasses import replace as replace_fields

import pytest
from msgspec.structs import replace

from inbox_agent.protocol.layout import AgentState
from pipeline.core.deployment import SENDS_MAX, Deployment, Deployments, next_number
from pipeline.core.model import WorkerState
from tests.harness.core import SETTINGS, VERSION, CoreHarness

pytestmark = pytest.mark.rules

OTHER = "another-version"


def deployed(evaluator: str = VERSION, number: int = 1, workers: tuple[str, ...] | None = None) -> Deployment:
    return Deployment(
        number=number,
        evaluator=evaluator,
        archive_bytes=10,
        archive_sha256="0" * 64,
        python="game:play",
        files=("*.py",),
        workers=workers,
    )


@pytest.fixture
def core() -> CoreHarness:
    """A farm whose generation is played with a deployed evaluator; both workers have another one."""
    core = CoreHarness("w0", "w1")
    core.deployments = Deployments([deployed()])
    for share in core.shares.values():
        share.evaluator, share.taken_deployment = OTHER, 0
    return core


def test_workers_with_other_evaluators_get_the_deployed_one(core: CoreHarness) -> None:
    core.play_all()

    assert core.sent_deployments == [("w0", VERSION), ("w1", VERSION)]
    assert core.farm.finished


def test_worker_that_has_the_evaluator_gets_nothing(core: CoreHarness) -> None:
    core.shares["w0"].evaluator = VERSION

    core.play_all()

    assert core.sent_deployments == [("w1", VERSION)]


def test_worker_whose_agent_takes_no_deployments_is_unfit(core: CoreHarness) -> None:
    core.shares["w0"].taken_deployment = None

    core.run(10)

    assert core.sent_deployments == [("w1", VERSION)]
    assert core.state("w0") is WorkerState.UNFIT


def test_worker_without_any_evaluator_is_not_unfit_before_it_gets_one(core: CoreHarness) -> None:
    share = core.shares["w0"]
    share.evaluator, share.agent_state, share.problem = None, AgentState.BROKEN, "there is no evaluator yet"

    core.play_all()

    assert all(worker.state is WorkerState.READY for worker in core.farm.workers.values())


def test_deployment_that_is_not_taken_is_sent_again_a_few_times(core: CoreHarness) -> None:
    """Each time under a higher number; in between, the agent has time to take it."""
    core.shares["w0"].takes_deployments = False

    core.run(core.limits.claim_limit_s - 1)
    assert core.sent_deployments.count(("w0", VERSION)) == 1
    assert core.state("w0") is WorkerState.READY
    core.run(core.limits.claim_limit_s * SENDS_MAX + 10)

    assert core.sent_deployments.count(("w0", VERSION)) == SENDS_MAX
    assert core.state("w0") is WorkerState.UNFIT
    assert len(core.shares["w0"].deployments) == 1


def test_evaluator_that_was_taken_and_cannot_be_loaded_makes_its_worker_unfit(core: CoreHarness) -> None:
    core.run_until_ready()
    share = core.shares["w0"]
    share.evaluator, share.agent_state, share.problem = None, AgentState.BROKEN, "No module named 'game'"

    core.run(3)

    assert core.state("w0") is WorkerState.UNFIT
    assert "No module named 'game'" in core.farm.workers["w0"].reason
    assert core.sent_deployments.count(("w0", VERSION)) == 1


def test_worker_that_becomes_unfit_for_its_evaluator_gets_the_deployed_one(core: CoreHarness) -> None:
    """Its machine was restored meanwhile, to a state with another evaluator."""
    core.run_until_ready()
    core.shares["w0"].evaluator, core.shares["w0"].taken_deployment = OTHER, 0
    for attempt in list(core.farm.workers["w0"].wanted):
        core.publish_result(attempt)

    core.run(core.limits.claim_limit_s + 5)

    assert core.sent_deployments.count(("w0", VERSION)) == 2
    assert core.state("w0") is WorkerState.READY


def test_nothing_is_sent_to_a_worker_with_attempts(core: CoreHarness) -> None:
    """The agent would leave their start signals unclaimed."""
    core.run_until_ready()
    assert core.farm.workers["w0"].wanted
    core.shares["w0"].evaluator = OTHER

    core.run(2)

    assert core.sent_deployments.count(("w0", VERSION)) == 1


def test_new_epoch_forgets_what_was_sent(core: CoreHarness) -> None:
    core.run_until_ready()
    core.observed.begin_epoch("w0")

    assert core.observed.workers["w0"].sent_deployment is None


def test_number_is_above_those_of_share_and_agent(core: CoreHarness) -> None:
    core.shares["w0"].deployments, core.shares["w1"].taken_deployment = {7}, 4
    core.run_until_ready()

    assert max(core.shares["w0"].deployments) == 8
    assert next_number(core.observed, "w1") == 6


def test_number_is_above_the_one_that_was_just_sent(core: CoreHarness) -> None:
    """Another generation begins before the share is scanned in full again: nothing that was published is replaced."""
    core.run_until_ready()
    seen = core.observed.workers["w0"]
    sent, seen.deployments = seen.sent_deployment, frozenset()
    seen.heartbeat = None
    assert sent is not None

    assert next_number(core.observed, "w0") == sent.number + 1


def test_open_generation_keeps_its_version_after_another_deployment(core: CoreHarness) -> None:
    core.deployments = Deployments([deployed(), deployed(OTHER, 2)])

    core.play_all()

    assert {version for _worker, version in core.sent_deployments} == {VERSION}


def test_deployment_to_some_workers_is_not_for_the_others() -> None:
    known = Deployments([deployed(), deployed(OTHER, 2, workers=("w1",))])

    assert known.newest() == known.known[0]
    assert known.newest("w0") == known.known[0]
    assert known.newest("w1") == known.known[1]
    assert known.of_version("never-deployed") is None


def test_worker_of_a_mixed_generation_gets_the_newest_one_when_it_has_no_attempts() -> None:
    """With `allow_mixed_evaluators` no version is asked for, and it plays with what it has."""
    core = CoreHarness("w0", settings=replace(SETTINGS, allow_mixed_evaluators=True))
    core.deployments = Deployments([deployed()])
    core.shares["w0"].evaluator, core.shares["w0"].taken_deployment = OTHER, 0

    core.play_all()
    core.tick()

    assert core.sent_deployments == [("w0", VERSION)]


def test_deployment_is_the_same_if_it_brings_the_same_to_the_same_workers() -> None:
    """Whatever its number and time."""
    assert deployed().is_same(replace_fields(deployed(), number=7, deployed_at=5.0))
    assert not deployed().is_same(deployed(OTHER))
    assert not deployed().is_same(deployed(workers=("w0",)))


def test_deployment_also_names_workers_that_join_later() -> None:
    """The last one that names any of those beside them; no other, and none that is for all."""
    known = Deployments(
        [deployed(OTHER, 1, ("a-0", "a-1")), deployed(VERSION, 2, ("a-0",)), deployed(OTHER, 3, ("vm-0",)), deployed()]
    )
    wider = known.widened(["a-0", "a-1"], ["b-0", "a-0"])

    assert [each.workers for each in wider.known] == [("a-0", "a-1"), ("a-0", "b-0"), ("vm-0",), None]
    assert wider.widened(["a-0"], ["b-0"]) is wider
    assert known.widened(["c-0"], ["c-1"]) is known
