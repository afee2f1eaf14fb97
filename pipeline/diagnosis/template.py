"""`pipeline vm check-template`: checks each requirement of the template guide inside the machine."""

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


def check_template(machines: Machines, table: HyperVTable, player: str, game_folder: str) -> list[CheckResult]:
    """Copies the check script into the guest of `template_machine` and runs it. Raises MachineError."""
    machine = table.template_machine
    machines.send(machine, (script_folder() / SCRIPT).read_bytes(), GUEST_PATH)
    arguments = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", GUEST_PATH]
    arguments += ["-Player", player, "-GameFolder", game_folder, "-Task", table.task]
    arguments += ["-Subnet", table.network] if table.network else []
    ran = machines.run(machine, "powershell.exe", arguments, LIMIT_S)
    try:
        items = convert(orjson.loads(ran.output.strip().lstrip("\ufeff")), list[_TemplateItem])
    except (orjson.JSONDecodeError, ValidationError) as error:
        reason = f"{SCRIPT} ended with {ran.exit_code} and said: {one_line(ran.output)}"
        raise MachineError(machine, reason) from error
    return [_result(item) for item in items]


def _result(item: _TemplateItem) -> CheckResult:
    found = item.found or ("well" if item.ok else "")
    return CheckResult(one_line(item.item), item.ok, one_line(found), one_line(item.fix))
