"""`[hyperv.NAME]`: several Hyper-V hosts, the keys that they share, and what cannot be used together."""

from pathlib import Path
from typing import Any

import pytest

from inbox_agent.settings import SettingsError, convert
from pipeline.config import Config, changed, load_config
from pipeline.errors import ConfigError, InputError

pytestmark = pytest.mark.rules

LAB_1 = {"host": "hv1", "account": "farmer", "secret": "env:HV1"}
LAB_2 = {"host": "hv2", "account": "farmer", "secret": "env:HV2"}
VM_3 = ("lab-1/vm-3", "lab-2/vm-3")
LABS = {"lab-1": LAB_1, "lab-2": LAB_2}


def workers(*machines: str, **keys: Any) -> list[dict[str, Any]]:
    return [{"name": f"w-{number}", "machine": machine, **keys} for number, machine in enumerate(machines)]


def config(hyperv: dict[str, Any], *machines: str, **tables: Any) -> Config:
    return convert({"hyperv": hyperv, "worker": workers(*machines), **tables}, Config, "pipeline.toml")


def complaint(hyperv: dict[str, Any], *machines: str, **tables: Any) -> str:
    """The one-line error for a configuration."""
    with pytest.raises(SettingsError) as error:
        config(hyperv, *machines, **tables)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("pipeline.toml: ")


def test_single_table_needs_no_name() -> None:
    """Its machines are named as before."""
    single = config(LAB_1, "vm-3")

    assert list(single.machine_tables()) == [""]
    assert single.machine_of() == {"w-0": "vm-3"}
    assert single.worker[0].place == r"\\vm-3\exchange"


def test_named_hosts_take_what_they_lack_from_hyperv() -> None:
    """Their own keys come first. Machines are named after their host, and may have the same names there."""
    both = config({"checkpoint": "ready", "booting_max": 4, **LABS, "lab-2": {**LAB_2, "booting_max": 2}}, *VM_3)

    assert both.hyperv is not None
    one, other = both.hyperv["lab-1"], both.hyperv["lab-2"]
    assert (one.host, one.checkpoint, one.booting_max) == ("hv1", "ready", 4)
    assert (other.host, other.checkpoint, other.booting_max) == ("hv2", "ready", 2)
    assert both.machine_of() == {"w-0": "lab-1/vm-3", "w-1": "lab-2/vm-3"}
    assert [worker.place for worker in both.worker] == [r"\\vm-3\exchange"] * 2
    assert [worker.is_on_machine for worker in both.worker] == [True, True]


def test_hosts_are_kept_when_a_program_changes_the_configuration() -> None:
    """`open_farm` replaces tables of the file."""
    both = config({"memory_reserve_mb": 512, **LABS}, *VM_3)

    assert changed(both, {"local": {"workers": 1}}, "open_farm").hyperv == both.hyperv


def test_secrets_of_all_hosts_are_known() -> None:
    """Each has its own reference; games inherit none of them."""
    both = config({"guest_account": "farm", "guest_secret": "env:GUEST", **LABS}, *VM_3)

    assert both.secrets() == {
        "[hyperv.lab-1] secret": "env:HV1",
        "[hyperv.lab-1] guest_secret": "env:GUEST",
        "[hyperv.lab-2] secret": "env:HV2",
        "[hyperv.lab-2] guest_secret": "env:GUEST",
    }
    assert both.without_secrets({"HV1": "a", "HV2": "b", "GUEST": "c", "PATH": "d"}) == {"PATH": "d"}


@pytest.mark.parametrize(
    ("hyperv", "machines", "expected"),
    [
        (
            LABS,
            ["vm-3"],
            "machine 'vm-3', and several hosts have names; on which one is it? Write 'lab-1/vm-3' or 'lab-2/vm-3'",
        ),
        (
            LABS,
            ["lab-9/vm-3"],
            "machine 'lab-9/vm-3', and there is no [hyperv.lab-9] table; there could be 'lab-1/vm-3', 'lab-2/vm-3'",
        ),
        (
            LAB_1,
            ["lab-1/vm-3"],
            "worker 'w-0' has machine 'lab-1/vm-3', and there is no [hyperv.lab-1] table; without one write 'vm-3'",
        ),
        (LABS, ["lab-1/"], "machine 'lab-1/': letters, digits, - and _ only"),
        (LABS, ["lab-1/vm/3"], "machine 'lab-1/vm/3': letters, digits, - and _ only"),
    ],
)
def test_machine_of_unknown_host_is_refused(hyperv: dict[str, Any], machines: list[str], expected: str) -> None:
    assert expected in complaint(hyperv, *machines)


@pytest.mark.parametrize(
    ("hyperv", "expected"),
    [
        ({"lab 1": LAB_1}, "[hyperv.lab 1]: the name of a host has letters, digits, - and _ only"),
        ({"": LAB_1, "lab-2": LAB_2}, "[hyperv.]: the name of a host"),
        ({"folder": LAB_1}, "[hyperv.folder]: `folder` is a key of [hyperv]; give it a value, or choose another name"),
        ({"lab-1": {**LAB_1, "hots": 1}}, "unknown key `hots` in [hyperv.lab-1]; the nearest valid key is `host`"),
        ({"hots": 1, **LABS}, "unknown key `hots` in [hyperv]; the nearest valid key is `host`"),
        ({"lab-1": {**LAB_1, "inner": {}}}, "unknown key `inner` in [hyperv.lab-1]"),
        ({"lab-1": {**LAB_1, "port": "5985"}}, "`hyperv.lab-1.port` must be a number; write 5985, without quotes"),
        ({"port": "5985", **LABS}, "`hyperv.port` must be a number; write 5985, without quotes"),
        ({"lab-1": {**LAB_1, "port": 0}}, "at `hyperv.lab-1.port`"),
        ({"lab-1": {"host": "hv1"}}, "[hyperv.lab-1] host needs an account and a secret"),
        ({"lab-1": {**LAB_1, "folder": "D:\tmp"}}, "`hyperv.lab-1.folder` has a control character in it"),
        ({"lab-1": {}, "lab-2": {}}, "[hyperv.lab-1] and [hyperv.lab-2] are one host, this computer"),
        ({"lab-1": LAB_1, "lab-2": {**LAB_2, "host": "HV1"}}, "are one host, hv1; give each its own `host`"),
        (
            {"lab-1": {**LAB_1, "idle_action": "save"}, "lab-2": LAB_2},
            "differ in idle_action, which holds for all machines; set it under [hyperv] only",
        ),
        (
            {"lab-1": {**LAB_1, "network": "10.0.0.0/8"}, "lab-2": {**LAB_2, "network": "10.1.0.0/16"}},
            "networks 10.0.0.0/8 and 10.1.0.0/16 overlap; take one for both",
        ),
        ({"idle_action": "save", "spare": 2, **LABS}, "spare = 2: of 2 machines at least one must play"),
    ],
)
def test_hosts_that_cannot_be_used_together_are_refused(hyperv: dict[str, Any], expected: str) -> None:
    """In one line that names the table and the key."""
    machines = VM_3 if {"lab-1", "lab-2"} <= hyperv.keys() else ()
    assert expected in complaint(hyperv, *machines)


def test_qemu_machines_have_no_host() -> None:
    table = {"qemu": {}, "worker": workers("lab-1/vm-3")}
    with pytest.raises(SettingsError, match=r"there is no \[hyperv.lab-1\] table; without one write 'vm-3'"):
        convert(table, Config, "pipeline.toml")


def test_shares_on_machines_of_different_hosts_differ() -> None:
    """Their server is the machine. A server of another name is the same one for both."""
    shared = workers(*VM_3, share=r"\\nas\exchange")
    with pytest.raises(SettingsError, match="have the same share"):
        convert({"hyperv": LABS, "worker": shared}, Config, "pipeline.toml")


def test_error_in_a_file_is_an_input_error(tmp_path: Path) -> None:
    """With its path."""
    path = tmp_path / "pipeline.toml"
    path.write_text("[[worker]]\nname = 'a'\nmachine = 'vm-3'\n[hyperv.lab-1]\n[hyperv.lab-2]\nhost = 'x'\nport = 0\n")
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path)
    assert isinstance(error.value, InputError)
    assert str(error.value) == f"{path}: Expected `int` >= 1 - at `hyperv.lab-2.port`"
