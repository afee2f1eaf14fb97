"""Errors of Hyper-V over WinRM: refusals, lost responses, quotas, hanging calls; and the protocol."""

import base64
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from hyperv_ops import (
    Difference,
    GuestIdentity,
    HyperVMachines,
    PowerState,
    ScriptReply,
    Template,
    wait_until_healthy,
)
from hyperv_ops import Trouble as Why
from hyperv_ops.hyperv import machines as hyperv_module
from hyperv_ops.hyperv import script_call as scripts
from hyperv_ops.hyperv.png import png_of_rgb565
from hyperv_ops.hyperv.winrm import WinRmAccess, WinRmRunner
from pipeline.config.machine_tables import HyperVTable
from tests.fakes.wsman_server import Answer, Trouble, WsmanServer
from tests.harness.hyperv_farm import ACCOUNT, GUEST_SECRET, PASSWORD, HyperVHarness, access, hyperv_harness, refusal

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HyperVHarness]:
    monkeypatch.setattr(hyperv_module, "_PAUSE_S", 0.05)
    with hyperv_harness(tmp_path, "vm-1", "vm-2", "vm-3", existing=("vm-1", "vm-2"), boot_s=0.05) as harness:
        yield harness


class ScriptedRunner:
    """A `Runner` that returns fixed replies without a PowerShell, and records its calls."""

    where = "hv1"

    def __init__(self, answer: Callable[[str, Mapping[str, object]], object]) -> None:
        self._answer = answer
        self.calls: list[tuple[str, Mapping[str, object]]] = []
        self.closed = False

    def run(self, script: str, parameters: Mapping[str, object], timeout_s: float) -> ScriptReply:
        self.calls.append((script, parameters))
        return ScriptReply(self._answer(script, parameters))

    def close(self) -> None:
        self.closed = True


def row_of(name: str) -> dict[str, object]:
    """A running machine, as in the output of Get-FarmVM."""
    row = {"name": name, "state": "Running", "heartbeat": "Error", "uptime_s": 1, "cpu_percent": 0}
    return {**row, "memory_mb": 1, "addresses": [], "checkpoints": []}


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("missing", "why", "fix"),
    [
        ("template", Why.NO_SUCH_TEMPLATE, "correct `template`"),
        ("space", Why.NO_SPACE, "make some room"),
        ("hyperv", Why.NO_HYPER_V, "Enable-WindowsOptionalFeature"),
        ("rights", Why.NOT_ALLOWED, "add it to that group"),
    ],
)
def test_script_error_is_reported_with_fix(harness: HyperVHarness, missing: str, why: Why, fix: str) -> None:
    """In one line, and the call is not retried."""
    harness.hyperv.missing.add(missing)

    error = refusal(lambda: harness.machines().create("vm-3"))

    assert (error.trouble, error.transient) == (why, False)
    assert fix in error.reason and "\n" not in error.reason
    assert harness.hyperv.scripts == ["New-FarmVM"]


def test_missing_machine_is_reported(harness: HyperVHarness) -> None:
    """It is configured but does not exist: the message names the command that creates it."""
    error = refusal(lambda: harness.machines().info("vm-3"))

    assert error.trouble is Why.NO_SUCH_MACHINE
    assert "pipeline vm create vm-3" in error.reason


def test_wrong_password_is_not_retried(harness: HyperVHarness) -> None:
    """It is refused, not tried a second time, and in no message."""
    error = refusal(lambda: harness.machines("Wr0ng-canary").start("vm-1"))

    assert (error.trouble, error.transient) == (Why.DENIED, False)
    assert "canary" not in str(error)


def test_account_without_shell_right_is_reported(harness: HyperVHarness) -> None:
    """Its password is right, but it lacks the right to use WinRM. The call is not retried."""
    harness.server.plan("Create", Trouble.ACCESS_DENIED)

    error = refusal(lambda: harness.machines().start("vm-1"))

    assert (error.trouble, error.transient) == (Why.DENIED, False)
    assert "winrm configSDDL default" in error.reason


def test_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    """No request is sent to it."""
    with hyperv_harness(tmp_path, "vm-1", tls=True) as harness:
        access = WinRmAccess(
            host="localhost", account=ACCOUNT, password=lambda: PASSWORD, transport="https", port=harness.port
        )
        error = refusal(lambda: WinRmRunner(access).run("Get-FarmVM", {"Name": ["vm-1"]}, 20))

    assert error.trouble is Why.UNTRUSTED
    assert harness.server.commands == []


@pytest.mark.parametrize("tls", [False, True])
def test_call_uses_one_connection(tmp_path: Path, tls: bool) -> None:
    """For all its messages: a logon costs several of them."""
    with hyperv_harness(tmp_path, "vm-1", tls=tls) as harness:
        harness.machines().info("vm-1")

    assert harness.server.connections == 1


def test_unreachable_host_is_transient(harness: HyperVHarness) -> None:
    """A host that does not respond is unreachable, which may pass."""
    harness.server.close()

    error = refusal(lambda: harness.machines().infos())

    assert (error.trouble, error.transient) == (Why.UNREACHABLE, True)


def test_missing_guest_account_is_reported(harness: HyperVHarness) -> None:
    """The message names the missing key."""
    machines = HyperVMachines(WinRmRunner(harness.access()), ["vm-1"])

    assert "guest_account" in refusal(lambda: machines.restart_agent("vm-1")).reason
    assert "template" in refusal(lambda: machines.create("vm-1")).reason


# ----------------------------------------------------------------------------------------------- unknown outcomes


@pytest.mark.parametrize("action", ["Create", "Command", "Send", "Receive", "Signal", "Delete"])
@pytest.mark.parametrize("trouble", [Trouble.DROP_BEFORE, Trouble.DROP_AFTER, Trouble.HTTP_503])
def test_start_with_unknown_outcome_is_not_repeated(harness: HyperVHarness, action: str, trouble: Trouble) -> None:
    """The state is read first; no shell with a known id is left open."""
    harness.server.plan(action, trouble)

    harness.machines().start("vm-1")

    assert harness.hyperv.boots("vm-1") == 1
    assert harness.machines().info("vm-1").state is PowerState.RUNNING
    nameless = (action, trouble) == ("Create", Trouble.DROP_AFTER)
    assert len(harness.server.shells) == nameless


def test_call_over_quota_is_retried(harness: HyperVHarness) -> None:
    """Quotas pass; the call is made again."""
    harness.server.plan("Create", Trouble.QUOTA, Trouble.QUOTA)

    harness.machines().start("vm-1")

    assert harness.hyperv.boots("vm-1") == 1


def test_slow_host_does_not_end_running_script(harness: HyperVHarness) -> None:
    """Its input has arrived, so its output is waited for: ending it now would interrupt its work."""
    harness.server.plan("Send", Trouble.UNACKNOWLEDGED)

    harness.machines().create("vm-3")

    assert harness.hyperv.scripts == ["New-FarmVM"]


def test_run_with_unknown_outcome_is_not_repeated(harness: HyperVHarness) -> None:
    """The effect of a second run is unknown, so the unknown outcome is reported."""
    machines = harness.machines()
    machines.start("vm-1")
    assert wait_until_healthy(machines, "vm-1", 20, interval_s=0.05)
    harness.server.plan("Receive", Trouble.DROP_AFTER)

    error = refusal(lambda: machines.run("vm-1", sys.executable, ["-V"], 20))

    assert error.trouble is Why.UNKNOWN_OUTCOME
    assert harness.hyperv.scripts.count("Invoke-FarmVMCommand") == 1


def test_call_has_deadline(tmp_path: Path) -> None:
    """A cmdlet that hangs does not block the caller: at the deadline the outcome is unknown and the shell is closed."""
    hang = threading.Event()

    def answer(_command: object) -> Answer:
        hang.wait(30)
        return Answer()

    with WsmanServer(answer, accounts={ACCOUNT: PASSWORD}) as server:
        runner = WinRmRunner(access(server))
        began = time.monotonic()
        error = refusal(lambda: runner.run("Get-FarmVM", {"Name": ["vm-1"]}, 1.0))
        hang.set()

        assert error.trouble is Why.UNKNOWN_OUTCOME
        assert time.monotonic() - began < 15
        assert server.shells == set()


def test_power_off_ends_machine_stuck_in_stopping(harness: HyperVHarness) -> None:
    """Its shutdown does not end; its worker process is ended."""
    machines = harness.machines()
    machines.start("vm-1")
    harness.hyperv.hang_in_stopping("vm-1")

    assert not machines.shutdown("vm-1", 5)
    machines.power_off("vm-1")

    assert machines.info("vm-1").state is PowerState.OFF


def test_failed_power_off_is_reported(harness: HyperVHarness) -> None:
    """The script used all its time: it is not repeated, and its advice is reported."""
    machines = harness.machines()
    machines.start("vm-1")
    harness.hyperv.ignore_power_off("vm-1")

    error = refusal(lambda: machines.power_off("vm-1"))

    assert error.trouble is Why.TIMED_OUT
    assert "restart the host" in error.reason
    assert harness.hyperv.scripts.count("Stop-FarmVM") == 1


IDENTITY = GuestIdentity(
    computer="vm-1", share_account="exchange", share_password="secret", address="192.168.77.11", prefix_length=24
)


def test_script_timeouts_are_below_caller_deadlines(harness: HyperVHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the reason would be lost: the script's time-outs, and the deadline of its caller."""
    waits: dict[str, tuple[float, float]] = {}

    def run(_runner: WinRmRunner, script: str, parameters: Mapping[str, object], timeout_s: float) -> ScriptReply:
        waits[script] = (float(str(parameters.get("TimeoutSeconds", 0))), timeout_s)
        return ScriptReply({"exit_code": 0, "output": "", "off": True})

    monkeypatch.setattr(WinRmRunner, "run", run)
    machines = harness.machines()
    machines.shutdown("vm-1", 20)
    machines.restart_agent("vm-1")
    machines.run("vm-1", "x", [], 20)
    machines.identify("vm-1", IDENTITY)
    guest_answers_within_s = {"Invoke-FarmVMCommand": 30}  # beyond the program's own time

    assert len(waits) == 4
    for script, (waited_s, timeout_s) in waits.items():
        assert 0 < waited_s + guest_answers_within_s.get(script, 0) + 20 <= timeout_s, script


def test_machine_names_ignore_case(harness: HyperVHarness) -> None:
    """Hyper-V ignores case, too: the machine `VM-1` is the configured `vm-1`."""

    machines = HyperVMachines(ScriptedRunner(lambda _script, _parameters: [row_of("VM-1")]), ["vm-1"])

    assert machines.info("vm-1").name == "vm-1"


# --------------------------------------------------------------------------------------------------- the protocol


def test_secrets_are_not_on_wire_or_command_line(harness: HyperVHarness) -> None:
    """Only a constant command line is visible from outside; over HTTP not even that."""
    machines = harness.machines()
    machines.start("vm-1")
    assert wait_until_healthy(machines, "vm-1", 20, interval_s=0.05)
    machines.restart_agent("vm-1")

    assert GUEST_SECRET in harness.hyperv.secrets
    (line,) = {command.line for command in harness.server.commands}
    spoken = base64.b64decode(line.rsplit(" ", 1)[1]).decode("utf-16-le")
    for hidden in (GUEST_SECRET, PASSWORD, "vm-1", "FarmVM"):
        assert hidden not in spoken
        for form in (hidden.encode(), base64.b64encode(hidden.encode())):
            assert not any(form in body for body in harness.server.seen)
    assert not any(line.encode() in body for body in harness.server.seen)


def test_command_line_fits_limit() -> None:
    """cmd.exe accepts 8,191 characters; longer data go to standard input."""
    assert len(" ".join(("powershell", *scripts.powershell_arguments()))) < 8191
    assert len(scripts.pack_call("Test-FarmTemplate", {})) > 8191


def test_large_file_is_sent_in_parts(harness: HyperVHarness) -> None:
    """Standard input is split into parts below the limit of the envelope."""
    machines = harness.machines()
    machines.start("vm-1")
    assert wait_until_healthy(machines, "vm-1", 20, interval_s=0.05)
    data = bytes(range(256)) * 2000

    machines.send("vm-1", data, "big.bin")

    assert (harness.disks / "vm-1/big.bin").read_bytes() == data


def test_screenshot_is_png_of_requested_size(harness: HyperVHarness) -> None:
    """A PNG of the requested size."""
    png = harness.machines().screenshot("vm-1")

    assert png is not None
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == hyperv_module.SCREEN


def test_screenshot_colours_are_converted() -> None:
    """Red, green, blue and white in 16 bits become their 24-bit colours."""
    import zlib

    png = png_of_rgb565(b"\x00\xf8\xe0\x07\x1f\x00\xff\xff", 2, 2)
    at = png.index(b"IDAT")
    rows = zlib.decompress(png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at], "big")])

    assert rows == b"\x00\xff\x00\x00\x00\xff\x00" + b"\x00\x00\x00\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="3 bytes"):
        png_of_rgb565(b"abc", 1, 1)


# ------------------------------------------------------------------------------------------------------- replies


def reply(**fields: object) -> bytes:
    return b"reply:" + base64.b64encode(orjson.dumps(fields))


def test_only_reply_line_is_parsed() -> None:
    """Progress in CLIXML and a profile's greeting are no replies; other text on stdout is for users."""
    out = b"Hello from a profile\r\nWhat if: Performing X\r\n" + reply(ok=True, value='[1, "ü"]')

    assert scripts.unpack_reply("hv1", out, b"#< CLIXML <Objs/>") == ScriptReply(
        [1, "ü"], ("Hello from a profile", "What if: Performing X")
    )


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (b"", Why.UNKNOWN_OUTCOME),
        (b"reply:%%%", Why.UNKNOWN_OUTCOME),
        (b"reply:" + base64.b64encode(b"[]"), Why.UNKNOWN_OUTCOME),
        (b"reply:" + base64.b64encode(b"{}"), Why.UNKNOWN_OUTCOME),
        (reply(ok=True, value="{"), Why.UNKNOWN_OUTCOME),
        (reply(ok=False, id="NoSwitch,New-FarmVM.ps1", message="a\nb\x1b[31m"), Why.NO_SWITCH),
        (reply(ok=False, id="SomethingElse", message="x"), Why.OTHER),
    ],
)
def test_invalid_reply_leaves_outcome_unknown(out: bytes, why: Why) -> None:
    """An invalid reply leaves the outcome unknown; an error reply is one clean line."""
    error = refusal(lambda: scripts.unpack_reply("hv1", out, b"broken"))

    assert error.trouble is why
    assert "\n" not in str(error) and "\x1b" not in str(error)


def test_clixml_errors_are_decoded() -> None:
    """PowerShell serializes its redirected error stream; the message has its text."""
    stderr = (
        b'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
        b'<Obj S="progress" RefId="0"><MS><PR N="Record"><AV>Preparing modules</AV></PR></MS></Obj>'
        b'<S S="Error">The term &apos;Get-VM&apos; is not recognized_x000D__x000A_</S>'
        b'<S S="Error">At line:1 &amp; more_x000D__x000A_</S></Objs>'
    )
    error = refusal(lambda: scripts.unpack_reply("hv1", b"", stderr))

    assert error.trouble is Why.UNKNOWN_OUTCOME
    assert error.reason.endswith("it wrote: The term 'Get-VM' is not recognized At line:1 & more")


@pytest.mark.parametrize("stderr", [b"plain words", b'words #< CLIXML\n<Objs><S S="Error">cut', b"\xff\xfe"])
def test_error_output_without_clixml_is_kept(stderr: bytes) -> None:
    """It is part of the message, whatever it is."""
    assert refusal(lambda: scripts.unpack_reply("hv1", b"", stderr)).trouble is Why.UNKNOWN_OUTCOME


@pytest.mark.parametrize(
    ("code_page", "written"), [(850, b"Gr\x81\xe1e"), (65001, "Grüße".encode()), (0, "Grüße".encode())]
)
def test_other_output_is_decoded_in_its_code_page(code_page: int, written: bytes) -> None:
    """The Windows console writes `What if:` in its own code page, which the reply names."""
    out = b"What if: " + written + b"\r\n" + reply(ok=True, value="1", code_page=code_page)

    assert scripts.unpack_reply("hv1", out, b"").messages == ("What if: Grüße",)


def test_reply_about_other_machine_is_ignored(harness: HyperVHarness) -> None:
    """Only machines that were asked for are accepted."""

    machines = HyperVMachines(ScriptedRunner(lambda _script, _parameters: [row_of("other")]), ["vm-1"])

    assert machines.infos() == {}


def test_start_delay_grows_with_position_of_machine() -> None:
    """Hyper-V starts its machines with the host. The delay stays within what the script accepts."""
    runner = ScriptedRunner(lambda _script, _parameters: {})
    template = Template(disk="a", folder="b", switch="c", start_stagger_s=10.0)
    machines = HyperVMachines(runner, [f"vm-{number}" for number in range(1, 501)], template=template)

    for name in ("vm-1", "vm-2", "vm-9", "vm-500"):
        machines.create(name)

    assert [parameters["StartDelaySeconds"] for _script, parameters in runner.calls] == [0, 10, 80, 3600]


def test_create_passes_template_machine_to_script() -> None:
    """Its name is passed to the script, and the script's warnings are returned."""
    runner = ScriptedRunner(lambda _script, _parameters: {"created": True, "warnings": ["it gets an empty TPM"]})
    template = Template(disk="a", folder="b", switch="c", like="template")

    assert HyperVMachines(runner, ["vm-1"], template=template).create("vm-1") == ["it gets an empty TPM"]
    assert runner.calls[0][1]["Like"] == "template"


def test_memory_of_a_start_is_that_of_the_script() -> None:
    """`New-FarmVM` gives a new machine its start memory, within its limits."""
    default = re.search(r"\$MemoryStartMb = (\d+)", scripts.script_text("New-FarmVM"))
    assert default is not None
    assert HyperVTable().start_memory_mb == int(default[1]) == 2048
    assert HyperVTable(memory_min_mb=4096, memory_max_mb=8192).start_memory_mb == 4096
    assert HyperVTable(memory_max_mb=1536).start_memory_mb == 1536


@pytest.mark.parametrize("warnings", ["text", [1], {"a": 1}])
def test_invalid_warnings_are_refused(warnings: object) -> None:
    """A reply of another computer is checked before it is shown."""
    runner = ScriptedRunner(lambda _script, _parameters: {"warnings": warnings})
    machines = HyperVMachines(runner, ["vm-1"], template=Template(disk="a", folder="b", switch="c"))

    assert "makes no sense" in refusal(lambda: machines.create("vm-1")).reason


def test_compare_lists_differing_settings() -> None:
    """Each setting that differs has both values; only the named machines are compared."""
    screen = {"what": "screen", "found": "Default", "wanted": "Single 1280x720"}
    answer = [{"name": "VM-1", "differs": [screen]}, {"name": "other", "differs": [screen]}]
    runner = ScriptedRunner(lambda _script, _parameters: answer)
    machines = HyperVMachines(runner, ["vm-1", "vm-2"])

    assert machines.compare(["vm-1"], "template") == {"vm-1": [Difference("screen", "Default", "Single 1280x720")]}
    assert runner.calls == [("Compare-FarmVM", {"Name": ["vm-1"], "Like": "template"})]
    assert "other" in refusal(lambda: machines.compare(["other"], "template")).machine


def test_close_closes_runner() -> None:
    """A runner may keep a process between two calls."""
    runner = ScriptedRunner(lambda _script, _parameters: [])

    HyperVMachines(runner, ["vm-1"]).close()

    assert runner.closed
