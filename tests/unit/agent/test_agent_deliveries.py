"""What reaches the agent damaged, late, or not at all: it is asked for again, given up, and silences nobody."""

import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Outcome
from tests.harness import records
from tests.harness.agent_guest import LIMITS, Guest, answered, started
from tests.harness.records import FARM, GENOME, attempt, sha256


def seconds_until_answered(guest: Guest) -> float:
    began = guest.time.now
    while answered() not in guest.outbox and guest.time.now < began + 600:
        rest = guest.step()
        if answered() not in guest.outbox:
            guest.agent.wait(rest)
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
