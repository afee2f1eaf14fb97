"""The tables of machines in `pipeline.toml`, `[hyperv]` and `[qemu]`, and what all tables share. Pure.

Owns: their keys, defaults and checks. Not here: what must hold between tables (`config`).
"""

import ipaddress
import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from hyperv_ops import MACHINE_NAME
from pipeline.errors import SecretError
from pipeline.secrets import REFERENCE, check_reference

START_MEMORY_MB = 2048  #: if its limits allow it. Source: the default of New-FarmVM.ps1
_HOST = re.compile(r"[A-Za-z0-9._:-]*", re.ASCII)

# Texts with a form. The checks below report it in words; `pipeline schema` tells editors.
MachineName = Annotated[str, Meta(extra_json_schema={"pattern": f"^({MACHINE_NAME.pattern})?$"})]
#: of a machine, after the name of its host if that has one
MachinePath = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^(({MACHINE_NAME.pattern}/)?{MACHINE_NAME.pattern})?$"})
]
Secret = Annotated[str, Meta(extra_json_schema={"pattern": f"^({REFERENCE})?$"})]
_HostName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_HOST.pattern}$"})]
_IdleAction = Literal["none", "save", "shutdown"]
_IdleAfter = Annotated[float, Meta(ge=1, le=7 * 86400)]
_Spare = Annotated[int, Meta(ge=0, le=1000)]


class ConfigTable(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A table that refuses unknown keys."""


def check_secret(owner: str, secret: str) -> None:
    """Raises ValueError if a text is no reference to a secret; `owner` names where it stands."""
    if secret:
        try:
            check_reference(secret)
        except SecretError as error:
            raise ValueError(f"{owner}: {error}") from None


def _check_spare(table: str, spare: int, idle_action: str) -> None:
    if spare and idle_action == "none":
        raise ValueError(f'{table} spare needs idle_action = "save", or "shutdown": a spare machine is at rest')


class HyperVTable(ConfigTable, frozen=True, kw_only=True):
    """`[hyperv]`: the Hyper-V host of the workers' machines, and the settings of new machines.

    Of several hosts each has a table `[hyperv.NAME]` with the same keys; what it does not set is taken from `[hyperv]`.
    """

    host: _HostName = ""  #: its name or address; empty: this computer, without WinRM
    #: how WinRM authenticates and encrypts; only `https` and `kerberos` prove which host answers
    transport: Literal["ntlm", "kerberos", "https"] = "ntlm"
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None  #: unset: 5985, or 5986 for `https`
    account: str = ""  #: a member of the host's Hyper-V Administrators
    secret: Secret = ""  #: a reference to the account's password, never the password
    certificate: str = ""  #: CA file for the host's certificate; empty: the system's trust store
    template: str = ""  #: path of the template's disk, on the Hyper-V host
    template_machine: MachineName = ""  #: the machine in which the template is set up; new machines get its settings
    folder: str = ""  #: the folder of the machines' disks, on the Hyper-V host
    switch: str = ""  #: the virtual switch of the machines
    #: of that switch, like `192.168.77.0/24`; the host has its first address, the machines have the 11th and following.
    #: Shares are reached at its addresses only; empty: at private addresses
    network: str = ""
    memory_min_mb: Annotated[int, Meta(ge=512, le=1024 * 1024)] = 1024  #: what a machine keeps when memory is short
    memory_max_mb: Annotated[int, Meta(ge=512, le=1024 * 1024)] = 4096  #: the most that it can get
    processors: Annotated[int, Meta(ge=1, le=240)] = 2  #: virtual processors of a new machine
    checkpoint: str = "clean"  #: name of the checkpoint that a restore returns to
    booting_max: Annotated[int, Meta(ge=1, le=64)] = 6  #: machines that boot at the same time
    stagger_s: Annotated[float, Meta(ge=0, le=600)] = 2.0  #: between two starts
    #: memory of the host that stays free: a machine that needs it to boot waits. Unset: Hyper-V decides, which takes
    #: memory from running machines down to their `memory_min_mb`
    memory_reserve_mb: Annotated[int, Meta(ge=0, le=16 * 1024 * 1024)] | None = None
    guest_account: str = ""  #: the account inside the machines that may restart the agent's logon task
    guest_secret: Secret = ""  #: a reference to its password
    task: str = "inbox-agent"  #: the agent's logon task
    #: what is done with a machine that has no work: it runs on; its memory is saved to disk; its guest is shut down. It
    #: is started again when trials wait for it
    idle_action: _IdleAction = "none"
    idle_after_s: _IdleAfter = 600.0  #: without work, before that is done
    #: so many of the machines stay at rest while trials wait, until other machines' workers cannot play; needs an
    #: `idle_action`
    spare: _Spare = 0

    def __post_init__(self) -> None:
        if self.host and not (self.account and self.secret) and self.transport != "kerberos":
            raise ValueError("[hyperv] host needs an account and a secret; leave host out if it is this computer")
        if not _HOST.fullmatch(self.host):
            raise ValueError(f"[hyperv] host {self.host!r}: a name or an address is expected")
        if self.guest_account and not self.guest_secret:
            raise ValueError("[hyperv] guest_account needs a guest_secret")
        if self.network:
            try:
                if ipaddress.IPv4Network(self.network).prefixlen > 28:
                    raise ValueError(f"{self.network} has no room for machines")
            except ValueError as error:
                raise ValueError(f"[hyperv] network: {error}; write it like 192.168.77.0/24") from None
        _check_spare("[hyperv]", self.spare, self.idle_action)
        if self.memory_min_mb > self.memory_max_mb:
            raise ValueError("[hyperv] memory_min_mb must not be above memory_max_mb")
        if self.template_machine and not MACHINE_NAME.fullmatch(self.template_machine):
            raise ValueError(f"[hyperv] template_machine {self.template_machine!r}: letters, digits, - and _ only")
        check_secret("[hyperv]", self.secret)
        check_secret("[hyperv] guest_secret", self.guest_secret)

    @property
    def start_memory_mb(self) -> int:
        """The memory with which a new machine boots."""
        return min(max(START_MEMORY_MB, self.memory_min_mb), self.memory_max_mb)


class QemuTable(ConfigTable, frozen=True, kw_only=True):
    """`[qemu]`: the workers' machines are QEMU processes on this computer. Paths may be relative to the project."""

    image: str = ""  #: the template's disk; a `vmlinuz` and an `initrd.img` beside it are booted directly
    folder: str = "machines"  #: the folder of the machines' disks
    memory_mb: Annotated[int, Meta(ge=128, le=1024 * 1024)] = 512  #: memory of a machine
    processors: Annotated[int, Meta(ge=1, le=240)] = 1  #: virtual processors of a machine
    accelerator: Literal["auto", "kvm", "hvf", "tcg"] = "auto"  #: `auto`: KVM where it works, else emulation
    booting_max: Annotated[int, Meta(ge=1, le=64)] = 2  #: machines that boot at the same time
    stagger_s: Annotated[float, Meta(ge=0, le=600)] = 0.0  #: between two starts
    service: str = "inbox-agent"  #: the agent, as `service NAME restart` knows it in the guest
    #: what is done with a machine that has no work: it runs on; its memory is saved to disk; its guest is shut down. It
    #: is started again when trials wait for it
    idle_action: _IdleAction = "none"
    idle_after_s: _IdleAfter = 600.0  #: without work, before that is done
    #: so many of the machines stay at rest while trials wait, until other machines' workers cannot play; needs an
    #: `idle_action`
    spare: _Spare = 0

    def __post_init__(self) -> None:
        _check_spare("[qemu]", self.spare, self.idle_action)


#: Keys that hold for all machines of a farm (`pipeline.core.rest`).
_OF_ALL_HOSTS = ("idle_action", "idle_after_s", "spare")


def hyperv_title(host: str) -> str:
    """How the table of a Hyper-V host is written; the only one may have no name."""
    return f"[hyperv.{host}]" if host else "[hyperv]"


def check_hosts(tables: Mapping[str, HyperVTable]) -> None:
    """Raises ValueError if these Hyper-V hosts, by name, cannot be used together."""
    for name in tables if len(tables) > 1 or "" not in tables else ():
        if not MACHINE_NAME.fullmatch(name):
            raise ValueError(f"[hyperv.{name}]: the name of a host has letters, digits, - and _ only, at most 63")
    for (one, first), (other, second) in itertools.combinations(tables.items(), 2):
        both = f"[hyperv.{one}] and [hyperv.{other}]"
        if (first.host.lower(), first.port) == (second.host.lower(), second.port):
            raise ValueError(f"{both} are one host, {first.host or 'this computer'}; give each its own `host`")
        for key in _OF_ALL_HOSTS:
            if getattr(first, key) != getattr(second, key):
                raise ValueError(f"{both} differ in {key}, which holds for all machines; set it under [hyperv] only")
        if first.network and second.network and first.network != second.network:
            networks = ipaddress.IPv4Network(first.network), ipaddress.IPv4Network(second.network)
            if networks[0].overlaps(networks[1]):
                raise ValueError(f"{both}: networks {first.network} and {second.network} overlap; take one for both")


def check_machine(worker: str, machine: str, tables: Mapping[str, HyperVTable | QemuTable]) -> None:
    """Raises ValueError if the host of a worker's machine is not one of these, by name."""
    host, _, name = machine.rpartition("/")
    if host in tables:
        return
    if not tables:
        raise ValueError(f"worker {worker!r} has a machine, and there is no [hyperv] or [qemu] table")
    reason = f"worker {worker!r} has machine {machine!r}, and"
    if "" in tables:
        raise ValueError(f"{reason} there is no {hyperv_title(host)} table; without one write {name!r}")
    known = [f"'{known}/{name}'" for known in tables]
    if not host:
        raise ValueError(f"{reason} several hosts have names; on which one is it? Write {' or '.join(known)}")
    raise ValueError(f"{reason} there is no {hyperv_title(host)} table; there could be {', '.join(known)}")
