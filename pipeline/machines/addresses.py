"""Which address of a machine the host logs on to: rules without I/O.

Owns: the addresses that machines are given, and which of those that a guest reports are refused. A report is a claim:
without these rules a guest could have the host try its password on any other computer.
"""

import collections
import ipaddress
from collections.abc import Mapping, Sequence

from hyperv_ops import one_line
from pipeline.config import Config
from pipeline.config.machine_tables import HyperVTable, hyperv_title

FIRST_ADDRESS = 11  #: of the machines; the host has the first of the network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressError(Exception):
    """A machine has no address that the host may log on to."""


def given_addresses(config: Config) -> dict[str, ipaddress.IPv4Address]:
    """Machine -> the address that `pipeline vm prepare` gives it, for as many as its host's `network` has.

    The machines of hosts with the same network are numbered together.
    """
    found, numbers = {}, collections.Counter[str]()
    for machine in config.machine_of().values():
        table = table_of(config, machine)
        if table is None or not table.network:
            continue
        network, number = ipaddress.IPv4Network(table.network), numbers[table.network]
        numbers[table.network] += 1
        if FIRST_ADDRESS + number < network.num_addresses - 1:
            found[machine] = network[FIRST_ADDRESS + number]
    return found


def table_of(config: Config, machine: str) -> HyperVTable | None:
    """The table of the Hyper-V host of a machine; None if it is no machine of Hyper-V."""
    return (config.hyperv or {}).get(machine.rpartition("/")[0])


def address_of(config: Config, machine: str, reported: Mapping[str, Sequence[str]]) -> str:
    """The address of a machine to log on to; `reported`: what each machine's guest says.

    Raises:
        AddressError: it has reported none, or none that may be used.
    """
    if table_of(config, machine) is None:  # QEMU's is no report of a guest: its port on the loopback is its own
        return next(iter(reported.get(machine, ())), "") or _none(machine)
    refused = []
    for address in _parsed(reported.get(machine, ())):
        if (reason := _refusal(config, machine, address, reported)) is None:
            return str(address)
        refused.append(f"{address} {reason}")
    if refused:
        raise AddressError(f"machine {machine} is not logged on to: it reports {one_line('; '.join(refused))}")
    return _none(machine)


def _none(machine: str) -> str:
    raise AddressError(f"machine {machine} has reported no address yet; is it on, and its guest up?")


def _parsed(addresses: Sequence[str]) -> list[Address]:
    """Those that lead beyond the guest's own link, IPv4 first."""
    found: list[Address] = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if "%" in text:  # a scope, which is any text
            continue
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        found.append(mapped or address)
    return sorted((one for one in found if not one.is_link_local), key=lambda one: one.version)


def _refusal(config: Config, machine: str, address: Address, reported: Mapping[str, Sequence[str]]) -> str | None:
    """Why an address is not used; None if it is."""
    table, title = table_of(config, machine), hyperv_title(machine.rpartition("/")[0])
    assert table is not None
    given = given_addresses(config)
    if given.get(machine) == address:
        return None
    if table.network:
        network = ipaddress.IPv4Network(table.network)
        if address not in network:
            return f"which is not in {title} network {network}"
        if address in (network[0], network[1], network[-1]):
            return f"which no machine of network {network} can have"
    elif address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        return "which no machine can have"
    elif address.is_global:
        return f"which is public; set {title} network if that is right"
    for other in config.machine_of().values():
        theirs = _parsed(reported.get(other, ()))
        # The order of the workers may have changed since: a machine that reports another address has that one.
        if other != machine and (address in theirs or (given.get(other) == address and not theirs)):
            return f"which is that of machine {other}; `pipeline vm prepare` gives each its own"
    return None
