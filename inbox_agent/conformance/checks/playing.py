"""Games: what they are given, how they end, and what the result says about it."""

import hashlib
import json
import time

from inbox_agent.conformance.check import check
from inbox_agent.conformance.game import fitness_of
from inbox_agent.conformance.host_side import RequestedGame
from inbox_agent.conformance.scenario import Scenario
from inbox_agent.protocol.layout import AgentState, Kind, Outcome, PayloadRef, StartRecord

_LIMIT_S = 2.0
SETTINGS = {"text": 'é \U0001f3ae "\\ \n', "whole": 3, "number": 1.0, "small": -0.0, "fog": True, "large": -(2**53)}


def require_echoes(scenario: Scenario, record: object, start: StartRecord, fields: tuple[str, ...]) -> None:
    """Requires that a record repeats fields of a start signal."""
    for field in fields:
        said, asked = getattr(record, field), getattr(start, field)
        scenario.require(said == asked, f"`{field}` as in the start signal, {asked!r}", repr(said))


@check("outbox/<attempt>.result.json")
def result_repeats_start_signal(scenario: Scenario) -> None:
    """The result repeats the start signal, from farm to digest, and has the fitness and metrics of the game."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game({"trial": 3, "seed": 2**31 - 1})
    result = scenario.play(game)
    fields = ("farm", "worker", "epoch", "attempt", "trial", "seed", "genome_sha256")
    require_echoes(scenario, result, game.start, fields)
    expected = fitness_of(game.genome, game.start.seed)
    scenario.require(result.fitness == expected, f"the fitness {expected}", str(result.fitness))
    scenario.require(result.metrics == {"moves": 3.0}, "the metrics of the game", str(result.metrics))
    beat = host.heartbeat()
    assert beat is not None
    scenario.require(result.run_id == beat.run_id, "the run id of the heartbeats", result.run_id)
    scenario.require(result.boot_id == beat.boot_id, "the boot id of the heartbeats", result.boot_id)


@check("the agent, in each round, 6")
def claim_precedes_game(scenario: Scenario) -> None:
    """The claim is in outbox/ before the game begins, and repeats the start signal."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(game := host.game(held=True))
    scenario.wait_for_play(game)
    seen = game.reports()[0]["outbox"]
    scenario.require(Kind.STARTED.of(game.attempt) in seen, "a claim that the game sees when it begins", f"{seen}")
    claim = scenario.wait_for("a claim", lambda: host.claim(game))
    require_echoes(scenario, claim, game.start, ("farm", "worker", "epoch", "attempt"))
    beat = host.heartbeat()
    assert beat is not None
    scenario.require(claim.run_id == beat.run_id, "the run id of the heartbeats in the claim", claim.run_id)
    game.finish()
    scenario.wait_for_result(game)


@check("law 3")
def payloads_precede_result(scenario: Scenario) -> None:
    """When the result appears its log and artifacts are there, with the sizes and digests that it gives."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game(say=["gate lost", "game over"], artifacts={"replay.txt": "moves " * 5000, "Über.txt": "x"})
    host.publish(game)
    result = scenario.wait_for("a result", lambda: host.result(game))
    scenario.require(result.outcome is Outcome.COMPLETED, "a completed game", result.reason)
    log = result.log
    scenario.require(log is not None, "a log, since the game wrote something", "none")
    assert log is not None
    _require_payload(scenario, log, log.name)
    scenario.require(log.name == Kind.LOG.of(game.attempt), "a log with the name of the attempt", log.name)
    scenario.require(b"game over" in (host.payload(log.name) or b""), "the output of the game in the log")
    scenario.require(len(result.artifacts) == 2, "two artifacts", f"{len(result.artifacts)}")
    for artifact in result.artifacts:
        _require_payload(scenario, artifact, f"{Kind.FILES.of(game.attempt)}/{artifact.name}")
    names = {artifact.name for artifact in result.artifacts}
    scenario.require("replay.txt" in names, "replay.txt under its own name", str(names))
    scenario.require("Über.txt" not in names, "Über.txt as artifact-<n>", str(names))


def _require_payload(scenario: Scenario, ref: PayloadRef, name: str) -> None:
    data = scenario.host.payload(name)
    scenario.require(data is not None, f"{name} in outbox/ when the result is", "no such file")
    assert data is not None
    found = (len(data), hashlib.sha256(data).hexdigest())
    scenario.require(found == (ref.size_bytes, ref.sha256), f"size and digest of {name} as in the result", f"{found}")


@check("inbox/<attempt>.start.json")
def game_gets_what_the_signal_says(scenario: Scenario) -> None:
    """The game gets genome, suffix, seed, trial and settings unchanged: `1.0` stays `1.0`."""
    host = scenario.host
    scenario.start_owned_agent()
    game = host.game({"settings": SETTINGS, "trial": 2})
    scenario.play(game)
    (report,) = game.reports()
    found = json.loads(report["settings"])
    scenario.require(_typed(found) == _typed(SETTINGS), f"the settings {SETTINGS}", report["settings"][:300])
    for name, expected in (
        ("seed", str(game.start.seed)),
        ("trial", "2"),
        ("genome_sha256", game.start.genome_sha256),
        ("genome_suffix", ".json"),
    ):
        scenario.require(report[name] == expected, f"a game with {name} {expected}", report[name])


def _typed(settings: object) -> dict[str, tuple[str, str]]:
    assert isinstance(settings, dict)
    return {name: (type(value).__name__, repr(value)) for name, value in settings.items()}


@check("outcomes")
def failing_game_is_failed(scenario: Scenario) -> None:
    """A game that ends with an error is `failed`, with a reason, its log and no fitness; the next one is played."""
    host = scenario.host
    scenario.start_owned_agent()
    result = scenario.play(host.game(fail=True, say=["no path to the gate"]), Outcome.FAILED)
    scenario.require(result.reason, "a reason", "none")
    scenario.require(result.log is not None, "the log of the game that failed", "none")
    scenario.play(host.game())


@check("outcomes")
def unreadable_answer_is_failed(scenario: Scenario) -> None:
    """A game without an answer, or with one that is no number, is `failed`."""
    host = scenario.host
    scenario.start_owned_agent()
    answers = ["", "not json", '{"fitness": "7"}', '{"fitness": NaN}', '{"fitness": 1e999}', '{"metrics": {}}']
    games = [host.game(answer=answer) for answer in answers]
    host.publish(*games)
    for game, answer in zip(games, answers, strict=True):
        result = scenario.wait_for(f"a result for the answer {answer!r}", lambda game=game: host.result(game))  # type: ignore[misc]
        scenario.require(result.outcome is Outcome.FAILED, f"`failed` for the answer {answer!r}", str(result.outcome))


@check("outcomes")
def hanging_game_is_timed_out(scenario: Scenario) -> None:
    """A game beyond its time limit is killed with the processes that it started, and is `timed_out`."""
    host = scenario.host
    scenario.start_owned_agent()
    began = time.monotonic()
    scenario.play(host.game())
    # The game and its child process must have started by then, which takes some systems seconds.
    limit_s = max(_LIMIT_S, min(4 * (time.monotonic() - began), scenario.patience_s / 2))
    host.publish(game := host.game({"time_limit_s": limit_s}, held=True, child=True))
    scenario.wait_for_play(game)
    result = scenario.wait_for_result(game, Outcome.TIMED_OUT)
    early = f"{result.seconds} s"
    scenario.require(result.seconds >= limit_s - 0.1, f"no end before the limit of {limit_s:g} s", early)
    scenario.wait_until_over(game)
    scenario.play(host.game())


@check("status/agent.json")
def heartbeat_names_game(scenario: Scenario) -> None:
    """While a game is played the agent beats, with the state `playing` and the attempt."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(game := host.game(held=True))
    scenario.wait_for_play(game)
    scenario.wait_for("a heartbeat that names the attempt", lambda: _attempt_in_heartbeat(scenario) == game.attempt)
    for beat in scenario.wait_for_beats(1):
        scenario.require(beat.state is AgentState.PLAYING, "the state `playing`", str(beat.state))
    game.finish()
    scenario.wait_for_result(game)


def _attempt_in_heartbeat(scenario: Scenario) -> str | None:
    beat = scenario.host.heartbeat()
    return beat.attempt if beat else None


@check("law 7")
def lowest_publication_is_played_first(scenario: Scenario) -> None:
    """Of the waiting start signals the one with the lowest `publication` is played first, one at a time."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(first := host.game(held=True))
    scenario.wait_for_play(first)
    later: list[RequestedGame] = [host.game({"publication": number}) for number in (30, 200, 9)]
    host.publish(*later)
    scenario.wait_for_beats(1)
    claimed = [game.start.publication for game in later if host.kinds(game)]
    scenario.require(not claimed, "one claim at a time", f"claims of {claimed} while another game is played")
    first.finish()
    for game in later:
        scenario.wait_for_result(game)
    order = sorted(later, key=lambda game: len([n for n in game.reports()[0]["outbox"] if n.endswith(".result.json")]))
    played = [game.start.publication for game in order]
    scenario.require(played == [9, 30, 200], "the publications played in the order 9, 30, 200", str(played))


@check("evaluator versions")
def evaluator_version_is_stated(scenario: Scenario) -> None:
    """Heartbeat, claim and result name the same evaluator version, which is also what a start signal may ask for."""
    host = scenario.host
    scenario.start_owned_agent()
    version = scenario.wait_for_farm().evaluator
    host.publish(game := host.game({"evaluator": version}, held=True))
    claim = scenario.wait_for("a claim of a signal that asks for this version", lambda: host.claim(game))
    scenario.require(claim.evaluator == version, f"the version {version} in the claim", str(claim.evaluator))
    game.finish()
    result = scenario.wait_for_result(game)
    scenario.require(result.evaluator == version, f"the version {version} in the result", str(result.evaluator))


@check("the agent, in each round, 4")
def signal_for_another_evaluator_stays_unclaimed(scenario: Scenario) -> None:
    """A start signal that asks for another evaluator version is neither claimed nor answered."""
    host = scenario.host
    scenario.start_owned_agent()
    version = scenario.wait_for_farm().evaluator
    host.publish(other := host.game({"evaluator": "another-version"}))
    scenario.require_quiet("no claim and no result of a signal for another version", lambda: not host.kinds(other))
    host.withdraw(other)
    scenario.play(host.game({"evaluator": version}))


@check("inbox/<attempt>.start.json")
def new_process_is_accepted(scenario: Scenario) -> None:
    """A start signal that asks for a new process is played like any other."""
    scenario.start_owned_agent()
    scenario.play(scenario.host.game({"new_process": True}))


@check("inbox/<attempt>.start.json")
def suspect_is_played(scenario: Scenario) -> None:
    """A start signal of a game that may have crashed its system is played like any other."""
    scenario.start_owned_agent()
    scenario.play(scenario.host.game({"alone": True}))
