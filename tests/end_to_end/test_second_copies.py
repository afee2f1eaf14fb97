"""A game that hangs at the end of a generation is played by an idle worker as well, long before its time limit."""

import pytest

from tests.harness.farm_project import FarmProject, games
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

TIME_LIMIT_S = 3600.0


@pytest.fixture
def copying(project: FarmProject) -> FarmProject:
    """Two workers, short games, and one whose first game never ends."""
    project.configure(workers=2, time_limit_s=TIME_LIMIT_S)
    config = project.root / "pipeline.toml"
    config.write_text(config.read_text().replace("[generation]", "[generation]\ncopy_stragglers = true"))
    project.add_genomes({**games(6, 0.05), "hangs.json": {"n": 99, "first": str(project.root / "begun")}})
    return project


def test_copy_of_hanging_game_counts(copying: FarmProject) -> None:
    code, output = copying.run()

    assert code == 0, output
    copying.assert_counted_once()
    ends = [(row["outcome"], "second copy" in row["reason"]) for row in attempts_at(copying, "hangs.json")]
    assert sorted(ends) == [("completed", False), ("withdrawn", True)]


def test_host_that_is_killed_while_two_workers_play_one_trial_counts_it_once(copying: FarmProject) -> None:
    """The next host plays what was played; the agents of both ended with the first one."""
    (copying.root / "begun").touch()
    copying.add_genomes({"hangs.json": {"n": 99, "until": str(copying.root / "go")}})
    host = copying.start()

    def both_play_it() -> bool:
        running = [copying.playing(worker) for worker in ("local-0", "local-1")]
        return all(running) and len({tuple(attempt.split("-")[:3]) for attempt in running}) == 1

    assert eventually(both_play_it)
    host.kill()
    host.wait()
    (copying.root / "go").touch()

    code, output = copying.run()

    assert code == 0, output
    copying.assert_counted_once()


def attempts_at(project: FarmProject, genome: str) -> list[dict[str, str]]:
    return [row for row in project.attempts(1) if row["genome"] == genome]
