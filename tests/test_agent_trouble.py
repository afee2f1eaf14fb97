"""The agent when things are not well: deliveries that are damaged or late, a share that is full or cannot be asked."""

from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent import share_layout as layout
from inbox_agent.agent import CLEAN_AGAIN_S, SecondAgent
from inbox_agent.look import AgentLimits
from inbox_agent.result_writer import REFUSALS_MAX
from inbox_agent.share_layout import AgentState, Outcome, StartedRecord
from tests import records
from tests.guest import COMPLETED, LIMITS, Guest, answered, started
from tests.records import FARM, GENOME, WORKER, attempt, sha256

# -------------------------------------------------------------------------------------------------- damaged deliveries


def seconds_until_answered(guest: Guest) -> float:
    began = guest.time.now
    while answered() not in guest.outbox and guest.time.now < began + 600:
        rest = guest.step()
        if answered() not in guest.outbox:
            guest.agent.rest(rest)
    return guest.time.now - began


HOPE_S = (LIMITS.delivery_tries_max - 1) * LIMITS.delivery_pause_s


@pytest.mark.parametrize(
    ("genome", "complaint"), [(b"a henome", "digest"), (b"", "digest"), (GENOME + b"!", "digest"), (None, attempt(1))]
)
def test_a_damaged_genome_is_asked_for_again_and_then_given_up(
    guest: Guest, genome: bytes | None, complaint: str
) -> None:
    """Wrong bytes, none yet, or too many: five looks, one second apart, then `undelivered`, and never a claim."""
    guest.send()
    if genome is None:
        guest.files.remove([f"inbox/{attempt(1)}.genome"])
    else:
        guest.files.write(f"inbox/{attempt(1)}.genome", genome)

    assert HOPE_S <= seconds_until_answered(guest) <= HOPE_S + LIMITS.poll_s

    assert guest.result().outcome is Outcome.UNDELIVERED
    assert complaint in guest.result().reason
    assert guest.files.asked.count(f"inbox/{attempt(1)}.genome") == LIMITS.delivery_tries_max
    assert guest.result().genome_sha256 == sha256(GENOME)  # the start signal could be read, so it is echoed
    assert guest.outbox == {answered()}
    assert guest.evaluator.jobs == []


@pytest.mark.parametrize(
    "data",
    [b"", b'{"layout": 1', b"\xff", layout.encode(records.start(2)), b" " * 70_000, b'{"layout": 1, "farm": "f"}'],
    ids=["empty", "half", "binary", "of another attempt", "too large", "without fields"],
)
def test_a_damaged_start_signal_is_asked_for_again_and_then_given_up(guest: Guest, data: bytes) -> None:
    """An empty or half-written record, or one under a wrong name, ends as `undelivered` without echoes."""
    guest.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    guest.send_record(1, data)

    assert HOPE_S <= seconds_until_answered(guest) <= HOPE_S + LIMITS.poll_s

    assert guest.result().outcome is Outcome.UNDELIVERED
    assert guest.result().reason != ""
    assert guest.files.asked.count(f"inbox/{attempt(1)}.start.json") == LIMITS.delivery_tries_max
    assert (guest.result().trial, guest.result().seed, guest.result().genome_sha256) == (None, None, None)
    assert (guest.result().farm, guest.result().epoch) == (FARM, 1)
    assert guest.evaluator.jobs == []


def test_a_delivery_may_be_late(guest: Guest) -> None:
    """A record and then a genome that become whole while they are asked for are played as if nothing had been."""
    guest.send_record(1, b"")
    guest.lives(2)
    guest.files.write(f"inbox/{attempt(1)}.start.json", layout.encode(records.start(1)))
    guest.lives(3)
    assert guest.playing is None
    guest.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    guest.lives(1)

    assert guest.playing == attempt(1)
    assert guest.outbox == {started()}


def test_a_damaged_delivery_holds_up_nobody(guest: Guest) -> None:
    """While one genome is waited for, the next one is played."""
    guest.send(1)
    guest.files.write(f"inbox/{attempt(1)}.genome", b"damaged")
    guest.send(2)

    guest.lives(LIMITS.poll_s)

    assert guest.playing == attempt(2)


def test_a_given_up_delivery_is_forgotten_with_its_start_signal(guest: Guest) -> None:
    """The host takes the attempt away, the agent cleans its answer, and both go on."""
    guest.send_record(1, b"")
    seconds_until_answered(guest)
    guest.withdraw()
    guest.send(2)
    guest.step()

    assert guest.outbox == {started(2)}


def test_an_unknown_layout_is_rejected_at_once(guest: Guest) -> None:
    """A complete record of another version is no damage: one line says which versions met."""
    guest.send_record(1, records.of_another_version(records.start(1)))
    guest.step()

    assert guest.result().outcome is Outcome.REJECTED
    assert "layout 2, spoken is 1" in guest.result().reason
    assert guest.outbox == {answered()}


def test_a_scratch_folder_that_cannot_be_cleaned_does_not_end_the_agent(guest: Guest) -> None:
    """On Windows a leftover may be held open: the attempt goes elsewhere after some tries, and the agent beats on."""
    guest.evaluator.broken = PermissionError(13, "a leftover is held open")
    guest.send()

    seconds_until_answered(guest)

    assert guest.result().outcome is Outcome.UNDELIVERED
    assert "held open" in guest.result().reason


def test_a_genome_that_cannot_be_written_is_not_the_shares_trouble(guest: Guest) -> None:
    """On Windows a warm process may hold the last one: it has to go, and the agent beats on."""
    kept = guest.evaluator.folder
    guest.evaluator.folder = kept / "gone"
    guest.evaluator.on_stop = lambda: setattr(guest.evaluator, "folder", kept)
    guest.send()

    guest.lives(LIMITS.delivery_pause_s)

    assert guest.playing == attempt(1)


# ---------------------------------------------------------------------------------------------- when a share is unwell


@pytest.mark.parametrize("kind", ["start.json", "genome"])
def test_a_delivery_that_is_kept_back_is_given_up_and_silences_nobody(guest: Guest, kind: str) -> None:
    """A virus scanner takes a genome for what it is not: that one is `undelivered`, and the next one is played."""
    guest.send(1)
    guest.send(2)
    guest.files.held = {f"inbox/{attempt(1)}.{kind}"}
    beats = guest.counter

    guest.lives(30)
    assert guest.playing == attempt(2)
    assert guest.counter > beats + 3
    guest.game_ends()
    guest.lives(30)

    assert guest.result(1).outcome is Outcome.UNDELIVERED
    assert "somebody has it open" in guest.result(1).reason
    assert guest.result(2).outcome is Outcome.COMPLETED


def test_a_start_signal_that_is_kept_back_is_not_gone(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No listing shows it any more, and an open by name is refused: it is there, and its game goes on."""
    guest.send()
    guest.step()
    assert guest.playing == attempt(1)
    guest.files.held = {f"inbox/{attempt(1)}.start.json"}
    names = guest.files.names
    monkeypatch.setattr(guest.files, "names", lambda folder: [n for n in names(folder) if ".start." not in n])

    beats = guest.counter

    guest.lives(30)

    assert guest.playing == attempt(1)
    assert guest.counter > beats + 3


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

    with pytest.raises(SecondAgent, match="claimed by somebody else"):
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
