"""Complete generations with real hosts, agents and evaluators, killed and stopped by signals.

Each test ends with the same check: every genome is counted exactly once, with the fitness that follows from its bytes,
or is reported as failed; the summary adds up; no process is left.
"""

import contextlib
import os
import random
import shutil
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.config import load_config
from pipeline.host import host
from pipeline.host.outputs import Outputs
from tests.harness.farm_project import COMMAND, FarmProject, games

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def genome_in(attempt: str) -> str:
    """Generation and genome of an attempt id."""
    return attempt[:10]


def running_attempts(project: FarmProject, spared: set[str]) -> list[tuple[str, str]]:
    """Waits for running attempts: worker and attempt, without those at a genome in `spared`."""
    found: list[tuple[str, str]] = []

    def some() -> bool:
        running = [(worker, project.playing(worker)) for worker in ("local-0", "local-1")]
        found[:] = [(worker, attempt) for worker, attempt in running if attempt and genome_in(attempt) not in spared]
        return bool(found)

    project.wait_until(some)
    return found


def has_other_attempt(project: FarmProject, worker: str, attempt: str) -> bool:
    return project.playing(worker) != attempt


def test_generation_runs_to_end_and_is_repeatable(project: FarmProject) -> None:
    """A run computes every fitness; a second run gives the same bytes and evaluates nothing."""
    project.configure(trials=3)
    project.add_genomes(games(20))
    code, _ = project.run()
    assert code == 0
    project.assert_counted_once()
    outputs = {p.name: p.read_bytes() for p in (project.root / "results/gen-0001").glob("*.*")}
    assert project.run("run", "--gen", "gen-0001")[0] == 0
    assert outputs == {p.name: p.read_bytes() for p in (project.root / "results/gen-0001").glob("*.*")}


def test_leftover_results_do_not_affect_next_generation(project: FarmProject) -> None:
    """Counted results that are not removed yet do not affect the next run; idle time between runs is not counted."""
    project.configure(workers=2)
    project.add_genomes(games(6))
    project.add_genomes(games(6), generation=2)
    assert project.run()[0] == 0
    code, out = project.run("run", "--gen", "2")
    assert code == 0
    assert "late" not in out
    assert project.summary(2)["results_late"] == 0
    assert not (project.root / "results/gen-0002/set-aside").exists()
    project.assert_counted_once(generation=2)
    before = project.summary(1)["wall_s"]
    project.add_genomes({"new.json": {"n": 77}})
    assert project.run()[0] == 0
    assert project.summary(1)["wall_s"] < before + 5


def test_generation_survives_twenty_kills(project: FarmProject) -> None:
    """`kill -9` of agents, evaluators and hosts with a running attempt costs attempts and nothing else."""
    project.configure(workers=2, losses_max=10, trials=1)
    project.add_genomes(games(100, seconds=0.25))
    dice = random.Random(4)
    hit: set[str] = set()
    targets = dice.sample(["agent"] * 18 + ["evaluator"] * 3 + ["host"] * 3, 24)
    host = project.start()
    while targets:
        worker, attempt = dice.choice(running_attempts(project, hit))
        agent = project.agent_of(worker)
        if agent is None or project.playing(worker) != attempt:
            continue
        hit.add(genome_in(attempt))  # each genome is hit once: after three hits it would count as poison
        match targets.pop():
            case "host":
                host.kill()
                host.communicate()
                host = project.start()
            case "agent":
                agent.kill()
            case "evaluator":
                for child in agent.children():
                    child.kill()
        project.wait_until(partial(has_other_attempt, project, worker, attempt))
    code, out = project.wait_for_end(host, within_s=90)
    assert code == 0, out
    project.assert_counted_once()
    ended = project.summary()["attempts"]
    assert len(hit) == 24
    assert ended["interrupted"] + ended["lost"] >= 15, ended


def test_stopped_agent_is_restarted(project: FarmProject) -> None:
    """SIGSTOP makes an agent silent: its running attempt is lost, its queued one withdrawn; a new agent continues."""
    project.configure(workers=2, silence_limit_s=3.0)
    project.add_genomes(games(30, seconds=0.2))
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    agent = project.agent_of("local-0")
    assert agent is not None
    agent.suspend()
    code, out = project.wait_for_end(host)
    assert code == 0, out
    assert "local-0: restart_agent" in out
    project.assert_counted_once()
    assert project.summary()["attempts"]["lost"] >= 1


def test_poison_genome_fails_and_others_complete(project: FarmProject) -> None:
    """A genome that kills every agent is settled as poison; the genome behind it is counted."""
    project.configure(workers=2)
    project.add_genomes({"a-poison.json": {"do": "kill_agent"}, **games(10, seconds=0.1)})
    code, out = project.run()
    assert code == 1, out
    project.assert_counted_once(failed=frozenset({"a-poison.json"}))
    assert "poison" in project.results()["a-poison.json"]["reason"]
    assert "out" not in {line.split(": ")[-1] for line in out.splitlines()}


def test_poison_genome_fails_with_one_worker(project: FarmProject) -> None:
    """Without another worker, three deaths on the only one are enough."""
    project.configure(workers=1)
    project.add_genomes({"a-poison.json": {"do": "kill_agent"}, **games(5)})
    assert project.run()[0] == 1
    project.assert_counted_once(failed=frozenset({"a-poison.json"}))


def test_failing_evaluations_are_reported_with_reason(project: FarmProject) -> None:
    """Games that raise, crash, hang or exit fail with a reason each; other genomes are counted."""
    project.configure(time_limit_s=1.0)
    bad = {f"{order}.json": {"do": order} for order in ("raise", "die", "hang", "exit")}
    project.add_genomes({**bad, **games(8)})
    code, out = project.run()
    assert code == 1
    project.assert_counted_once(failed=frozenset(bad))
    reasons = {name: row["reason"] for name, row in project.results().items() if name in bad}
    assert "cannot be played" in reasons["raise.json"]
    assert "KILL" in reasons["die.json"]
    assert "timed_out" in reasons["hang.json"]
    assert all(name in out for name in bad)


def test_ctrl_c_stops_and_same_command_resumes(project: FarmProject) -> None:
    """The first Ctrl-C stops the host with exit code 3; the next run repeats no counted trial."""
    project.configure()
    project.add_genomes(games(30, seconds=0.1))
    host = project.start()
    project.wait_until(lambda: project.archived() >= 4)
    project.interrupt(host)
    code, out = project.wait_for_end(host)
    assert code == 3, out
    before = {row["attempt"] for row in project.attempts() if row["outcome"] == "completed"}
    assert len(before) >= 4
    assert project.run()[0] == 0
    project.assert_counted_once()
    after = [row for row in project.attempts() if row["outcome"] == "completed"]
    assert before <= {row["attempt"] for row in after}
    assert len(after) == 30


@pytest.mark.parametrize("workers", [1, 4])
def test_fitness_is_independent_of_worker_count(project: FarmProject, workers: int) -> None:
    """With one worker or four, each trial has the fitness that follows from its bytes and its seed."""
    project.configure(workers=workers, trials=2)
    project.add_genomes(games(12, seconds=0.01))
    assert project.run()[0] == 0
    project.assert_counted_once()


def test_second_host_excludes_share_of_first(project: FarmProject, tmp_path: Path) -> None:
    """The share belongs to the first host; the second one does not touch it, and names the command for a take-over."""
    share = tmp_path / "share"
    share.mkdir()
    table = f"[[worker]]\nname = 'vm-0'\nshare = '{share}'"
    second = FarmProject(tmp_path / "second")
    for farm in (project, second):
        farm.configure(workers=0, extra=table)
        farm.add_genomes(games(20, seconds=0.1))
    agent = project.start_agent(share)
    first = project.start()
    project.wait_until(lambda: list(share.glob("inbox/*.start.json")))
    code, out = second.run()
    assert code == 4
    assert "pipeline take-over vm-0" in out
    assert first.wait(60) == 0
    agent.terminate()
    agent.wait(10)
    project.assert_counted_once()


def test_deleted_state_folder_makes_new_farm(project: FarmProject, tmp_path: Path) -> None:
    """Without its ledger the farm has a new id: the share is refused until it is taken over; old results are kept."""
    share = tmp_path / "share"
    share.mkdir()
    project.configure(workers=0, extra=f"[[worker]]\nname = 'vm-0'\nshare = '{share}'")
    project.add_genomes(games(6))
    agent = project.start_agent(share)
    assert project.run()[0] == 0
    shutil.rmtree(project.root / "state")
    code, out = project.run()
    assert code == 4
    assert "take-over" in out
    code, out = project.run("take-over", "vm-0")
    assert code == 0, out
    assert project.run()[0] == 0
    agent.terminate()
    agent.wait(10)
    project.assert_counted_once()
    assert (project.root / "results/gen-0001.before-1/results.csv").exists()


def test_changed_generation_is_refused(project: FarmProject) -> None:
    """Changed settings are refused and both values named; new files are added; `--fresh` starts again."""
    project.configure()
    project.add_genomes(games(4))
    assert project.run()[0] == 0
    project.add_genomes({"new.json": {"n": 5}})
    code, out = project.run()
    assert code == 0, out
    project.assert_counted_once()
    project.configure(trials=2)
    code, out = project.run()
    assert code == 2
    assert "trials_per_genome was 1, is now 2" in out
    code, out = project.run("run", "--gen", "1", "--fresh")
    assert code == 0
    assert f"generation 1 begins again; its earlier results are in {project.root / 'results/gen-0001.before-1'}" in out
    project.assert_counted_once()
    assert project.summary()["run"] == 2


def test_retry_failed_runs_failed_and_skipped_trials(project: FarmProject) -> None:
    """After the evaluator is fixed and accepted, `--retry-failed` runs only the failed and skipped trials."""
    project.configure(trials=2)
    project.add_genomes({"bad.json": {"do": "raise"}, **games(12)})
    assert project.run()[0] == 1
    game = project.root / "game.py"
    game.write_text(game.read_text().replace('raise RuntimeError("this genome cannot be played")', "pass"))
    assert project.run()[0] == 1
    assert project.run("run", "--gen", "1", "--retry-failed", "--accept-evaluator")[0] == 0
    project.assert_counted_once()


def test_broken_evaluator_stops_farm_early(project: FarmProject) -> None:
    """If every evaluation fails from the start, the farm stops and prints the last log."""
    project.configure(workers=2)
    (project.root / "game.py").write_text("def play(genome, trial):\n    import no_such_module\n")
    project.add_genomes(games(40))
    code, out = project.run()
    assert code == 4
    assert "no_such_module" in out
    assert project.summary()["open"] > 0


def test_second_run_in_state_folder_is_refused(project: FarmProject) -> None:
    """A second `pipeline run` in the same folder is refused with one line; after `kill -9` the lock is free."""
    project.configure()
    project.add_genomes(games(20, seconds=0.3))
    first = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    code, out = project.run()
    assert code == 2
    assert "another process has this project open" in out
    first.kill()
    first.communicate()
    assert project.run()[0] == 0
    project.assert_counted_once()


def test_no_process_survives_killed_host_and_agents(project: FarmProject) -> None:
    """Host and agents are killed one after the other; their games end with them."""
    project.configure(workers=2)
    project.add_genomes(games(8, seconds=30))
    host = project.start()
    project.wait_until(lambda: project.playing("local-0") and project.playing("local-1"))
    agents = [project.agent_of("local-0"), project.agent_of("local-1")]
    children = [child for agent in agents if agent for child in agent.children(recursive=True)]
    assert children
    host.kill()
    for agent in agents:
        if agent:
            agent.kill()
    host.communicate()
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_full_disk_stops_host_and_run_resumes(project: FarmProject, tiny_disk: Path) -> None:
    """When the host's disk is full it stops with exit code 3; when there is room again, the same command resumes."""
    project.root = tiny_disk / "farm"
    project.configure()
    project.add_genomes(games(40, seconds=0.05))
    host = project.start()
    project.wait_until(lambda: project.playing("local-0"))
    hog = tiny_disk / "hog"
    with pytest.raises(OSError, match="No space"), hog.open("wb", buffering=0) as pig:
        while True:
            pig.write(b"x" * 4096)
    code, out = project.wait_for_end(host)
    assert code == 3, out
    os.unlink(hog)
    code, text = project.run()
    assert code == 0, text
    project.assert_counted_once()


def test_unwritable_archive_stops_host_and_run_resumes(project: FarmProject) -> None:
    """The ledger stays writable, but contains no fact that depends on an unarchived result: here its log."""
    project.configure(evaluator=COMMAND)
    project.add_genomes(games(12, seconds=0.3))
    host = project.start()
    attempts = project.root / "results/gen-0001/attempts"
    project.wait_until(attempts.is_dir)
    in_the_way = project.root / "a-file"
    in_the_way.write_text("and no folder")
    while not attempts.is_file():  # the host creates its folder again if it is gone
        with contextlib.suppress(OSError):
            attempts.rename(attempts.with_name(f"aside-{time.monotonic_ns()}"))
        with contextlib.suppress(OSError):
            in_the_way.rename(attempts)

    code, out = project.wait_for_end(host)
    assert code == 3, out
    assert "a result cannot be archived" in out
    attempts.unlink()
    attempts.mkdir()
    for folder in attempts.parent.glob("aside-*/*"):
        folder.rename(attempts / folder.name)

    code, text = project.run()
    assert code == 0, text
    project.assert_counted_once()


def test_old_results_are_moved_aside_by_next_host(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger already has `--fresh`: the next start moves the results, and no run reads those of the other."""
    project.configure()
    project.add_genomes(games(4))
    assert project.run()[0] == 0

    def die(_outputs: Outputs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Outputs, "move_aside", die)
    with pytest.raises(KeyboardInterrupt), host.Host(project.root, load_config(project.root), project.root) as dying:
        dying.begin(1, fresh=True)
    monkeypatch.undo()

    code, text = project.run()
    assert code == 0, text
    assert len((project.root / "results/gen-0001.before-1/results.jsonl").read_bytes().splitlines()) == 4
    project.assert_counted_once()
