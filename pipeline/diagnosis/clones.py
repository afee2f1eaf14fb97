"""Whether clones equal their template: in their guests while `pipeline vm prepare` sets them up, and their settings.

Owns: when the guest of a machine that has just booted is checked. Not here: what is checked (`template`, the scripts).
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hyperv_ops import HyperVMachines, MachineError, Machines
from inbox_agent.checks import CheckResult
from pipeline.config import Config
from pipeline.diagnosis.template import GuestCheck, check_guest
from pipeline.machines import fleet

PAUSE_S = 5.0
_LAST_ITEM = "agent"  #: it starts last, when its user has logged on


class CloneChecks:
    """Checks of the clones of one Hyper-V host. Any thread may call."""

    def __init__(self, config: Config, check: GuestCheck) -> None:
        assert config.hyperv is not None
        self._config, self._table, self._check = config, config.hyperv, check
        self._in_guests: dict[str, list[str]] = {}

    def look_inside(self, machines: Machines, machine: str) -> None:
        """Checks the guest of a machine that boots, when its agent is up or should be. Remembers what is not well."""
        worker = next(worker for worker in self._config.worker if worker.machine == machine)
        share = worker.unc[1] if worker.unc is not None else ""
        check = replace(self._check, share=share, share_account=fleet.account_of(worker))
        try:
            items = self._look_until_up(machines, machine, check)
        except MachineError as error:
            self._in_guests[machine] = [f"its guest was not checked: {error.reason}"]
        else:
            self._in_guests[machine] = [str(item) for item in items if not item.ok]

    def findings(self, machines: Machines, chosen: Mapping[str, str]) -> Iterator[str]:
        """How these machines, by worker, differ from the template: in their guests, then in their settings.

        Raises:
            MachineError: the settings cannot be compared.
        """
        for worker, machine in chosen.items():
            for line in self._in_guests.get(machine, []):
                yield f"{worker}: {line}"
        if isinstance(machines, HyperVMachines) and self.can_compare:
            differ = setting_differences(machines, chosen, self._table.template_machine)
            yield from (f"{worker}: {line}" for worker, lines in differ.items() for line in lines)

    @property
    def can_compare(self) -> bool:
        """Whether the machine to compare settings with is known."""
        return bool(self._table.template_machine)

    def _look_until_up(self, machines: Machines, machine: str, check: GuestCheck) -> Sequence[CheckResult]:
        deadline, was_up = time.monotonic() + self._config.limits.boot_limit_s, False
        while True:
            is_late = time.monotonic() >= deadline
            try:
                items = check_guest(machines, machine, self._table, check)
            except MachineError:  # it restarts for its new name
                if is_late:
                    raise
            else:
                # Once more after the agent was up: other items may have been looked at before its user logged on.
                if is_late or was_up or all(item.ok for item in items):
                    return items
                was_up = any(item.ok for item in items if item.item == _LAST_ITEM)
            threading.Event().wait(PAUSE_S)


def setting_differences(machines: HyperVMachines, chosen: Mapping[str, str], like: str) -> dict[str, list[str]]:
    """The settings, except those on the disk, in which each of these machines, by worker, differs from machine `like`.

    Raises:
        MachineError: they cannot be read, or there is no such machine.
    """
    found = machines.compare(list(chosen.values()), like)
    return {worker: fleet.differences(found.get(machine, []), like) for worker, machine in chosen.items()}
