"""Requests to stop an agent."""

from inbox_agent.conformance.check import check
from inbox_agent.conformance.scenario import Scenario


@check("the agent, when it is asked to stop")
def asked_to_end_it_leaves_nothing_running(scenario: Scenario) -> None:
    """Asked to end in mid-game, by SIGTERM or Ctrl-Break, the agent ends and leaves no process."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    host.publish(game := host.game(held=True, child=True))
    scenario.wait_for_play(game)
    scenario.allow_end(agent)
    agent.ask_to_end()
    scenario.wait_for_end(agent, "the agent to end when it is asked to")
    scenario.wait_until_over(game)
    game.finish()  # it may be played again
    scenario.start_agent()
    scenario.wait_for("a result of the game that was played", lambda: host.result(game))
    scenario.play(host.game())


@check("the agent, when it is asked to stop")
def idle_agent_ends_when_asked(scenario: Scenario) -> None:
    """Asked to end while it waits, the agent ends; its successor plays what was published meanwhile."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    scenario.allow_end(agent)
    agent.ask_to_end()
    scenario.wait_for_end(agent, "the agent to end when it is asked to")
    host.publish(game := host.game())
    scenario.start_agent()
    scenario.wait_for_result(game)
