"""Start signals that are gone: games are stopped, files are removed in the documented order."""

from inbox_agent.conformance.check import check
from inbox_agent.conformance.journal import FolderJournal
from inbox_agent.conformance.scenario import Scenario
from inbox_agent.protocol.layout import OUTBOX, Kind


@check("law 4")
def withdrawn_game_is_stopped(scenario: Scenario) -> None:
    """A game whose start signal is gone is stopped with its processes and cleaned up, without a result."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(game := host.game(held=True, child=True, say=["begun"]))
    scenario.wait_for_play(game)
    with FolderJournal(host.share / OUTBOX) as journal:
        host.withdraw(game)
        scenario.wait_until_over(game)
        scenario.wait_until_clean(game)
        scenario.play(host.game())
        scenario.wait_for(
            "the end of the journal", lambda: any(n.endswith(".result.json") for n in journal.names("created"))
        )
    scenario.require(Kind.RESULT.of(game.attempt) not in journal.names("created"), "no result", "one was published")
    scenario.require(not host.kinds(game), "nothing of it in outbox/")


@check("the agent, when it cleans up an attempt")
def files_are_removed_in_order(scenario: Scenario) -> None:
    """After a withdrawal the claim is removed, then the result, then the log and the artifacts."""
    host = scenario.host
    scenario.start_owned_agent()
    scenario.play(game := host.game(say=["game over"], artifacts={"replay.txt": "moves"}))
    kinds = (Kind.STARTED, Kind.RESULT, Kind.LOG, Kind.FILES)
    names = [kind.of(game.attempt) for kind in kinds]
    scenario.require(host.kinds(game) == {*kinds}, "claim, result, log and artifacts in outbox/")
    with FolderJournal(host.share / OUTBOX) as journal:
        host.withdraw(game)
        scenario.wait_until_clean(game)
        scenario.wait_for("the end of the journal", lambda: {*names} <= {*journal.names("deleted")})
    order = [name for name in journal.names("deleted") if name in names]
    seen = ", ".join(name.partition(".")[2] for name in order)
    scenario.require(order[:2] == names[:2], "the claim removed first, then the result", seen)


@check("law 4")
def finished_game_stays_until_withdrawn(scenario: Scenario) -> None:
    """Claim and result stay while the start signal is there, whatever else is played and withdrawn."""
    host = scenario.host
    scenario.start_owned_agent()
    scenario.play(kept := host.game())
    scenario.play(other := host.game())
    host.withdraw(other)
    scenario.wait_until_clean(other)
    scenario.wait_for_beats(1)
    scenario.require(host.result(kept) and host.claim(kept), "claim and result of a game that is still wanted")
    scenario.require(len(kept.reports()) == 1, "a game that is played once", f"{len(kept.reports())} times")


@check("law 4")
def waiting_signal_can_be_withdrawn(scenario: Scenario) -> None:
    """A start signal that is withdrawn before its turn is not played, and the one after it is."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(first := host.game(held=True))
    scenario.wait_for_play(first)
    host.publish(second := host.game(), third := host.game())
    host.withdraw(second)
    first.finish()
    scenario.wait_for_result(third)
    scenario.require(not second.reports(), "no game of a start signal that is gone", "it was played")
    scenario.require(not host.kinds(second), "nothing of it in outbox/")
