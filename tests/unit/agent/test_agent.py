"""The agent's loop, step by step, on a share in memory: the test acts as the host, moves the clock and ends
evaluations."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent.evaluation.protocol import EvaluationResult
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, Kind, Outcome, StartedRecord
from inbox_agent.share_scanner import KEPT_S
from inbox_agent.system.desktop import DesktopSession
from pipeline.core.limits import Limits
from tests.harness import records
from tests.harness.agent_harness import COMPLETED, LIMITS, AgentHarness, answered, started
from tests.harness.records import FARM, GENOME, VERSION, WORKER, attempt, sha256

# ------------------------------------------------------------------------------------------ claim, evaluation, result


def test_attempt_runs_from_start_signal_to_result(agent: AgentHarness) -> None:
    """start signal -> claim -> evaluation -> result -> start signal removed -> the agent cleans and idles."""
    agent.publish_start()
    agent.step()
    assert agent.outbox == {started()}
    assert agent.claim() == StartedRecord(
        farm=FARM, worker=WORKER, epoch=1, attempt=attempt(1), evaluator=VERSION, boot_id="boot", run_id="run-1"
    )

    agent.finish_evaluation()
    agent.step()
    assert agent.outbox == {started(), answered()}
    assert agent.result() == records.result(1, run_id="run-1")

    agent.withdraw()
    agent.step()
    assert agent.outbox == set()
    assert agent.files.names("outbox/tmp") == []
    assert agent.playing is None


def test_evaluator_gets_values_of_start_signal(agent: AgentHarness) -> None:
    """Trial, seed, limit, settings and the genome's bytes and suffix come from the share unchanged."""
    settings = {"map": "Ⅸ", "fast": True, "level": 3, "speed": 1.5}
    agent.publish_start(trial=3, seed=2**31 - 1, time_limit_s=0.5, settings=settings, genome_suffix=".json")
    agent.step()

    [job], [genome] = agent.evaluator.jobs, agent.evaluator.played
    assert (job.trial, job.seed, job.time_limit_s, dict(job.settings)) == (3, 2**31 - 1, 0.5, settings)
    assert (job.attempt, job.genome.name, genome) == (attempt(1), "genome.json", GENOME)


def test_lowest_publication_is_claimed_first(agent: AgentHarness) -> None:
    """The order of publication counts, not that of the names; one attempt at a time."""
    agent.publish_start(1, publication=30)
    agent.publish_start(2, publication=20)
    agent.publish_start(3, publication=9)

    for _ in range(3):
        agent.step()
        agent.finish_evaluation()
    agent.step()

    assert [job.attempt for job in agent.evaluator.jobs] == [attempt(3), attempt(2), attempt(1)]


def test_claim_is_published_before_evaluation_starts(agent: AgentHarness) -> None:
    """When the evaluator starts, the claim is already published."""
    at_start: list[set[str]] = []
    agent.evaluator.on_start = lambda: at_start.append(agent.outbox)
    agent.publish_start()

    agent.step()

    assert at_start == [{started()}]


def test_claim_is_durable_and_result_is_published_last(agent: AgentHarness, tmp_path: Path) -> None:
    """claim, then log and artifacts, then the record that refers to them."""
    (tmp_path / "replay.bin").write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay.bin"]))
    agent.step()

    assert [entry for entry in agent.files.journal if entry[1].startswith("outbox/")] == [
        ("publish durably", f"outbox/{started()}"),
        ("write", f"outbox/{attempt(1)}.log"),
        ("write", f"outbox/{attempt(1)}.files/replay.bin"),
        ("publish", f"outbox/{answered()}"),
    ]
    log, [artifact] = agent.result().log, agent.result().artifacts
    assert log is not None
    assert (log.name, log.size_bytes, log.sha256) == (f"{attempt(1)}.log", 5, sha256(b"hello"))
    assert (artifact.name, artifact.size_bytes, artifact.sha256) == ("replay.bin", 6, sha256(b"replay"))


@pytest.mark.parametrize(("alone", "how"), [(False, "publish"), (True, "publish durably")])
def test_agent_of_local_host_flushes_claims_of_suspects_alone(agent: AgentHarness, alone: bool, how: str) -> None:
    """When their system crashes the host ends as well, and an ordinary claim tells its successor nothing."""
    agent.host_is_local = True
    agent.start_agent()
    agent.publish_start(alone=alone)

    agent.step()

    assert (how, f"outbox/{started()}") in agent.files.journal


def test_several_short_games_are_played_from_one_scan(agent: AgentHarness) -> None:
    """Only their genomes are read; what came meanwhile is found by the next scan."""
    for number in (1, 2):
        agent.publish_start(number)
    agent.step()
    agent.finish_evaluation()
    agent.publish_start(3)
    agent.files.asked.clear()

    agent.step()

    assert agent.playing == attempt(2)
    assert agent.files.asked == [f"inbox/{attempt(2)}.genome"]
    agent.finish_evaluation()
    agent.step()
    assert agent.playing == attempt(3)


def test_scan_that_is_not_recent_is_not_played_from(agent: AgentHarness) -> None:
    """A start signal that was removed during a game is not played."""
    for number in (1, 2):
        agent.publish_start(number)
    agent.step()
    agent.finish_evaluation()
    agent.withdraw(2)
    agent.time.now += KEPT_S

    agent.step()

    assert agent.playing is None


def test_scan_during_a_game_replaces_what_was_kept(agent: AgentHarness) -> None:
    """A long game, and a scan just before its end: the scan before the game does not count as recent."""
    for number in (1, 2):
        agent.publish_start(number)
    agent.step()
    agent.withdraw(2)
    agent.time.now += 60
    agent.step()
    agent.finish_evaluation()

    agent.step()

    assert agent.playing is None


def test_host_record_is_read_before_every_claim_on_a_foreign_disk(tmp_path: Path) -> None:
    """That disk does not go back in time together with the agent's memory, and so may show another epoch."""
    guest = AgentHarness(tmp_path, share_is_local=False)
    guest.publish_owner()
    for number in (1, 2):
        guest.publish_start(number)
    guest.run_for(20)
    assert guest.playing == attempt(1)
    guest.finish_evaluation()
    guest.files.asked.clear()

    guest.step()

    assert guest.playing == attempt(2)
    assert "inbox/1.host.json" in guest.files.asked


def test_finished_attempt_stays_until_start_signal_is_removed(agent: AgentHarness) -> None:
    """While the start signal exists, nothing of the attempt is removed and it is not repeated."""
    agent.publish_start()
    agent.step()
    agent.finish_evaluation()
    agent.run_for(300)

    assert agent.outbox == {started(), answered()}
    assert len(agent.evaluator.jobs) == 1


def test_empty_log_is_not_published(agent: AgentHarness) -> None:
    """The record does not refer to an empty log."""
    agent.publish_start()
    agent.step()
    agent.finish_evaluation()
    agent.step()

    assert agent.result().log is None
    assert f"{attempt(1)}.log" not in agent.outbox


@pytest.mark.skipif(sys.platform == "win32", reason="some of these names cannot be made there")
def test_artifacts_with_unsafe_names_are_stored_by_number(agent: AgentHarness, tmp_path: Path) -> None:
    """Names that are not safe everywhere are replaced, and the number of artifacts is limited."""
    names = ["Replay.BIN", "con.txt", "a b", "trail.", *(f"{n:02d}.png" for n in range(20))]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / name for name in names]))
    agent.step()

    refs = agent.result().artifacts
    assert len(refs) == layout.ARTIFACTS_MAX
    assert [ref.name for ref in refs[:5]] == ["artifact-0", "artifact-1", "artifact-2", "artifact-3", "00.png"]
    for ref, name in zip(refs, names, strict=False):
        assert agent.files.files[f"outbox/{attempt(1)}.files/{ref.name}"] == name.encode()


def test_numbered_artifacts_do_not_collide(agent: AgentHarness, tmp_path: Path) -> None:
    """`BAD` is stored as `artifact-0`, which is also the name of the next artifact."""
    names = ["BAD", "artifact-0", "artifact-0-1"]
    for name in names:
        (tmp_path / name).write_text(name)
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / name for name in names]))
    agent.step()

    refs = agent.result().artifacts
    assert [agent.files.files[f"outbox/{attempt(1)}.files/{ref.name}"].decode() for ref in refs] == names


def test_failure_reason_is_one_printable_line(agent: AgentHarness) -> None:
    """The evaluator's reason is cleaned and truncated before it is published."""
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(EvaluationResult(outcome=Outcome.FAILED, reason="\x1b[2J\n" + "no " * 1000, seconds=1.0))
    agent.step()

    assert agent.result().outcome is Outcome.FAILED
    assert agent.result().fitness is None
    assert agent.result().reason.startswith("[2J no no")
    assert len(agent.result().reason) == layout.REASON_CHARS_MAX


def test_vanished_artifact_does_not_block_result(agent: AgentHarness, tmp_path: Path) -> None:
    """A leftover process of a game may remove a file after it was listed; the fitness still counts."""
    (tmp_path / "replay").write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, artifacts=[tmp_path / "gone", tmp_path / "replay"]))
    agent.run_for(30)

    assert agent.result().fitness == 2.5
    assert [ref.name for ref in agent.result().artifacts] == ["replay"]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and no free links in folders")
@pytest.mark.timeout(20)
def test_artifact_that_became_pipe_or_link_is_left_out(agent: AgentHarness, tmp_path: Path) -> None:
    """As above: a leftover process may put anything in its place. Nothing is waited for or followed."""
    (tmp_path / "replay").write_bytes(b"replay")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "replay")
    agent.publish_start()
    agent.step()
    found = [tmp_path / name for name in ("pipe", "link", "replay")]
    agent.finish_evaluation(replace(COMPLETED, artifacts=found))
    agent.run_for(30)

    assert agent.result().fitness == 2.5
    assert [ref.name for ref in agent.result().artifacts] == ["replay"]


# --------------------------------------------------------------------------------------------------------- withdrawal


def test_withdrawn_attempt_is_stopped_and_cleaned(agent: AgentHarness) -> None:
    """When its start signal is removed, the evaluation is stopped and all files of the attempt are removed."""
    agent.publish_start()
    agent.step()
    agent.withdraw()
    agent.step()

    assert agent.evaluator.stops == 1
    assert agent.outbox == set()
    agent.run_for(60)
    assert agent.evaluator.stops == 1


def test_next_attempt_starts_in_same_round_after_withdrawal(agent: AgentHarness) -> None:
    """One round stops, cleans, and claims the next attempt."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.step()
    agent.withdraw(1)
    agent.step()

    assert agent.playing == attempt(2)
    assert agent.outbox == {started(2)}


def test_result_of_withdrawn_attempt_is_not_published(agent: AgentHarness) -> None:
    """An attempt that is withdrawn before its result could be published leaves no files."""
    agent.publish_start()
    agent.step()
    agent.files.troubles = {("publish", "outbox")}
    agent.finish_evaluation()
    agent.step()
    agent.withdraw()
    agent.step()
    agent.files.troubles = set()
    agent.run_for(60)

    assert agent.outbox == set()


def test_records_are_removed_before_their_payloads(agent: AgentHarness, tmp_path: Path) -> None:
    """claim -> result -> log -> artifacts: no claim without its result, no result without its payloads."""
    (tmp_path / "replay").write_bytes(b"replay")
    agent.publish_start()
    agent.step()
    agent.finish_evaluation(replace(COMPLETED, log=b"hello", artifacts=[tmp_path / "replay"]))
    agent.step()
    agent.withdraw()
    agent.step()

    removed = [path for verb, path in agent.files.journal if verb == "remove"]
    assert removed == [f"outbox/{attempt(1)}{end}" for end in (".started.json", ".result.json", ".log", ".files")]
    assert agent.outbox == set()


def test_unknown_files_are_not_removed(agent: AgentHarness) -> None:
    """Only files named after an attempt are ever removed."""
    agent.files.write("outbox/notes.txt", b"a person was here")
    agent.files.write("outbox/g1.result.json", b"almost an attempt")

    agent.run_for(60)

    assert agent.outbox == {"notes.txt", "g1.result.json"}


def test_staged_leftovers_are_removed_after_owner_is_known(tmp_path: Path) -> None:
    """Records in `outbox/tmp/` are removed and no other files, but not before the owner is known."""
    guest = AgentHarness(tmp_path)
    record = Kind.RESULT.of(attempt(1))
    guest.files.write(f"outbox/tmp/{record}", b"...")
    guest.files.write("outbox/tmp/notes.txt", b"...")
    guest.run_for(60)
    assert sorted(guest.files.names("outbox/tmp")) == [record, "notes.txt"]

    guest.publish_owner()
    guest.step()

    assert guest.files.names("outbox/tmp") == ["notes.txt"]


# ------------------------------------------------------------------------------------------------------ the heartbeat


def beats_during(agent: AgentHarness, seconds: float) -> list[float]:
    """The times of heartbeats, counted from now."""
    began, times, counter = agent.time.now, [], agent.counter
    while agent.time.now < began + seconds:
        rest = agent.step()
        if agent.counter != counter:
            counter = agent.counter
            times.append(agent.time.now - began)
        agent.agent.wait(rest)
    return times


def test_heartbeat_is_written_while_idle_and_during_evaluation(agent: AgentHarness) -> None:
    """Every 5 s, both while idle and during an evaluation."""
    assert beats_during(agent, 21) == [0, 5, 10, 15, 20]

    agent.publish_start()
    assert beats_during(agent, 21) == [4, 9, 14, 19]


def test_new_agent_sends_heartbeat_before_silence_limit() -> None:
    """Also while it watches a share on another disk first: otherwise a healthy worker would be restarted."""
    assert 2 * LIMITS.newcomer_beats * LIMITS.beat_s <= Limits().silence_limit_s
    assert 2 * LIMITS.newcomer_beats * LIMITS.beat_s <= Limits().agent_restart_limit_s


def test_heartbeat_shows_running_evaluation(agent: AgentHarness) -> None:
    """The first heartbeat after the start of an evaluation shows it."""
    agent.step()
    agent.publish_start()
    agent.run_for(LIMITS.beat_s)

    assert agent.heartbeat is not None
    assert (agent.counter, agent.heartbeat.state) == (2, AgentState.PLAYING)


def test_heartbeat_has_owner_attempt_and_progress(agent: AgentHarness) -> None:
    """Agent, owner, attempt and progress, in a record that a host decodes."""
    agent.publish_start()
    agent.step()
    agent.evaluator.progress = "level 3"
    agent.run_for(2 * LIMITS.beat_s)

    beat = agent.heartbeat
    assert beat is not None
    assert (beat.farm, beat.worker, beat.epoch) == (FARM, WORKER, 1)
    assert (beat.boot_id, beat.run_id, beat.counter) == ("boot", "run-1", agent.counter)
    assert (beat.state, beat.attempt, beat.progress) == (AgentState.PLAYING, attempt(1), "level 3")
    assert (beat.versions, beat.evaluator) == ({"agent": "1"}, agent.evaluator.version)
    assert (beat.session, beat.desktop) == ("1", "Default, 1280x720, Display")


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(DesktopSession(id="0", desktop=""), id="a service's"),
        pytest.param(DesktopSession(id="2", desktop="Default", locked=True, width=1280, height=720), id="locked"),
    ],
)
def test_heartbeat_reports_missing_desktop(agent: AgentHarness, session: DesktopSession) -> None:
    """Also when the desktop changed after the agent's start."""
    agent.publish_start()
    agent.step()
    agent.session = session
    agent.run_for(2 * LIMITS.beat_s)

    assert agent.heartbeat is not None
    assert (agent.heartbeat.session, agent.heartbeat.desktop) == (session.id, "")


def test_long_adapter_name_is_truncated_in_heartbeat(agent: AgentHarness) -> None:
    """The name from the driver is truncated to the limit of the record."""
    agent.session = DesktopSession(id="1", desktop="Default", adapter="\x07 Display" * 40)
    agent.publish_start()
    agent.step()

    assert agent.heartbeat is not None
    assert len(agent.heartbeat.desktop) <= layout.SESSION_CHARS_MAX


def test_agent_never_busy_loops(agent: AgentHarness) -> None:
    """During work, damage, errors and withdrawal no round asks for another at once without having done something."""
    numbers = iter(range(1, 1000))
    for trouble in (set(), {("publish", "outbox")}, {("names", "inbox")}, {("replace", "status")}, set()):
        agent.files.troubles = set()
        good, damaged = next(numbers), next(numbers)
        agent.publish_start(good)
        agent.publish_start_record(damaged, b"")
        agent.step()
        agent.files.troubles = trouble
        agent.run_for(20)
        if agent.playing:
            agent.finish_evaluation()
        agent.run_for(20)
        agent.withdraw(good)
        agent.withdraw(damaged)
        agent.run_for(20)

    assert len(agent.evaluator.jobs) >= 3  # evaluations did run meanwhile
    assert agent.outbox == set()
