"""Hostile agents beside an honest one; `make attacks` measures all of them, for longer."""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("the attacks are of POSIX", allow_module_level=True)

from tests.harness.hostile_agent import ATTACKS
from tests.programs.attacks import DISK_MIB_MAX, MEMORY_MIB_MAX, run

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
SECONDS = 2.0
OTHERS = ("sparse artifacts", "results of unknown attempts", "names of metrics", "extreme numbers")  #: test_budgets.py


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack not in OTHERS])
def test_host_goes_on_beside_a_hostile_agent(attack: str) -> None:
    """The honest worker plays, no file outside of the shares is touched, and memory and disk are bounded."""
    found = run(attack, SECONDS)

    assert found.is_intact, found.output
    assert found.rate > 0
    assert found.memory_mib < MEMORY_MIB_MAX
    assert found.disk_mib < DISK_MIB_MAX
