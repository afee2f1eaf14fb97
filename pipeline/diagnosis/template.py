"""Checks each requirement of the template guide inside a machine: the template's own, or a clone of it."""

from collections.abc import Collection
from dataclasses import dataclass

import orjson
from msgspec import Struct, ValidationError, convert, field

from hyperv_ops import MachineError, Machines, one_line, script_folder
from inbox_agent.checks import CheckResult
from pipeline.config.machine_tables import HyperVTable

SCRIPT = "Test-FarmTemplate.ps1"
GUEST_PATH = rf"C:\farm\{SCRIPT}"
LIMIT_S = 180.0


class _TemplateItem(Struct, frozen=True):
    """An item of the script's answer."""

    item: str
    ok: bool
    found: str
    fix: str = field(name="cure")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCheck:
    """What is checked in a guest. Empty texts: the check's own defaults."""

    player: str = ""  #: the guest's user who plays
    game_folder: str = ""  #: empty: not checked
    share: str = ""
    share_account: str = ""
    ignored: Collection[str] = ()  #: items that are not reported


def check_guest(machines: Machines, machine: str, table: HyperVTable, check: GuestCheck) -> list[CheckResult]:
    """Copies the check script into the guest of a machine and runs it. Raises MachineError."""
    machines.send(machine, (script_folder() / SCRIPT).read_bytes(), GUEST_PATH)
    arguments = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", GUEST_PATH]
    given = {
        "-Player": check.player,
        "-GameFolder": check.game_folder,
        "-Share": check.share,
        "-ShareAccount": check.share_account,
        "-Task": table.task,
        "-Subnet": table.network,
    }
    arguments += [word for name, value in given.items() if value for word in (name, value)]
    ran = machines.run(machine, "powershell.exe", arguments, LIMIT_S)
    try:
        items = convert(orjson.loads(ran.output.strip().lstrip("\ufeff")), list[_TemplateItem])
    except (orjson.JSONDecodeError, ValidationError) as error:
        reason = f"{SCRIPT} ended with {ran.exit_code} and said: {one_line(ran.output)}"
        raise MachineError(machine, reason) from error
    return [_result(item) for item in items if item.item not in check.ignored]


def _result(item: _TemplateItem) -> CheckResult:
    found = item.found or ("well" if item.ok else "")
    return CheckResult(one_line(item.item), item.ok, one_line(found), one_line(item.fix))
