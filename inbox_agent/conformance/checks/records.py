"""Records: what the agent writes is whole and valid, what it reads is judged as the document says."""

import hashlib
import sys
import threading

from inbox_agent.conformance.check import check
from inbox_agent.conformance.host_side import RequestedGame
from inbox_agent.conformance.journal import SHOWS_WRITES, FolderJournal
from inbox_agent.conformance.outcome import CheckFailed
from inbox_agent.conformance.scenario import POLL_S, Scenario
from inbox_agent.conformance.vectors import Vector, load_vectors
from inbox_agent.protocol.layout import HEARTBEAT, INBOX, OUTBOX, STATUS, Kind, Outcome

_ATTEMPT = b"g0007-0042-t1-a2-4kq7zt0m0003"  #: in all records with verdicts
_GENOME = b'{"weights": [0.5, -1.25]}\n'  #: to which they belong
_EPOCH = 3


@check("law 2")
def records_are_published_whole(scenario: Scenario) -> None:
    """No reader ever sees half of a claim, a result or a heartbeat."""
    host = scenario.host
    games = [host.game(say=["x" * 500], artifacts={"a.txt": "x"}) for _ in range(4)]
    with FolderJournal(host.share / OUTBOX) as outbox, FolderJournal(host.share / STATUS) as status:
        with _ReadingAllTheTime(scenario, games) as reader:
            scenario.start_owned_agent()
            for game in games:
                scenario.play(game)
            scenario.wait_for_beats(1)
        for game in games:
            host.withdraw(game)
        for game in games:
            scenario.wait_until_clean(game)
        last = Kind.RESULT.of(games[-1].attempt)
        scenario.wait_for("the end of the journal", lambda: last in outbox.names("deleted"))
    if reader.problem is not None:
        raise reader.problem
    if SHOWS_WRITES:
        records = {kind.of(game.attempt) for game in games for kind in (Kind.STARTED, Kind.RESULT)} | {HEARTBEAT}
        written = sorted(records & (outbox.written_in_place() | status.written_in_place()))
        scenario.require(not written, "no record written under its final name", ", ".join(written[:3]))


class _ReadingAllTheTime:
    """Reads the records of some games, and the heartbeat, as fast as it can; keeps the first problem."""

    def __init__(self, scenario: Scenario, games: list[RequestedGame]) -> None:
        self.problem: CheckFailed | None = None
        self._host, self._games, self._end = scenario.host, games, threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)

    def __enter__(self) -> "_ReadingAllTheTime":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._end.wait(POLL_S if sys.platform == "win32" else 0.0):
            try:
                self._host.heartbeat()
                for game in self._games:
                    self._host.claim(game)
                    self._host.result(game)
            except CheckFailed as error:
                self.problem = error
                return


@check("records")
def odd_texts_of_games_stay_valid_records(scenario: Scenario) -> None:
    """A lone surrogate, a control character or a long text of a game never makes a record invalid."""
    host = scenario.host
    scenario.start_owned_agent()
    games = [
        host.game(answer='{"fitness": 1, "metrics": {"\\ud83d": 1}}'),
        host.game(answer='{"fitness": 1, "metrics": {"' + "x" * 65 + '": 1}}'),
        host.game(answer='{"fitness": 1, "metrics": {"x": 1e999}}'),
        host.game(answer='{"fitness": 1, "metrics": {' + ", ".join(f'"m{n}": {n}' for n in range(65)) + "}}"),
        host.game(answer='{"fitness": "\\ud83d' + "\U0001f3ae" * 700 + '"}'),
        host.game(fail=True, say=["\U0001f3ae" * 3000]),
        host.game(fail=True, say=["\u001b[2J\u0000 \ufeff"]),
    ]
    host.publish(*games)
    for game in games:
        scenario.wait_for("a valid result", lambda game=game: host.result(game))  # type: ignore[misc]
    for game in games[-2:]:
        scenario.wait_for_result(game, Outcome.FAILED)


@check("status/agent.json")
def long_progress_stays_a_valid_heartbeat(scenario: Scenario) -> None:
    """A progress text of any length, with characters of any kind, leaves the heartbeat valid: 200 code points."""
    host = scenario.host
    scenario.start_owned_agent()
    host.publish(game := host.game(held=True, say=["progress: a" + "\U0001f3ae" * 900]))
    scenario.wait_for_play(game)
    scenario.wait_for_beats(2)
    game.finish()
    scenario.wait_for_result(game)


@check("records")
def start_signals_are_judged_as_documented(scenario: Scenario) -> None:
    """Of the start signals with a verdict the valid ones are played, others are `undelivered` or `rejected`."""
    host = scenario.host
    host.publish_owner(_EPOCH)
    scenario.start_agent()
    scenario.wait_for_farm(epoch=_EPOCH)
    vectors = [vector for vector in load_vectors() if vector.kind in ("start", "any")]
    games = {vector.file: _publish(scenario, vector) for vector in vectors}
    for vector in vectors:
        game = games[vector.file]
        what = f"a result for records/{vector.file} ({vector.note})"
        result = scenario.wait_for(what, lambda game=game: host.result(game))  # type: ignore[misc]
        expected = {
            "valid": {Outcome.COMPLETED},
            "invalid": {Outcome.UNDELIVERED},
            "other layout": {Outcome.REJECTED},
            "either": {Outcome.COMPLETED, Outcome.UNDELIVERED},
        }[vector.verdict]
        words = f"{' or '.join(sorted(expected))} for records/{vector.file} ({vector.note})"
        scenario.require(result.outcome in expected, words, f"{result.outcome}: {result.reason}")
    scenario.play(host.game())


def _publish(scenario: Scenario, vector: Vector) -> RequestedGame:
    """Publishes a record with a verdict as the start signal of a game of its own."""
    host = scenario.host
    digest = hashlib.sha256(_GENOME).hexdigest()
    game = host.game({"genome_bytes": len(_GENOME), "genome_sha256": digest})
    host.files.write(f"{INBOX}/{Kind.GENOME.of(game.attempt)}", _GENOME)
    data = vector.read().replace(_ATTEMPT, game.attempt.encode())
    host.publish_record(Kind.START.of(game.attempt), data)
    return game


@check("records")
def unknown_fields_are_ignored(scenario: Scenario) -> None:
    """Fields that the document does not name are ignored, in the host.json too."""
    host = scenario.host
    more = b', "field_of_tomorrow": {"a": [1, null]}, "farms": 1.5}\n'
    owner = b'{"layout": 2, "farm": "9f2c41d07be85a36", "worker": "vm-03", "epoch": 1'
    host.publish_record("1.host.json", owner + more)
    scenario.start_agent()
    scenario.wait_for_farm()
    scenario.play(host.game())
