"""Whose share it is, and who is its agent: owners, former lives, newcomers, and shares on another disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent.agent import OtherAgentActive
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, Outcome
from tests.harness import records
from tests.harness.agent_guest import COMPLETED, LIMITS, Guest, answered, started
from tests.harness.records import FARM, GENOME, WORKER, attempt, sha256


@pytest.fixture
def stranger(tmp_path: Path) -> Guest:
    """An agent on a share that is not on its own disk; it has watched it long enough."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    assert guest.counter == 2
    return guest


# ---------------------------------------------------------------------------------------------------- whose share


@pytest.mark.parametrize("owner", [None, records.of_another_version(records.host())], ids=["none", "another layout"])
def test_nobodys_share_is_left_alone(tmp_path: Path, owner: bytes | None) -> None:
    """Without a host.json that it can read nothing is claimed, nothing removed, and the agent beats without a farm."""
    guest = Guest(tmp_path)
    if owner is not None:
        guest.files.publish("inbox/1.host.json", owner)
    guest.files.write(f"outbox/{attempt(9)}.log", b"of an unknown life")
    guest.send()

    guest.lives(60)

    assert guest.evaluator.jobs == []
    assert guest.outbox == {f"{attempt(9)}.log"}
    assert guest.beat is not None
    assert guest.counter > 1
    assert (guest.beat.farm, guest.beat.worker, guest.beat.epoch) == (None, None, None)
    assert guest.beat.state is AgentState.UNOWNED


def test_a_game_goes_on_while_nobody_says_whose_share_it_is(guest: Guest) -> None:
    """A lost host.json stops nothing and loses no result: it may be a moment of a mount that comes back."""
    guest.send()
    guest.step()
    guest.files.remove(["inbox/1.host.json", f"inbox/{attempt(1)}.start.json"])
    guest.lives(60)
    assert guest.playing == attempt(1)

    guest.game_ends()
    guest.step()

    assert guest.outbox == {started(), answered()}


@pytest.mark.parametrize("other", [{"farm": "farm-2"}, {"worker": "vm-1"}, {"epoch": 2}])
def test_what_is_not_for_us_is_not_played(guest: Guest, other: dict[str, object]) -> None:
    """A start signal of another farm, for another worker or of another epoch is neither claimed nor answered."""
    guest.send(**other)

    guest.lives(60)

    assert guest.evaluator.jobs == []
    assert guest.outbox == set()


def test_the_highest_epoch_counts(guest: Guest) -> None:
    """When the epoch rises, what waits from before is left alone and the new is played."""
    guest.send(1)
    guest.own(epoch=10)
    guest.own(epoch=9)
    guest.send(2, epoch=10)

    guest.step()

    assert guest.playing == attempt(2)
    assert guest.claim(2).epoch == 10


def test_a_new_owner_is_answered_at_once(guest: Guest) -> None:
    """The beat that echoes a new epoch does not wait for its turn."""
    guest.step()
    assert guest.beat is not None
    assert (guest.counter, guest.beat.epoch) == (1, 1)

    guest.own(epoch=2)
    guest.step()

    assert (guest.counter, guest.beat.epoch) == (2, 2)


@pytest.mark.parametrize("data", [b"", b"{}", layout.encode(records.host(3)), b"x" * 70_000])
def test_an_owner_that_cannot_be_read_is_not_nobody(guest: Guest, data: bytes) -> None:
    """While the highest host.json is not whole, or speaks of another epoch, nothing is known: no claim, no beat."""
    guest.step()
    guest.files.publish("inbox/2.host.json", data)
    guest.send()

    guest.lives(60)

    assert guest.outbox == set()
    assert guest.counter == 1


# ---------------------------------------------------------------------------------------------------------- restarts


def test_a_claim_of_a_former_life_is_interrupted(guest: Guest) -> None:
    """claim -> agent killed -> agent again: the attempt is answered, not played a second time; then the next one."""
    guest.send(1)
    guest.send(2)
    guest.step()
    guest.begin()
    guest.step()

    assert guest.result(1).outcome is Outcome.INTERRUPTED
    assert guest.result(1).genome_sha256 == sha256(GENOME)
    assert guest.result(1).run_id == "run-2"
    assert guest.playing == attempt(2)


def test_a_result_of_a_former_life_stands(guest: Guest) -> None:
    """claim -> result -> agent killed -> agent again: nothing is changed and nothing played."""
    guest.send()
    guest.step()
    guest.game_ends()
    guest.step()
    before = dict(guest.files.files)
    guest.begin()
    guest.lives(60)

    assert guest.outbox == {started(), answered()}
    assert guest.files.files[f"outbox/{answered()}"] == before[f"outbox/{answered()}"]
    assert len(guest.evaluator.jobs) == 1


def test_what_waited_is_played_after_a_restart(guest: Guest) -> None:
    """A new run id alone ends nothing that was not claimed."""
    guest.step()
    guest.send()
    guest.begin()
    guest.step()

    assert guest.playing == attempt(1)


def test_files_without_a_start_signal_are_removed_at_the_start(guest: Guest) -> None:
    """Whatever an earlier life left of attempts that nobody wants goes."""
    guest.files.write(f"outbox/{attempt(1)}.log", b"...")
    guest.files.write(f"outbox/{attempt(2)}.files/replay", b"...")
    guest.files.publish(f"outbox/{started(3)}", b"")
    guest.begin()
    guest.step()

    assert guest.outbox == set()


def test_a_claim_of_an_older_epoch_is_not_answered(guest: Guest) -> None:
    """After a revert the attempts of the older epoch are the host's to judge."""
    guest.send()
    guest.step()
    guest.own(epoch=2)
    guest.begin()
    guest.lives(60)

    assert guest.outbox == {started()}


# ---------------------------------------------------------------------------------------------- a share on another disk


def test_a_newcomer_watches_before_it_writes(tmp_path: Path) -> None:
    """On a disk that is not its own an agent is silent for two beats, announces itself for one, and then begins."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.send()
    guest.files.replace("status/agent.json", layout.encode(records.beat("long gone", 7)))
    guest.files.journal.clear()

    guest.lives((LIMITS.newcomer_beats - 1) * LIMITS.beat_s - 0.5)
    assert guest.files.journal == []

    guest.lives(LIMITS.beat_s)
    assert guest.files.journal == [("replace", "status/agent.json")]
    assert guest.beat is not None
    assert (guest.beat.run_id, guest.beat.farm) == ("run-1", None)

    guest.lives(1)
    assert guest.playing == attempt(1)
    assert guest.beat is not None
    assert guest.beat.run_id == "run-1"


def test_a_newcomer_gives_way_to_an_agent_that_beats(tmp_path: Path) -> None:
    """If the counter moves under another run id the newcomer ends, having written nothing."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 7)))
    guest.lives(2 * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 8)))
    guest.files.journal.clear()

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.lives(2)

    assert guest.files.journal == []


def test_a_newcomer_gives_way_to_one_that_begins_to_beat(tmp_path: Path) -> None:
    """An agent whose first beat comes while the newcomer watches is noticed by its second."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(5)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))
    guest.lives(5)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 2)))

    with pytest.raises(OtherAgentActive):
        guest.lives(2)


def test_of_two_newcomers_one_ends(tmp_path: Path) -> None:
    """Both begin at once and see nobody -> both announce themselves -> the one whose announcement is gone ends."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    first = guest.agent
    guest.begin()
    ended = set()
    for _ in range(60):
        for agent in {first, guest.agent} - ended:
            try:
                agent.step()
            except OtherAgentActive:
                ended.add(agent)
        guest.time.now += 0.5
        if not ended:
            assert all(path == "status/agent.json" for _verb, path in guest.files.journal)

    assert len(ended) == 1


def test_a_newcomer_waits_a_beat_after_its_announcement_however_late_that_was(tmp_path: Path) -> None:
    """the disk takes seconds for it -> whoever else announced itself must still be seen (seed 67844)."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.send()
    guest.lives((LIMITS.newcomer_beats - 1) * LIMITS.beat_s - 1)
    guest.time.now += 3 * LIMITS.beat_s

    guest.step()

    announced_at = guest.time.now
    assert guest.beat is not None
    while guest.evaluator.running is None:
        guest.lives(0.5)
    assert guest.time.now >= announced_at + LIMITS.beat_s


def test_an_agent_that_was_frozen_gives_way_to_its_successor(tmp_path: Path) -> None:
    """frozen in mid-game -> another one has watched, seen nobody and taken over -> it ends, and writes nothing."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.send()
    guest.lives(1)
    guest.time.now += 60
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 3, farm=FARM, worker=WORKER, epoch=1)))
    guest.game_ends()
    guest.files.journal.clear()

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.step()

    assert guest.files.journal == []


def test_an_agent_that_was_frozen_between_two_artifacts_gives_way_as_well(tmp_path: Path) -> None:
    """Every beat looks first, also the one that shows that a large result is on its way."""
    (tmp_path / "replay").write_bytes(b"replay")
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.send()
    guest.lives(1)
    beat = layout.encode(records.beat("other", 3, farm=FARM, worker=WORKER, epoch=1))

    def freeze() -> None:
        guest.time.now += 60
        guest.files.files["status/agent.json"] = beat

    guest.files.on_write = freeze
    guest.game_ends(replace(COMPLETED, artifacts=[tmp_path / "replay"]))

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.step()

    assert guest.files.files["status/agent.json"] == beat


def test_an_agent_does_not_give_way_to_a_newcomer(tmp_path: Path) -> None:
    """Who announces itself has not begun: it will see this one beat, and end."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))

    guest.lives(LIMITS.beat_s)

    assert guest.beat is not None
    assert guest.beat.run_id == "run-1"


def test_a_newcomer_that_cannot_see_has_not_watched(tmp_path: Path) -> None:
    """unreadable for three beats -> readable: only now the three beats begin."""
    guest = Guest(tmp_path, own_disk=False)
    guest.own()
    guest.files.troubles = {("read", "status")}
    guest.lives(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.files.troubles = set()
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))
    guest.lives(2 * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 2)))

    with pytest.raises(OtherAgentActive):
        guest.lives(2)


def test_two_agents_cannot_claim_the_same(guest: Guest) -> None:
    """Where a claim appears between look and claim, somebody else plays here: the agent ends and starts no game."""
    guest.send()
    original = guest.files.fetch

    def fetch(path: str, destination: Path, bytes_max: int) -> str:
        guest.files.files[f"outbox/{started()}"] = b"claimed by somebody else"
        return original(path, destination, bytes_max)

    guest.files.fetch = fetch  # type: ignore[method-assign]

    with pytest.raises(OtherAgentActive, match="claimed by somebody else"):
        guest.step()

    assert guest.evaluator.jobs == []


def test_on_another_disk_an_absence_is_believed_late(stranger: Guest) -> None:
    """A start signal that is gone stops the game only after 12 s, because Windows serves old listings."""
    stranger.send()
    stranger.lives(1)
    stranger.withdraw()

    stranger.lives(LIMITS.gone_after_s - 1)
    assert stranger.evaluator.stops == 0
    assert stranger.outbox == {started()}

    stranger.lives(2)
    assert stranger.evaluator.stops == 1
    assert stranger.outbox == set()


def test_an_absence_must_last(stranger: Guest) -> None:
    """A start signal that shows up again in between starts the 12 s anew."""
    stranger.send()
    stranger.lives(1)
    for _ in range(5):
        record = stranger.files.files.pop(f"inbox/{attempt(1)}.start.json")
        stranger.lives(LIMITS.gone_after_s - 1)
        stranger.files.files[f"inbox/{attempt(1)}.start.json"] = record
        stranger.lives(1)

    assert stranger.evaluator.stops == 0
    assert stranger.playing == attempt(1)


def test_an_absence_is_interrupted_by_an_open(stranger: Guest) -> None:
    """A start signal that can be opened by its name is there, whatever the listing says, and the 12 s begin anew."""
    stranger.send()
    stranger.lives(1)
    path = f"inbox/{attempt(1)}.start.json"
    listing = stranger.files.names
    stranger.files.names = lambda folder: [name for name in listing(folder) if name not in path]  # type: ignore[method-assign]
    for _ in range(5):
        record = stranger.files.files.pop(path)
        stranger.lives(LIMITS.gone_after_s - 1)
        stranger.files.files[path] = record
        stranger.lives(1)

    assert stranger.evaluator.stops == 0
    assert stranger.playing == attempt(1)


def test_an_old_listing_stops_no_game(guest: Guest) -> None:
    """What a listing does not show may still be opened by its name, and then it is there."""
    guest.send()
    guest.step()
    listing = guest.files.names
    guest.files.names = lambda folder: [  # type: ignore[method-assign]
        name for name in listing(folder) if not name.endswith(".start.json")
    ]

    guest.lives(60)

    assert guest.evaluator.stops == 0
    assert guest.playing == attempt(1)
