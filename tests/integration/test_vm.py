"""`pipeline vm` and the doctor of machines, as typed by a user: through WinRM to a simulated Hyper-V host."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperv_ops import PowerShellRunner
from hyperv_ops.hyperv import script_call as scripts
from pipeline.diagnosis import clones, shares
from pipeline.errors import ExitCode
from pipeline.machines import connections
from tests.harness.command_line import pipeline
from tests.harness.hyperv_farm import GUEST_SECRET, PASSWORD, HyperVHarness, hyperv_harness

pytestmark = pytest.mark.timeout(60)
NAMES = ("vm-1", "vm-2", "vm-3")
Said = tuple[int, str, str]
Command = Callable[..., Said]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HyperVHarness]:
    monkeypatch.setattr(shares, "BEAT_WAIT_S", 0.1)
    monkeypatch.setattr(clones, "PAUSE_S", 0.05)
    monkeypatch.setenv("HYPERV_SECRET", PASSWORD)
    monkeypatch.setenv("GUEST_SECRET", GUEST_SECRET)
    monkeypatch.setenv("SHARE_SECRET", "Sh4re-canary")
    (tmp_path / "game.py").write_text("def play(genome, trial):\n    return 1.0\n")
    with hyperv_harness(tmp_path, *NAMES, existing=("vm-1",), boot_s=0.05) as harness:
        configure(tmp_path, harness)
        yield harness


def configure(root: Path, harness: HyperVHarness, **hyperv: Any) -> None:
    (root / "pipeline.toml").write_text(harness.tables(**hyperv))


def configure_shares(root: Path, harness: HyperVHarness, **hyperv: Any) -> str:
    """Machines with the shares that `prepare` sets up. Returns pipeline.toml."""
    table = "[[worker]]\naccount = 'exchange'\nsecret = 'env:SHARE_SECRET'"
    tables = harness.tables(network="'192.168.77.0/24'", **hyperv).replace("[[worker]]", table)
    for name in NAMES:
        tables = tables.replace(f"share = '{harness.disks / name}'", "")
    (root / "pipeline.toml").write_text(tables)
    return tables


@pytest.fixture
def vm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *args: pipeline(capsys, *args, "--root", tmp_path)


def test_vm_commands_create_and_remove_machines(harness: HyperVHarness, vm: Command) -> None:
    """Create, start, stop, checkpoint, restore, remove: each names its action and its machines."""
    assert vm("vm", "create", "vm-2", "vm-3")[0] == ExitCode.OK
    assert vm("vm", "start", "--all", "--wait")[1].splitlines() == [f"{name}: is on, its guest is up" for name in NAMES]
    assert vm("vm", "stop", "vm-2")[1] == "vm-2: is off\n"
    assert vm("vm", "save", "vm-3")[1] == "vm-3: is off, its memory is saved\n"
    assert vm("vm", "checkpoint", "vm-2")[1] == "vm-2: has its clean checkpoint\n"
    assert vm("vm", "restore", "vm-2", "--yes")[1] == "vm-2: is back at its clean checkpoint, and off\n"
    assert vm("vm", "restart", "vm-1", "--wait")[1] == "vm-1: is on, its guest is up\n"
    assert vm("vm", "remove", "--all", "--yes")[0] == ExitCode.OK
    code, out, _ = vm("vm", "status")
    assert code == ExitCode.FAILED
    assert out.count("there is none") == 3


def test_failure_of_one_machine_says_what_stays(harness: HyperVHarness, vm: Command) -> None:
    """The others are done; the line names what is left to do. For one machine its own line says all."""
    vm("vm", "create", "vm-2")
    assert vm("vm", "checkpoint", "vm-2")[0] == ExitCode.OK

    code, out, err = vm("vm", "restore", "--all", "--yes")
    assert code == ExitCode.FAILED
    assert [line.partition(":")[0] for line in out.splitlines()] == ["vm-1", "vm-2"]
    reason, last = err.splitlines()
    assert reason.startswith("vm-3: ")
    assert last.startswith("not done with vm-3; what was done with the others stays; ")

    code, _, err = vm("vm", "restore", "vm-3", "--yes")
    assert (code, len(err.splitlines())) == (ExitCode.FAILED, 1)


def test_vm_status_as_table_and_json(harness: HyperVHarness, vm: Command) -> None:
    """A table for users, JSON for programs."""
    vm("vm", "start", "vm-1", "--wait")

    code, out, _ = vm("vm", "status")
    lines = [line.split() for line in out.splitlines()]

    assert code == ExitCode.FAILED, "two do not exist"
    assert lines[0] == ["worker", "machine", "state", "heartbeat", "uptime", "cpu", "memory", "address", "checkpoint"]
    assert lines[1] == [*["vm-1", "vm-1", "running", "ok", "0", "min", "3", "%", "2048", "MB", "127.0.0.11", "clean"]]
    assert lines[2] == [*["vm-2", "there", "is", "none"]]
    rows = json.loads(vm("vm", "status", "vm-1", "--json")[1])
    assert (rows[0]["worker"], rows[0]["state"], rows[0]["checkpoints"]) == ("vm-1", "running", ["clean"])


def test_vm_what_if_changes_nothing(harness: HyperVHarness, vm: Command) -> None:
    """Every command reports what it would do, in the words of the host's PowerShell, and does not ask."""
    for verb in ("create", "start", "stop", "save", "restart", "checkpoint", "restore", "remove"):
        code, out, err = vm("vm", verb, "--count", "1", "--what-if")
        assert (code, err) == (ExitCode.OK, "")
        assert out.startswith("What if: Performing the operation")
        assert 'on target "vm-1"' in out
    assert vm("vm", "stop", "vm-1", "--power-off", "--what-if")[0] == ExitCode.OK

    assert harness.hyperv.events == []
    assert vm("vm", "status", "vm-1")[0] == ExitCode.OK


def test_destructive_commands_ask_for_confirmation(
    harness: HyperVHarness, vm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer nothing is done; the message names the option that confirms."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for args in (("remove", "vm-1"), ("restore", "vm-1"), ("stop", "--power-off", "vm-1"), ("prepare", "vm-1")):
        code, _, err = vm("vm", *args)
        assert code == ExitCode.BAD_INPUT
        assert "--yes" in err
    assert harness.hyperv.events == []
    assert harness.hyperv.scripts == []


def test_prepare_gives_each_clone_its_identity(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """Each gets its own name, address and share password, and then its clean checkpoint."""
    configure_shares(tmp_path, harness)
    vm("vm", "create", "--all")

    code, out, err = vm("vm", "prepare", "--all", "--yes")

    assert (code, err) == (ExitCode.OK, "")
    assert "vm-3: is vm-3 at 192.168.77.13, off, with a clean checkpoint" in out
    assert [harness.hyperv.identity(name) for name in NAMES] == [(f"vm-{n}", f"192.168.77.1{n}") for n in (1, 2, 3)]
    assert {"Sh4re-canary", GUEST_SECRET} <= harness.hyperv.secrets
    assert "canary" not in out
    assert "their settings were not compared: pipeline.toml: [hyperv] template_machine is not set" in out


def test_prepare_reports_settings_and_guests_that_differ_from_the_template(
    harness: HyperVHarness, vm: Command, tmp_path: Path
) -> None:
    """Each clone is set up nevertheless; the exit code tells of the differences, and items may be ignored."""
    configure_shares(tmp_path, harness, template_machine="'vm-1'")
    vm("vm", "create", "vm-2", "vm-3")
    agent = {"item": "agent", "ok": True, "found": "version 1", "cure": ""}
    gpu = {"item": "gpu", "ok": False, "found": "none", "cure": "add one"}
    harness.hyperv.template = [agent, gpu, {"item": "desktop", "ok": False, "found": "800x600", "cure": "Set-VMVideo"}]
    harness.hyperv.set_screen("vm-1", "Single 1280x720")

    code, out, err = vm(
        *("vm", "prepare", "vm-2", "vm-3", "--yes"),
        *("--player", "bot", "--game-folder", r"C:\game", "--ignore", "gpu"),
    )

    assert code == ExitCode.FAILED
    assert out.splitlines() == [
        "vm-2: is vm-2 at 192.168.77.12, off, with a clean checkpoint",
        "vm-3: is vm-3 at 192.168.77.13, off, with a clean checkpoint",
    ]
    assert err.splitlines() == [
        "vm-2: desktop: 800x600; Set-VMVideo",
        "vm-3: desktop: 800x600; Set-VMVideo",
        "vm-2: screen is Default, of vm-1 Single 1280x720",
        "vm-3: screen is Default, of vm-1 Single 1280x720",
    ]
    asked = harness.hyperv.template_arguments
    given = dict(zip(asked[::2], asked[1::2], strict=False)) | dict(zip(asked[1::2], asked[2::2], strict=False))
    names = ("-Player", "-GameFolder", "-Share", "-ShareAccount", "-Subnet")
    assert [given[name] for name in names] == ["bot", r"C:\game", "exchange", "exchange", "192.168.77.0/24"]
    harness.hyperv.template = [agent]
    assert vm("vm", "prepare", "vm-1", "--yes")[::2] == (ExitCode.OK, "")
    assert "-GameFolder" not in harness.hyperv.template_arguments


def test_prepare_waits_for_the_agent_of_a_clone(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """A clone restarts for its new name, and its user logs on some time later: until then nothing is reported."""
    configure_shares(tmp_path, harness)
    silent = {"item": "agent", "ok": False, "found": "no heartbeat", "cure": "log on"}
    beats = {"item": "agent", "ok": True, "found": "version 1", "cure": ""}
    early = {"item": "scaling", "ok": False, "found": "player is not logged on", "cure": "log on"}
    reports = iter(["restarting", [silent, early], [beats, early], [beats]])
    harness.hyperv.before_check = lambda: setattr(harness.hyperv, "template", next(reports))

    assert vm("vm", "prepare", "vm-1", "--yes")[::2] == (ExitCode.OK, "")
    assert next(reports, None) is None


def test_prepare_reports_clone_whose_agent_does_not_come_up(
    harness: HyperVHarness, vm: Command, tmp_path: Path
) -> None:
    """After `boot_limit_s` it is set up, and what is known is reported."""
    configure_shares(tmp_path, harness)
    with (tmp_path / "pipeline.toml").open("a") as file:
        file.write("\n[limits]\nboot_limit_s = 2.0\n")
    harness.hyperv.template = [{"item": "agent", "ok": False, "found": "no heartbeat", "cure": "log on"}]
    code, out, err = vm("vm", "prepare", "vm-1", "--yes")
    assert (code, err) == (ExitCode.FAILED, "vm-1: agent: no heartbeat; log on\n")
    assert "vm-1: is vm-1 at 192.168.77.11, off, with a clean checkpoint\n" in out

    harness.hyperv.template = "no JSON array"
    code, _, err = vm("vm", "prepare", "vm-1", "--yes")
    assert (code, err.count("\n")) == (ExitCode.FAILED, 1)
    assert err.startswith("vm-1: its guest was not checked: Test-FarmTemplate.ps1 ended with 0 and said: ")


def test_prepare_checks_identity_before_boot(
    harness: HyperVHarness, vm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing password or a too long name is found before any machine is started."""
    tables = configure_shares(tmp_path, harness)
    long = "a-name-that-windows-cuts"
    (tmp_path / "pipeline.toml").write_text(tables.replace("machine = 'vm-1'", f"machine = '{long}'"))
    code, _, err = vm("vm", "prepare", "vm-1", "--yes")
    assert (code, "Windows takes no computer name of more than 15 characters" in err) == (ExitCode.FAILED, True)
    (tmp_path / "pipeline.toml").write_text(tables)
    monkeypatch.delenv("SHARE_SECRET")
    code, _, err = vm("vm", "prepare", "--all", "--yes")
    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "worker 'vm-1': env:SHARE_SECRET: the environment variable SHARE_SECRET is not set" in err

    assert harness.hyperv.events == []


def test_check_template_reports_problems(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """The check runs in the guest, and each problem is reported with its fix."""
    configure(tmp_path, harness, template_machine="'vm-1'", network="'10.1.0.0/24'", task="'my agent'")
    vm("vm", "start", "vm-1", "--wait")
    well = {"item": "sleep", "ok": True, "found": "never", "cure": ""}
    unwell = {"item": "share encrypted", "ok": False, "found": "no", "cure": "Set-SmbShare -EncryptData $true"}
    harness.hyperv.template = [well, unwell]

    code, out, _ = vm("vm", "check-template", "--game-folder", r"C:\game")

    assert code == ExitCode.FAILED
    assert out == "share encrypted: no; Set-SmbShare -EncryptData $true\n"
    assert "sleep: never\n" in vm("vm", "check-template", "--game-folder", r"C:\game", "--verbose")[1]
    sent = harness.disks / "vm-1" / r"C:\farm\Test-FarmTemplate.ps1"
    assert sent.read_bytes() == (scripts.script_folder() / "Test-FarmTemplate.ps1").read_bytes()
    asked = harness.hyperv.template_arguments
    assert asked[asked.index("-Subnet") :] == ["-Subnet", "10.1.0.0/24"]
    assert asked[asked.index("-Task") + 1] == "my agent"
    harness.hyperv.template = [{"item": "agent", "ok": False, "found": "\x1b[2Jversion", "cure": "none"}]
    assert vm("vm", "check-template", "--game-folder", "C:\\g")[1] == "agent: [2Jversion; none\n"
    harness.hyperv.template = "no JSON array"
    assert "Test-FarmTemplate.ps1 ended with 0 and said" in vm("vm", "check-template", "--game-folder", "C:\\g")[2]


def test_switch_is_created_with_host_address(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """The host gets the first address of the network; without a configured network the command fails."""
    assert "`switch` and `network`" in vm("vm", "switch")[2]
    configure(tmp_path, harness, network="'192.168.77.0/24'")
    harness.hyperv.missing.add("switch")

    assert "What if" in vm("vm", "switch", "--what-if")[1]
    assert "switch" in harness.hyperv.missing
    assert vm("vm", "switch") == (ExitCode.OK, "farm: is there, this side of it is 192.168.77.1\n", "")
    assert "switch" not in harness.hyperv.missing


def test_script_warnings_are_printed(harness: HyperVHarness, vm: Command) -> None:
    """In the machine's line, printable."""
    harness.hyperv.warnings = ["it gets an empty TPM\x1b[31m"]

    code, out, _ = vm("vm", "create", "vm-2")

    assert code == ExitCode.OK
    assert out.startswith("vm-2: is there; ") and out.endswith("; warning: it gets an empty TPM [31m\n")


def test_vm_compare_lists_differences(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """Settings that are not on a disk are listed with both values, and the exit code says whether any differ."""
    vm("vm", "create", "vm-2", "vm-3")
    harness.hyperv.set_screen("vm-1", "Single 1280x720")
    code, _, err = vm("vm", "compare")
    assert (code, "template_machine is not set" in err) == (ExitCode.BAD_INPUT, True)

    configure(tmp_path, harness, template_machine="'vm-1'")

    assert vm("vm", "compare", "vm-1") == (ExitCode.OK, "vm-1: as vm-1\n", "")
    code, out, _ = vm("vm", "compare")
    assert code == ExitCode.FAILED
    assert out.splitlines() == [
        "vm-1: as vm-1",
        "vm-2: screen is Default, of vm-1 Single 1280x720",
        "vm-3: screen is Default, of vm-1 Single 1280x720",
    ]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("start",), "which machines? Name workers, or give --all or --count; there are vm-1, vm-2, vm-3"),
        (("start", "vm-1", "--all"), "which machines?"),
        (("start", "dc-01"), "dc-01: no worker of that name has a machine"),
        (("start", "vm-*"), "vm-*: no worker of that name has a machine"),
        (("create", "--count", "9"), "--count 9: pipeline.toml names 3 machines; add a [[worker]]"),
        (("create", "--count", "0"), "0 is not in the range 1<=x<=256"),
        (("create", "--count", "500"), "500 is not in the range 1<=x<=256"),
    ],
)
def test_invalid_selection_is_one_line(
    harness: HyperVHarness, vm: Command, args: tuple[str, ...], expected: str
) -> None:
    """No request is sent to the host."""
    code, _, err = vm("vm", *args)

    assert code == ExitCode.BAD_INPUT
    assert expected in err
    assert harness.hyperv.scripts == []


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("template", "vm-2: New-FarmVM: 127.0.0.1: there is no template D:\\template.vhdx; correct `template`"),
        ("space", "3 GB are free on D:; make some room"),
        ("rights", "the account is no Hyper-V administrator"),
        ("hyperv", "the Hyper-V module is not installed"),
    ],
)
def test_host_error_is_one_line_with_fix(harness: HyperVHarness, vm: Command, missing: str, expected: str) -> None:
    """With the fix, on standard error."""
    harness.hyperv.missing.add(missing)

    code, out, err = vm("vm", "create", "vm-2")

    assert (code, out) == (ExitCode.FAILED, "")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_refused_account_is_reported_without_password(
    harness: HyperVHarness, vm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, without the password."""
    monkeypatch.setenv("HYPERV_SECRET", "Wr0ng-canary")

    code, _, err = vm("vm", "status")

    assert code == ExitCode.FAILED
    assert "the account or its password was refused" in err
    assert "canary" not in err


def test_no_machines_configured_is_reported(vm: Command, tmp_path: Path) -> None:
    """The line says how to configure one."""
    (tmp_path / "pipeline.toml").write_text("[[worker]]\nname = 'a'\nshare = '/nowhere'\n")

    code, _, err = vm("vm", "status")

    assert code == ExitCode.BAD_INPUT
    assert "[[worker]] name = 'vm-1' machine = 'vm-1'" in err


# ---------------------------------------------------------------------------------------------------- the doctor


def complaints(vm: Command) -> list[str]:
    """The findings without those of the shares, where no agent runs."""
    return [line for line in vm("doctor")[1].splitlines() if "mount it" not in line and "no agent has" not in line]


def test_healthy_machines_print_nothing(harness: HyperVHarness, vm: Command) -> None:
    """No output without problems; with -v the measurements."""
    vm("vm", "create", "--all")
    vm("vm", "checkpoint", "vm-2", "vm-3")

    assert complaints(vm) == []
    assert "hv1: 16 processors" in vm("doctor", "--verbose")[1]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("switch", "[hyperv]: hv1 has no switch 'farm'; New-FarmSwitch.ps1 makes it"),
        ("template", r"[hyperv]: D:\template.vhdx is not there on hv1"),
        ("space", r"[hyperv]: 3 GB are free in D:\farm; 30 let disks grow"),
        ("hyperv", "the Hyper-V module is not installed"),
    ],
)
def test_host_problems_are_reported(harness: HyperVHarness, vm: Command, missing: str, expected: str) -> None:
    """One line for each, with the fix."""
    harness.hyperv.missing.add(missing)

    assert any(expected in line for line in complaints(vm))


COLLECTING_POWERSHELL = """
import base64, json, sys
job = json.loads(base64.b64decode(sys.stdin.read().split()[0]))
host = {"computer": "hv1", "hyper_v": True, "administrator": True, "switch_type": "Internal", "folder_exists": True,
        "template_exists": True, "template_read_only": True, "free_disk_gb": 900, "free_memory_mb": 32000,
        "total_memory_mb": 65536, "logical_processors": 16, "powershell": "5.1"}
reply = {"ok": True, "value": json.dumps(host if "Switch" in job["parameters"] else []), "last": False}
print("reply:" + base64.b64encode(json.dumps(reply).encode()).decode())
"""


def test_doctor_reports_powershell_without_streaming_input(
    harness: HyperVHarness, vm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query of the machines starts a process then, which takes processor time from evaluations."""
    (tmp_path / "powershell.py").write_text(COLLECTING_POWERSHELL)
    program = (sys.executable, "-I", str(tmp_path / "powershell.py"))
    monkeypatch.setattr(connections, "PowerShellRunner", lambda: PowerShellRunner(program, probe_limit_s=0.5))
    tables = harness.tables().replace("host = '127.0.0.1'\n", "")
    for key in (f"port = {harness.port}", "account = 'farmer'", "secret = 'env:HYPERV_SECRET'"):
        tables = tables.replace(f"{key}\n", "", 1)
    (tmp_path / "pipeline.toml").write_text(tables)

    assert "each look at the machines starts a process" in vm("doctor", "--verbose")[1]
    assert "each look at the machines starts a process" not in vm("doctor")[1]


def test_internal_switch_from_other_computer_is_reported(harness: HyperVHarness, vm: Command, tmp_path: Path) -> None:
    """An internal switch ends at its host; from another computer every share would be unreachable without a reason."""
    tables = harness.tables().replace(
        f"share = '{harness.disks / 'vm-1'}'", "account = 'exchange'\nsecret = 'env:SHARE_SECRET'"
    )
    (tmp_path / "pipeline.toml").write_text(tables)

    assert any("run the pipeline on hv1, or take an external switch" in line for line in complaints(vm))


def test_unknown_free_memory_is_not_reported(harness: HyperVHarness, vm: Command) -> None:
    """An unknown amount of free memory is no problem."""
    harness.hyperv.missing.add("administrator")
    vm("vm", "create", "--all")
    vm("vm", "checkpoint", "vm-2", "vm-3")

    assert complaints(vm) == []
    assert "unknown of 64 GB memory free" in vm("doctor", "--verbose")[1]


def test_machine_problems_are_reported(harness: HyperVHarness, vm: Command) -> None:
    """One that does not exist, one without a clean checkpoint, one that has lost its heartbeat."""
    vm("vm", "create", "vm-2")
    vm("vm", "start", "vm-1", "--wait")
    harness.hyperv.freeze("vm-1")

    found = "\n".join(complaints(vm))

    assert "vm-1: the guest of vm-1 has lost its heartbeat" in found
    assert "vm-2: vm-2 has no checkpoint 'clean'; `pipeline vm prepare vm-2` if it is new" in found
    assert "vm-3: there is no machine vm-3; `pipeline vm create vm-3` makes it" in found


def test_unreachable_host_is_reported_once(
    harness: HyperVHarness, vm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password, an unset secret, an unreachable host: reported once, without the consequences."""
    monkeypatch.setenv("HYPERV_SECRET", "Wr0ng-canary")
    assert "correct `account` or `secret`" in "\n".join(complaints(vm))
    monkeypatch.delenv("HYPERV_SECRET")
    assert "HYPERV_SECRET is not set" in "\n".join(complaints(vm))
    monkeypatch.setenv("HYPERV_SECRET", PASSWORD)
    harness.server.close()
    (line,) = complaints(vm)
    assert "winrm quickconfig" in line
