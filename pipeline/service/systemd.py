"""Services of systemd: a unit of the user who installs it, or of the whole system."""

import os
from pathlib import Path

from inbox_agent.system.atomic_file import replace_file
from pipeline.errors import InputError
from pipeline.service.definition import Service, systemd_unit
from pipeline.service.service_manager import ServiceStatus, call

_SHOWN = ("LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "Result", "ActiveEnterTimestamp")
_LINGERING = Path("/var/lib/systemd/linger")


class Systemd:
    """Implements `ServiceManager`."""

    def __init__(self, *, of_system: bool = False) -> None:
        self._of_system = of_system
        self._scope = "--system" if of_system else "--user"

    def install(self, service: Service) -> list[str]:
        unit = self._unit(service)
        user = _owner(Path(service.root)) if self._of_system else ""
        text = systemd_unit(service, path=os.environ.get("PATH", os.defpath), user=user)
        try:
            unit.parent.mkdir(parents=True, exist_ok=True)
            replace_file(unit, text.encode())
        except OSError as error:
            fix = "install it as root" if self._of_system else "give this user the right to write there"
            raise InputError(f"{unit}: {error.strerror}; {fix}") from error
        self._systemctl("daemon-reload")
        self._systemctl("enable", unit.name)
        self._systemctl("restart", unit.name)
        return [f"{service.name} runs; its log: journalctl {self._scope} -u {service.name}", *self._logout_hint()]

    def uninstall(self, service: Service) -> list[str]:
        unit = self._unit(service)
        if not unit.exists():
            raise InputError(f"{service.name} is not installed: there is no {unit}")
        self._systemctl("disable", "--now", unit.name)
        try:
            unit.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{unit}: {error.strerror}; uninstall it as the user who installed it") from error
        self._systemctl("daemon-reload")
        return [f"{service.name} is stopped and removed; {service.root} is as it was"]

    def status(self, service: Service) -> ServiceStatus:
        unit = self._unit(service)
        if not unit.exists():
            return ServiceStatus(False, False, (f"{service.name} is not installed",))
        printed = self._systemctl("show", unit.name, "--property", ",".join(_SHOWN))
        shown = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        state, running = shown.get("ActiveState", "unknown"), shown.get("ActiveState") == "active"
        since = f" since {shown['ActiveEnterTimestamp']}" if running and shown.get("ActiveEnterTimestamp") else ""
        lines = [f"{service.name}: {state} ({shown.get('SubState', '')}){since}"]
        if running:
            lines.append(f"process {shown.get('MainPID')}, restarted {shown.get('NRestarts', '0')} times")
        elif shown.get("Result", "success") != "success":
            lines.append(f"the last process ended by {shown['Result']}")
        lines.append(f"definition: {unit}; log: journalctl {self._scope} -u {service.name}")
        return ServiceStatus(True, running, tuple(lines))

    def _unit(self, service: Service) -> Path:
        if self._of_system:
            return Path("/etc/systemd/system", f"{service.name}.service")
        config = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
        return Path(config, "systemd", "user", f"{service.name}.service")

    def _systemctl(self, *words: str) -> str:
        return call("systemctl", self._scope, "--no-pager", *words)

    def _logout_hint(self) -> list[str]:
        if self._of_system or (_LINGERING / (os.environ.get("USER") or "")).is_file():
            return []
        return ["it ends when you log out; to let it run from the start of this computer on: loginctl enable-linger"]


def _owner(root: Path) -> str:
    """The user whose files the project's are; that user runs the service."""
    import pwd  # only on POSIX systems

    try:
        return pwd.getpwuid(root.stat().st_uid).pw_name
    except (OSError, KeyError) as error:
        raise InputError(f"{root}: its owner is not known here: {error}") from error
