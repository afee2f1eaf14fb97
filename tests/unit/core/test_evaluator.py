"""Which workers can play: those whose agents have loaded the generation's evaluator."""

import pytest

from inbox_agent.protocol.layout import AgentState, Outcome
from pipeline.core import facts as f
from pipeline.core.dispatcher import stuck_reason
from pipeline.core.limits import Limits
from pipeline.core.model import IllegalFact, WorkerState
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


def test_claim_limit_begins_when_the_evaluator_is_loaded() -> None:
    """The load has taken longer than the limit."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    loading(core, "w0")
    core.run(100)
    loaded(core, "w0")
    core.run(5)

    assert core.farm.outcomes[Outcome.LOST] == 0


def test_last_try_waits_for_a_worker_that_loads() -> None:
    """The one that failed the trial would settle it."""
    core = CoreHarness("w0", "w1", genomes=1, trials=1)
    core.run_until_ready()
    (attempt,) = core.farm.attempts.values()
    first, other = attempt.worker, {"w0": "w1", "w1": "w0"}[attempt.worker]
    loading(core, other)
    core.tick()
    core.publish_result(core.claim(first), Outcome.FAILED, reason="it crashed")
    core.run(20)
    assert len(core.farm.attempts) == 1

    loaded(core, other)
    core.tick()

    assert [a.worker for a in core.farm.attempts.values()] == [first, other]


def test_worker_that_loads_for_ever_is_unfit() -> None:
    """It holds no attempt, so no other limit ends the run."""
    core = CoreHarness("w0", genomes=1, limits=Limits(load_limit_s=60))
    loading(core, "w0")

    core.run(120)

    assert core.state("w0") is WorkerState.UNFIT
    assert stuck_reason(core.farm, 1) == "no worker can play: its evaluator is not loaded after 90 s"


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


def test_worker_that_breaks_again_and_again_is_quarantined() -> None:
    """Without finishing an attempt in between."""
    core = CoreHarness("w0", "w1", genomes=20)
    core.run_until_ready()
    for _ in range(Limits().restarts_max + 1):
        broken(core, "w0")
        core.tick()
        loaded(core, "w0")
        core.tick()

    assert core.state("w0") is WorkerState.QUARANTINED


def test_worker_on_probation_that_was_unfit_is_on_probation_again() -> None:
    """It has not passed it."""
    core = CoreHarness("w0", "w1", genomes=9)
    core.run_until_ready()
    core.record(f.WorkerQuarantined(worker="w0", back_off_s=1.0, reason="3 attempts in a row were lost on it"))
    broken(core, "w0")
    core.run(5)
    loaded(core, "w0")

    core.tick()

    assert core.state("w0") is WorkerState.PROBATION


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
    core.run(8)

    assert core.farm.evaluator_version == OTHER
    assert core.state("w0") is WorkerState.READY
    assert core.state("w1") is WorkerState.UNFIT
    (fixed,) = [fact for fact, _at in core.facts if isinstance(fact, f.EvaluatorFixed)]
    assert (fixed.version, fixed.worker) == (OTHER, "w0")


def test_heartbeat_of_an_ended_agent_does_not_fix_the_version() -> None:
    """The machines were updated, and are booting."""
    core = CoreHarness("w0", genomes=2, settings=replace_struct(SETTINGS, evaluator_version=""))
    core.run(3)
    core.play_all()
    core.restart_host()
    core.record(f.RunOpened(generation=2, run=1, settings=replace_struct(SETTINGS, evaluator_version="")))
    core.record(f.GenomeAdded(genome=1, name="g", suffix="", size_bytes=9, sha256="1" * 64))
    core.shares["w0"].sends_heartbeats = False
    core.run(5)
    assert core.farm.evaluator_version == ""

    core.shares["w0"].sends_heartbeats = True
    loaded(core, "w0", OTHER)
    core.run(5)

    assert core.farm.evaluator_version == OTHER


def test_evaluator_changed_between_two_generations_of_one_host_is_waited_for() -> None:
    """Its workers have beaten for long, and need a moment to load the new files."""
    core = CoreHarness("w0", genomes=1)
    core.run(20)
    core.play_all()
    core.record(f.RunOpened(generation=2, run=1, settings=replace_struct(SETTINGS, evaluator_version=OTHER)))
    core.record(f.GenomeAdded(genome=1, name="g", suffix="", size_bytes=9, sha256="1" * 64))
    core.run(3)
    assert core.state("w0") is WorkerState.READY

    loaded(core, "w0", OTHER)
    core.run(2)

    assert core.farm.workers["w0"].wanted


def test_agent_that_still_plays_a_withdrawn_game_is_not_unfit() -> None:
    """On a foreign disk it notices the end of its lease later, and then loads what is asked for."""
    core = CoreHarness("w0", genomes=2)
    core.shares["w0"].agent_state, core.shares["w0"].evaluator = AgentState.PLAYING, OTHER

    core.run(15)

    assert core.state("w0") is WorkerState.READY


def test_result_of_changed_files_does_not_count_even_if_any_evaluator_may_play() -> None:
    core = CoreHarness("w0", genomes=1, settings=replace_struct(SETTINGS, allow_mixed_evaluators=True))
    core.run_until_ready()
    attempt = core.farm.attempts[core.claim("w0")]
    core.publish_result(attempt.id, evaluator="changed-while-played")

    core.tick()

    assert attempt.outcome is Outcome.CORRUPT


def test_result_of_another_evaluator_does_not_count() -> None:
    """The files were edited while the game was played."""
    core = CoreHarness("w0", genomes=1)
    core.run_until_ready()
    attempt = core.farm.attempts[core.claim("w0")]
    core.publish_result(attempt.id, evaluator="changed-while-played")

    core.tick()

    assert attempt.outcome is Outcome.CORRUPT
    assert attempt.reason == "files of the evaluator were changed while it was played"
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
