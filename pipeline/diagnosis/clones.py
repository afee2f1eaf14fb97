"""Whether clones equal their template: in their guests while `pipeline vm prepare` sets them up, and their settings.

Owns: when the guest of a machine that has just booted is checked. Not here: what is checked (`template`, the scripts).
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hyperv_ops import HyperVMachines, MachineError
from inbox_agent.checks import CheckResult
from pipeline.config import Config
from pipeline.config.machine_tables import HyperVTable
from pipeline.diagnosis.template import GuestCheck, check_guest
from pipeline.machines import fleet
from pipeline.machines.fleet import Target
from pipeline.machines.machine_host import at_same_time

PAUSE_S = 5.0
_LAST_ITEM = "agent"  #: it starts last, when its user has logged on


class CloneChecks:
    """Checks of the clones of Hyper-V hosts. Any thread may call."""

    def __init__(self, config: Config, check: GuestCheck) -> None:
        self._config, self._check = config, check
        self._in_guests: dict[str, list[str]] = {}  #: by worker
        self.not_compared: list[str] = []  #: titles of hosts without a machine to compare settings with

    def look_inside(self, target: Target) -> None:
        """Checks the guest of a machine that boots, when its agent is up or should be. Remembers what is not well."""
        worker = next(worker for worker in self._config.worker if worker.name == target.worker)
        share = worker.unc[1] if worker.unc is not None else ""
        check = replace(self._check, share=share, share_account=fleet.account_of(worker))
        try:
            items = self._look_until_up(target, check)
        except MachineError as error:
            self._in_guests[target.worker] = [f"its guest was not checked: {error.reason}"]
        else:
            self._in_guests[target.worker] = [str(item) for item in items if not item.ok]

    def findings(self, chosen: Sequence[Target]) -> Iterator[str]:
        """How these machines differ from the template: in their guests, then in their settings.

        Raises:
            MachineError: the settings cannot be compared.
        """
        for target in chosen:
            for line in self._in_guests.get(target.worker, []):
                yield f"{target.worker}: {line}"
        comparable = [target for target in chosen if template_machine_of(target)]
        self.not_compared = sorted({target.host.title for target in chosen if target not in comparable})
        differ = setting_differences(comparable)
        yield from (f"{worker}: {line}" for worker, lines in differ.items() for line in lines)

    def _look_until_up(self, target: Target, check: GuestCheck) -> Sequence[CheckResult]:
        table = target.host.table
        assert isinstance(table, HyperVTable)
        deadline, was_up = time.monotonic() + self._config.limits.boot_limit_s, False
        while True:
            is_late = time.monotonic() >= deadline
            try:
                items = check_guest(target.host.machines, target.machine, table, check)
            except MachineError:  # it restarts for its new name
                if is_late:
                    raise
            else:
                # Once more after the agent was up: other items may have been looked at before its user logged on.
                if is_late or was_up or all(item.ok for item in items):
                    return items
                was_up = any(item.ok for item in items if item.item == _LAST_ITEM)
            threading.Event().wait(PAUSE_S)


def template_machine_of(target: Target) -> str:
    """The machine on its host to compare settings with; empty if none is set."""
    return target.host.table.template_machine if isinstance(target.host.table, HyperVTable) else ""


def setting_differences(chosen: Sequence[Target]) -> dict[str, list[str]]:
    """The settings, except those on the disk, in which each of these machines differs from the template's machine on
    its host, by worker; and why a host of several cannot tell, by its title.

    Raises:
        MachineError: the only host cannot tell, or has no such machine.
    """
    groups = list(fleet.by_host(chosen).values())
    if len(groups) == 1:
        return _differences_on_host(groups[0])  # its error is that of the command
    found: dict[str, list[str]] = {}
    for differ in at_same_time(_differences_or_reason, groups):
        found |= differ
    return found


def _differences_or_reason(chosen: Sequence[Target]) -> dict[str, list[str]]:
    try:
        return _differences_on_host(chosen)
    except MachineError as error:
        return {chosen[0].host.title: [f"its machines were not compared: {error}"]}


def _differences_on_host(chosen: Sequence[Target]) -> dict[str, list[str]]:
    machines, like = chosen[0].host.machines, template_machine_of(chosen[0])
    assert isinstance(machines, HyperVMachines)
    differ = machines.compare([target.machine for target in chosen], like)
    return {target.worker: fleet.differences(differ.get(target.machine, []), like) for target in chosen}
