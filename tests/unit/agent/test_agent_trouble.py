"""The agent when its share is not well: full, kept back or out of reach; claims and results that go astray."""

from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent.agent import CLEAN_AGAIN_S, OtherAgentActive
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, Outcome, StartedRecord
from inbox_agent.results import REFUSALS_MAX
from inbox_agent.share_scanner import AgentLimits
from tests.harness import records
from tests.harness.agent_guest import COMPLETED, LIMITS, Guest, answered, started
from tests.harness.records import FARM, WORKER, attempt


def test_a_file_that_somebody_has_open_silences_nobody(guest: Guest) -> None:
    """An ended attempt's log lies open in somebody's editor: the agent beats, plays on, and tries again later."""
    guest.send(1)
    guest.step()
    guest.game_ends(replace(COMPLETED, log=b"hello"))
    guest.step()
    guest.files.troubles = {("remove", f"outbox/{attempt(1)}.log")}
    guest.withdraw(1)
    guest.send(2)
    beats = guest.counter

    guest.lives(30)

    assert guest.playing == attempt(2)
    assert guest.counter > beats + 3
    assert f"outbox/{attempt(1)}.log" in guest.files.files
    guest.files.troubles = set()
    guest.lives(CLEAN_AGAIN_S + LIMITS.poll_s)
    assert guest.outbox == {started(2)}


def test_an_outbox_that_cannot_be_asked_is_more_than_an_open_file(guest: Guest) -> None:
    """Then nothing else is done either, until the share is well again."""
    guest.send(1)
    guest.step()
    guest.game_ends(COMPLETED)
    guest.step()
    guest.withdraw(1)
    guest.send(2)
    guest.files.troubles = {("remove", "outbox"), ("names", "outbox")}
    guest.lives(3)
    assert guest.playing is None

    guest.files.troubles = set()
    guest.lives(LIMITS.poll_s)

    assert guest.outbox == {started(2)}


def test_where_a_result_has_no_room_its_game_makes_it(guest: Guest) -> None:
    """The share and the scratch folder are on one disk; a fitness is worth more than what the game left behind."""
    guest.send()
    guest.step()
    name = f"outbox/{answered()}"
    guest.files.too_big = {name}
    guest.evaluator.on_prepare = lambda _suffix: guest.files.too_big.clear()
    guest.game_ends(COMPLETED)

    guest.lives(LIMITS.poll_s)

    assert guest.result().fitness == 2.5


def test_an_artifact_that_is_in_the_share_stays_in_the_result(guest: Guest, tmp_path: Path) -> None:
    """Making room removes what the game left behind, and not what was copied already."""
    (tmp_path / "replay").write_bytes(b"replay")
    guest.send()
    guest.step()
    guest.files.too_big = {f"outbox/{answered()}"}
    guest.evaluator.on_prepare = lambda _suffix: ((tmp_path / "replay").unlink(), guest.files.too_big.clear())
    guest.game_ends(replace(COMPLETED, artifacts=[tmp_path / "replay"]))

    guest.lives(LIMITS.poll_s)

    assert [ref.name for ref in guest.result().artifacts] == ["replay"]
    assert f"outbox/{attempt(1)}.files/replay" in guest.files.files


def test_a_beat_that_has_no_room_costs_no_artifact(guest: Guest, tmp_path: Path) -> None:
    """Between two of them it may fail; what matters is the result."""
    (tmp_path / "replay").write_bytes(b"replay")
    guest.send()
    guest.step()
    guest.game_ends(replace(COMPLETED, artifacts=[tmp_path / "replay"]))
    guest.time.now += 2 * LIMITS.beat_s
    guest.files.troubles = {("replace", "status")}

    guest.step()

    assert [ref.name for ref in guest.result().artifacts] == ["replay"]


def test_on_a_foreign_disk_there_is_no_room_to_be_made(tmp_path: Path) -> None:
    """What the game left behind lies elsewhere; its artifacts are still to be copied."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.send()
    guest.lives(1)
    prepared: list[str] = []
    guest.evaluator.on_prepare = prepared.append
    guest.files.too_big = {f"outbox/{answered()}"}
    guest.game_ends()

    guest.lives(LIMITS.poll_s)

    assert prepared == []


def test_an_agent_beats_between_large_artifacts(guest: Guest, tmp_path: Path) -> None:
    """Each may take its time on a slow share; together they are longer than any silence."""
    paths = [tmp_path / f"replay-{number}" for number in range(8)]
    for path in paths:
        path.write_bytes(b"replay")
    guest.send()
    guest.step()
    guest.game_ends(replace(COMPLETED, artifacts=paths))
    guest.files.on_write = lambda: guest.time.wait(LIMITS.beat_s)
    beats = guest.counter

    guest.step()

    assert guest.counter >= beats + 7
    assert len(guest.result().artifacts) == 8


@pytest.mark.parametrize("verb", ["write", "publish"])
def test_a_full_disk_keeps_the_result(guest: Guest, verb: str) -> None:
    """The result waits in the agent's hands, the agent beats and claims nothing, and publishes it when it can."""
    guest.send(1)
    guest.send(2)
    guest.step()
    guest.files.troubles = {(verb, "outbox")}
    guest.game_ends(replace(COMPLETED, log=b"hello"))
    guest.lives(60)
    assert answered() not in guest.outbox
    assert guest.beat is not None
    assert (guest.beat.state, guest.beat.attempt) == (AgentState.REPORTING, attempt(1))
    assert len(guest.evaluator.jobs) == 1

    guest.files.troubles = set()
    guest.lives(LIMITS.poll_s)

    assert guest.result().fitness == 2.5
    assert guest.playing == attempt(2)


def test_what_has_no_room_never_voids_a_fitness(guest: Guest, tmp_path: Path) -> None:
    """An artifact that does not fit is left out, and what was written of it makes room again; the result is told."""
    (tmp_path / "replay").write_bytes(b"replay")
    (tmp_path / "notes").write_bytes(b"notes")
    files = f"outbox/{attempt(1)}.files"
    guest.files.too_big = {f"{files}/replay", f"outbox/{attempt(1)}.log"}
    guest.send()
    guest.step()
    guest.game_ends(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay", tmp_path / "notes"]))
    guest.step()

    result = guest.result()
    assert (result.fitness, result.log) == (2.5, None)
    assert [ref.name for ref in result.artifacts] == ["notes"]
    assert f"{files}/replay" not in guest.files.files


@pytest.mark.parametrize("payload", ["log", "files/screen"])
def test_what_is_not_let_into_the_share_never_voids_a_fitness(guest: Guest, tmp_path: Path, payload: str) -> None:
    """A virus scanner refuses one payload: it is tried a few times, and then the result counts without it."""
    for name in ("replay", "screen"):
        (tmp_path / name).write_bytes(name.encode())
    guest.send()
    guest.step()
    guest.files.held = {f"outbox/{attempt(1)}.{payload}"}
    guest.game_ends(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay", tmp_path / "screen"]))

    guest.lives(LIMITS.beat_s * REFUSALS_MAX)

    result = guest.result()
    kept = {"log": result.log is not None, **{f"files/{ref.name}": True for ref in result.artifacts}}
    assert result.outcome is Outcome.COMPLETED
    assert {name for name, there in kept.items() if there} == {"log", "files/replay", "files/screen"} - {payload}


def test_a_payload_that_is_let_in_later_is_in_the_result(guest: Guest) -> None:
    """Whoever had it open has let go of it before the agent gave up."""
    guest.send()
    guest.step()
    guest.files.held = {f"outbox/{attempt(1)}.log"}
    guest.game_ends(replace(COMPLETED, log=b"hello"))
    guest.step()
    assert answered() not in guest.outbox
    guest.files.held = set()

    guest.lives(LIMITS.poll_s)

    assert guest.result().log is not None


def test_a_half_claimed_attempt_is_not_forgotten_while_the_share_is_nobodys(guest: Guest) -> None:
    """For a moment there is no `host.json`: nothing can be said to be gone."""
    guest.files.unheard = {("publish", "outbox")}
    guest.send()
    guest.step()
    guest.files.unheard = set()
    hosts = {path: data for path, data in guest.files.files.items() if path.endswith(".host.json")}
    for path in hosts:
        del guest.files.files[path]
    guest.step()
    guest.files.files.update(hosts)

    guest.lives(LIMITS.poll_s)

    assert guest.playing == attempt(1)


def test_a_claim_that_cannot_be_published_starts_no_game(guest: Guest) -> None:
    """Without its claim on the disk a game is not begun; it is tried again with every look."""
    guest.files.troubles = {("publish", "outbox")}
    guest.send()
    guest.lives(30)
    assert guest.evaluator.jobs == []

    guest.files.troubles = set()
    guest.lives(LIMITS.poll_s)

    assert guest.playing == attempt(1)


def test_a_claim_whose_answer_was_lost_is_gone_on_from(guest: Guest) -> None:
    """It is there, and the agent was told that it is not: the game is begun with the next look, and nobody pays."""
    guest.files.unheard = {("publish", "outbox")}
    guest.send()
    guest.step()
    assert (started() in guest.outbox, guest.playing) == (True, None)

    guest.files.unheard = set()
    guest.lives(LIMITS.poll_s)
    guest.game_ends()
    guest.lives(LIMITS.poll_s)

    assert guest.result().outcome is Outcome.COMPLETED
    assert len(guest.evaluator.jobs) == 1


def test_a_torn_claim_is_given_up(guest: Guest) -> None:
    """Nobody can tell whose it is, so the attempt is not played."""
    guest.files.unheard = {("publish", "outbox")}
    guest.send()
    guest.step()
    guest.files.files[f"outbox/{started()}"] = b""
    guest.files.unheard = set()

    guest.lives(2 * LIMITS.poll_s)

    assert guest.result().outcome is Outcome.INTERRUPTED
    assert guest.evaluator.jobs == []


def test_a_claim_that_was_lost_and_made_by_another_agent_is_left_to_it(guest: Guest) -> None:
    """Of two agents on one share the second one ends."""
    guest.files.troubles = {("publish", "outbox")}
    guest.send()
    guest.step()
    guest.files.troubles = set()
    theirs = StartedRecord(farm=FARM, worker=WORKER, epoch=1, attempt=attempt(1), boot_id="another", run_id="another")
    guest.files.files[f"outbox/{started()}"] = layout.encode(theirs)

    with pytest.raises(OtherAgentActive, match="claimed by somebody else"):
        guest.lives(2 * LIMITS.poll_s)


def test_who_cannot_read_its_inbox_falls_silent(guest: Guest) -> None:
    """An agent that does not see its start signals must not look alive; its game goes on."""
    guest.send()
    guest.step()
    guest.lives(10)
    beats = guest.counter
    guest.files.troubles = {("names", "inbox")}
    guest.lives(60)
    assert guest.counter == beats
    assert guest.playing == attempt(1)

    guest.files.troubles = set()
    guest.lives(LIMITS.poll_s)

    assert guest.counter == beats + 1


def test_a_beat_that_failed_is_made_up_for_long_before_the_next_one(tmp_path: Path) -> None:
    """Three beats in a row that fail would make room for a successor on a foreign disk (seed 81246)."""
    limits = AgentLimits(poll_s=30.0)
    guest = Guest(tmp_path, limits=limits)
    guest.send()
    guest.step()
    guest.time.wait(limits.beat_s)
    guest.files.troubles = {("replace", "status")}

    assert guest.agent.step() <= limits.beat_s / 4


def test_a_share_that_cannot_be_read_is_not_empty(guest: Guest) -> None:
    """Neither game nor files are touched while a listing or an open by name fails."""
    guest.send()
    guest.step()
    guest.withdraw()
    guest.files.troubles = {("read", "inbox")}
    guest.lives(60)
    guest.files.troubles = {("names", "outbox")}
    guest.lives(60)

    assert guest.evaluator.stops == 0
    assert guest.playing == attempt(1)


def test_a_result_that_is_there_already_is_not_replaced(guest: Guest) -> None:
    """A publication whose answer was lost is not made twice: the first record stands and the agent goes on."""
    guest.send(1)
    guest.send(2)
    guest.step()
    guest.game_ends()
    guest.files.publish(f"outbox/{answered()}", layout.encode(records.result(1, fitness=1.0)))

    guest.step()

    assert guest.result(1).fitness == 1.0
    assert guest.playing == attempt(2)
