"""`pipeline vm check-template`: checks each requirement of the template guide inside the machine."""

import orjson
from msgspec import Struct, ValidationError, convert

from hyperv_ops import MachineError, Machines, one_line, script_folder
from pipeline.config import HyperVTable

SCRIPT = "Test-FarmTemplate.ps1"
GUEST_PATH = rf"C:\farm\{SCRIPT}"
LIMIT_S = 180.0


class TemplateCheck(Struct, frozen=True):
    """The outcome for one requirement of the guide (docs/how-to/template-vm.md)."""

    item: str
    ok: bool
    found: str
    cure: str

    def __str__(self) -> str:
        return one_line(
            f"{self.item}: {self.found or 'well'}" if self.ok else f"{self.item}: {self.found}; {self.cure}"
        )


def check_template(machines: Machines, table: HyperVTable, player: str, game_folder: str) -> list[TemplateCheck]:
    """Copies the check script into the guest of `template_machine` and runs it. Raises MachineError."""
    machine = table.template_machine
    machines.send(machine, (script_folder() / SCRIPT).read_bytes(), GUEST_PATH)
    arguments = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", GUEST_PATH]
    arguments += ["-Player", player, "-GameFolder", game_folder, "-Task", table.task]
    arguments += ["-Subnet", table.network] if table.network else []
    ran = machines.run(machine, "powershell.exe", arguments, LIMIT_S)
    try:
        return convert(orjson.loads(ran.output.strip().lstrip("\ufeff")), list[TemplateCheck])
    except (orjson.JSONDecodeError, ValidationError) as error:
        reason = f"{SCRIPT} ended with {ran.exit_code} and said: {one_line(ran.output)}"
        raise MachineError(machine, reason) from error
