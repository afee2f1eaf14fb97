"""Two agents on one share: one of them ends, and no game is reported for the other."""

from inbox_agent.conformance.check import check
from inbox_agent.conformance.scenario import Scenario
from inbox_agent.protocol.layout import STATUS
from inbox_agent.system.file_lock import FileLock

_LOCK = f"{STATUS}/agent.lock"


@check("the agent, at its start, 1")
def second_agent_ends(scenario: Scenario) -> None:
    """A second agent on the same share ends, also with a state folder of its own; the first one goes on."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(game := host.game(held=True))
    scenario.wait_for_play(game)
    beat = scenario.wait_for("a heartbeat", host.heartbeat)
    second = scenario.start_agent(state="state-2")
    scenario.wait_for_end(second, "the second agent to end")
    scenario.require(host.result(game) is None, "no result of a game that the first agent is playing")
    game.finish()
    result = scenario.wait_for_result(game)
    scenario.require(result.run_id == beat.run_id, "the result of the first agent", result.run_id)
    for later in scenario.wait_for_beats(1):
        scenario.require(later.run_id == beat.run_id, "heartbeats of the first agent alone", later.run_id)


@check("the agent, at its start, 1")
def lock_of_another_make_is_respected(scenario: Scenario) -> None:
    """An agent ends while another program holds the lock on status/agent.lock, and starts once it is free."""
    host = scenario.host
    host.publish_owner()
    host.publish(game := host.game())
    lock = FileLock(host.share / _LOCK)
    try:
        agent = scenario.start_agent()
        scenario.wait_for_end(agent, f"the agent to end, since {_LOCK} is locked")
        scenario.require(not host.kinds(game), "no claim and no result")
    finally:
        lock.release()
    scenario.start_agent()
    scenario.wait_for_result(game)


@check("the agent, before each beat")
def successor_on_the_share_ends_an_agent(scenario: Scenario) -> None:
    """An agent that finds the heartbeat of another run with a farm, which it has not seen before, ends."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    scenario.allow_end(agent)
    counters = iter(range(1, 10**9))

    def ended() -> bool:
        beat = host.heartbeat()
        if beat is None or beat.run_id != "another-run":  # it may be replaced between reading and writing of the agent
            host.put_heartbeat("another-run", next(counters))
        return agent.ended

    scenario.wait_for("the agent to end, since another one beats", ended)


@check("the agent, before each beat")
def announcement_is_no_successor(scenario: Scenario) -> None:
    """A heartbeat without a farm is the announcement of a newcomer, to which an agent does not give way."""
    host = scenario.host
    scenario.start_owned_agent()
    own = scenario.wait_for("a heartbeat", host.heartbeat)
    host.put_heartbeat("newcomer", 1, announcement=True)

    def beats_again() -> bool:
        beat = host.heartbeat()
        return beat is not None and beat.run_id == own.run_id and beat.counter > own.counter

    scenario.wait_for("a heartbeat of the agent in place of the announcement", beats_again)
    scenario.play(host.game())
