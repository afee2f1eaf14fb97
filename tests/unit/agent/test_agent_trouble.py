"""Errors of the share: full, files held open, unreachable; claims and results with lost responses."""

from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent.agent import CLEAN_AGAIN_S
from inbox_agent.other_agents import OtherAgentActive
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, Outcome, StartedRecord
from inbox_agent.results import REFUSALS_MAX
from inbox_agent.share_scanner import AgentLimits
from tests.harness import records
from tests.harness.agent_harness import COMPLETED, LIMITS, AgentHarness, answered, started
from tests.harness.records import FARM, VERSION, WORKER, attempt


def test_open_file_does_not_stop_heartbeat(agent: AgentHarness) -> None:
    """Another program holds an old log open: heartbeats and evaluations continue, removal is retried."""
    agent.publish_start(1)
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, log=b"hello"))
    agent.step()
    agent.files.troubles = {("remove", f"outbox/{attempt(1)}.log")}
    agent.withdraw(1)
    agent.publish_start(2)
    beats = agent.counter

    agent.run_for(30)

    assert agent.playing == attempt(2)
    assert agent.counter > beats + 3
    assert f"outbox/{attempt(1)}.log" in agent.files.files
    agent.files.troubles = set()
    agent.run_for(CLEAN_AGAIN_S + LIMITS.poll_s)
    assert agent.outbox == {started(2)}


def test_unreadable_outbox_ends_round(agent: AgentHarness) -> None:
    """The rest of the round is skipped until the outbox can be read."""
    agent.publish_start(1)
    agent.step()
    agent.finish_evaluation(COMPLETED)
    agent.step()
    agent.withdraw(1)
    agent.publish_start(2)
    agent.files.troubles = {("remove", "outbox"), ("names", "outbox")}
    agent.run_for(3)
    assert agent.playing is None

    agent.files.troubles = set()
    agent.run_for(LIMITS.poll_s)

    assert agent.outbox == {started(2)}


def test_scratch_folder_is_cleared_when_share_is_full(agent: AgentHarness) -> None:
    """Share and scratch folder are on one disk; the fitness is more important than the game's files."""
    agent.publish_start()
    agent.step()
    name = f"outbox/{answered()}"
    agent.files.too_big = {name}
    agent.evaluator.on_prepare = lambda _suffix: agent.files.too_big.clear()
    agent.finish_evaluation(COMPLETED)

    agent.run_for(LIMITS.poll_s)

    assert agent.result().fitness == 2.5


def test_copied_artifact_stays_in_result_after_clearing_scratch(agent: AgentHarness, tmp_path: Path) -> None:
    """Clearing removes the game's files, but not the copies on the share."""
    (tmp_path / "replay").write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.files.too_big = {f"outbox/{answered()}"}

    def make_room(_suffix: str) -> None:
        (tmp_path / "replay").unlink()
        agent.files.too_big.clear()

    agent.evaluator.on_prepare = make_room
    agent.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / "replay"]))

    agent.run_for(LIMITS.poll_s)

    assert [ref.name for ref in agent.result().artifacts] == ["replay"]
    assert f"outbox/{attempt(1)}.files/replay" in agent.files.files


def test_failed_heartbeat_between_artifacts_is_ignored(agent: AgentHarness, tmp_path: Path) -> None:
    """A heartbeat between two artifacts may fail without an effect on the result."""
    (tmp_path / "replay").write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / "replay"]))
    agent.time.now += 2 * LIMITS.beat_s
    agent.files.troubles = {("replace", "status")}

    agent.step()

    assert [ref.name for ref in agent.result().artifacts] == ["replay"]


def test_scratch_folder_is_kept_on_foreign_disk(tmp_path: Path) -> None:
    """The game's files are on another disk than the share; its artifacts still have to be copied."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    guest.run_for(LIMITS.newcomer_beats * LIMITS.beat_s)
    guest.publish_start()
    guest.run_for(1)
    prepared: list[str] = []
    guest.evaluator.on_prepare = prepared.append
    guest.files.too_big = {f"outbox/{answered()}"}
    guest.finish_evaluation()

    guest.run_for(LIMITS.poll_s)

    assert prepared == []


def test_heartbeat_is_written_between_artifacts(agent: AgentHarness, tmp_path: Path) -> None:
    """Each artifact may take long on a slow share; together they exceed the silence limit."""
    paths = [tmp_path / f"replay-{number}" for number in range(8)]
    for path in paths:
        path.write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, artifacts=paths))
    agent.files.on_write = lambda: agent.time.wait(LIMITS.beat_s)
    beats = agent.counter

    agent.step()

    assert agent.counter >= beats + 7
    assert len(agent.result().artifacts) == 8


@pytest.mark.parametrize("verb", ["write", "publish"])
def test_result_is_retried_until_disk_has_room(agent: AgentHarness, verb: str) -> None:
    """The agent keeps the result in memory, writes heartbeats, claims nothing, and publishes when there is room."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.files.troubles = {(verb, "outbox")}
    agent.finish_evaluation(replace(COMPLETED, log=b"hello"))
    agent.run_for(60)
    assert answered() not in agent.outbox
    assert agent.heartbeat is not None
    assert (agent.heartbeat.state, agent.heartbeat.attempt) == (AgentState.REPORTING, attempt(1))
    assert len(agent.evaluator.jobs) == 1

    agent.files.troubles = set()
    agent.run_for(LIMITS.poll_s)

    assert agent.result().fitness == 2.5
    assert agent.playing == attempt(2)


def test_artifact_without_room_is_left_out(agent: AgentHarness, tmp_path: Path) -> None:
    """An artifact that does not fit is left out and its partial copy removed; the result is published."""
    (tmp_path / "replay").write_bytes(b"replay")
    (tmp_path / "notes").write_bytes(b"notes")
    files = f"outbox/{attempt(1)}.files"
    agent.files.too_big = {f"{files}/replay", f"outbox/{attempt(1)}.log"}
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay", tmp_path / "notes"]))
    agent.step()

    result = agent.result()
    assert (result.fitness, result.log) == (2.5, None)
    assert [ref.name for ref in result.artifacts] == ["notes"]
    assert f"{files}/replay" not in agent.files.files


@pytest.mark.parametrize("payload", ["log", "files/screen"])
def test_refused_payload_is_left_out_after_retries(agent: AgentHarness, tmp_path: Path, payload: str) -> None:
    """A virus scanner refuses one payload: after some retries the result is published without it."""
    for name in ("replay", "screen"):
        (tmp_path / name).write_bytes(name.encode())
    agent.publish_start()
    agent.step()
    agent.files.held = {f"outbox/{attempt(1)}.{payload}"}
    agent.finish_evaluation(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay", tmp_path / "screen"]))

    agent.run_for(LIMITS.beat_s * REFUSALS_MAX)

    result = agent.result()
    kept = {"log": result.log is not None, **{f"files/{ref.name}": True for ref in result.artifacts}}
    assert result.outcome is Outcome.COMPLETED
    assert {name for name, there in kept.items() if there} == {"log", "files/replay", "files/screen"} - {payload}


def test_payload_accepted_on_retry_is_in_result(agent: AgentHarness) -> None:
    """Another program closed the file before the agent gave up."""
    agent.publish_start()
    agent.step()
    agent.files.held = {f"outbox/{attempt(1)}.log"}
    agent.finish_evaluation(replace(COMPLETED, log=b"hello"))
    agent.step()
    assert answered() not in agent.outbox
    agent.files.held = set()

    agent.run_for(LIMITS.poll_s)

    assert agent.result().log is not None


def test_unconfirmed_claim_is_kept_while_owner_is_unknown(agent: AgentHarness) -> None:
    """For a moment `host.json` is missing: no claim may be treated as gone."""
    agent.files.unheard = {("publish", "outbox")}
    agent.publish_start()
    agent.step()
    agent.files.unheard = set()
    hosts = {path: data for path, data in agent.files.files.items() if path.endswith(".host.json")}
    for path in hosts:
        del agent.files.files[path]
    agent.step()
    agent.files.files.update(hosts)

    agent.run_for(LIMITS.poll_s)

    assert agent.playing == attempt(1)


def test_evaluation_waits_until_claim_is_published(agent: AgentHarness) -> None:
    """An evaluation starts only when its claim is on the disk; publication is retried with every scan."""
    agent.files.troubles = {("publish", "outbox")}
    agent.publish_start()
    agent.run_for(30)
    assert agent.evaluator.jobs == []

    agent.files.troubles = set()
    agent.run_for(LIMITS.poll_s)

    assert agent.playing == attempt(1)


def test_claim_with_lost_response_is_used(agent: AgentHarness) -> None:
    """The claim exists, but its publication reported an error: the next scan starts the evaluation without a charge."""
    agent.files.unheard = {("publish", "outbox")}
    agent.publish_start()
    agent.step()
    assert (started() in agent.outbox, agent.playing) == (True, None)

    agent.files.unheard = set()
    agent.run_for(LIMITS.poll_s)
    agent.finish_evaluation()
    agent.run_for(LIMITS.poll_s)

    assert agent.result().outcome is Outcome.COMPLETED
    assert len(agent.evaluator.jobs) == 1


def test_torn_claim_is_given_up(agent: AgentHarness) -> None:
    """Its run is unknown, so the attempt is not evaluated."""
    agent.files.unheard = {("publish", "outbox")}
    agent.publish_start()
    agent.step()
    agent.files.files[f"outbox/{started()}"] = b""
    agent.files.unheard = set()

    agent.run_for(2 * LIMITS.poll_s)

    assert agent.result().outcome is Outcome.INTERRUPTED
    assert agent.evaluator.jobs == []


def test_agent_exits_if_unconfirmed_claim_is_of_other_agent(agent: AgentHarness) -> None:
    """Of two agents on one share the second one exits."""
    agent.files.troubles = {("publish", "outbox")}
    agent.publish_start()
    agent.step()
    agent.files.troubles = set()
    theirs = StartedRecord(
        farm=FARM, worker=WORKER, epoch=1, attempt=attempt(1), evaluator=VERSION, boot_id="another", run_id="another"
    )
    agent.files.files[f"outbox/{started()}"] = layout.encode(theirs)

    with pytest.raises(OtherAgentActive, match="claimed by another agent"):
        agent.run_for(2 * LIMITS.poll_s)


def test_agent_without_readable_inbox_stops_heartbeat(agent: AgentHarness) -> None:
    """An agent that cannot see start signals must not seem alive; its evaluation continues."""
    agent.publish_start()
    agent.step()
    agent.run_for(10)
    beats = agent.counter
    agent.files.troubles = {("names", "inbox")}
    agent.run_for(60)
    assert agent.counter == beats
    assert agent.playing == attempt(1)

    agent.files.troubles = set()
    agent.run_for(LIMITS.poll_s)

    assert agent.counter == beats + 1


def test_failed_heartbeat_is_retried_early(tmp_path: Path) -> None:
    """Three failed heartbeats in a row would let another agent take over on another disk (seed 81246)."""
    limits = AgentLimits(poll_s=30.0)
    guest = AgentHarness(tmp_path, limits=limits)
    guest.publish_start()
    guest.step()
    guest.time.wait(limits.beat_s)
    guest.files.troubles = {("replace", "status")}

    assert guest.agent.step() <= limits.beat_s / 4


def test_unreadable_share_is_not_treated_as_empty(agent: AgentHarness) -> None:
    """Neither evaluation nor files are touched while a listing or an open by name fails."""
    agent.publish_start()
    agent.step()
    agent.withdraw()
    agent.files.troubles = {("read", "inbox")}
    agent.run_for(60)
    agent.files.troubles = {("names", "outbox")}
    agent.run_for(60)

    assert agent.evaluator.stops == 0
    assert agent.playing == attempt(1)


def test_existing_result_is_not_replaced(agent: AgentHarness) -> None:
    """A publication whose response was lost is not repeated: the first record remains."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.finish_evaluation()
    agent.files.publish(f"outbox/{answered()}", layout.encode(records.result(1, fitness=1.0)))

    agent.step()

    assert agent.result(1).fitness == 1.0
    assert agent.playing == attempt(2)


def test_share_that_stays_unavailable_is_logged_once(agent: AgentHarness, caplog: pytest.LogCaptureFixture) -> None:
    """And again when it fails once more after it could be asked, or for another reason."""
    agent.files.troubles = {("names", "inbox")}
    agent.run_for(30)
    assert len([line for line in caplog.messages if "cannot be asked" in line]) == 1

    agent.files.troubles = {("names", "outbox")}
    agent.run_for(30)
    agent.files.troubles = set()
    agent.run_for(30)
    agent.files.troubles = {("names", "outbox")}
    agent.run_for(30)
    assert len([line for line in caplog.messages if "cannot be asked" in line]) == 3
