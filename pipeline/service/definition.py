"""What a service of a project is: its name, its command, and what defines it for systemd and for Windows. Pure.

Not here: installing it (`systemd`, `scheduled_task`).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePath
from xml.sax.saxutils import escape

from pipeline.errors import InputError

RESTART_S = 10  #: from the end of a failed process to the start of the next one
WATCHDOG_S = 600  #: without a sign of life, before systemd kills the process and starts it again
STOP_LIMIT_S = 90  #: for a graceful end
_SLUG_MAX = 40


@dataclass(frozen=True, slots=True)
class Service:
    """`pipeline watch` of one project.

    Raises:
        InputError: the path of the project cannot be written in a definition.
    """

    root: PurePath  #: absolute
    python: PurePath  #: the interpreter that has this program

    def __post_init__(self) -> None:
        if not str(self.root).isprintable():
            raise InputError(f"{self.root}: a service cannot have control characters in its path; rename the folder")

    @property
    def name(self) -> str:
        """Unlike that of any other project on this computer."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.root.name.lower()).strip("-")[:_SLUG_MAX] or "project"
        return f"genome-pipeline-{slug}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:6]}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the interpreter gets."""
        return ("-m", "pipeline", "watch", "--root", str(self.root))


def systemd_unit(service: Service, *, path: str, user: str = "") -> str:
    """The unit file. `path` is the search path of programs; `user` runs a unit of the whole system.

    An evaluator's command is found as in the shell that installs the service: systemd's own path lacks virtual
    environments and programs of the user.
    """
    command = " ".join(_quoted(word) for word in (str(service.python), *service.arguments))
    return "\n".join(
        [
            "[Unit]",
            f"Description=Genome pipeline of {service.root.name}".replace("%", "%%"),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={command}",
            f"Environment={_quoted(f'PATH={path}')}",
            *([f"User={user}"] if user else []),
            "Restart=on-failure",
            f"RestartSec={RESTART_S}",
            f"WatchdogSec={WATCHDOG_S}",
            "WatchdogSignal=SIGKILL",
            "KillMode=mixed",
            f"TimeoutStopSec={STOP_LIMIT_S}",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if user else 'default.target'}",
            "",
        ]
    )


def _quoted(word: str) -> str:
    """A word of a unit file: systemd expands `%` and `$`, and reads backslashes as C does."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(character, written)
    return f'"{word}"'


def task_xml(service: Service, *, user: str, command_line: str) -> str:
    """The definition of a scheduled task that starts with Windows; `command_line` has the arguments, quoted.

    It runs as this user without a password and without a desktop (S4U): it cannot use what Windows unlocks with the
    password, such as the Credential Manager.
    """
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{escape(f"Genome pipeline of {service.root}")}</Description>
  </RegistrationInfo>
  <Triggers>
    <BootTrigger>
      <Enabled>true</Enabled>
    </BootTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(user)}</UserId>
      <LogonType>S4U</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(str(service.python))}</Command>
      <Arguments>{escape(command_line)}</Arguments>
      <WorkingDirectory>{escape(str(service.root))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
