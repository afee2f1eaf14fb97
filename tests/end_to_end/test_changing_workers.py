"""Workers that join and leave while a generation is played: pilots on a common disk, and what a user asks for.

Games that last until the test lets them end replace every wait for the right moment.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.facts import (
    GenomeCharged,
    RecoveryAction,
    RecoveryStarted,
    WorkerDrained,
    WorkerJoined,
    WorkerLeft,
)
from pipeline.inspection.project_reader import ProjectReader
from tests.harness.edited_project import EditedProject
from tests.harness.farm_project import games
from tests.harness.pilot_project import PilotProject, pilot_project
from tests.harness.waiting import PATIENCE_S

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PilotProject]:
    with pilot_project(tmp_path / "farm") as project:
        yield project


def test_pilots_come_and_go_and_every_genome_is_counted_once(project: PilotProject) -> None:
    """The run waits for the first one; one is killed in its game, one is ended, and the host is killed in between."""
    project.add_genomes({**games(16, seconds=0.1), **project.gated(4, after=16)})
    host = project.start()
    first, second = project.start_pilot("p1"), project.start_pilot("p2")
    project.wait_until(lambda: project.playing("p1") and project.playing("p2"))
    second.kill()
    second.wait()
    project.wait_until(lambda: project.archived() >= 4)
    host.kill()
    host.wait()
    third = project.start_pilot("p3")
    host = project.start()
    project.wait_until(lambda: project.playing("p3"))
    first.terminate()
    assert first.wait(PATIENCE_S) == 0
    project.open_gate()
    code, text = project.wait_for_end(host)
    assert code == 0, text
    third.terminate()
    assert third.wait(PATIENCE_S) == 0

    project.assert_counted_once()
    assert "verified" in project.pipeline("verify", "--gen", "1")
    # The one that was killed could not leave; the others took their descriptions away.
    assert [path.name for path in project.workers.glob("*.toml")] == ["p2.toml"]


def test_removed_pilot_ends_and_its_game_is_played_by_another(project: PilotProject) -> None:
    """`pipeline worker remove --now` takes its work back at once, and so ends the batch job."""
    project.add_genomes(project.gated(1))
    host = project.start()
    first = project.start_pilot("p1")
    project.wait_until(lambda: project.playing("p1"))
    project.pipeline("worker", "remove", "p1", "--now")
    project.wait_until(lambda: project.facts(WorkerLeft))
    assert first.wait(PATIENCE_S) == 0
    assert "p1: " not in project.pipeline("status")
    assert project.pipeline("explain", "p1").startswith("p1 has left on ")
    project.start_pilot("p2")
    project.wait_until(lambda: project.playing("p2"))
    project.open_gate()
    code, text = project.wait_for_end(host)

    assert code == 0, text
    assert project.facts(WorkerJoined)[-1:] == [WorkerJoined(worker="p2")]
    *before, last = [row["outcome"] for row in project.attempts()]
    assert set(before) <= {"withdrawn", "interrupted"}  # whether host or pilot has noticed the removal first
    assert last == "completed"
    assert project.facts(GenomeCharged) == []


def test_drained_pilot_finishes_its_game_and_then_rests_until_it_is_returned(project: PilotProject) -> None:
    """Its queue goes back; `status` and `explain` say that it is drained."""
    project.add_genomes(project.gated(3))
    host = project.start()
    project.start_pilot("p1")
    project.wait_until(lambda: project.playing("p1") and project.holds("p1") == 2)
    project.pipeline("worker", "drain", "p1")
    project.wait_until(lambda: project.holds("p1") == 1)
    project.open_gate()
    project.pipeline("worker", "drain", "p1", "--wait")
    status = project.pipeline("status")
    assert "p1: drained, " in status
    assert "the farm cannot go on" not in status
    assert project.pipeline("explain", "p1").startswith("p1 is drained: it gets no more work until ")
    assert host.poll() is None

    project.pipeline("worker", "return", "p1")
    code, text = project.wait_for_end(host)
    assert code == 0, text
    assert [type(fact) for fact in project.facts(WorkerDrained)] == [WorkerDrained]


def test_worker_is_added_by_command_and_removed_after_its_game(project: PilotProject, tmp_path: Path) -> None:
    """Its share may be anywhere; the description is a file that may be edited."""
    project.add_genomes(games(8, seconds=0.05))
    host = project.start()
    share = tmp_path / "elsewhere"
    share.mkdir()
    text = project.pipeline("worker", "add", "w1", "--share", str(share), "--queue-depth", "1")
    assert f"w1 is added: {project.workers / 'w1.toml'}" in text
    project.start_agent(share)
    code, text = project.wait_for_end(host)
    assert code == 0, text
    assert json.loads((project.workers / "w1.toml").read_text().split(" = ")[1].splitlines()[0]) == str(share)
    assert "w1 is removed" in project.pipeline("worker", "remove", "w1")
    assert list(project.workers.glob("*.toml")) == []


def test_local_agent_is_restarted_at_the_users_request(tmp_path: Path) -> None:
    """What it plays is played again; neither worker nor genome is charged."""
    project = EditedProject(tmp_path / "farm")
    try:
        project.configure(workers=1)
        project.add_genomes(project.gated(1))
        host = project.start()
        project.wait_until(lambda: project.playing("local-0"))
        before = project.agent_of("local-0")
        code, text = project.run("worker", "restart", "local-0")
        assert code == 0, text
        project.wait_until(lambda: (now := project.agent_of("local-0")) is not None and now != before)
        project.open_gate()
        code, text = project.wait_for_end(host)
        assert code == 0, text
        assert [row["outcome"] for row in project.attempts()] == ["withdrawn", "completed"]
        with ProjectReader(project.root) as reader:
            facts = [one.fact for one in reader.history(1)]
        assert [fact.action for fact in facts if isinstance(fact, RecoveryStarted)] == [RecoveryAction.RESTART_AGENT]
    finally:
        project.close()


def test_broken_description_is_said_and_changes_nothing(project: PilotProject) -> None:
    """Neither the run nor the worker that it described before ends."""
    project.add_genomes(project.gated(1))
    host = project.start()
    pilot = project.start_pilot("p1")
    project.wait_until(lambda: project.playing("p1"))
    (project.workers / "p1.toml").write_text("share = 7\n")
    (project.workers / "p2.toml").write_text('share = "nowhere"\nsecret = "env:HOME"\n')
    (project.workers / "p3").mkdir()
    (project.workers / "p3.toml").write_text('share = "p3"\n')
    project.wait_until(lambda: list(project.workers.glob("p3/inbox/*.host.json")))  # so the host has read all three
    project.open_gate()
    code, text = project.wait_for_end(host)
    pilot.send_signal(signal.SIGTERM)
    pilot.wait(PATIENCE_S)

    assert code == 0, text
    assert text.count("p1.toml") == text.count("p2.toml") == 1
    project.assert_counted_once()
