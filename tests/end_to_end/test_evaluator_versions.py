"""The game is edited between two starts of a run, while it runs, and differs between workers.

No fitness of two versions gets into one generation unnoticed, and what was counted is never lost.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import Evaluator, open_farm
from tests.harness.command_line import pipeline
from tests.harness.edited_project import EditedProject
from tests.harness.farm_project import CALLABLE, COMMAND, games
from tests.harness.other_user import allow_traversal, as_unprivileged_user

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

both_kinds = pytest.mark.parametrize("evaluator", [CALLABLE, COMMAND], ids=["callable", "command"])


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[EditedProject]:
    """A project with a game that the tests edit."""
    project = EditedProject(tmp_path / "farm")
    yield project
    project.close()


def begin_and_kill(project: EditedProject, evaluator: str) -> None:
    """Three genomes are counted and three are open when the host is killed."""
    project.configure(workers=1, evaluator=evaluator)
    project.add_genomes({**games(3), **project.gated(3, after=3)})
    project.kill(project.start_until_counted(3))
    project.open_gate()


# --------------------------------------------------------------------------------------------- between two starts


@both_kinds
def test_edit_between_starts_is_refused_until_it_is_put_back(edited: EditedProject, evaluator: str) -> None:
    """The message names the file and the three ways on; with the file put back the same command completes."""
    begin_and_kill(edited, evaluator)
    edited.edit_game()

    code, out = edited.run()

    assert code == 2, out
    assert "game.py differs" in out
    assert all(way in out for way in ("put it back", "--fresh", "--accept-evaluator"))
    assert edited.archived() == 3
    edited.put_back()
    code, out = edited.run()
    assert code == 0, out
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}


@both_kinds
def test_fresh_run_is_played_by_the_edited_game_alone(edited: EditedProject, evaluator: str) -> None:
    """Nothing of the old version is counted."""
    begin_and_kill(edited, evaluator)
    edited.edit_game()

    code, out = edited.run("run", "--gen", "1", "--fresh")

    assert code == 0, out
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {2}
    assert len(edited.versions()) == 1


@both_kinds
def test_accepted_edit_makes_a_mixed_generation(edited: EditedProject, evaluator: str) -> None:
    """What was counted stays; each row says which version it is of, and the status says that they are mixed."""
    begin_and_kill(edited, evaluator)
    edited.edit_game()

    code, out = edited.run("run", "--gen", "1", "--accept-evaluator")

    assert code == 0, out
    edited.assert_counted_once()
    assert edited.editions() == {f"g00{n}.json": 1 if n < 3 else 2 for n in range(6)}
    assert len(edited.versions()) == 2
    code, status = edited.run("status")
    assert code == 0
    assert "mixed" in status
    assert all(version in status for version in edited.versions())


@both_kinds
def test_edit_before_the_first_result_restarts_the_run(edited: EditedProject, evaluator: str) -> None:
    """Nothing is counted yet, so the same command begins anew with the edited game and asks for nothing."""
    edited.configure(workers=1, evaluator=evaluator)
    edited.add_genomes(edited.gated(3))
    host = edited.start()
    edited.wait_until(lambda: edited.playing("local-0"))
    edited.kill(host)
    edited.open_gate()
    edited.edit_game()

    code, out = edited.run()

    assert code == 0, out
    assert "evaluator" not in out
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {2}


@both_kinds
def test_finished_generation_is_not_played_by_an_edited_game(edited: EditedProject, evaluator: str) -> None:
    """The same command says that it is finished, and its results stay as they are."""
    edited.configure(workers=1, evaluator=evaluator)
    edited.add_genomes(games(3))
    assert edited.run()[0] == 0
    before = (edited.root / "results/gen-0001/attempts.csv").read_bytes()
    edited.edit_game()

    code, out = edited.run()

    assert code == 0, out
    assert "finished already" in out
    assert (edited.root / "results/gen-0001/attempts.csv").read_bytes() == before
    assert set(edited.editions().values()) == {1}


def restart_agent_with_edited_game(edited: EditedProject, evaluator: str) -> None:
    """The host is killed after three genomes were counted; then the game is edited and the agent restarted."""
    edited.configure_shares("vm-0")
    edited.add_genomes({**games(3), **edited.gated(3, after=3)})
    edited.start_worker("vm-0", evaluator)
    edited.kill(edited.start_until_counted(3))
    edited.stop_worker("vm-0")
    edited.edit_game(edited.game_folder("vm-0"))
    edited.open_gate()
    edited.start_worker("vm-0", evaluator)


@both_kinds
def test_agent_with_edited_game_gets_no_work_until_it_is_accepted(edited: EditedProject, evaluator: str) -> None:
    """The host sees the files of no share; the version that an agent reports is refused and named all the same."""
    restart_agent_with_edited_game(edited, evaluator)

    code, out = edited.run()

    assert code == 4, out
    assert re.search(r"it plays evaluator \w{16}, this generation is played by \w{16}", " ".join(out.split()))
    assert edited.editions() == {f"g00{n}.json": 1 for n in range(3)}
    code, out = edited.run("run", "--gen", "1", "--accept-evaluator")
    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert edited.editions() == {f"g00{n}.json": 1 if n < 3 else 2 for n in range(6)}
    assert "mixed" in edited.run("status")[1]


@both_kinds
def test_agent_whose_game_is_put_back_goes_on(edited: EditedProject, evaluator: str) -> None:
    """It stays up: it loads the files that the generation was begun with, and the same command completes."""
    restart_agent_with_edited_game(edited, evaluator)
    assert edited.run()[0] == 4
    edited.put_back(edited.game_folder("vm-0"))

    code, out = edited.run()

    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}


@both_kinds
def test_first_game_goes_on_when_the_host_is_started_again(edited: EditedProject, evaluator: str) -> None:
    """The host does not know the version: the one that the worker was seen to play stays that of the generation."""
    edited.configure_shares("vm-0")
    edited.add_genomes(edited.gated(1))
    edited.start_worker("vm-0", evaluator)
    host = edited.start()
    edited.wait_until(lambda: edited.is_claimed(1))
    edited.kill(host)
    host = edited.start()
    edited.wait_until(lambda: edited.hosts_started() == 2)
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 0, out
    edited.assert_counted_once()
    assert edited.outcomes("g000.json") == ["completed"]


# ---------------------------------------------------------------------------------------------------- during a run


def test_running_callable_is_not_disturbed_by_an_edit(edited: EditedProject) -> None:
    """It was imported before: every result is of the version that the generation began with."""
    edited.configure(workers=2)
    edited.add_genomes({**games(3), **edited.gated(9, after=3)})
    host = edited.start_until_counted(3)
    edited.edit_game()
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 0, out
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}
    assert len(edited.versions()) == 1


def test_new_process_of_a_callable_does_not_play_edited_files(edited: EditedProject) -> None:
    """A failure replaces the process, which would load the edit: the run ends and names the file."""
    edited.configure(workers=1)
    edited.add_genomes({"a.json": {}, **edited.gated(1), "h.json": {"do": "raise"}, "i.json": {}, "j.json": {}})
    host = edited.start_until_counted(1)
    edited.edit_game()
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 4, out
    assert "game.py differs" in out
    assert set(edited.editions().values()) == {1}
    edited.put_back()
    code, out = edited.run()
    assert code == 1, out
    edited.assert_counted_once(failed=frozenset({"h.json"}))
    assert set(edited.editions().values()) == {1}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_result_of_a_command_that_is_edited_meanwhile_counts(edited: EditedProject, workers: int) -> None:
    """Every game reads the files anew: the run ends and names the file; put back, the same command completes."""
    edited.configure(workers=workers, evaluator=COMMAND)
    edited.add_genomes({**games(3), **edited.gated(9, after=3)})
    host = edited.start_until_counted(3)
    edited.edit_game()
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 4, out
    assert "game.py differs" in out
    assert edited.editions() == {f"g00{n}.json": 1 for n in range(3)}
    edited.put_back()
    code, out = edited.run()
    assert code == 0, out
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}


def test_running_callable_of_an_agent_is_not_disturbed_by_an_edit(edited: EditedProject) -> None:
    """The same behind a share."""
    edited.configure_shares("vm-0")
    edited.add_genomes({**games(3), **edited.gated(6, after=3)})
    edited.start_worker("vm-0")
    host = edited.start_until_counted(3)
    edited.edit_game(edited.game_folder("vm-0"))
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}


def test_no_result_of_an_agent_counts_whose_command_is_edited_meanwhile(edited: EditedProject) -> None:
    """The same behind a share, where the host sees no files: the versions are named."""
    edited.configure_shares("vm-0")
    edited.add_genomes({**games(3), **edited.gated(6, after=3)})
    edited.start_worker("vm-0", COMMAND)
    host = edited.start_until_counted(3)
    edited.edit_game(edited.game_folder("vm-0"))
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 4, out
    assert re.search(r"it plays evaluator \w{16}, this generation is played by \w{16}", " ".join(out.split()))
    assert edited.editions() == {f"g00{n}.json": 1 for n in range(3)}
    edited.put_back(edited.game_folder("vm-0"))
    edited.start_worker("vm-0", COMMAND)
    edited.wait_until(lambda: edited.is_idle("vm-0"))
    code, out = edited.run()
    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert set(edited.editions().values()) == {1}


# ------------------------------------------------------------------------------------------------ different workers


@both_kinds
def test_worker_with_another_game_gets_no_work(edited: EditedProject, evaluator: str) -> None:
    """The first worker's version counts; the status names the other one with both, and nothing is played by it."""
    edited.configure_shares("vm-0", "vm-1")
    edited.add_genomes(edited.gated(8))
    edited.edit_game(edited.game_folder("vm-1"))
    edited.start_worker("vm-0", evaluator)
    host = edited.start()
    edited.wait_until(lambda: edited.is_playing("vm-0"))

    edited.start_worker("vm-1", evaluator)

    edited.wait_until(lambda: "vm-1: unfit" in edited.run("status")[1], every_s=0.2)
    status = edited.run("status")[1]
    line = next(line for line in status.splitlines() if line.startswith("vm-1: unfit"))
    assert len(set(re.findall(r"\b[0-9a-f]{16}\b", line))) == 2
    edited.open_gate()
    code, out = edited.wait_for_end(host)
    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert edited.played_by().keys() == {"vm-0"}
    assert set(edited.editions().values()) == {1}


@both_kinds
def test_local_worker_decides_against_a_share_with_another_game(edited: EditedProject, evaluator: str) -> None:
    """The host knows the files of its local workers, so an agent that was there first is refused all the same."""
    edited.configure_shares("vm-1")
    path = edited.root / "pipeline.toml"
    path.write_text(path.read_text().replace("workers = 0", "workers = 1").replace(CALLABLE, evaluator))
    edited.add_genomes(games(12))
    edited.edit_game(edited.game_folder("vm-1"))
    edited.start_worker("vm-1", evaluator)
    edited.wait_until((edited.share("vm-1") / "status" / "agent.json").exists)

    code, out = edited.run()

    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    assert edited.played_by().keys() == {"local-0"}
    assert set(edited.editions().values()) == {1}


@both_kinds
def test_mixed_evaluators_play_one_generation_if_allowed(edited: EditedProject, evaluator: str) -> None:
    """Both workers play, and each row of results.csv says with which version."""
    edited.configure_shares("vm-0", "vm-1", generation="allow_mixed_evaluators = true")
    edited.add_genomes(edited.gated(8))
    edited.edit_game(edited.game_folder("vm-1"))
    edited.start_worker("vm-0", evaluator)
    edited.start_worker("vm-1", evaluator)
    host = edited.start()
    edited.wait_until(lambda: edited.is_playing("vm-0") and edited.is_playing("vm-1"))
    edited.open_gate()

    code, out = edited.wait_for_end(host)

    assert code == 0, out
    edited.stop_workers()
    edited.assert_counted_once()
    versions = {worker: version for worker, (version,) in edited.played_by().items()}
    assert versions.keys() == {"vm-0", "vm-1"}
    assert versions["vm-0"] != versions["vm-1"]
    edition_of = {versions["vm-0"]: 1, versions["vm-1"]: 2}
    rows = edited.results()
    assert {name: edition_of[row["evaluator"]] for name, row in rows.items()} == edited.editions()


# --------------------------------------------------------------------------------------------------- the Python API

REPORTING = """
import os


def play(genome, trial):
    return {"fitness": 1.0, "metrics": {"process": os.getpid()}}
"""


def test_open_farm_keeps_processes_while_the_game_is_the_same(tmp_path: Path) -> None:
    """An import is paid for once, however many generations are played; a new modification time changes nothing."""
    game, genomes = tmp_path / "game.py", {f"g{n}": b"x" for n in range(8)}
    game.write_text(REPORTING)
    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=1) as farm:
        farm.evaluate(genomes)
        before = processes_of(farm.results)
        game.write_text(REPORTING)

        farm.evaluate(genomes)

        assert processes_of(farm.results) == before


def processes_of(results: Path) -> set[float]:
    """The processes that have played a generation."""
    with open(results / "results.csv", newline="", encoding="utf-8-sig") as table:
        return {float(row["process"]) for row in csv.DictReader(table)}


# ---------------------------------------------------------------------------------------------------------- bad input


@dataclass(frozen=True)
class BadInput:
    """Something wrong with the files that count, or with what says which they are."""

    message: str  #: what the error says
    settings: str = ""  #: lines of `[evaluator]`
    spoil: Callable[[EditedProject], object] = lambda _project: None  #: puts the fault into the project
    repair: Callable[[EditedProject], object] = lambda _project: None


def remove(name: str) -> Callable[[EditedProject], object]:
    """Removes a file of the project."""
    return lambda project: (project.root / name).unlink()


def add_link_to_nothing(project: EditedProject) -> None:
    (project.root / "bots.py").symlink_to("gone.py")


def add_many_files(project: EditedProject) -> None:
    for number in range(1001):
        (project.root / f"level{number}.txt").touch()


BAD_INPUTS = {
    "a glob that matches nothing": BadInput("no file matches 'levels/*.json'", settings='files = ["levels/*.json"]'),
    "a link to nothing": BadInput(
        "bots.py is a link that leads to no file", "", add_link_to_nothing, remove("bots.py")
    ),
    "a version of 1 MB": BadInput("expected 1 to 64 of 0-9 a-z A-Z _ . : -", settings=f'version = "{"v" * 10**6}"'),
    "an empty version": BadInput("expected 1 to 64 of 0-9 a-z A-Z _ . : -", settings='version = ""'),
    "both": BadInput("give one of `files` and `version`", settings='files = ["game.py"]\nversion = "1"'),
    "1,001 files": BadInput("more than 1000 files", 'files = ["*.txt"]', add_many_files),
}


@pytest.mark.parametrize("bad", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_is_one_clear_line_and_loses_nothing(
    edited: EditedProject, capsys: pytest.CaptureFixture[str], bad: BadInput
) -> None:
    """What is counted stays; with the fault repaired the same command goes on."""
    if bad.spoil is add_link_to_nothing and sys.platform == "win32":
        pytest.skip("links need a privilege there")
    edited.configure(workers=1)
    edited.add_genomes(games(2))
    assert edited.run()[0] == 0
    edited.add_genomes({"new.json": {"n": 9}})
    edited.configure(workers=1, evaluator=f"{CALLABLE}\n{bad.settings}")
    bad.spoil(edited)

    code, out, errors = pipeline(capsys, "run", "--gen", "1", "--root", edited.root)

    assert (code, out) == (2, "")
    assert bad.message in errors
    assert errors.count("\n") == 1 and len(errors) < 1000
    bad.repair(edited)
    edited.configure(workers=1)
    code, text = edited.run()
    assert code == 0, text
    edited.assert_counted_once()


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
def test_unreadable_file_is_named(edited: EditedProject, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that counts and that this user may not read."""
    edited.configure(workers=1)
    edited.add_genomes(games(2))
    secret = edited.root / "secret.py"
    secret.touch(mode=0)
    edited.root.chmod(0o777)
    allow_traversal(edited.root)

    with as_unprivileged_user():
        code, _out, errors = pipeline(capsys, "run", "--gen", "1", "--root", edited.root)

    assert code == 2
    assert "secret.py cannot be read" in errors
    assert errors.count("\n") == 1
    secret.unlink()
    assert edited.run()[0] == 0
    edited.assert_counted_once()


@pytest.mark.parametrize("workers", [1, 2])
def test_open_farm_plays_the_next_generation_with_the_edited_game(tmp_path: Path, workers: int) -> None:
    """The workers' processes are replaced between two `evaluate` calls."""
    game, genomes = tmp_path / "game.py", {f"g{n}": b"x" for n in range(8)}
    game.write_text(REPORTING)
    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=workers) as farm:
        first = {score.value for score in farm.evaluate(genomes).values()}
        before = processes_of(farm.results)
        game.write_text(REPORTING.replace('"fitness": 1.0', '"fitness": 2.0'))

        second = {score.value for score in farm.evaluate(genomes).values()}

        assert (first, second) == ({1.0}, {2.0})
        assert before.isdisjoint(processes_of(farm.results))
