"""`pipeline deploy` with real agents on local paths: what it says, what workers have afterwards, and what they play."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inbox_agent.protocol.layout import encode
from inbox_agent.protocol.local_files import LocalFiles
from tests.harness import records
from tests.harness.deployed_project import FUNCTION, DeployedProject, rows
from tests.harness.farm_project import games
from tests.harness.waiting import PATIENCE_S

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

NOT_COUNTED_MAX = 4  # results that are archived, and not recorded when the host is killed: those of two queues


@pytest.fixture
def project(tmp_path: Path) -> Iterator[DeployedProject]:
    """A project with two workers, whose agents the test starts."""
    project = DeployedProject(tmp_path / "farm")
    project.set_up("vm-1", "vm-2", silence_limit_s=4.0)
    yield project
    project.stop_takers()
    project.close()


def start_both(project: DeployedProject) -> None:
    for name in ("vm-1", "vm-2"):
        project.start_taker(name)


# --------------------------------------------------------------------------------------------------- without a host


def test_agents_without_evaluators_get_one_and_play_it(project: DeployedProject) -> None:
    """The table says who has what; then a generation is played by it."""
    start_both(project)

    code, out = project.deploy()

    version = project.versions_of[1]
    assert code == 0, out
    assert rows(out) == dict.fromkeys(("vm-1", "vm-2"), (version, "has deployment 1"))
    project.add_genomes(games(6))
    assert project.run()[0] == 0
    project.assert_counted_once_by(1)
    assert project.run("verify")[0] == 0


def test_worker_that_takes_no_deployments_is_named(project: DeployedProject) -> None:
    """Its agent has files of its own and was started without --accept-evaluators."""
    own = project.game_folder("vm-2")
    project.edit(2, own)
    project.start_taker("vm-1")
    project.start_taker("vm-2", "--python", FUNCTION, "--folder", str(own), takes=False)

    code, out = project.deploy()

    assert code == 1, out
    found = rows(out)
    assert found["vm-1"] == (project.versions_of[1], "has deployment 1")
    assert found["vm-2"] == (
        project.versions_of[2],
        "takes no deployments; start its agent with --accept-evaluators",
    )
    assert "1 of 2 workers do not have it" in out
    assert project.deployments_in("vm-2") == []


def test_silent_worker_is_named_after_the_wait(project: DeployedProject) -> None:
    project.start_taker("vm-1")

    code, out = project.deploy(wait_s=3)

    assert code == 1, out
    assert rows(out)["vm-1"] == (project.versions_of[1], "has deployment 1")
    assert rows(out)["vm-2"][0] == "-"


def test_files_of_another_folder_are_deployed(project: DeployedProject, tmp_path: Path) -> None:
    (tmp_path / "newer").mkdir()
    version = project.edit(7, tmp_path / "newer")
    start_both(project)

    code, out = project.deploy(str(tmp_path / "newer"))

    assert code == 0, out
    assert {evaluator for evaluator, _state in rows(out).values()} == {version}
    project.add_genomes(games(3))
    code, out = project.run()
    assert code == 0, out
    project.assert_counted_once_by(7)


def test_deployment_to_one_worker_leaves_the_other(project: DeployedProject) -> None:
    start_both(project)
    first = project.edit(1)
    assert project.deploy()[0] == 0
    second = project.edit(2)

    code, out = project.deploy("--to", "vm-2")

    assert code == 0, out
    assert rows(out) == {"vm-2": (second, "has deployment 2")}
    assert project.heartbeat("vm-1")["evaluator"] == first


def test_generation_is_played_by_what_was_deployed_to_all(project: DeployedProject) -> None:
    """A worker with another one, deployed to it alone, gets it back first."""
    start_both(project)
    assert project.deploy()[0] == 0
    project.edit(2)
    assert project.deploy("--to", "vm-2")[0] == 0
    project.add_genomes(games(8, 0.3))

    code, out = project.run()

    assert code == 0, out
    project.assert_counted_once_by(1)
    assert set(project.played_by()) == {"vm-1", "vm-2"}


def test_rollback_brings_the_version_before(project: DeployedProject) -> None:
    start_both(project)
    first, _ = project.edit(1), project.deploy()
    second, _ = project.edit(2), project.deploy()
    assert project.heartbeat("vm-1")["evaluator"] == second

    code, out = project.deploy("--rollback")

    assert code == 0, out
    assert {evaluator for evaluator, _state in rows(out).values()} == {first}
    assert project.deployed() == [first, second, first]
    assert project.deploy("--rollback")[0] == 0
    assert project.heartbeat("vm-1")["evaluator"] == second


def test_rollback_without_an_earlier_version_is_refused(project: DeployedProject) -> None:
    code, out = project.deploy("--rollback")
    assert (code, out) == (2, "pipeline: --rollback: no other evaluator was deployed before\n")


def test_what_if_names_the_files_and_changes_nothing(project: DeployedProject) -> None:
    before = set(project.root.rglob("*"))
    code, out = project.deploy("--what-if")

    assert code == 0, out
    assert "  edition.py\n" in out
    assert "  lib/part.py\n" in out
    assert "nothing was changed" in out
    assert set(project.root.rglob("*")) == before


def test_same_files_again_are_the_same_deployment(project: DeployedProject) -> None:
    start_both(project)
    assert project.deploy()[0] == 0
    numbers = {name: project.heartbeat(name)["deployment"] for name in ("vm-1", "vm-2")}

    code, out = project.deploy()

    assert code == 0, out
    assert "deployment 1: " in out
    assert len(project.deployed()) == 1
    assert {name: project.heartbeat(name)["deployment"] for name in ("vm-1", "vm-2")} == numbers


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_project_behind_a_link_is_deployed(project: DeployedProject, tmp_path: Path) -> None:
    start_both(project)
    os.symlink(project.root, tmp_path / "link")
    root, project.root = project.root, tmp_path / "link"
    code, out = project.deploy()
    project.root = root
    assert code == 0, out


# ---------------------------------------------------------------------------------------------------- broken evaluators


def test_broken_evaluator_is_named_without_a_long_wait(project: DeployedProject) -> None:
    start_both(project)
    assert project.deploy()[0] == 0
    (project.root / "edition.py").write_text("def play(:\n")

    code, out = project.run("deploy", within_s=PATIENCE_S)  # shorter than the default of --wait

    assert code == 1, out
    assert all("SyntaxError" in state for _evaluator, state in rows(out).values()), out

    project.edit(3)
    code, out = project.deploy()
    assert code == 0, out


# ------------------------------------------------------------------------------------------------------------- restarts


def test_restarted_agent_plays_what_was_deployed(project: DeployedProject) -> None:
    """Also if nothing of it is left in the share."""
    start_both(project)
    assert project.deploy()[0] == 0
    project.stop_takers()
    for name in ("vm-1", "vm-2"):
        for found in project.deployments_in(name):
            (project.share(name) / "inbox" / found).unlink()
    earlier = {project.heartbeat(name)["run_id"] for name in ("vm-1", "vm-2")}
    start_both(project)

    def have_loaded_it() -> bool:
        """A host that asks before would send it once more."""
        beats = [project.heartbeat(name) for name in ("vm-1", "vm-2")]
        return all(beat["run_id"] not in earlier and beat["evaluator"] == project.versions_of[1] for beat in beats)

    project.wait_until(have_loaded_it)
    project.add_genomes(games(4, 0.2))

    code, out = project.run()

    assert code == 0, out
    project.assert_counted_once_by(1)
    assert all(project.deployments_in(name) == [] for name in ("vm-1", "vm-2"))


def test_agent_whose_state_is_gone_gets_it_again(project: DeployedProject) -> None:
    """A machine that was made anew."""
    start_both(project)
    assert project.deploy()[0] == 0
    project.stop_takers()
    shutil.rmtree(project.state_of("vm-1"))
    start_both(project)
    project.add_genomes(games(8, 0.3))

    code, out = project.run()

    assert code == 0, out
    project.assert_counted_once_by(1)
    assert set(project.played_by()) == {"vm-1", "vm-2"}


def test_agent_that_is_killed_while_it_unpacks_starts_again(project: DeployedProject) -> None:
    """At several moments of taking a large evaluator."""
    (project.root / "weights.py").write_text("\n".join(f"W{n} = {n}" for n in range(200_000)))
    project.edit(1)
    project.start_taker("vm-2")
    new = project.state_of("vm-1") / "evaluators"
    host = project.start("deploy", "--wait", "60")
    for moment in (new, new / "archive.zip", new / "new"):
        project.start_taker("vm-1")
        project.wait_until(moment.exists, every_s=0.0005)
        project.kill_taker("vm-1")
    project.start_taker("vm-1")

    code, out = project.wait_for_end(host)

    assert code == 0, out
    assert {path.name.partition("-")[0] for path in new.iterdir()} == {"v", "current.json"}


# ---------------------------------------------------------------------------------------------------- beside a host


def test_running_host_brings_it_with_the_next_generation(project: DeployedProject) -> None:
    """The generation that is played keeps its version."""
    start_both(project)
    assert project.deploy()[0] == 0
    watch = project.watch()
    project.add_genomes(games(6, 0.4))
    project.wait_until(lambda: project.archived() > NOT_COUNTED_MAX)
    project.edit(2)

    code, out = project.deploy()

    assert (code, out.splitlines()[-1]) == (
        0,
        "a host runs here: it brings the evaluator to each worker when it begins the next generation",
    )
    project.wait_until_finished(1, 6)
    project.add_genomes(games(6, 0.1), generation=2)
    project.wait_until_finished(2, 6)
    assert project.stop(watch) == 0
    project.assert_counted_once_by(1)
    project.assert_counted_once_by(2, generation=2)
    assert project.run("verify")[0] == 0


def test_resumed_generation_keeps_its_version(project: DeployedProject) -> None:
    """Workers that have a newer one get the one back with which it was begun."""
    start_both(project)
    assert project.deploy()[0] == 0
    project.add_genomes(games(12, 0.3))
    host = project.start()
    project.wait_until(lambda: project.archived() > NOT_COUNTED_MAX)
    project.kill(host)
    project.edit(2)
    assert project.deploy()[0] == 0
    assert project.heartbeat("vm-1")["evaluator"] == project.versions_of[2]

    code, out = project.run()

    assert code == 0, out
    project.assert_counted_once_by(1)
    project.add_genomes(games(4), generation=2)
    code, out = project.run("run", "--gen", "2")
    assert code == 0, out
    project.assert_counted_once_by(2, generation=2)


def test_accepted_evaluator_is_the_one_that_was_deployed_last(project: DeployedProject) -> None:
    """With --accept-evaluator a generation goes on with it."""
    start_both(project)
    assert project.deploy()[0] == 0
    project.add_genomes(games(12, 0.3))
    host = project.start()
    project.wait_until(lambda: project.archived() > NOT_COUNTED_MAX)
    project.kill(host)
    project.edit(2)
    assert project.deploy()[0] == 0

    code, out = project.run("run", "--gen", "1", "--accept-evaluator")

    assert code == 0, out
    assert project.versions() == {project.versions_of[1], project.versions_of[2]}


def test_archive_that_is_no_longer_kept_costs_only_the_worker_without_it(project: DeployedProject) -> None:
    """Many deployments while a generation of an old one is played, to which another worker comes back."""
    project.start_taker("vm-1")
    assert project.deploy(wait_s=1)[0] == 1
    watch = project.watch()
    project.add_genomes(games(20, 0.3))
    project.wait_until(lambda: project.archived() > NOT_COUNTED_MAX)
    for edition in range(2, 9):
        project.edit(edition)
        assert project.deploy()[0] == 0
    project.start_taker("vm-2")

    project.wait_until_finished(1, 20)

    assert project.stop(watch) == 0
    assert "Traceback" not in project.output
    project.assert_counted_once_by(1)


def test_generation_with_local_workers_plays_the_files_of_the_project(tmp_path: Path) -> None:
    """They change with an edit; the worker behind a share gets what is deployed then."""
    project = DeployedProject(tmp_path / "farm")
    project.set_up("vm-1")
    settings = project.root / "pipeline.toml"
    settings.write_text(settings.read_text().replace("[local]\nworkers = 0", "[local]\nworkers = 1"))
    try:
        project.start_taker("vm-1")
        assert project.deploy()[0] == 0
        project.add_genomes(games(12, 0.3))
        code, out = project.run()
        assert code == 0, out
        project.assert_counted_once_by(1)
        assert set(project.played_by()) == {"local-0", "vm-1"}

        project.edit(2)
        project.add_genomes(games(4), generation=2)
        code, out = project.run("run", "--gen", "2")
        assert code == 0, out
        project.assert_counted_once_by(2, generation=2)
        assert set(project.played_by(2)) == {"local-0"}

        assert project.deploy()[0] == 0
        project.add_genomes(games(12, 0.3), generation=3)
        code, out = project.run("run", "--gen", "3")
        assert code == 0, out
        project.assert_counted_once_by(2, generation=3)
        assert set(project.played_by(3)) == {"local-0", "vm-1"}
    finally:
        project.stop_takers()
        project.close()


def test_heartbeat_says_whether_an_agent_takes_deployments(project: DeployedProject) -> None:
    """And an agent without an evaluator says why it plays nothing."""
    files = LocalFiles(project.share("vm-1"))
    files.make_folders()
    files.publish("inbox/1.host.json", encode(records.host()))
    project.start_taker("vm-1")
    project.wait_until(lambda: project.heartbeat("vm-1").get("state") == "broken")
    heartbeat = project.heartbeat("vm-1")
    assert (heartbeat["deployment"], heartbeat["evaluator"]) == (0, None)
    assert heartbeat["problem"] == "there is no evaluator yet; `pipeline deploy` on the host brings one"


# ------------------------------------------------------------------------------------------------- corrected evaluators


def test_generation_without_fitness_takes_the_corrected_evaluator(project: DeployedProject) -> None:
    """What was deployed first cannot be loaded, so that nothing was counted."""
    start_both(project)
    (project.root / "edition.py").write_text("import no_such_module\n")
    assert project.deploy()[0] == 1
    project.add_genomes(games(4))
    code, out = project.run()
    assert code == 4, out
    assert "no_such_module" in out

    project.edit(2)
    assert project.deploy()[0] == 0
    code, out = project.run()

    assert code == 0, out
    project.assert_counted_once_by(2)


def test_watch_goes_on_with_the_corrected_evaluator(project: DeployedProject, tmp_path: Path) -> None:
    """At once, also if it was deployed from another folder than the project's."""
    start_both(project)
    (tmp_path / "corrected").mkdir()
    project.edit(2, tmp_path / "corrected")
    (project.root / "edition.py").write_text("import no_such_module\n")
    assert project.deploy()[0] == 1
    project.add_genomes(games(4))
    watch = project.watch()
    project.wait_until(lambda: project.lines("cannot go on"), every_s=0.05)

    code, out = project.deploy(str(tmp_path / "corrected"))

    assert code == 0, out
    project.wait_until_finished(1, 4)
    assert project.stop(watch) == 0
    project.assert_counted_once_by(2)


def test_deployment_to_some_workers_beside_a_host_is_not_promised(project: DeployedProject) -> None:
    """Every generation is played by what was deployed to all workers."""
    start_both(project)
    assert project.deploy()[0] == 0
    watch = project.watch()
    project.add_genomes(games(4))
    project.wait_until(lambda: project.archived() >= 1)
    project.edit(2)

    code, out = project.deploy("--to", "vm-1")

    assert code == 1, out
    assert "a host runs here, which brings workers only what was deployed to all of them" in out
    assert project.stop(watch) == 0
    assert project.deploy("--to", "vm-1")[0] == 0
    assert project.heartbeat("vm-1")["evaluator"] == project.versions_of[2]
