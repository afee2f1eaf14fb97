"""`pipeline vm check-template`: what the template guide asks for, looked at inside of the machine, item by item."""

import orjson
from msgspec import Struct, ValidationError, convert

from hyperv_ops import MachineError, Machines, script_folder

SCRIPT = "Test-FarmTemplate.ps1"
GUEST_PATH = rf"C:\farm\{SCRIPT}"
LIMIT_S = 180.0


class Item(Struct, frozen=True):
    """One line of the guide (docs/template-vm.md)."""

    item: str
    ok: bool
    found: str
    cure: str

    def __str__(self) -> str:
        return f"{self.item}: {self.found or 'well'}" if self.ok else f"{self.item}: {self.found}; {self.cure}"


def check_template(machines: Machines, machine: str, player: str, game_folder: str) -> list[Item]:
    """Sends the check into the guest and runs it there. Raises MachineError."""
    machines.send(machine, (script_folder() / SCRIPT).read_bytes(), GUEST_PATH)
    arguments = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", GUEST_PATH]
    arguments += ["-Player", player, "-GameFolder", game_folder]
    ran = machines.run(machine, "powershell.exe", arguments, LIMIT_S)
    try:
        return convert(orjson.loads(ran.output.strip().lstrip("\ufeff")), list[Item])
    except (orjson.JSONDecodeError, ValidationError) as error:
        words = " ".join(ran.output.split())[:300]
        raise MachineError(machine, f"{SCRIPT} ended with {ran.exit_code} and said: {words}") from error
