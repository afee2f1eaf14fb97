"""Ownership of a share, on both sides: owners, earlier runs, second agents, and shares on another disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.agent import Agent
from inbox_agent.other_agents import OtherAgentActive
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, Outcome
from tests.harness import records
from tests.harness.agent_harness import COMPLETED, LIMITS, AgentHarness, answered, started
from tests.harness.records import FARM, GENOME, WORKER, attempt, sha256


@pytest.fixture
def other_agent(tmp_path: Path) -> AgentHarness:
    """An agent on a share that is not on its own disk, after its watching period."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    assert guest.counter == 2
    return guest


# ------------------------------------------------------------------------------------------------------ the owner


@pytest.mark.parametrize("owner", [None, records.of_another_version(records.host())], ids=["none", "another layout"])
def test_share_without_host_record_is_left_alone(tmp_path: Path, owner: bytes | None) -> None:
    """Without a readable host.json nothing is claimed or removed, and heartbeats name no farm."""
    guest = AgentHarness(tmp_path)
    if owner is not None:
        guest.files.publish("inbox/1.host.json", owner)
    guest.files.write(f"outbox/{attempt(9)}.log", b"of an unknown life")
    guest.publish_start()

    guest.run_for(60)

    assert guest.evaluator.jobs == []
    assert guest.outbox == {f"{attempt(9)}.log"}
    assert guest.heartbeat is not None
    assert guest.counter > 1
    assert (guest.heartbeat.farm, guest.heartbeat.worker, guest.heartbeat.epoch) == (None, None, None)
    assert guest.heartbeat.state is AgentState.UNOWNED


def test_evaluation_continues_while_host_record_is_missing(agent: AgentHarness) -> None:
    """A missing host.json stops no evaluation and loses no result: a mount may be gone for a moment."""
    agent.publish_start()
    agent.step()
    agent.files.remove(["inbox/1.host.json", f"inbox/{attempt(1)}.start.json"])
    agent.run_for(60)
    assert agent.playing == attempt(1)

    agent.finish_evaluation()
    agent.step()

    assert agent.outbox == {started(), answered()}


@pytest.mark.parametrize("other", [{"farm": "farm-2"}, {"worker": "vm-1"}, {"epoch": 2}])
def test_start_signals_of_other_owners_are_ignored(agent: AgentHarness, other: dict[str, Any]) -> None:
    """Start signals of another farm, for another worker or of another epoch are neither claimed nor answered."""
    agent.publish_start(**other)

    agent.run_for(60)

    assert agent.evaluator.jobs == []
    assert agent.outbox == set()


def test_highest_epoch_counts(agent: AgentHarness) -> None:
    """When the epoch rises, earlier start signals are ignored and new ones are evaluated."""
    agent.publish_start(1)
    agent.publish_owner(epoch=10)
    agent.publish_owner(epoch=9)
    agent.publish_start(2, epoch=10)

    agent.step()

    assert agent.playing == attempt(2)
    assert agent.claim(2).epoch == 10


def test_heartbeat_echoes_new_epoch_at_once(agent: AgentHarness) -> None:
    """The heartbeat that echoes a new epoch is written before its time."""
    agent.step()
    assert agent.heartbeat is not None
    assert (agent.counter, agent.heartbeat.epoch) == (1, 1)

    agent.publish_owner(epoch=2)
    agent.step()

    assert (agent.counter, agent.heartbeat.epoch) == (2, 2)


@pytest.mark.parametrize("data", [b"", b"{}", layout.encode(records.host(3)), b"x" * 70_000])
def test_unreadable_host_record_makes_owner_unknown(agent: AgentHarness, data: bytes) -> None:
    """While the highest host.json is incomplete, or has another epoch, the owner is unknown: no claim, no heartbeat."""
    agent.step()
    agent.files.publish("inbox/2.host.json", data)
    agent.publish_start()

    agent.run_for(60)

    assert agent.outbox == set()
    assert agent.counter == 1


# ---------------------------------------------------------------------------------------------------------- restarts


def test_claim_of_earlier_run_is_reported_interrupted(agent: AgentHarness) -> None:
    """claim -> agent killed -> agent restarted: the attempt is reported and not repeated; then the next one runs."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.start_agent()
    agent.step()

    assert agent.result(1).outcome is Outcome.INTERRUPTED
    assert agent.result(1).genome_sha256 == sha256(GENOME)
    assert agent.result(1).run_id == "run-2"
    assert agent.playing == attempt(2)


def test_claim_of_earlier_run_with_damaged_signal_is_reported_before_next_claim(agent: AgentHarness) -> None:
    """A crash of the machine damages a start signal that was not flushed; the report echoes nothing of it."""
    agent.publish_start(1)
    agent.step()
    agent.files.files[f"inbox/{attempt(1)}.start.json"] = b'{"layout": 2, "far'
    agent.publish_start(2)
    agent.start_agent()
    agent.files.journal.clear()
    agent.step()

    first_written = next(path for _verb, path in agent.files.journal)
    assert first_written == f"outbox/{answered(1)}"
    assert agent.result(1).outcome is Outcome.INTERRUPTED
    assert agent.result(1).genome_sha256 is None
    assert agent.playing == attempt(2)


def test_result_of_earlier_run_is_kept(agent: AgentHarness) -> None:
    """claim -> result -> agent killed -> agent restarted: nothing is changed, nothing is evaluated."""
    agent.publish_start()
    agent.step()
    agent.finish_evaluation()
    agent.step()
    before = dict(agent.files.files)
    agent.start_agent()
    agent.run_for(60)

    assert agent.outbox == {started(), answered()}
    assert agent.files.files[f"outbox/{answered()}"] == before[f"outbox/{answered()}"]
    assert len(agent.evaluator.jobs) == 1


def test_unclaimed_attempt_is_evaluated_after_restart(agent: AgentHarness) -> None:
    """A new run id alone ends only claimed attempts."""
    agent.step()
    agent.publish_start()
    agent.start_agent()
    agent.step()

    assert agent.playing == attempt(1)


def test_files_without_start_signal_are_removed_at_start(agent: AgentHarness) -> None:
    """Files of unwanted attempts from an earlier run are removed."""
    agent.files.write(f"outbox/{attempt(1)}.log", b"...")
    agent.files.write(f"outbox/{attempt(2)}.files/replay", b"...")
    agent.files.publish(f"outbox/{started(3)}", b"")
    agent.start_agent()
    agent.step()

    assert agent.outbox == set()


def test_claim_of_older_epoch_is_not_answered(agent: AgentHarness) -> None:
    """After a revert the host decides about attempts of the older epoch."""
    agent.publish_start()
    agent.step()
    agent.publish_owner(epoch=2)
    agent.start_agent()
    agent.run_for(60)

    assert agent.outbox == {started()}


# ------------------------------------------------------------------------------------------------- a request to stop


def test_stopped_agent_reports_running_evaluation(agent: AgentHarness) -> None:
    """As interrupted by the stop, which is charged to no genome; its successor has nothing to report."""
    agent.publish_start()
    agent.step()

    agent.agent.report_stop()

    assert agent.evaluator.stops == 1
    assert (agent.result().outcome, agent.result().agent_stopped) == (Outcome.INTERRUPTED, True)
    assert agent.result().genome_sha256 == sha256(GENOME)
    agent.start_agent()
    agent.run_for(60)
    assert agent.result().run_id == "run-1"
    assert len(agent.evaluator.jobs) == 1


def test_stopped_agent_reports_result_of_evaluation_that_has_just_ended(agent: AgentHarness) -> None:
    """The fitness is not lost."""
    agent.publish_start()
    agent.step()
    agent.evaluator.ending = COMPLETED

    agent.agent.report_stop()

    assert (agent.result().outcome, agent.result().fitness) == (Outcome.COMPLETED, 2.5)
    assert not agent.result().agent_stopped


def test_stopped_agent_without_evaluation_writes_nothing(agent: AgentHarness) -> None:
    """There is nothing to report."""
    agent.step()
    before = dict(agent.files.files)

    agent.agent.report_stop()

    assert agent.files.files == before


def test_stopped_agent_on_unavailable_share_ends(agent: AgentHarness) -> None:
    """The claim stays, and its successor reports it."""
    agent.publish_start()
    agent.step()
    agent.files.troubles = {("publish", "outbox")}

    agent.agent.report_stop()

    agent.files.troubles = set()
    assert agent.outbox == {started()}
    agent.start_agent()
    agent.step()
    assert (agent.result().outcome, agent.result().agent_stopped) == (Outcome.INTERRUPTED, False)


# ---------------------------------------------------------------------------------------------- a share on another disk


def test_new_agent_watches_foreign_disk_before_writing(tmp_path: Path) -> None:
    """On another disk an agent waits silently for two intervals, announces itself for one, and then begins."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.publish_start()
    guest.files.replace("status/agent.json", layout.encode(records.beat("long gone", 7)))
    guest.files.journal.clear()

    guest.run_for((LIMITS.newcomer_beats - 1) * LIMITS.beat_s - 0.5)
    assert guest.files.journal == []

    guest.run_for(LIMITS.beat_s)
    assert guest.files.journal == [("replace", "status/agent.json")]
    assert guest.heartbeat is not None
    assert (guest.heartbeat.run_id, guest.heartbeat.farm) == ("run-1", None)

    guest.run_for(1)
    assert guest.playing == attempt(1)
    assert guest.heartbeat is not None
    assert guest.heartbeat.run_id == "run-1"


def test_new_agent_exits_if_other_heartbeat_advances(tmp_path: Path) -> None:
    """If the counter rises under another run id, the new agent exits without having written anything."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 7)))
    guest.run_for(2 * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 8)))
    guest.files.journal.clear()

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.run_for(2)

    assert guest.files.journal == []


def test_new_agent_exits_if_other_agent_starts_meanwhile(tmp_path: Path) -> None:
    """An agent whose first heartbeat comes during the watching period is noticed by its second one."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.run_for(5)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))
    guest.run_for(5)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 2)))

    with pytest.raises(OtherAgentActive):
        guest.run_for(2)


def test_one_of_two_new_agents_exits(tmp_path: Path) -> None:
    """Both start at once and see no other agent -> both announce themselves -> the one whose announcement is gone
    exits."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    first = guest.agent
    guest.start_agent()
    ended: set[Agent] = set()
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


def test_new_agent_waits_one_interval_after_late_announcement(tmp_path: Path) -> None:
    """the disk delays the announcement by seconds -> another announcement must still be noticed (seed 67844)."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.publish_start()
    guest.run_for((LIMITS.newcomer_beats - 1) * LIMITS.beat_s - 1)
    guest.time.now += 3 * LIMITS.beat_s

    guest.step()

    announced_at = guest.time.now
    assert guest.heartbeat is not None
    while guest.evaluator.running is None:
        guest.run_for(0.5)
    assert guest.time.now >= announced_at + LIMITS.beat_s


@pytest.mark.parametrize("own_disk", [False, True])
def test_frozen_agent_exits_when_successor_took_over(tmp_path: Path, own_disk: bool) -> None:
    """Frozen during an evaluation, another agent took over -> it exits without writing anything. On an own disk that
    is an agent which uses another lock.
    """
    guest = AgentHarness(tmp_path, share_is_local=own_disk)
    guest.publish_owner()
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.publish_start()
    guest.run_for(1)
    guest.time.now += 60
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 3, farm=FARM, worker=WORKER, epoch=1)))
    guest.finish_evaluation()
    guest.files.journal.clear()

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.step()

    assert guest.files.journal == []


def test_agent_frozen_between_artifacts_exits_too(tmp_path: Path) -> None:
    """Every heartbeat first reads the last one, also the heartbeats during the publication of a large result."""
    (tmp_path / "replay").write_bytes(b"replay")
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.publish_start()
    guest.run_for(1)
    beat = layout.encode(records.beat("other", 3, farm=FARM, worker=WORKER, epoch=1))

    def freeze() -> None:
        guest.time.now += 60
        guest.files.files["status/agent.json"] = beat

    guest.files.on_write = freeze
    guest.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / "replay"]))

    with pytest.raises(OtherAgentActive, match="run other"):
        guest.step()

    assert guest.files.files["status/agent.json"] == beat


@pytest.mark.parametrize("own_disk", [False, True])
def test_running_agent_ignores_announcement_of_new_agent(tmp_path: Path, own_disk: bool) -> None:
    """An announcement does not begin work: the new agent will see this heartbeat, and exit."""
    guest = AgentHarness(tmp_path, share_is_local=own_disk)
    guest.publish_owner()
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))

    guest.run_for(LIMITS.beat_s)

    assert guest.heartbeat is not None
    assert guest.heartbeat.run_id == "run-1"


def test_heartbeat_of_ended_agent_is_no_successor_on_own_disk(agent: AgentHarness) -> None:
    """The lock has shown that the agent which wrote it has ended."""
    agent.files.replace("status/agent.json", layout.encode(records.beat("other", 3, farm=FARM, worker=WORKER, epoch=1)))
    agent.start_agent()

    agent.run_for(3 * LIMITS.beat_s)

    assert agent.heartbeat is not None
    assert agent.heartbeat.run_id == "run-2"


def test_unreadable_share_restarts_watching_period(tmp_path: Path) -> None:
    """unreadable for three intervals -> readable: only now the three intervals begin."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.files.troubles = {("read", "status")}
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.files.troubles = set()
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 1)))
    guest.run_for(2 * LIMITS.beat_s)
    guest.files.replace("status/agent.json", layout.encode(records.beat("other", 2)))

    with pytest.raises(OtherAgentActive):
        guest.run_for(2)


def test_agent_exits_if_attempt_is_claimed_by_other_agent(agent: AgentHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a claim appears between scan and claim, another agent works here: the agent exits and starts no evaluation."""
    agent.publish_start()
    original = agent.files.fetch

    def fetch(path: str, destination: Path, bytes_max: int) -> str:
        agent.files.files[f"outbox/{started()}"] = b"claimed by another agent"
        return original(path, destination, bytes_max)

    monkeypatch.setattr(agent.files, "fetch", fetch)

    with pytest.raises(OtherAgentActive, match="claimed by another agent"):
        agent.step()

    assert agent.evaluator.jobs == []


def test_absence_on_foreign_disk_counts_after_delay(other_agent: AgentHarness) -> None:
    """A missing start signal stops the evaluation only after 12 s, because Windows may return stale listings."""
    other_agent.publish_start()
    other_agent.run_for(1)
    other_agent.withdraw()

    other_agent.run_for(LIMITS.gone_after_s - 1)
    assert other_agent.evaluator.stops == 0
    assert other_agent.outbox == {started()}

    other_agent.run_for(2)
    assert other_agent.evaluator.stops == 1
    assert other_agent.outbox == set()


def test_reappearing_start_signal_restarts_delay(other_agent: AgentHarness) -> None:
    """A start signal that appears again in between restarts the 12 s."""
    other_agent.publish_start()
    other_agent.run_for(1)
    for _ in range(5):
        record = other_agent.files.files.pop(f"inbox/{attempt(1)}.start.json")
        other_agent.run_for(LIMITS.gone_after_s - 1)
        other_agent.files.files[f"inbox/{attempt(1)}.start.json"] = record
        other_agent.run_for(1)

    assert other_agent.evaluator.stops == 0
    assert other_agent.playing == attempt(1)


def test_successful_open_restarts_absence_delay(other_agent: AgentHarness) -> None:
    """A start signal that can be opened by name is present, whatever the listing says, and the 12 s restart."""
    other_agent.publish_start()
    other_agent.run_for(1)
    path = f"inbox/{attempt(1)}.start.json"
    other_agent.files.unlisted = {path}
    for _ in range(5):
        record = other_agent.files.files.pop(path)
        other_agent.run_for(LIMITS.gone_after_s - 1)
        other_agent.files.files[path] = record
        other_agent.run_for(1)

    assert other_agent.evaluator.stops == 0
    assert other_agent.playing == attempt(1)


def test_stale_listing_does_not_stop_evaluation(agent: AgentHarness) -> None:
    """A file that a listing omits but that can be opened by name is present."""
    agent.publish_start()
    agent.step()
    agent.files.unlisted = {f"inbox/{attempt(1)}.start.json"}

    agent.run_for(60)

    assert agent.evaluator.stops == 0
    assert agent.playing == attempt(1)
