"""Deliveries that are incomplete, damaged or of another version."""

import threading
import time

from inbox_agent.conformance.check import check
from inbox_agent.conformance.host_side import RequestedGame
from inbox_agent.conformance.scenario import Scenario
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Kind, Outcome

_READINGS_S = 4.0  #: five readings, one second apart
_EARLY_S = 1.0  #: how much sooner they may be over by the clock of this process


def _require_undelivered(scenario: Scenario, game: RequestedGame, published: float) -> None:
    result = scenario.wait_for_result(game, Outcome.UNDELIVERED)
    seconds = time.monotonic() - published
    scenario.require(seconds >= _READINGS_S - _EARLY_S, "five readings, 1 s apart", f"given up after {seconds:.1f} s")
    scenario.require(result.reason, "a reason", "none")
    scenario.require(Kind.STARTED not in scenario.host.kinds(game), "no claim")
    scenario.require(not game.reports(), "no game", "it was played")


@check("law 3")
def wrong_digest_is_undelivered(scenario: Scenario) -> None:
    """A genome with another digest is not played; after 5 readings the attempt is `undelivered`."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game({"genome_sha256": "0" * 64})
    published = time.monotonic()
    host.publish(game)
    _require_undelivered(scenario, game, published)
    scenario.play(host.game())


@check("law 3")
def missing_genome_is_undelivered(scenario: Scenario) -> None:
    """A start signal without its genome is read 5 times, then the attempt is `undelivered`."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game()
    published = time.monotonic()
    host.publish_record(Kind.START.of(game.attempt), layout.encode(game.start))
    _require_undelivered(scenario, game, published)


@check("law 3")
def late_genome_is_played(scenario: Scenario) -> None:
    """A genome that arrives between two readings is played."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game()
    host.publish_record(Kind.START.of(game.attempt), layout.encode(game.start))
    threading.Event().wait(_READINGS_S / 2)  # nothing in the share shows that the agent has read it once
    host.publish_genome(game)
    scenario.wait_for_result(game)


@check("law 3")
def damaged_signal_is_undelivered(scenario: Scenario) -> None:
    """A start signal that is not valid is read 5 times, then reported with farm, worker and epoch of the host.json."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game()
    host.publish_genome(game)
    published = time.monotonic()
    host.publish_record(Kind.START.of(game.attempt), layout.encode(game.start)[:200])
    _require_undelivered(scenario, game, published)
    result = scenario.wait_for_result(game, Outcome.UNDELIVERED)
    owner = (result.farm, result.worker, result.epoch)
    expected = (game.start.farm, game.start.worker, 1)
    scenario.require(owner == expected, "farm, worker and epoch of the host.json", str(owner))


@check("version rule")
def signal_of_another_layout_is_rejected(scenario: Scenario) -> None:
    """A complete start signal of another layout version is `rejected` without a claim, in the agent's own version."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game()
    host.publish_genome(game)
    host.publish_record(Kind.START.of(game.attempt), b'{"layout": 3, "attempt": "' + game.attempt.encode() + b'"}\n')
    result = scenario.wait_for_result(game, Outcome.REJECTED)
    scenario.require(result.attempt == game.attempt, "the attempt in the result", result.attempt)
    scenario.require(Kind.STARTED not in host.kinds(game), "no claim")


@check("inbox/<attempt>.start.json")
def signal_of_another_attempt_is_not_played(scenario: Scenario) -> None:
    """A start signal whose `attempt` is not that of its name is damaged."""
    host = scenario.host
    scenario.start_owned_agent()
    game, other = host.game(), host.game()
    host.publish_genome(game)
    published = time.monotonic()
    host.publish_record(Kind.START.of(game.attempt), layout.encode(other.start))
    _require_undelivered(scenario, game, published)
