"""Which address of a machine the host logs on to: its guest's report is a claim."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from inbox_agent.protocol.files import Unavailable
from pipeline.config import Config, WorkerTable
from pipeline.config.machine_tables import HyperVTable, QemuTable
from pipeline.machines.addresses import AddressError, address_of, given_addresses
from pipeline.machines.connections import smb_access

WORKERS = [WorkerTable(name=f"w-{number}", machine=f"vm-{number}") for number in (1, 2, 3)]
STATIC = Config(worker=WORKERS, hyperv={"": HyperVTable(network="192.168.77.0/24")})
DHCP = Config(worker=WORKERS, hyperv={"": HyperVTable()})
Reported = Mapping[str, Sequence[str]]


def refusal(config: Config, reported: Reported) -> str:
    with pytest.raises(AddressError) as error:
        address_of(config, "vm-1", reported)
    assert "\n" not in str(error.value) and str(error.value).isprintable()
    return str(error.value)


def test_given_address_is_used() -> None:
    """The one that `pipeline vm prepare` gave it, whatever another guest reports."""
    reported = {"vm-1": ["fe80::1", "192.168.77.11"], "vm-2": ["192.168.77.11"], "vm-3": []}
    assert address_of(STATIC, "vm-1", reported) == "192.168.77.11"
    assert str(given_addresses(STATIC)["vm-3"]) == "192.168.77.13"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "8.8.8.8", "10.0.0.5", "192.168.78.11"),
        *("192.168.77.0", "192.168.77.1", "192.168.77.255", "::1", "::", "ff02::1", "fd00::1", "::ffff:127.0.0.1"),
    ],
)
def test_address_outside_of_network_is_refused(address: str) -> None:
    """Also those of the network that no machine can have."""
    assert "machine vm-1 is not logged on to: it reports" in refusal(STATIC, {"vm-1": [address]})


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "239.1.1.1", "255.255.255.255", "240.0.0.1", "8.8.8.8", "2001:4860::8888"],
)
def test_without_network_only_private_addresses_are_used(address: str) -> None:
    """The default without `[hyperv] network`: DHCP on a private network."""
    assert "machine vm-1 is not logged on to" in refusal(DHCP, {"vm-1": [address]})
    assert address_of(DHCP, "vm-1", {"vm-1": [address, "10.1.2.3"]}) == "10.1.2.3"
    assert address_of(DHCP, "vm-1", {"vm-1": ["fd00::5"]}) == "fd00::5"


def test_address_of_another_machine_is_refused() -> None:
    """A neighbour's account would be locked by logons with another's password. It is named."""
    stolen = {"vm-1": ["192.168.77.12"], "vm-2": ["192.168.77.12"]}
    assert "192.168.77.12 which is that of machine vm-2" in refusal(STATIC, stolen)
    assert "machine vm-2" in refusal(STATIC, {"vm-1": ["192.168.77.12"], "vm-2": []}), "it is off or boots"
    assert "machine vm-2" in refusal(DHCP, {"vm-1": ["10.0.0.7"], "vm-2": ["10.0.0.7"]})


def test_removed_worker_does_not_change_addresses() -> None:
    """The next machines are given other addresses, and keep those that they have."""
    fewer = Config(worker=WORKERS[1:], hyperv=STATIC.hyperv)
    reported = {"vm-2": ["192.168.77.12"], "vm-3": ["192.168.77.13"]}
    assert address_of(fewer, "vm-2", reported) == "192.168.77.12"
    assert address_of(fewer, "vm-3", reported) == "192.168.77.13"


@pytest.mark.parametrize(
    "report", [[], ["fe80::1", "169.254.1.2"], ["nonsense", "1.2.3", "\x1b[31m", "fd00::1%\x1b[31m"]]
)
def test_machine_without_address_is_named(report: list[str]) -> None:
    """It boots, has no network, or its guest reports what is no address."""
    assert refusal(STATIC, {"vm-1": report}) == (
        "machine vm-1 has reported no address yet; is it on, and its guest up?"
    )


def test_refused_address_is_a_problem_of_the_share(tmp_path: Path) -> None:
    """As such, `pipeline status` and `pipeline doctor` show it, and no connection is made."""
    access = smb_access(STATIC, WORKERS[0], tmp_path, lambda: {"vm-1": ("8.8.8.8",)})
    assert access.address is not None
    with pytest.raises(Unavailable, match=r"reports 8\.8\.8\.8 which is not in \[hyperv\] network 192\.168\.77\.0/24"):
        access.address()


def test_qemu_machine_is_reached_through_loopback() -> None:
    """Its address is not from its guest."""
    config = Config(worker=[WORKERS[0]], qemu=QemuTable())
    assert address_of(config, "vm-1", {"vm-1": ("127.0.0.1",)}) == "127.0.0.1"
    assert "no address yet" in refusal(config, {"vm-1": ()})


HOSTS = ("lab-1/vm-1", "lab-2/vm-1", "lab-1/vm-2")


def on_hosts(one: str, other: str) -> Config:
    workers = [WorkerTable(name=f"w-{number}", machine=machine) for number, machine in enumerate(HOSTS)]
    tables = {
        name: HyperVTable(host=host, account="a", secret="env:A", network=network)
        for name, host, network in (("lab-1", "hv1", one), ("lab-2", "hv2", other))
    }
    return Config(worker=workers, hyperv=tables)


def test_machines_of_one_network_are_numbered_over_all_hosts() -> None:
    """External switches of several hosts may lead to the same network."""
    same = given_addresses(on_hosts("192.168.77.0/24", "192.168.77.0/24"))
    assert [str(same[machine]) for machine in HOSTS] == ["192.168.77.11", "192.168.77.12", "192.168.77.13"]
    apart = given_addresses(on_hosts("192.168.77.0/24", "192.168.78.0/24"))
    assert [str(apart[machine]) for machine in HOSTS] == ["192.168.77.11", "192.168.78.11", "192.168.77.12"]


def test_machine_of_another_host_is_another_machine() -> None:
    """Although both are called `vm-1`: each has its own address, and an address of the other one is refused."""
    config = on_hosts("192.168.77.0/24", "192.168.77.0/24")
    reported = {"lab-1/vm-1": ["192.168.77.11"], "lab-2/vm-1": ["192.168.77.12"]}
    assert address_of(config, "lab-2/vm-1", reported) == "192.168.77.12"
    with pytest.raises(AddressError, match=r"192.168.77.11 which is that of machine lab-1/vm-1"):
        address_of(config, "lab-2/vm-1", {"lab-2/vm-1": ["192.168.77.11"]})
    with pytest.raises(AddressError, match=r"which is not in \[hyperv.lab-2\] network 192.168.78.0/24"):
        address_of(on_hosts("192.168.77.0/24", "192.168.78.0/24"), "lab-2/vm-1", reported)
