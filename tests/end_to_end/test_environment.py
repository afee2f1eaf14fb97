"""Commands in unusual environments: time zones that no library knows."""

import re
import time
from datetime import datetime

import pytest

from tests.harness.farm_project import FarmProject, games

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

TIME_ZONES = [
    "UTC0",
    "GMT+12",
    "EST5EDT,M3.2.0,M11.1.0",
    '"Europe/Berlin"',
    "America/Los_Angeles ",
    "Foo/Bar",
    ":/nonexistent",
    "",
]


@pytest.mark.parametrize("zone", TIME_ZONES)
def test_any_time_zone_completes(project: FarmProject, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """A POSIX rule, a mistake or nothing: the run completes without a warning, and `status` tells the right time."""
    monkeypatch.setenv("TZ", zone)
    project.configure(workers=1)
    project.add_genomes(games(2))
    begun = int(time.time())

    code, out = project.run()

    assert code == 0, out
    assert not re.search("warn|tzlocal|Traceback", out), out
    project.assert_counted_once()
    assert project.run("explain", "local-0")[0] == 0
    code, out = project.run("status")
    assert code == 0, out
    said = re.search(r"last fact: (\S+ \S+)", out)
    assert said is not None, out
    assert begun <= datetime.fromisoformat(said[1]).timestamp() <= time.time(), out
