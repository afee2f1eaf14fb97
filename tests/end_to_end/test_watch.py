"""`pipeline watch` with real hosts, agents and files that arrive in every way.

Games that last until the test lets them end replace every wait for the right moment.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ExitCode
from tests.harness.farm_project import games
from tests.harness.waiting import eventually
from tests.harness.watched_project import WatchedProject

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

HOOK = """
import json, sys
with open("events.jsonl", "a") as events:
    events.write(json.dumps(json.load(sys.stdin)) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[WatchedProject]:
    project = WatchedProject(tmp_path / "farm")
    project.configure(workers=1)
    yield project
    project.close()


def assert_counted_once(project: WatchedProject, *generations: int) -> None:
    """Each genome of these generations, and `verify` says so."""
    for generation in generations:
        project.assert_counted_once(generation=generation)
    code, out = project.run("verify")
    assert code == 0, out


def test_generations_are_played_as_they_appear(project: WatchedProject) -> None:
    """With results and hooks as of `pipeline run`; SIGTERM ends the watch with exit code 0."""
    project.configure(workers=1, extra='[hooks]\ncommand = ["python", "hook.py"]\n')
    (project.root / "hook.py").write_text(HOOK)
    watch = project.watch()
    project.wait_until(lambda: project.lines("watching"))
    project.add_genomes(games(2), 1)
    project.wait_until_finished(1, 2)
    project.add_genomes(games(3), 2)
    project.wait_until_finished(2, 3)

    assert project.stop(watch) == 0

    assert_counted_once(project, 1, 2)
    events = [json.loads(line) for line in (project.root / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["summary"]["generation"]) for event in events] == [("finished", 1), ("finished", 2)]
    assert "stopped; the next start continues" in project.output


def test_two_generations_at_once_are_played_in_order(project: WatchedProject) -> None:
    """Also one with a lower number than those that were finished before."""
    project.add_genomes(games(2), 12)
    project.add_genomes(games(2), 3)
    project.open_gate()
    watch = project.watch()
    project.wait_until_finished(12, 2)
    project.add_genomes(games(1), 1)
    project.wait_until_finished(1, 1)

    assert project.stop(watch) == 0

    assert project.began() == [3, 12, 1]
    assert_counted_once(project, 1, 3, 12)


def test_file_that_is_copied_slowly_is_taken_whole(project: WatchedProject) -> None:
    """The others are played meanwhile; one that is renamed in is complete at once."""
    project.add_genomes(games(1), 1)
    slow = project.folder(1) / "slow.json"
    with slow.open("w") as file:

        def others_are_finished() -> bool:
            file.write(" ")
            file.flush()
            return (project.root / "results" / "gen-0001" / "results.jsonl").exists() and project.archived() == 2

        watch = project.watch()
        file.write('{"n": 71')
        project.move_in(1, "moved.json", '{"n": 5}')
        project.wait_until(others_are_finished, every_s=0.1)
        file.write("}")
    project.wait_until_finished(1, 3)

    assert project.stop(watch) == 0

    assert_counted_once(project, 1)


def test_file_that_arrives_in_a_finished_generation_is_played(project: WatchedProject) -> None:
    """While the watch runs, and while it did not."""
    project.add_genomes(games(1), 1)
    watch = project.watch()
    project.wait_until_finished(1, 1)
    project.add_genomes(games(2), 1)
    project.wait_until_finished(1, 2)
    assert project.stop(watch) == 0
    project.add_genomes(games(3), 1)

    assert project.run("watch", "--until-idle")[0] == 0

    assert_counted_once(project, 1)
    assert project.summary()["submitted"] == 3


def test_what_cannot_be_a_genome_is_named_once_and_stops_nothing(project: WatchedProject) -> None:
    """Empty and large files, folders, and names that are no generations. A file that is filled later is played."""
    project.add_genomes(games(1), 1)
    project.add_genomes({}, 2)
    (project.folder(1) / "empty.json").touch()
    (project.folder(1) / "sub").mkdir()
    (project.folder(2) / "empty.json").touch()
    (project.root / "genomes" / "gen-3").mkdir()
    (project.root / "genomes" / "notes.txt").touch()
    project.add_genomes(games(1), 4)
    watch = project.watch()
    project.wait_until_finished(4, 1)
    project.wait_until_finished(1, 1)
    project.wait_until(lambda: project.lines("gen-0002"))
    (project.folder(1) / "empty.json").write_text('{"n": 8}')
    (project.folder(2) / "empty.json").write_text('{"n": 9}')
    (project.folder(1) / "new.json").write_text('{"n": 10}')
    project.wait_until_finished(1, 3)
    project.wait_until_finished(2, 1)

    assert project.stop(watch) == 0

    warnings = project.lines("WARNING")
    assert len([line for line in warnings if "not played: gen-3, notes.txt; generations are folders" in line]) == 1
    for number in (1, 2):
        assert len([line for line in warnings if f"gen-000{number}{os.sep}empty.json: it is empty" in line]) == 1
    assert len([line for line in warnings if "sub: a folder" in line]) == 1 + 1  # its generation was opened twice
    shutil.rmtree(project.folder(1) / "sub")
    assert_counted_once(project, 1, 2, 4)


def test_refused_generation_stops_no_other(project: WatchedProject) -> None:
    """One whose settings were changed since it was begun; it goes on when they are put back."""
    project.add_genomes({**games(1), **project.gated(1, after=1)}, 1)
    watch = project.watch()
    project.wait_until(lambda: project.archived() == 1 and project.playing("local-0"))
    assert project.stop(watch) == 0
    project.configure(workers=1, trials=2)
    project.add_genomes(games(2), 2)
    project.open_gate()
    watch = project.watch()
    project.wait_until_finished(2, 2)
    assert len(project.lines("generation 1 was begun with other settings: trials_per_genome was 1, is now 2")) == 1

    project.configure(workers=1)
    project.wait_until_finished(1, 2)

    assert project.stop(watch) == 0
    assert_counted_once(project, 1, 2)


def test_finished_generation_is_not_refused_for_other_settings(project: WatchedProject) -> None:
    """When files of its genomes are touched: there is nothing to play, so they do not matter."""
    project.add_genomes(games(1), 1)
    watch = project.watch()
    project.wait_until_finished(1, 1)
    project.configure(workers=1, trials=2)
    text = (project.folder(1) / "g000.json").read_text()
    (project.folder(1) / "g000.json").unlink()
    project.move_in(1, "g000.json", text)
    project.add_genomes(games(1), 2)
    project.wait_until_finished(2, 1)
    project.add_genomes(games(1), 3)
    project.wait_until_finished(3, 1)

    assert project.stop(watch) == 0

    assert not project.lines("WARNING")
    assert_counted_once(project, 1, 2, 3)


def test_stopped_watch_is_continued_by_the_next_one(project: WatchedProject) -> None:
    """After SIGTERM and after `kill -9`."""
    project.add_genomes({**games(2), **project.gated(1, after=2)}, 1)
    project.add_genomes(games(1), 2)
    watch = project.watch()
    project.wait_until(lambda: project.archived() == 2 and project.playing("local-0"))
    assert project.stop(watch) == 0
    watch = project.watch()
    project.wait_until(lambda: project.playing("local-0"))
    project.kill(watch)
    project.open_gate()

    code, out = project.run("watch", "--until-idle")

    assert code == 0, out
    assert_counted_once(project, 1, 2)


def test_second_watch_and_run_are_refused(project: WatchedProject) -> None:
    """With one line, also while nothing is played."""
    watch = project.watch()
    project.wait_until(lambda: project.lines("watching"))
    project.add_genomes(games(1), 1)
    for command in (("watch",), ("run", "--gen", "1")):
        code, out = project.run(*command)

        assert code == ExitCode.BAD_INPUT
        assert "has this project open" in out
        assert len(out.splitlines()) == 1

    project.wait_until_finished(1, 1)
    assert project.stop(watch) == 0


def test_edited_game_is_played_in_the_next_generation(project: WatchedProject) -> None:
    project.add_genomes(games(1), 1)
    watch = project.watch()
    project.wait_until_finished(1, 1)
    project.edit_game()
    project.add_genomes(games(2), 2)
    project.wait_until_finished(2, 2)

    assert project.stop(watch) == 0

    assert set(project.editions(1).values()) == {1}
    assert set(project.editions(2).values()) == {2}
    assert_counted_once(project, 1, 2)


def test_farm_that_cannot_go_on_does_when_its_game_is_corrected(project: WatchedProject) -> None:
    """The reason is named once; nothing has to be started again."""
    game = project.root / "game.py"
    right = game.read_text()
    game.write_text("def play(genome, trial):\n    import no_such_module\n")
    project.add_genomes(games(20), 1)
    watch = project.watch()
    project.wait_until(lambda: project.lines("generation 1 cannot go on"))
    game.write_text(right)

    project.wait_until(lambda: project.archived() >= 1)

    assert len(project.lines("generation 1 cannot go on")) == 1
    project.wait_until_finished(1, 20)
    assert project.stop(watch) == 0


def test_broken_configuration_is_named_and_waited_for(project: WatchedProject) -> None:
    """While it is edited; what is running goes on with the one that it was begun with."""
    watch = project.watch()
    project.wait_until(lambda: project.lines("watching"))
    path = project.root / "pipeline.toml"
    text = path.read_text()
    path.write_text(text + "\n[generation\n")
    project.add_genomes(games(1), 1)
    project.wait_until(lambda: project.lines("pipeline.toml"))

    path.write_text(text)
    project.wait_until_finished(1, 1)

    assert len(project.lines("pipeline.toml")) == 1
    assert project.stop(watch) == 0


def test_host_that_cannot_write_tries_again(project: WatchedProject) -> None:
    """As with a full disk: one line, and the generation is played when its results can be written."""
    (project.root / "results").mkdir()
    in_the_way = project.root / "results" / "gen-0001"
    in_the_way.touch()
    project.add_genomes(games(2), 1)
    watch = project.watch()
    project.wait_until(lambda: project.lines("a result cannot be archived"))
    in_the_way.unlink()

    project.wait_until_finished(1, 2)

    assert len(project.lines("WARNING")) == 1
    assert project.stop(watch) == 0
    assert_counted_once(project, 1)


def test_generation_whose_folder_is_renamed_or_removed(project: WatchedProject) -> None:
    """What was read is played; what is there under another number is a generation of its own."""
    project.add_genomes(project.gated(2), 1)
    watch = project.watch()
    project.wait_until(lambda: project.playing("local-0"))
    os.rename(project.folder(1), project.folder(2))
    project.open_gate()
    project.wait_until_finished(1, 2)
    project.wait_until_finished(2, 2)
    shutil.copytree(project.folder(2), project.folder(1))

    assert project.stop(watch) == 0

    assert_counted_once(project, 1, 2)


def test_until_idle_says_whether_all_was_counted(project: WatchedProject) -> None:
    """Exit code 0 if nothing is there, and 1 if a genome failed."""
    assert project.run("watch", "--until-idle")[0] == 0
    project.add_genomes({**games(1), "wrong.json": {"do": "raise"}}, 1)

    code, out = project.run("watch", "--until-idle")

    assert code == 1, out
    assert project.run("watch", "--until-idle")[0] == 0
    assert project.run("verify")[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the processor time")
def test_idle_watch_costs_little(project: WatchedProject) -> None:
    """With many finished generations: it looks at their folders, not at their files."""
    for generation in range(1, 4):
        project.add_genomes(games(1), generation)
    for generation in range(10, 200):
        (project.folder(generation)).mkdir(parents=True)
        for number in range(20):
            (project.folder(generation) / f".{number}").touch()
    watch = project.watch()
    project.wait_until_finished(3, 1)

    def seconds() -> float:
        fields = Path(f"/proc/{watch.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = seconds()
    eventually(lambda: False, 5.0)
    assert seconds() - before < 5.0 * 0.1
    assert project.stop(watch) == 0
