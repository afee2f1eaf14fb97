"""Hostile workers beside an honest one; `make attacks` measures all of them, for longer."""

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("the attacks are of POSIX", allow_module_level=True)

from tests.harness.hostile_agent import ATTACKS
from tests.harness.hostile_relay import SMB_ATTACKS
from tests.harness.samba import PASSWORD
from tests.programs.attacks import DISK_MIB_MAX, MEMORY_MIB_MAX, run

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
SECONDS = 2.0
#: Played in test_budgets.py, and in test_smb_attacks.py.
OTHERS = {
    *("sparse artifacts", "results of unknown attempts", "names of metrics", "extreme numbers"),
    *("SMB: changed answers", "SMB: answers in the clear", "SMB: no answers", "SMB: messages of 4 GiB"),
}


@pytest.mark.parametrize("attack", [attack for attack in (*ATTACKS, *SMB_ATTACKS) if attack not in OTHERS])
def test_host_goes_on_beside_a_hostile_worker(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The honest worker plays, no file outside of the shares is touched, and memory and disk are bounded."""
    monkeypatch.setenv("FARM_SECRET", PASSWORD)
    found = run(attack, SECONDS)

    assert found.is_intact, found.output
    assert found.rate > 0
    assert found.memory_mib < MEMORY_MIB_MAX
    assert found.disk_mib < DISK_MIB_MAX
