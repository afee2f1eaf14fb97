"""An evaluator that cannot be loaded, fails every genome, or fails one: no other genome pays for it.

Each test plays the whole product; times are printed, and only generous deadlines are asserted.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.edited_project import EditedProject
from tests.harness.farm_project import CALLABLE, COMMAND, games
from tests.harness.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

MANY = 104
SOON_S = 20.0 * PATIENCE  #: a broken evaluator must be recognised far earlier than its games would take
IMPORT_S = 5.0

both_kinds = pytest.mark.parametrize("evaluator", [CALLABLE, COMMAND], ids=["callable", "command"])
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[EditedProject]:
    """A project with a game that the tests break."""
    farm = EditedProject(tmp_path / "farm")
    yield farm
    farm.close()


def run_to_its_end(project: EditedProject) -> tuple[int, str]:
    """Runs generation 1, and prints how long it took. Returns exit code and output, in one line."""
    started = time.monotonic()
    code, out = project.run(within_s=4 * SOON_S)
    print(f"exit code {code} after {time.monotonic() - started:.1f} s")
    return code, " ".join(out.split())


# ----------------------------------------------------------------------------------------- it fails every genome


@pytest.mark.parametrize(
    ("evaluator", "reason", "workers"),
    [
        ('python = "no_such_module:play"', "No module named 'no_such_module'", 1),
        ('python = "no_such_module:play"', "No module named 'no_such_module'", 2),
        ('command = ["python", "no-such-script.py", "{genome}", "{result}"]', "no-such-script.py: no such file", 2),
        ('command = ["no-such-program", "{genome}", "{result}"]', "no-such-program", 1),
    ],
    ids=["callable", "callable, two workers", "script", "program"],
)
def test_missing_evaluator_ends_the_run_before_any_attempt(
    project: EditedProject, evaluator: str, reason: str, workers: int
) -> None:
    """The run ends with exit code 4 and the reason, and no genome was given to a worker."""
    project.configure(workers=workers, evaluator=evaluator)
    project.add_genomes(games(MANY))
    started = time.monotonic()

    code, out = run_to_its_end(project)

    assert time.monotonic() - started < SOON_S
    assert code == 4, out
    assert "cannot be loaded" in out
    assert reason in out
    assert project.attempts() == []
    assert project.summary()["open"] == MANY


@pytest.mark.parametrize(("evaluator", "attempts"), [(CALLABLE, 0), (COMMAND, 3)], ids=["callable", "command"])
def test_import_error_inside_the_game_ends_the_run(project: EditedProject, evaluator: str, attempts: int) -> None:
    """A function is imported before anything is played; a program shows it by at most three games."""
    project.configure(workers=1, evaluator=evaluator)
    game = project.root / "game.py"
    whole = game.read_text()
    game.write_text(f"import no_such_library\n{whole}")
    project.add_genomes(games(MANY))
    started = time.monotonic()

    code, out = run_to_its_end(project)

    assert time.monotonic() - started < SOON_S
    assert code == 4, out
    assert "No module named 'no_such_library'" in out
    assert sum(row["outcome"] == "failed" for row in project.attempts()) <= attempts
    assert attempts == 0 or "the farm cannot go on: 3 genomes failed for the same reason" in project.run("status")[1]
    game.write_text(whole)
    code, out = run_to_its_end(project)
    assert code == 0, out
    project.assert_counted_once()


@pytest.mark.parametrize(
    ("evaluator", "reason"),
    [
        ('python = "no_such_module:play"', "No module named 'no_such_module'"),
        ('command = ["python", "no-such-script.py", "{genome}", "{result}"]', "no-such-script.py: no such file"),
    ],
    ids=["callable", "command"],
)
def test_missing_evaluator_of_an_agent_ends_the_run(project: EditedProject, evaluator: str, reason: str) -> None:
    """Also of one that was started by hand: its heartbeat says why it cannot play."""
    project.configure_shares("vm-0")
    project.add_genomes(games(MANY))
    project.start_worker("vm-0", evaluator)
    started = time.monotonic()

    code, out = run_to_its_end(project)

    assert time.monotonic() - started < SOON_S
    assert code == 4, out
    assert reason in out
    assert project.attempts() == []


# ----------------------------------------------------------------------------------------------------- slow imports


def import_slowly(folder: Path, seconds: float = IMPORT_S) -> None:
    """Lets the import of a game take so long."""
    game = folder / "game.py"
    game.write_text(f"import time\ntime.sleep({seconds})\n{game.read_text()}")


@pytest.mark.parametrize("workers", [1, 2])
def test_import_beyond_all_limits_of_a_game_costs_nothing(project: EditedProject, workers: int) -> None:
    """It has a limit of its own: no attempt is lost while it lasts, and no genome is charged."""
    project.configure(workers=workers, time_limit_s=1, grace_s=1, claim_limit_s=2)
    import_slowly(project.root)
    project.add_genomes(games(8))

    code, out = run_to_its_end(project)

    assert code == 0, out
    project.assert_counted_once()
    assert {row["outcome"] for row in project.attempts()} <= {"completed", "withdrawn"}
    assert all(project.outcomes(name).count("completed") == 1 for name in games(8))


def test_slow_import_of_an_agent_costs_nothing(project: EditedProject) -> None:
    """The same behind a share."""
    project.configure_shares("vm-0", time_limit_s=1, grace_s=1, claim_limit_s=2)
    import_slowly(project.game_folder("vm-0"))
    project.add_genomes(games(8))
    project.start_worker("vm-0")

    code, out = run_to_its_end(project)

    assert code == 0, out
    project.stop_workers()
    project.assert_counted_once()
    assert [row["outcome"] for row in project.attempts()] == ["completed"] * 8


@pytest.mark.parametrize("workers", [1, 2])
def test_second_import_after_a_failure_costs_no_other_genome(project: EditedProject, workers: int) -> None:
    """A failure replaces the process, whose import lasts longer than an idle worker may take to claim."""
    project.configure(workers=workers, time_limit_s=1, grace_s=1, claim_limit_s=2)
    import_slowly(project.root)
    project.add_genomes({**games(8), "g003.json": {"do": "raise"}})

    code, out = run_to_its_end(project)

    assert code == 1, out
    project.assert_counted_once(failed=frozenset({"g003.json"}))
    assert {row["outcome"] for row in project.attempts()} <= {"completed", "failed", "withdrawn"}
    assert project.outcomes("g003.json").count("failed") == 2


def test_import_beyond_its_own_limit_ends_the_run(project: EditedProject) -> None:
    """`load_limit_s` is named, and nothing was played."""
    project.configure(workers=1, evaluator=f"{CALLABLE}\nload_limit_s = 1")
    import_slowly(project.root, 600)
    project.add_genomes(games(MANY))
    started = time.monotonic()

    code, out = run_to_its_end(project)

    assert time.monotonic() - started < SOON_S
    assert code == 4, out
    assert "importing game:play took longer than load_limit_s = 1" in out
    assert project.attempts() == []


# --------------------------------------------------------------------------------------------- one genome of many


def assert_only_it_failed(project: EditedProject, bad: str, outcome: str) -> None:
    """Checks that a genome was played `failures_max` times, and each other one once."""
    project.assert_counted_once(failed=frozenset({bad}))
    assert [ended for ended in project.outcomes(bad) if ended != "withdrawn"] == [outcome] * 2
    played = [row["genome"] for row in project.attempts() if row["outcome"] != "withdrawn"]
    assert sorted(played) == sorted([*games(40), bad])
    assert {row["outcome"] for row in project.attempts() if row["genome"] != bad} <= {"completed", "withdrawn"}


@both_kinds
@pytest.mark.parametrize(("position", "workers"), [(0, 1), (20, 2), (39, 2)])
def test_genome_that_hangs_costs_two_time_limits(
    project: EditedProject, evaluator: str, position: int, workers: int
) -> None:
    """Wherever it is in the queue, all others are played once."""
    bad = f"g{position:03d}.json"
    project.configure(workers=workers, evaluator=evaluator, time_limit_s=1.5 * PATIENCE)
    project.add_genomes({**games(40), bad: {"do": "hang"}})

    code, out = run_to_its_end(project)

    assert code == 1, out
    assert_only_it_failed(project, bad, "timed_out")


@dataclass(frozen=True)
class Fault:
    """How a game fails."""

    do: str  #: as game.py names it
    reason: str  #: for a callable
    reason_of_command: str


FAULTS = [
    Fault("raise", "this genome cannot be played", "this genome cannot be played"),
    Fault("exit", "SystemExit: 3", "exit code 3"),
    Fault("die_at_once", "evaluator process died: exit code 3", "exit code 3"),
    Fault("use_memory", "memory_limit_mb = 300", "memory_limit_mb = 300"),
]


@both_kinds
@pytest.mark.parametrize(
    ("fault", "position"),
    [*((FAULTS[0], position) for position in (0, 20, 39)), *((fault, 20) for fault in FAULTS[1:])],
    ids=lambda value: value.do if isinstance(value, Fault) else str(value),
)
def test_genome_that_fails_costs_two_games(project: EditedProject, evaluator: str, fault: Fault, position: int) -> None:
    """However it fails, all others are played once."""
    bad = f"g{position:03d}.json"
    project.configure(workers=2, evaluator=f"{evaluator}\nmemory_limit_mb = 300")
    project.add_genomes({**games(40), bad: {"do": fault.do}})

    code, out = run_to_its_end(project)

    assert code == 1, out
    assert_only_it_failed(project, bad, "failed")
    reason = fault.reason if evaluator == CALLABLE else fault.reason_of_command
    assert reason in project.results()[bad]["reason"]


@both_kinds
@pytest.mark.parametrize("do", ["leave_thread", pytest.param("set_alarm", marks=posix)])
def test_what_a_game_leaves_behind_reaches_no_other_one(project: EditedProject, evaluator: str, do: str) -> None:
    """It completes, and the games that follow in its place last longer than its alarm would."""
    leftover = {f"g00{n}.json": {"do": do} for n in (0, 3)}
    project.configure(workers=1, evaluator=evaluator)
    project.add_genomes({**games(6, seconds=0.4), **leftover})

    code, out = run_to_its_end(project)

    assert code == 0, out
    project.assert_counted_once()
    assert [row["outcome"] for row in project.attempts()] == ["completed"] * 6


@both_kinds
def test_failing_trial_holds_back_the_others_of_its_genome(project: EditedProject, evaluator: str) -> None:
    """With three trials no one of them is played more than twice, and other genomes are played once per trial."""
    bad = "g005.json"
    project.configure(workers=1, trials=3, evaluator=evaluator)
    project.add_genomes({**games(12), bad: {"do": "raise"}})

    code, out = run_to_its_end(project)

    assert code == 1, out
    project.assert_counted_once(failed=frozenset({bad}))
    played = [(row["genome"], row["trial"]) for row in project.attempts() if row["outcome"] in ("completed", "failed")]
    of_bad = [trial for genome, trial in played if genome == bad]
    print(f"games of the failing genome, by trial: {of_bad}")
    assert sorted(of_bad.count(trial) for trial in set(of_bad))[-1] == 2
    assert len(of_bad) <= 4  # a second trial may be claimed while the first one's result is on its way
    others = [game for game in played if game[0] != bad]
    assert len(others) == len(set(others)) == 11 * 3


# ------------------------------------------------------------------------------------------- a worker that joins


@both_kinds
def test_corrected_worker_joins_the_run(project: EditedProject, evaluator: str) -> None:
    """Its game is missing at first, while another worker goes on; as soon as it is there, it plays too."""
    project.configure_shares("vm-0", "vm-1")
    missing = project.game_folder("vm-1") / "game.py"
    missing.rename(missing.with_suffix(".away"))
    project.add_genomes(project.gated(12))
    project.start_worker("vm-0", evaluator)
    project.start_worker("vm-1", evaluator)
    host = project.start()
    project.wait_until(lambda: project.is_playing("vm-0"))
    project.wait_until(lambda: "vm-1: unfit" in project.run("status")[1], every_s=0.2)
    assert "cannot be loaded" in project.run("status")[1]

    missing.with_suffix(".away").rename(missing)

    project.wait_until(lambda: project.is_playing("vm-1"))
    project.open_gate()
    code, out = project.wait_for_end(host)
    assert code == 0, out
    project.stop_workers()
    project.assert_counted_once()
    assert project.played_by().keys() == {"vm-0", "vm-1"}
    assert len(project.versions()) == 1


@both_kinds
def test_corrected_agent_plays_in_the_next_run(project: EditedProject, evaluator: str) -> None:
    """The only worker is broken, so the run ends; its agent stays up, and the same command completes."""
    project.configure_shares("vm-0")
    folder = project.game_folder("vm-0")
    shutil.move(folder / "game.py", folder / "game.away")
    project.add_genomes(games(6))
    project.start_worker("vm-0", evaluator)
    assert run_to_its_end(project)[0] == 4

    shutil.move(folder / "game.away", folder / "game.py")

    project.wait_until(lambda: project.is_idle("vm-0"))
    code, out = run_to_its_end(project)
    assert code == 0, out
    project.stop_workers()
    project.assert_counted_once()
