"""Restarts: what an agent does with the claims, results and processes of its predecessor."""

from inbox_agent.conformance.check import check
from inbox_agent.conformance.host_side import RequestedGame
from inbox_agent.conformance.scenario import Scenario
from inbox_agent.protocol.layout import Outcome


def _crash_in_game(scenario: Scenario) -> tuple[RequestedGame, RequestedGame]:
    """An agent is killed while it plays; a second game waits."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    host.publish(game := host.game(held=True, child=True), waiting := host.game())
    scenario.wait_for_play(game)
    scenario.wait_for("a claim", lambda: host.claim(game))
    scenario.kill(agent)
    return game, waiting


def _require_interrupted_first(scenario: Scenario, game: RequestedGame, *others: RequestedGame) -> None:
    """The successor starts: `interrupted` is there before its first heartbeat of the farm and before its claims."""
    host, first = scenario.host, "`interrupted` before anything else"
    predecessor = host.heartbeat()
    scenario.start_agent()

    def began() -> str:
        claimed = any(host.kinds(other) for other in others)
        beat = host.heartbeat()
        is_new = predecessor is None or (beat is not None and beat.run_id != predecessor.run_id)
        # Read before the result: what was done after it must find it there.
        return "a claim" if claimed else "a heartbeat of the farm" if beat and beat.farm and is_new else ""

    before = scenario.wait_for("a successor that beats or claims", began)
    scenario.require(host.result(game), first, f"{before} of the successor, and no result of the game that was played")
    scenario.wait_for_result(game, Outcome.INTERRUPTED)


@check("the agent, at its start, 4")
def killed_agent_leaves_interrupted(scenario: Scenario) -> None:
    """After a crash in mid-game the successor says `interrupted` before it beats or claims, then goes on."""
    game, waiting = _crash_in_game(scenario)
    _require_interrupted_first(scenario, game, waiting)
    scenario.wait_for_result(waiting)
    scenario.require(len(game.reports()) == 1, "no second game of an attempt that was claimed", "it was played again")


@check("the agent, at its start, 4")
def damaged_signal_does_not_delay_interrupted(scenario: Scenario) -> None:
    """The successor says `interrupted` before it beats or claims, also when the start signal is damaged by then."""
    game, waiting = _crash_in_game(scenario)
    scenario.host.overwrite_start(game, b'{"layout": 2, "farm": "9f2c')
    _require_interrupted_first(scenario, game, waiting)
    scenario.wait_for_result(waiting)


@check("the agent, at its start, 4")
def claim_of_an_older_epoch_is_not_answered(scenario: Scenario) -> None:
    """Nothing is published for a claim of an epoch that is over, which the host has given up."""
    host = scenario.host
    game, _waiting = _crash_in_game(scenario)
    host.publish_owner(epoch=2)
    scenario.start_agent()
    scenario.wait_for_farm(epoch=2)
    scenario.play(host.game())
    scenario.require(host.result(game) is None, "no result of a game of epoch 1")


@check("the agent, at its start, 2")
def processes_of_predecessor_are_ended(scenario: Scenario) -> None:
    """A game that a killed agent left running, and what it started, are ended before the next one begins."""
    game, waiting = _crash_in_game(scenario)
    scenario.start_agent()
    scenario.wait_for_play(waiting)
    scenario.require_over(game)
    scenario.wait_for_result(waiting)


@check("law 4")
def finished_game_is_not_played_again(scenario: Scenario) -> None:
    """After a restart a game with a result is neither played nor reported again."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    first = scenario.play(game := host.game())
    scenario.kill(agent)
    scenario.start_agent()
    scenario.play(host.game())
    scenario.require(len(game.reports()) == 1, "a game that is played once", f"{len(game.reports())} times")
    scenario.require(host.result(game) == first, "the result as it was")


@check("law 4")
def leftovers_are_cleaned_after_restart(scenario: Scenario) -> None:
    """Claims, results, logs and artifacts whose start signals are gone are removed by a successor."""
    host = scenario.host
    agent = scenario.start_owned_agent()
    scenario.play(done := host.game(say=["over"], artifacts={"replay.txt": "moves"}))
    host.publish(cut := host.game(held=True))
    scenario.wait_for_play(cut)
    scenario.kill(agent)
    host.withdraw(done)
    host.withdraw(cut)
    scenario.start_agent()
    scenario.wait_until_clean(done)
    scenario.wait_until_clean(cut)
    scenario.play(host.game())


@check("status/agent.json")
def restarted_agent_has_a_new_run_id(scenario: Scenario) -> None:
    """Each run of the agent has a run id of its own."""
    agent = scenario.start_owned_agent()
    before = scenario.host.heartbeat()
    assert before is not None
    scenario.kill(agent)
    scenario.start_agent()

    def new_run() -> bool:
        beat = scenario.host.heartbeat()
        return beat is not None and beat.run_id != before.run_id

    scenario.wait_for("a heartbeat with another run id", new_run)
