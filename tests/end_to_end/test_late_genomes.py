"""Files that arrive, change or vanish in the folder of a generation while it runs.

Games that last until the test lets them end replace every wait for the right moment.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Evaluator, open_farm
from pipeline.core.facts import GenomeAdded, GenomeReopened, HostStarted, RunFinished
from pipeline.core.model import trial_seed
from pipeline.inspection.project_reader import ProjectReader
from pipeline.storage.ledger import Ledger
from tests.harness.edited_project import EditedProject
from tests.harness.farm_project import games
from tests.harness.games.game import fitness_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

HOOK = """
import json, pathlib, sys
with open("events.jsonl", "a") as events:
    events.write(json.dumps(json.load(sys.stdin)) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[EditedProject]:
    """A project with one genome whose game lasts until the gate is opened, and one worker."""
    project = EditedProject(tmp_path / "farm")
    project.configure(workers=1, extra='[hooks]\ncommand = ["python", "hook.py"]\n')
    (project.root / "hook.py").write_text(HOOK)
    project.add_genomes(project.gated(1))
    yield project
    project.close()


def folder_of(project: EditedProject) -> Path:
    return project.root / "genomes" / "gen-0001"


def names_in_ledger(project: EditedProject) -> set[str]:
    """The genomes of the generation, as another process sees them while it runs."""
    with ProjectReader(project.root) as reader:
        return {genome.name for genome in reader.farm(1).genomes}


def open_trials(project: EditedProject) -> int:
    with ProjectReader(project.root) as reader:
        return reader.farm(1).open_trials


def facts_of(project: EditedProject) -> list[object]:
    with contextlib.closing(Ledger(project.root / "state", read_only=True)) as ledger:
        return [entry.fact for entry in ledger.entries()]


def test_files_that_arrive_during_a_run_are_played(project: EditedProject) -> None:
    """They are counted like all others; every display has the growing total, and the generation is finished once."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    project.add_genomes({"late1.json": {"n": 71}})
    (folder_of(project) / ".late2.json").write_text('{"n": 72}')
    os.replace(folder_of(project) / ".late2.json", folder_of(project) / "late2.json")

    project.wait_until(lambda: len(names_in_ledger(project)) == 3)
    with ProjectReader(project.root) as reader:
        project.wait_until(lambda: reader.progress(1).genomes == 3, every_s=0.1)
        assert (reader.progress(1).trials, reader.progress(1).settled) == (3, 0)
    assert "genomes: 3 submitted, 0 completed, 0 failed, 3 open" in project.run("status")[1]
    assert project.run("report", "--gen", "1")[0] == 0
    assert "late2.json" in (project.root / "results" / "report-gen-0001.html").read_text()
    project.open_gate()
    code, out = project.wait_for_end(host)

    assert code == 0, out
    assert "joined" in out
    project.assert_counted_once()
    assert project.summary()["submitted"] == 3
    assert project.run("verify")[0] == 0
    events = [json.loads(line) for line in (project.root / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["summary"]["submitted"]) for event in events] == [("finished", 3)]
    kinds = [type(fact) for fact in facts_of(project)]
    assert kinds.count(RunFinished) == kinds.count(HostStarted) == 1


def test_invalid_files_that_arrive_are_named(project: EditedProject) -> None:
    """Once when they are seen and once at the end; the run goes on, and its exit code says that something is left."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    (folder_of(project) / "empty.json").touch()
    (folder_of(project) / "sub").mkdir()
    (folder_of(project) / "half.json.part").write_text("{")
    project.add_genomes({"late.json": {"n": 71}})
    project.wait_until(lambda: len(names_in_ledger(project)) == 2)
    project.open_gate()

    code, out = project.wait_for_end(host)

    assert code == 1, out
    assert "2 genomes, 2 completed" in out
    assert set(project.results()) == {"g000.json", "late.json"}
    words = " ".join(out.split())
    assert words.count("empty.json: it is empty, and a genome has at least one byte; write it or remove it") == 2
    assert words.count("sub: a folder; a generation is a flat folder of files, move it away") == 2
    assert "half.json.part" not in words
    (folder_of(project) / "sub").rmdir()
    (folder_of(project) / "half.json.part").unlink()
    (folder_of(project) / "empty.json").write_text('{"n": 5}')
    code, out = project.run()
    assert code == 0, out
    project.assert_counted_once()


def test_invalid_file_does_not_keep_a_generation_from_being_resumed(project: EditedProject) -> None:
    """It is named at every start: of a run that was stopped and of a generation that is finished."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    (folder_of(project) / "empty.json").touch()
    host.kill()
    host.communicate()
    project.open_gate()
    for _ in range(2):
        code, out = project.run()
        assert code == 1, out
        assert "1 genome, 1 completed" in out
        assert "not counted: " in out
        assert "empty.json: it is empty" in " ".join(out.split())

    (folder_of(project) / "empty.json").unlink()
    assert project.run()[0] == 0
    project.assert_counted_once()


def test_changed_and_deleted_files_are_named(project: EditedProject) -> None:
    """The bytes that were read are played; the exit code says that the new ones were not counted."""
    project.add_genomes({**project.gated(1), **games(3)})
    bytes_read = {path.name: path.read_bytes() for path in folder_of(project).iterdir()}
    project.add_genomes(project.gated(1))
    bytes_read["g000.json"] = (folder_of(project) / "g000.json").read_bytes()
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    project.add_genomes({"g001.json": {"n": 99}})
    (folder_of(project) / "g002.json").unlink()
    log = project.root / "state" / "log" / "pipeline.jsonl"
    project.wait_until(lambda: all(word in log.read_text() for word in ("was changed", "was deleted")), every_s=0.1)
    project.open_gate()

    code, out = project.wait_for_end(host)

    assert code == 1, out
    rows = project.results()
    for name, data in bytes_read.items():
        assert float(rows[name]["fitness"]) == fitness_of(data, trial_seed(11, 1, 1)), name
    words = " ".join(out.split())
    assert words.count("g001.json was changed after it was read; the run plays the bytes that it had read") == 2
    assert "`pipeline run --gen 1 --only g001.json` plays the new ones" in words
    assert words.count("g002.json was deleted after it was read; the run plays the bytes that it had read") == 2
    assert project.run("verify")[0] == 0


def test_file_in_the_making_is_waited_for_at_the_end(project: EditedProject) -> None:
    """It is written until everything else is settled, and is taken whole."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    project.open_gate()
    with open(folder_of(project) / "late.json", "w", encoding="utf-8") as late:

        def everything_else_is_settled() -> bool:
            late.write(" ")
            late.flush()
            return not open_trials(project)

        late.write('{"n": 71')
        project.wait_until(everything_else_is_settled, every_s=0.02)
        late.write("}")

    code, out = project.wait_for_end(host)

    assert code == 0, out
    project.assert_counted_once()
    assert set(project.results()) == {"g000.json", "late.json"}


def test_next_run_takes_files_that_came_after_the_last_look(project: EditedProject) -> None:
    """Of a generation that is finished; a changed file is named, and blocks nothing."""
    project.open_gate()
    assert project.run()[0] == 0
    project.add_genomes({"late.json": {"n": 71}})

    code, out = project.run()

    assert code == 0, out
    assert "2 genomes, 2 completed" in out
    project.assert_counted_once()
    before = (folder_of(project) / "g000.json").read_bytes()
    project.add_genomes({"g000.json": {"n": 99}, "later.json": {"n": 72}})
    code, out = project.run()
    assert code == 1, out
    assert "3 genomes, 3 completed" in out
    assert "g000.json was changed after it was read" in out
    assert project.run("verify")[0] == 0
    code, out = project.run()
    assert code == 1, out
    assert "is finished already" in out
    assert "g000.json was changed after it was read" in out
    (folder_of(project) / "g000.json").write_bytes(before)
    assert project.run()[0] == 0
    project.assert_counted_once()


def test_host_that_is_killed_loses_no_late_file(project: EditedProject) -> None:
    """Neither one that has joined nor one that arrives while no host is there."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    project.add_genomes({"late1.json": {"n": 71}})
    project.wait_until(lambda: len(names_in_ledger(project)) == 2)
    project.kill(host)
    project.add_genomes({"late2.json": {"n": 72}})
    (folder_of(project) / "late1.json").unlink()
    project.open_gate()

    code, out = project.run()

    assert code == 0, out
    assert set(project.results()) == {"g000.json", "late1.json", "late2.json"}
    added = [fact for fact in facts_of(project) if isinstance(fact, GenomeAdded)]
    assert [(fact.genome, fact.name) for fact in added] == [(1, "g000.json"), (2, "late1.json"), (3, "late2.json")]
    assert project.run("verify")[0] == 0


def test_stopped_run_names_changed_files(project: EditedProject) -> None:
    """Also in its closing lines."""
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    project.add_genomes({"g000.json": {"n": 99}})
    log = project.root / "state" / "log" / "pipeline.jsonl"
    project.wait_until(lambda: log.exists() and "was changed" in log.read_text(), every_s=0.1)
    project.interrupt(host)

    code, out = project.wait_for_end(host)

    assert code == 3, out
    assert " ".join(out.split()).count("g000.json was changed after it was read") == 2


def test_program_plays_its_own_genomes_only(tmp_path: Path) -> None:
    """`evaluate` takes up no file that it did not write, however long it runs."""
    (tmp_path / "game.py").write_text("def play(genome, trial):\n    return {'fitness': 1.0}\n")
    dropped = tmp_path / "genomes" / "gen-0001" / "foreign.bin"
    looks = 0

    def drop(_progress: object) -> None:
        nonlocal looks
        dropped.write_bytes(b"foreign")
        looks += 1

    with open_farm(tmp_path, evaluator=Evaluator(python="game:play"), workers=1) as farm:
        scores = farm.evaluate({f"g{n}.bin": b"x" for n in range(3)}, on_progress=drop)

        assert looks
        assert scores.keys() == {"g0.bin", "g1.bin", "g2.bin"}
        assert all(score.value == 1.0 for score in scores.values())


# ------------------------------------------------------------------------------------- genomes that are replaced


def finished(project: EditedProject) -> None:
    """Four genomes are counted; the game of one needs the gate, and one fails."""
    project.open_gate()
    project.add_genomes({**games(3, seconds=0.0), **project.gated(1), "wrong.json": {"do": "raise"}})
    assert project.run()[0] == 1


def attempts_of(project: EditedProject, *names: str) -> list[dict[str, str]]:
    return [row for row in project.attempts() if row["genome"] in names]


def test_changed_genome_is_replaced_alone(project: EditedProject) -> None:
    """The new bytes count, what was counted before is evidence, and nothing else is touched."""
    finished(project)
    before = project.attempts()
    project.add_genomes({"g001.json": {"n": 99}, "late.json": {"n": 5}})

    code, out = project.run("run", "--gen", "1", "--only", "g001.json")

    assert code == 1, out  # wrong.json still has no fitness
    assert "4 genomes, 3 completed, 1 failed" in out
    assert "0 duplicated" in out
    row, data = project.results()["g001.json"], (folder_of(project) / "g001.json").read_bytes()
    assert float(row["fitness"]) == fitness_of(data, trial_seed(11, 1, 1))
    assert [(one["number"], one["outcome"], one["superseded"]) for one in attempts_of(project, "g001.json")] == [
        ("1", "completed", "yes"),
        ("2", "completed", ""),
    ]
    others = [row for row in before if row["genome"] != "g001.json"]
    assert attempts_of(project, "g000.json", "g002.json", "wrong.json") == others
    assert project.summary()["attempts_superseded"] == 1
    lines = (project.root / "results/gen-0001/results.jsonl").read_text().splitlines()
    assert sum('"attempt":"g0001-0002-' in line.partition('"record"')[0] for line in lines) == 2
    code, out = project.run("verify")
    assert code == 0, out
    assert "It does not count: the genome was reopened since." in project.run("explain", "g001.json")[1]
    code, out = project.run()
    assert code == 1, out
    assert "was changed" not in out
    project.assert_counted_once(failed=frozenset({"wrong.json"}))


def test_genome_is_retried_with_the_same_bytes(project: EditedProject) -> None:
    """Completed or failed, also if its file is gone; the seed is the same, and so is the fitness."""
    finished(project)
    fitness = project.results()["g002.json"]["fitness"]
    (folder_of(project) / "g002.json").unlink()

    code, out = project.run("run", "--gen", "1", "--only", "wrong.json", "--only", "g002.json")

    assert code == 1, out
    assert project.results()["g002.json"]["fitness"] == fitness
    retried = attempts_of(project, "g002.json")
    assert [row["superseded"] for row in retried] == ["yes", ""]
    assert len({row["seed"] for row in retried}) == 1
    assert [row["superseded"] for row in attempts_of(project, "wrong.json")] == ["yes", "yes", "", ""]
    assert project.run("verify")[0] == 0


def test_replacement_that_is_killed_is_continued(project: EditedProject) -> None:
    """By the same command, and by one without --only: the genome is reopened once."""
    finished(project)
    project.close_gate()
    command = ("run", "--gen", "1", "--only", "g000.json")
    host = project.start(*command)
    project.wait_until(lambda: project.playing("local-0"))
    project.kill(host)
    host = project.start(*command)
    project.wait_until(lambda: project.playing("local-0"))
    project.kill(host)
    project.open_gate()

    code, out = project.run()

    assert code == 1, out
    assert sum(isinstance(fact, GenomeReopened) for fact in facts_of(project)) == 1
    project.assert_counted_once(failed=frozenset({"wrong.json"}))
    assert project.run("verify")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "late.json"), "generation 1 has not played late.json; `pipeline run --gen 1` without --only"),
        (("--only", "g000.json", "--fresh"), "leave out --fresh and --retry-failed"),
        (("--only", "g000.json", "--gen", "2"), "generation 2 was never run"),
    ],
)
def test_replacement_that_cannot_be_made_changes_nothing(
    project: EditedProject, options: tuple[str, ...], message: str
) -> None:
    project.open_gate()
    assert project.run()[0] == 0
    project.add_genomes({"late.json": {"n": 5}})
    before = facts_of(project)

    code, out = project.run("run", "--gen", "1", *options)

    assert code == 2, out
    assert message in out
    assert facts_of(project) == before
