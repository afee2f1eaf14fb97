"""The agent and its evaluator: loaded before anything is claimed, of the version that is asked for, or broken."""

from pathlib import Path

import pytest

from inbox_agent.evaluation.protocol import EvaluationResult
from inbox_agent.evaluation.versioned import LOAD_AGAIN_S, LOADS_MAX, NEXT_LOAD_S
from inbox_agent.loading import LOADING_REPORTED_AFTER_S
from inbox_agent.protocol.layout import EVALUATOR_CHANGED, AgentState, Outcome
from tests.harness.agent_harness import LIMITS, AgentHarness, answered, started
from tests.harness.records import VERSION, attempt

OTHER = "fedcba9876543210"
FAILED = EvaluationResult(outcome=Outcome.FAILED, reason="it crashed", seconds=1.0)


@pytest.fixture
def agent(tmp_path: Path) -> AgentHarness:
    """An agent on a share with an owner."""
    harness = AgentHarness(tmp_path)
    harness.publish_owner()
    return harness


def state(agent: AgentHarness) -> tuple[AgentState, str | None, str]:
    """What the last heartbeat says of the evaluator."""
    assert agent.heartbeat is not None
    return agent.heartbeat.state, agent.heartbeat.evaluator, agent.heartbeat.problem


# ---------------------------------------------------------------------------------------------------------- loading


def test_nothing_is_claimed_while_the_evaluator_is_loaded(agent: AgentHarness) -> None:
    """The heartbeat says so; the game starts as soon as the import has ended."""
    agent.evaluator.is_loading = True
    agent.publish_start()
    agent.run_for(200)
    assert agent.outbox == set()
    assert state(agent) == (AgentState.LOADING, None, "")

    agent.evaluator.is_loading = False
    agent.step()

    assert agent.playing == attempt(1)
    assert state(agent) == (AgentState.PLAYING, VERSION, "")
    assert agent.claim().evaluator == VERSION


def test_evaluator_is_loaded_while_there_is_nothing_to_play(agent: AgentHarness) -> None:
    """So that the first game does not wait for it."""
    agent.step()

    assert agent.evaluator.loads == 1
    assert state(agent) == (AgentState.IDLE, VERSION, "")


def test_agent_without_owner_loads_too(tmp_path: Path) -> None:
    """The host comes later; the heartbeat stays `unowned` until then."""
    agent = AgentHarness(tmp_path)
    agent.step()

    assert agent.evaluator.loads == 1
    assert state(agent) == (AgentState.UNOWNED, VERSION, "")


def test_short_load_of_a_replaced_process_is_not_reported(agent: AgentHarness) -> None:
    """The host would give no work to this worker until it reads the next heartbeat."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.evaluator.unload_after_game = True
    agent.evaluator.is_loading = True
    agent.finish_evaluation(FAILED)

    agent.step()
    assert state(agent)[1] == VERSION

    agent.run_for(LOADING_REPORTED_AFTER_S + LIMITS.poll_s)
    assert state(agent)[:2] == (AgentState.LOADING, None)
    assert started(2) not in agent.outbox


# ----------------------------------------------------------------------------------------------------------- broken


def test_evaluator_that_cannot_be_loaded_breaks_the_worker(agent: AgentHarness) -> None:
    """The heartbeat has the reason at once; what waits is left for other workers."""
    agent.evaluator.load_problem = "cannot import game:play: No module named 'game'"
    agent.publish_start()

    agent.run_for(100)

    assert agent.outbox == set()
    assert state(agent) == (AgentState.BROKEN, None, "cannot import game:play: No module named 'game'")


def test_broken_evaluator_is_tried_again(agent: AgentHarness) -> None:
    """What it needs may be installed meanwhile."""
    agent.evaluator.load_problem = "No module named 'numpy'"
    agent.publish_start()
    agent.step()
    agent.evaluator.load_problem = ""
    agent.run_for(LOAD_AGAIN_S - 2 * LIMITS.poll_s)
    assert agent.playing is None

    agent.run_for(4 * LIMITS.poll_s)

    assert agent.playing == attempt(1)


def test_broken_evaluator_is_loaded_at_once_when_its_files_are_edited(agent: AgentHarness) -> None:
    """The user has corrected it."""
    agent.evaluator.load_problem = "SyntaxError: invalid syntax (game.py, line 3)"
    agent.publish_start()
    agent.step()

    agent.evaluator.load_problem, agent.evaluator.version = "", VERSION + "-corrected"
    agent.publish_start(2, evaluator=VERSION + "-corrected")
    agent.run_for(2 * LIMITS.poll_s)

    assert state(agent)[1] == VERSION + "-corrected"


def test_unreadable_files_break_the_worker(agent: AgentHarness) -> None:
    """Without them the version is not known."""
    agent.evaluator.files_problem = "game.py cannot be read: Permission denied"

    agent.step()

    assert state(agent) == (AgentState.BROKEN, None, "game.py cannot be read: Permission denied")


def test_evaluator_that_breaks_later_ends_the_claims(agent: AgentHarness) -> None:
    """A process is replaced, and the module is gone."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.evaluator.unload_after_game = True
    agent.evaluator.load_problem = "No module named 'game'"
    agent.finish_evaluation(FAILED)

    agent.run_for(LOADS_MAX * NEXT_LOAD_S + 2)

    assert answered(1) in agent.outbox
    assert started(2) not in agent.outbox
    assert state(agent)[0] is AgentState.BROKEN


def test_evaluator_that_worked_before_is_tried_again_soon(agent: AgentHarness) -> None:
    """Memory may be short for a moment: that does not break a worker."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.evaluator.unload_after_game = True
    agent.evaluator.load_problem = "cannot start 'python': Cannot allocate memory"
    agent.finish_evaluation(FAILED)
    agent.run_for(1)
    agent.evaluator.load_problem = ""

    agent.run_for(2 * NEXT_LOAD_S)

    assert agent.playing == attempt(2)


def test_evaluator_that_was_killed_while_it_was_loaded_is_tried_again_soon(agent: AgentHarness) -> None:
    """By the system, which had no memory left, or by a user."""
    agent.evaluator.load_problem = "evaluator process died: signal KILL"
    agent.evaluator.load_is_killed = True
    agent.publish_start()
    agent.run_for(1)
    assert state(agent)[0] is AgentState.LOADING
    agent.evaluator.load_problem = ""

    agent.run_for(2 * NEXT_LOAD_S)

    assert agent.playing == attempt(1)


def test_evaluator_that_is_killed_whenever_it_is_loaded_is_broken(agent: AgentHarness) -> None:
    agent.evaluator.load_problem = "evaluator process died: signal KILL"
    agent.evaluator.load_is_killed = True

    agent.run_for(LOADS_MAX * NEXT_LOAD_S + 2)

    assert state(agent) == (AgentState.BROKEN, None, "evaluator process died: signal KILL")


def test_evaluator_that_changes_its_own_files_is_broken(agent: AgentHarness) -> None:
    """A module that writes a file on import would be loaded for ever."""

    def write() -> None:
        agent.evaluator.version += "x"
        agent.evaluator.on_load = write

    agent.evaluator.on_load = write
    agent.publish_start()

    agent.run_for(5)

    assert state(agent)[0] is AgentState.BROKEN
    assert state(agent)[2].startswith("its files change whenever it is loaded: game.py differs")
    assert agent.evaluator.loads == LOADS_MAX


# --------------------------------------------------------------------------------------------------------- versions


def test_start_signal_of_another_version_is_left_unclaimed(agent: AgentHarness) -> None:
    """The host takes it back; later ones do not overtake it."""
    agent.publish_start(1, evaluator=OTHER)
    agent.publish_start(2)

    agent.run_for(20)

    assert agent.outbox == set()
    agent.withdraw(1)
    agent.run_for(2)
    assert agent.playing == attempt(2)


def test_start_signal_may_accept_any_version(agent: AgentHarness) -> None:
    agent.evaluator.version = OTHER
    agent.publish_start(1, evaluator=None)

    agent.step()

    assert agent.playing == attempt(1)
    assert agent.claim().evaluator == OTHER


def test_result_names_the_version_that_was_loaded(agent: AgentHarness) -> None:
    """An edit while the game is played changes nothing: the process has read its files before."""
    agent.publish_start()
    agent.step()
    agent.evaluator.version = OTHER

    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == VERSION


def test_edit_does_not_disturb_a_generation_that_is_played(agent: AgentHarness) -> None:
    """The user works on the next one: what is loaded is what is asked for."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.evaluator.version = OTHER

    agent.finish_evaluation()
    agent.step()

    assert agent.playing == attempt(2)
    assert agent.evaluator.loads == 1


def test_idle_agent_loads_what_was_edited(agent: AgentHarness) -> None:
    """Within a second or two; the heartbeat says so at once."""
    agent.step()
    agent.evaluator.version = OTHER

    agent.run_for(2 * LIMITS.poll_s)

    assert agent.evaluator.loads == 2
    assert state(agent) == (AgentState.IDLE, OTHER, "")


def test_start_signal_of_the_edited_version_is_played_at_once(agent: AgentHarness) -> None:
    """The next generation begins right after the edit."""
    agent.step()
    agent.evaluator.version = OTHER
    agent.publish_start(1, evaluator=OTHER)

    agent.step()

    assert agent.playing == attempt(1)
    assert agent.evaluator.loads == 2


def test_edit_while_the_evaluator_is_loaded_loads_it_again(agent: AgentHarness) -> None:
    """It may have read some files before, and some after."""
    agent.evaluator.on_load = lambda: setattr(agent.evaluator, "version", OTHER)
    agent.publish_start(1)
    agent.run_for(3)

    assert agent.evaluator.loads == 2
    assert state(agent)[1] == OTHER
    assert agent.outbox == set()


def test_process_that_was_started_before_an_edit_is_not_taken_for_the_new_version(agent: AgentHarness) -> None:
    """A failed game has a successor that imports while the result is published; the edit comes in between."""
    agent.publish_start(1)
    agent.step()
    agent.evaluator.restart_after_game = True
    agent.finish_evaluation(FAILED)
    agent.evaluator.version = OTHER

    agent.run_for(3)

    assert agent.evaluator.version_in_memory == OTHER
    assert state(agent)[1] == OTHER


def test_edit_that_is_put_back_while_the_next_process_loads_is_noticed(agent: AgentHarness) -> None:
    """The idle agent looks at the files meanwhile, and finds them as they were before."""
    agent.publish_start(1)
    agent.step()
    agent.evaluator.restart_after_game = agent.evaluator.unload_after_game = agent.evaluator.is_loading = True
    agent.finish_evaluation(FAILED)
    agent.run_for(1)
    agent.evaluator.edits += 2
    agent.run_for(5)
    loads = agent.evaluator.loads
    agent.evaluator.is_loading = False

    agent.run_for(3)

    assert agent.evaluator.loads == loads + 2
    assert state(agent)[:2] == (AgentState.IDLE, VERSION)


def test_function_whose_data_change_while_it_is_played_reports_no_version(agent: AgentHarness) -> None:
    """It may read a level in every game; only what is imported is read once."""
    agent.evaluator.data = "level 1"
    agent.publish_start()
    agent.step()
    agent.evaluator.data = "level 2"

    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == EVALUATOR_CHANGED


def test_look_that_fails_for_a_moment_voids_no_game(agent: AgentHarness) -> None:
    """An editor replaces a file while the agent is idle."""
    agent.evaluator.reads_files_at_each_game = True
    agent.step()
    agent.time.now += 5
    agent.evaluator.files_problem = "play.py cannot be read: Permission denied"
    agent.step()
    agent.evaluator.files_problem = ""
    agent.publish_start()
    agent.step()
    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == VERSION


def test_command_whose_files_change_while_it_is_played_reports_no_version(agent: AgentHarness) -> None:
    """The result does not count: it is not known which files it has read."""
    agent.evaluator.reads_files_at_each_game = True
    agent.publish_start()
    agent.step()
    agent.evaluator.version = OTHER

    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == EVALUATOR_CHANGED


def test_command_whose_files_are_rewritten_meanwhile_reports_no_version(agent: AgentHarness) -> None:
    """Another content may have been there for a moment, even if the old one is back."""
    agent.evaluator.reads_files_at_each_game = True
    agent.publish_start()
    agent.step()
    agent.evaluator.edits += 2

    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == EVALUATOR_CHANGED


def test_files_that_vanish_while_a_command_is_played_void_its_result(agent: AgentHarness) -> None:
    agent.evaluator.reads_files_at_each_game = True
    agent.publish_start()
    agent.step()
    agent.evaluator.files_problem = "play.py: no such file"

    agent.finish_evaluation()
    agent.step()

    assert agent.result().evaluator == EVALUATOR_CHANGED
    agent.run_for(LOADS_MAX * NEXT_LOAD_S + 2)
    assert state(agent)[0] is AgentState.BROKEN


# ------------------------------------------------------------------------------------------------------ new processes


def test_retry_is_played_by_an_evaluator_that_has_played_nothing(agent: AgentHarness) -> None:
    """The host asks for it after a failure."""
    agent.publish_start(1)
    agent.publish_start(2, new_process=True)
    agent.step()
    agent.finish_evaluation()

    agent.step()

    assert agent.playing == attempt(2)
    assert agent.evaluator.loads == 2


def test_retry_after_a_delivery_that_failed_gets_a_new_process_too(agent: AgentHarness) -> None:
    """The first of the two start signals in this round has a damaged genome."""
    agent.publish_start(1)
    agent.step()
    agent.finish_evaluation()
    agent.publish_start(2)
    agent.files.files[f"inbox/{attempt(2)}.genome"] = b"damaged"
    agent.publish_start(3, new_process=True)

    agent.step()

    assert agent.playing == attempt(3)
    assert agent.evaluator.loads == 2


def test_unused_evaluator_is_not_loaded_anew_for_a_retry(agent: AgentHarness) -> None:
    agent.publish_start(1, new_process=True)

    agent.step()

    assert agent.playing == attempt(1)
    assert agent.evaluator.loads == 1


def test_slow_load_for_a_retry_is_begun_once(agent: AgentHarness) -> None:
    """Not anew in every round."""
    agent.publish_start(1)
    agent.publish_start(2, new_process=True)
    agent.step()
    agent.evaluator.is_loading = True
    agent.finish_evaluation()
    agent.run_for(10)

    assert agent.evaluator.unloads == 1
