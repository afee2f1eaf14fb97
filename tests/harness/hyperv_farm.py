"""A Hyper-V host for tests: simulated machines with real agents, behind the real WinRM protocol."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperv_ops import GuestAccess, HyperVMachines, LocalSpec, MachineError, Template
from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner
from inbox_agent.protocol.layout import INBOX, OUTBOX, STAGING, STATUS
from tests.fakes.guest_processes import GuestProcesses
from tests.fakes.simulated_hyperv import SimulatedHyperV
from tests.fakes.wsman_server import WsmanServer
from tests.harness.samba import ACCOUNT as SHARE_ACCOUNT
from tests.harness.samba import Samba

ACCOUNT, PASSWORD, GUEST_SECRET = "farmer", "W1nrm-canary", "Gu3st-canary"
FOLDERS = (f"{INBOX}/{STAGING}", f"{OUTBOX}/{STAGING}", STATUS)


@dataclass(frozen=True, slots=True)
class HyperVHarness:
    """A host, its WinRM service, and the folder of its machines' disks."""

    hyperv: SimulatedHyperV
    server: WsmanServer
    disks: Path
    names: tuple[str, ...]
    host: str = ""  #: its name in pipeline.toml, if there are several

    def machines(self, password: str = PASSWORD) -> HyperVMachines:
        """The machines as the pipeline accesses them."""
        return HyperVMachines(
            WinRmRunner(self.access(password)),
            self.names,
            template=Template(disk=r"D:\template.vhdx", folder=r"D:\farm", switch="farm"),
            guest=GuestAccess(account="player", secret=lambda: GUEST_SECRET),
        )

    def access(self, password: str = PASSWORD) -> WinRmAccess:
        """The settings for access to the host."""
        return access(self.server, password)

    @property
    def port(self) -> int:
        """The port of the WinRM service."""
        return port_of(self.server)

    def tables(
        self,
        samba: Samba | None = None,
        *,
        port: int | None = None,
        smb_ports: Mapping[str, int] | None = None,
        **hyperv: object,
    ) -> str:
        """The part of pipeline.toml for the host and its machines. Their shares are accessed by path, or over SMB at
        the address that each machine reports. The ports are those of a relay in front of it.
        """
        host = self.host
        lines = [
            *(f"[hyperv.{host}]" if host else "[hyperv]", "host = '127.0.0.1'", f"port = {port or self.port}"),
            *(f"account = '{ACCOUNT}'", "secret = 'env:HYPERV_SECRET'", "guest_account = 'player'"),
            "guest_secret = 'env:GUEST_SECRET'",
            *("template = 'D:\\template.vhdx'", "folder = 'D:\\farm'", "switch = 'farm'"),
            *(f"{key} = {value}" for key, value in hyperv.items()),
        ]
        for name in self.names:
            worker, machine = (f"{host}-{name}", f"{host}/{name}") if host else (name, name)
            lines += ["[[worker]]", f"name = '{worker}'", f"machine = '{machine}'"]
            if samba is None:
                lines += [f"share = '{self.disks / name}'"]
            else:
                smb_port = (smb_ports or {}).get(name, samba.port)
                lines += [rf"share = '\\{name}\{name}'", f"port = {smb_port}", f"account = '{SHARE_ACCOUNT}'"]
                lines += ["secret = 'env:SHARE_SECRET'"]
        return "\n".join(lines) + "\n"


def refusal(call: Callable[[], object]) -> MachineError:
    """The error that a call raises."""
    with pytest.raises(MachineError) as error:
        call()
    return error.value


def port_of(server: WsmanServer) -> int:
    """The TCP port of a WinRM service."""
    return int(server.endpoint.rsplit(":", 1)[1].partition("/")[0])


def access(server: WsmanServer, password: str = PASSWORD) -> WinRmAccess:
    """The settings for access to a host with this WinRM service."""
    over_tls = server.certificate is not None
    return WinRmAccess(
        host="localhost" if over_tls else "127.0.0.1",
        account=ACCOUNT,
        password=lambda: password,
        transport="https" if over_tls else "ntlm",
        port=port_of(server),
        certificate=str(server.certificate) if over_tls else None,
    )


@contextmanager
def hyperv_harness(
    root: Path,
    *names: str,
    existing: tuple[str, ...] | None = None,
    tls: bool = False,
    boot_s: float = 0.3,
    disks: Path | None = None,
    host: str = "",
    first_address: int = 11,
) -> Iterator[HyperVHarness]:
    """Machines whose guests are agents that play `root/game.py`; they have the addresses from 127.0.0.11 on."""
    disks = disks or root / "disks"
    guests = GuestProcesses({name: _guest(root, disks / name, root / "agents" / host) for name in names})
    existing = names if existing is None else existing
    hyperv = SimulatedHyperV(guests, *existing, boot_s=boot_s, first_address=first_address)
    try:
        with WsmanServer(hyperv.answer, accounts={ACCOUNT: PASSWORD}, tls=tls) as server:
            yield HyperVHarness(hyperv, server, disks, names, host)
    finally:
        hyperv.close()
        guests.close(0)


def _guest(root: Path, share: Path, agents: Path) -> LocalSpec:
    name = share.name
    agent = [sys.executable, "-P", "-m", "inbox_agent", "--share", str(share), "--beat", "1"]
    agent += ["--state", str(agents / name), "--python", "game:play", "--folder", str(root)]
    return LocalSpec(argv=agent, disk=share, folders=FOLDERS, log=agents / f"{name}.log", cwd=root)
