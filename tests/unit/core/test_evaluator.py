"""Which workers can play: those whose agents have loaded the generation's evaluator."""

import pytest

from inbox_agent.protocol.layout import AgentState, Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.farm import IllegalFact
from pipeline.core.limits import Limits
from pipeline.core.model import WorkerState
from pipeline.core.requests import start_record
from tests.harness.core import SETTINGS, VERSION, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

OTHER = "fedcba9876543210"
BROKEN = "No module named 'game'"


def loading(core: CoreHarness, worker: str) -> None:
    """The agent loads its evaluator."""
    share = core.shares[worker]
    share.agent_state, share.evaluator = AgentState.LOADING, None


def loaded(core: CoreHarness, worker: str, version: str = VERSION) -> None:
    """The agent has loaded an evaluator."""
    share = core.shares[worker]
    share.agent_state, share.evaluator, share.problem = AgentState.IDLE, version, ""


def broken(core: CoreHarness, worker: str, problem: str = BROKEN) -> None:
    """The agent cannot load its evaluator."""
    share = core.shares[worker]
    share.agent_state, share.evaluator, share.problem = AgentState.BROKEN, None, problem


# ---------------------------------------------------------------------------------------------------------- loading


def test_worker_gets_no_work_until_its_evaluator_is_loaded() -> None:
    """An import may take longer than any limit for a claim."""
    core = CoreHarness("w0", genomes=2)
    loading(core, "w0")
    core.run(120)
    assert core.farm.attempts == {}

    loaded(core, "w0")
    core.tick()

    assert len(core.farm.workers["w0"].wanted) == 2


def test_attempt_waits_longer_for_its_claim_while_evaluator_is_loaded() -> None:
    """A process is replaced, and the import takes 200 s."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    loading(core, "w0")
    core.run(200)
    assert core.farm.outcomes[Outcome.LOST] == 0

    loaded(core, "w0")
    core.play_all()

    assert len(core.farm.attempts) == 1


def test_load_without_end_loses_the_attempt() -> None:
    """The agent ends a load that takes too long; one that does not is stuck."""
    limits = Limits(claim_limit_s=30, load_limit_s=100)
    core = CoreHarness("w0", genomes=1, limits=limits)
    core.run_until_ready()
    loading(core, "w0")
    core.run(129)
    assert core.farm.outcomes[Outcome.LOST] == 0

    core.run(5)

    assert core.farm.outcomes[Outcome.LOST] == 1


def test_idle_worker_plays_what_waits_for_a_load() -> None:
    """After `take_back_after_s`, as behind a long game."""
    core = CoreHarness("w0", "w1", genomes=4, depth=2)
    core.run_until_ready()
    loading(core, "w0")
    for _ in range(2):
        core.publish_result(core.claim("w1"))
        core.tick()

    core.run(3)

    assert "w1" in {attempt.worker for attempt in core.farm.attempts.values() if attempt.number == 2}


# ----------------------------------------------------------------------------------------------------------- broken


def test_worker_with_broken_evaluator_is_unfit() -> None:
    """With the agent's own reason; no genome pays for it."""
    core = CoreHarness("w0", "w1", genomes=3)
    core.run_until_ready()
    held = list(core.farm.workers["w0"].wanted.values())
    broken(core, "w0")

    core.tick()

    assert core.state("w0") is WorkerState.UNFIT
    assert core.farm.workers["w0"].reason == f"its evaluator cannot be loaded: {BROKEN}"
    assert {attempt.outcome for attempt in held} == {Outcome.WITHDRAWN}
    core.play_all()
    assert all(genome.fitness is not None for genome in core.farm.genomes)


def test_unfit_worker_keeps_what_it_has_claimed() -> None:
    """Its result is on the way, or it is lost by the deadline."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    attempt = core.farm.attempts[core.claim("w0")]
    core.tick()
    broken(core, "w0")
    core.tick()
    assert attempt.outcome is None

    core.publish_result(attempt.id, Outcome.FAILED, reason="it crashed")
    core.tick()

    assert attempt.outcome is Outcome.FAILED


def test_unfit_worker_gets_work_once_its_evaluator_is_loaded() -> None:
    core = CoreHarness("w0", "w1", genomes=6)
    core.run_until_ready()
    broken(core, "w0")
    core.tick()
    loading(core, "w0")
    core.tick()
    assert core.state("w0") is WorkerState.UNFIT

    loaded(core, "w0")
    core.tick()

    assert core.state("w0") is WorkerState.READY
    assert core.farm.workers["w0"].wanted


def test_same_problem_is_recorded_once() -> None:
    """However many heartbeats repeat it; another one is recorded, too."""
    core = CoreHarness("w0", "w1", genomes=6)
    core.run_until_ready()
    broken(core, "w0")
    facts = core.run(20)
    broken(core, "w0", "another problem")

    facts += core.run(20)

    assert [fact.reason.partition(": ")[2] for fact in facts_of(facts, f.WorkerUnfit)] == [BROKEN, "another problem"]


def test_unfit_worker_that_falls_silent_is_recovered() -> None:
    """A machine that hangs after its evaluator broke is restarted like any other."""
    core = CoreHarness("w0", "w1", genomes=6, machines=True)
    core.machines["w0"] = core.machines["w0"].__class__(core.machines["w0"].state, (f.RecoveryAction.RESTART_AGENT,))
    core.run_until_ready()
    broken(core, "w0")
    core.tick()
    core.shares["w0"].sends_heartbeats = False

    core.run(40)

    assert core.state("w0") is WorkerState.RECOVERING


def test_probation_waits_for_a_worker_that_is_unfit() -> None:
    """A quarantined worker whose evaluator is broken has no attempt to pass its probation with."""
    core = CoreHarness("w0", "w1", genomes=9)
    core.run_until_ready()
    core.record(f.WorkerQuarantined(worker="w0", back_off_s=1.0, reason="3 attempts in a row were lost on it"))
    broken(core, "w0")

    core.run(5)

    assert core.state("w0") is WorkerState.UNFIT


def test_farm_is_stuck_when_every_worker_is_unfit() -> None:
    """The reason that they have in common is given once."""
    core = CoreHarness("w0", "w1", genomes=104)
    broken(core, "w0")
    core.run_until_ready()
    assert stuck_reason(core.farm, 2) == ""
    broken(core, "w1")

    core.tick()

    assert stuck_reason(core.farm, 2) == f"no worker can play: its evaluator cannot be loaded: {BROKEN}"
    broken(core, "w1", "no such file")
    core.tick()
    assert "w0: its evaluator" in stuck_reason(core.farm, 2)


def test_broken_evaluator_costs_no_attempt() -> None:
    """All agents say so before they get work."""
    core = CoreHarness("w0", "w1", genomes=104)
    broken(core, "w0")
    broken(core, "w1")

    core.run_until_ready()

    assert core.farm.attempts == {}
    assert stuck_reason(core.farm, 2)


# --------------------------------------------------------------------------------------------------------- versions


def test_start_signal_asks_for_the_version_of_the_generation() -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    (attempt,) = core.farm.attempts.values()

    assert start_record(core.farm, attempt).evaluator == VERSION


def test_worker_with_another_evaluator_gets_no_work() -> None:
    """And both versions are named."""
    core = CoreHarness("w0", "w1", genomes=6)
    loaded(core, "w0", OTHER)

    core.run(5)

    assert core.farm.workers["w0"].wanted == {}
    assert core.state("w0") is WorkerState.UNFIT
    assert core.farm.workers["w0"].reason == f"it plays evaluator {OTHER}, this generation is played by {VERSION}"
    core.play_all()
    assert {attempt.worker for attempt in core.farm.attempts.values()} == {"w1"}


def test_heartbeat_that_an_agent_has_left_says_nothing() -> None:
    """The user has corrected the evaluator, and the host starts the agents again."""
    core = CoreHarness("w0", genomes=2)
    core.run_until_ready()
    broken(core, "w0")
    core.tick()
    core.restart_host()
    core.shares["w0"].sends_heartbeats = False
    core.run(3)
    assert core.state("w0") is WorkerState.READY

    core.shares["w0"].sends_heartbeats = True
    core.shares["w0"].run_id = "run-2"
    loaded(core, "w0")
    core.play_all()


def test_first_heartbeats_may_be_of_an_evaluator_that_was_changed_since() -> None:
    """The generation was opened a moment ago: the agent loads the new files within seconds."""
    core = CoreHarness("w0", genomes=2)
    loaded(core, "w0", OTHER)
    core.run(3)
    assert core.state("w0") is WorkerState.READY
    assert core.farm.attempts == {}

    loaded(core, "w0")
    core.tick()

    assert core.farm.workers["w0"].wanted


def test_version_of_the_first_worker_counts_if_the_host_knows_none() -> None:
    """Its workers play files that only they have."""
    core = CoreHarness("w0", "w1", genomes=6, settings=replace_struct(SETTINGS, evaluator_version=""))
    loaded(core, "w0", OTHER)
    core.run(5)

    assert core.farm.evaluator_version == OTHER
    assert core.state("w0") is WorkerState.READY
    assert core.state("w1") is WorkerState.UNFIT
    (fixed,) = [fact for fact, _at in core.facts if isinstance(fact, f.EvaluatorFixed)]
    assert (fixed.version, fixed.worker) == (OTHER, "w0")


def test_result_of_another_evaluator_does_not_count() -> None:
    """The files were edited while the game was played."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    attempt = core.farm.attempts[core.claim("w0")]
    core.publish_result(attempt.id, evaluator="changed-while-played")

    core.tick()

    assert attempt.outcome is Outcome.CORRUPT
    assert attempt.reason == f"evaluator is 'changed-while-played', expected '{VERSION}'"
    assert attempt.trial.fitness is None


def test_any_evaluator_may_play_if_mixing_is_allowed() -> None:
    """Each attempt knows which one played it."""
    core = CoreHarness("w0", "w1", genomes=4, settings=replace_struct(SETTINGS, allow_mixed_evaluators=True))
    loaded(core, "w1", OTHER)
    core.run_until_ready()
    core.play_all()

    assert {(attempt.worker, attempt.evaluator) for attempt in core.farm.attempts.values()} == {
        ("w0", VERSION),
        ("w1", OTHER),
    }
    assert {start_record(core.farm, attempt).evaluator for attempt in core.farm.attempts.values()} == {None}


def test_accepted_evaluator_plays_what_is_left() -> None:
    """What was counted stays, with the version that played it."""
    core = CoreHarness("w0", genomes=2, depth=1)
    core.run_until_ready()
    core.publish_result(core.claim("w0"))
    core.tick()
    for attempt in list(core.farm.workers["w0"].wanted.values()):
        core.record(f.AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, by_host=True))
    core.record(f.EvaluatorAccepted(version=OTHER))
    loaded(core, "w0", OTHER)

    core.play_all()

    counted = [core.farm.attempts[trial.decided_by] for genome in core.farm.genomes for trial in genome.trials]
    assert [attempt.evaluator for attempt in counted] == [VERSION, OTHER]


def test_version_is_fixed_once() -> None:
    """A second one would mix the generation."""
    core = CoreHarness("w0", genomes=1)

    with pytest.raises(IllegalFact, match=f"evaluator {OTHER} of w0 after {VERSION}"):
        core.farm.evolve(f.EvaluatorFixed(version=OTHER, worker="w0"), 0.0)


def test_evaluator_is_not_accepted_while_attempts_ask_for_another() -> None:
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()

    with pytest.raises(IllegalFact, match="while w0 holds attempts"):
        core.farm.evolve(f.EvaluatorAccepted(version=OTHER), 0.0)


# ------------------------------------------------------------------------------------------ an agent of another version


def test_silent_agent_of_another_version_is_excluded_with_the_fix() -> None:
    """A restart would not help."""
    core = CoreHarness("w0", "w1", genomes=4)
    core.run_until_ready()
    core.shares["w0"].sends_heartbeats = False
    core.shares["w0"].unknown_heartbeat = "layout 1, this program uses layout 2"

    core.run(60)

    assert core.state("w0") is WorkerState.OUT
    assert core.farm.workers["w0"].reason == (
        "its agent writes layout 1, this program uses layout 2; install the same version on both"
    )
    core.play_all()
