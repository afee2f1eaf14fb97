"""QEMU machines without a guest: real processes with nothing to boot from. With guests: `make test-vm`."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson
import psutil
import pytest

from hyperv_ops import Heartbeat, MachineError, PowerState, Ran, Trouble
from hyperv_ops.qemu import console
from hyperv_ops.qemu.guest_agent import GuestAgent
from hyperv_ops.qemu.machines import QemuMachines, QemuSpec
from hyperv_ops.qemu.qmp import QmpConnection
from pipeline.errors import ExitCode
from tests.harness.command_line import pipeline
from tests.harness.evaluator_harness import has_ended
from tests.harness.qemu_farm import QemuTestMachines
from tests.harness.samba import free_port
from tests.harness.waiting import eventually
from tests.programs.system_programs import QEMU, require

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32", reason="QEMU machines run on Linux"),
]


@pytest.fixture
def spec(tmp_path: Path) -> QemuSpec:
    image = tmp_path / "empty.raw"
    image.touch()
    os.truncate(image, 2**20)
    return QemuSpec(image=image, folder=tmp_path / "m", memory_mb=128)


@pytest.fixture
def machines(spec: QemuSpec) -> Iterator[QemuTestMachines]:
    """One machine, created and off."""
    require(*QEMU)
    machines = QemuTestMachines(spec, {"vm-1": free_port()})
    machines.create("vm-1")
    yield machines
    machines.remove("vm-1")


def test_machine_survives_its_host(machines: QemuMachines, spec: QemuSpec) -> None:
    """Its host is killed; the next host finds it running, and powers it off."""
    code = (
        "import sys, time; from pathlib import Path; from hyperv_ops.qemu.machines import QemuMachines, QemuSpec\n"
        f"spec = QemuSpec(image=Path({str(spec.image)!r}), folder=Path({str(spec.folder)!r}), memory_mb=128)\n"
        f"QemuMachines(spec, {{'vm-1': {free_port()}}}).start('vm-1'); print('on', flush=True); time.sleep(60)"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert host.stdout is not None
    assert host.stdout.readline() == b"on\n"
    os.killpg(host.pid, signal.SIGKILL)
    host.communicate()

    info = machines.info("vm-1")
    assert (info.state, info.heartbeat) == (PowerState.RUNNING, Heartbeat.NONE)
    assert info.pid is not None
    machines.power_off("vm-1")
    assert machines.info("vm-1").state is PowerState.OFF


def test_hung_process_is_unknown_and_can_be_powered_off(machines: QemuMachines) -> None:
    """Its monitor does not respond; its state is unknown, and it can be powered off."""
    machines.start("vm-1")
    pid = machines.info("vm-1").pid
    assert pid is not None
    psutil.Process(pid).suspend()

    assert machines.info("vm-1").state is PowerState.UNKNOWN
    machines.power_off("vm-1")

    assert machines.info("vm-1").state is PowerState.OFF
    assert eventually(lambda: has_ended(pid))


def test_paused_machine_is_changing(machines: QemuTestMachines) -> None:
    """Until it is resumed."""
    machines.start("vm-1")
    machines.pause("vm-1")
    assert machines.info("vm-1").state is PowerState.CHANGING

    machines.unpause("vm-1")
    machines.reset("vm-1")

    assert machines.info("vm-1").state is PowerState.RUNNING


@pytest.mark.timeout(30)
def test_shutdown_of_paused_machine_returns_at_once(machines: QemuTestMachines) -> None:
    """Its processors are paused: the guest cannot receive the request."""
    machines.start("vm-1")
    machines.pause("vm-1")

    assert not machines.shutdown("vm-1", 600)


def test_saved_state_is_kept_beside_checkpoint(machines: QemuTestMachines) -> None:
    """With memory and without; a later state replaces an earlier one."""
    machines.checkpoint("vm-1")
    machines.start("vm-1")
    machines.save_state("vm-1", "now")
    machines.save_state("vm-1", "now")
    machines.load_state("vm-1", "now")

    assert sorted(machines.info("vm-1").checkpoints) == ["clean", "now"]
    with pytest.raises(MachineError, match="never"):
        machines.load_state("vm-1", "never")


def test_memory_that_was_not_saved_to_the_end_is_not_used(machines: QemuMachines, spec: QemuSpec) -> None:
    """The host was killed while it saved it: the machine boots."""
    half = spec.folder / "vm-1" / "memory.new"
    half.write_bytes(b"half of it")

    machines.resume("vm-1")

    assert machines.info("vm-1").state is PowerState.RUNNING
    assert not half.exists()


def test_damaged_memory_is_used_up(machines: QemuMachines, spec: QemuSpec) -> None:
    """The machine is off then, and boots at the next start."""
    memory = spec.folder / "vm-1" / "memory"
    memory.write_bytes(b"no memory of QEMU")
    assert "its memory is saved" in machines.info("vm-1").note

    with pytest.raises(MachineError):
        machines.resume("vm-1")

    assert machines.info("vm-1").state is PowerState.OFF
    assert not memory.exists()
    machines.resume("vm-1")
    assert machines.info("vm-1").state is PowerState.RUNNING


def test_machine_goes_on_if_its_memory_cannot_be_written(
    machines: QemuMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full."""
    machines.start("vm-1")
    monkeypatch.setattr(shlex, "quote", lambda _path: "/dev/full")

    with pytest.raises(MachineError, match="its memory"):
        machines.save("vm-1")

    assert machines.info("vm-1").state is PowerState.RUNNING


def test_saved_memory_is_readable_by_its_owner_only(machines: QemuMachines, spec: QemuSpec) -> None:
    """It may have passwords in it."""
    machines.start("vm-1")
    machines.save("vm-1")

    assert (spec.folder / "vm-1" / "memory").stat().st_mode & 0o077 == 0


def test_restore_without_checkpoint_is_refused(machines: QemuMachines) -> None:
    """A machine that was never prepared."""
    with pytest.raises(MachineError) as error:
        machines.restore("vm-1")
    assert error.value.trouble is Trouble.NO_CHECKPOINT


def test_screenshot_is_png(machines: QemuMachines) -> None:
    """Of a running machine."""
    assert machines.screenshot("vm-1") is None
    machines.start("vm-1")
    picture = machines.screenshot("vm-1")
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


@pytest.mark.needs(*QEMU)
def test_used_port_is_reported_in_one_line(spec: QemuSpec) -> None:
    """QEMU's own message, not several lines."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        machines = QemuMachines(spec, {"vm-1": port})
        machines.create("vm-1")
        with pytest.raises(MachineError, match=f"tcp:127.0.0.1:{port}-:445") as error:
            machines.start("vm-1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "folder", "expected"),
    [("missing.raw", "m", "there is no image"), ("empty.raw", "m" * 100, "too long"), ("empty.raw", "a,b", "no comma")],
)
def test_create_errors_are_reported(tmp_path: Path, spec: QemuSpec, image: str, folder: str, expected: str) -> None:
    """Before any file of it exists."""
    machines = QemuMachines(QemuSpec(image=tmp_path / image, folder=tmp_path / folder), {"vm-1": 1})
    with pytest.raises(MachineError, match=expected):
        machines.create("vm-1")
    assert machines.infos() == {}


def test_machine_of_other_image_is_refused(machines: QemuMachines, spec: QemuSpec) -> None:
    """A new image does not change machines of an older one; creating them again is refused."""
    newer = spec.image.with_name("newer.raw")
    newer.write_bytes(spec.image.read_bytes())
    machines.create("vm-1")

    with pytest.raises(MachineError, match=f"made from another image, {spec.image}") as error:
        QemuMachines(replace(spec, image=newer), {"vm-1": 1}).create("vm-1")

    assert error.value.trouble is Trouble.EXISTS


def test_disk_is_readable_by_owner_only(machines: QemuMachines, spec: QemuSpec) -> None:
    """It contains the data that the share's password is checked against."""
    assert (spec.folder / "vm-1").stat().st_mode & 0o077 == 0


def test_console_output_survives_power_cycle(machines: QemuTestMachines, spec: QemuSpec) -> None:
    """The last output of a panic is there after the power cycle."""
    machines.start("vm-1")
    machines.write_console("vm-1", "Kernel panic - not syncing\n")
    assert "its console said last: Kernel panic - not syncing" in machines.info("vm-1").note
    machines.write_console("vm-1", "and more\n")
    machines.power_off("vm-1")
    assert machines.info("vm-1").note == "off; its console said last: and more"

    machines.start("vm-1")

    console = spec.folder / "vm-1" / "console.log"
    assert console.with_name("console.log.1").read_text() == "Kernel panic - not syncing\nand more\n"
    assert not console.exists()


def test_endless_console_output_fills_no_disk(
    machines: QemuTestMachines, spec: QemuSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU keeps the latest output without a host, and the host keeps two files of bounded size."""
    monkeypatch.setattr(console, "_BUFFER_BYTES", 4096)
    monkeypatch.setattr(console, "FILE_BYTES_MAX", 6000)
    machines.start("vm-1")
    folder = spec.folder / "vm-1"
    guest = console.GuestConsole(folder / "console.log", QmpConnection("vm-1", folder / "monitor"))
    for number in range(5):
        machines.write_console("vm-1", f"{number:07}\n" * 600)
        guest.collect()
        assert guest.last_line() == f"{number:07}"

    kept = {path.name: path.stat().st_size for path in folder.glob("console*")}
    assert set(kept) <= {"console.log", "console.log.1"}
    assert 6000 <= sum(kept.values()) <= 2 * (6000 + 4096)


def test_refusal_of_guest_is_one_printable_line(machines: QemuMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its service says may be anything."""
    monkeypatch.setattr(GuestAgent, "run", lambda *_args, **_kwargs: Ran(1, "a\n\x1b[31mb" + "x" * 1000))
    machines.start("vm-1")

    with pytest.raises(MachineError, match="the agent's service: a") as error:
        machines.restart_agent("vm-1")

    assert error.value.reason.isprintable() and len(error.value.reason) < 400


def test_restore_without_checkpoint_keeps_machine_running(machines: QemuMachines) -> None:
    """Without a checkpoint to restore, the machine keeps running."""
    machines.start("vm-1")
    with pytest.raises(MachineError, match="no checkpoint"):
        machines.restore("vm-1")
    assert machines.info("vm-1").state is PowerState.RUNNING


def test_remove_ends_process_without_disk(machines: QemuMachines, spec: QemuSpec) -> None:
    """Its disk was removed by hand; afterwards its port is free."""
    machines.start("vm-1")
    pid = machines.info("vm-1").pid
    (spec.folder / "vm-1" / "disk.qcow2").unlink()

    machines.remove("vm-1")

    assert pid is not None
    assert eventually(lambda: has_ended(pid))


def test_qemu_what_if_changes_nothing(machines: QemuMachines, spec: QemuSpec) -> None:
    """Every method reports what it would do."""
    expected: list[str] = []
    only_saying = QemuMachines(spec, {"vm-1": 1, "vm-2": 2}, what_if=expected.append)
    only_saying.create("vm-2")
    for verb in (only_saying.start, only_saying.checkpoint, only_saying.restore, only_saying.remove):
        verb("vm-1")

    assert [line.partition(": would ")[0] for line in expected] == ["vm-2", "vm-1", "vm-1", "vm-1", "vm-1"]
    info = machines.info("vm-1")
    assert (info.state, info.checkpoints) == (PowerState.OFF, ())
    assert list(machines.infos()) == ["vm-1"]


@pytest.mark.needs(*QEMU)
def test_vm_commands_manage_qemu_machines(tmp_path: Path, spec: QemuSpec, capsys: pytest.CaptureFixture[str]) -> None:
    """Created, listed, checked and removed as configured in `pipeline.toml`; other kinds of machines are refused."""
    (tmp_path / "pipeline.toml").write_text(
        f"[qemu]\nimage = '{spec.image}'\nfolder = 'm'\n"
        "[[worker]]\nname = 'a'\nmachine = 'vm-1'\naccount = 'x'\nsecret = 'env:X'\n"
    )

    def vm(*words: str) -> tuple[int, str, str]:
        return pipeline(capsys, *words, "--root", tmp_path)

    code, _, expected = vm("vm", "create", "--all", "--backend", "hyperv")
    assert (code, expected.strip()) == (
        ExitCode.BAD_INPUT,
        "pipeline: --backend hyperv: pipeline.toml has no [hyperv] table",
    )
    code, expected, _ = vm("vm", "create", "--all", "--backend", "qemu", "--what-if")
    assert (code, expected.strip()) == (ExitCode.OK, f"vm-1: would make its disk on {spec.image}")
    assert vm("vm", "status")[0] == ExitCode.FAILED

    assert vm("vm", "create", "--all")[0] == ExitCode.OK
    code, expected, _ = vm("vm", "status")
    assert code == ExitCode.OK
    assert "off" in expected
    expected = " ".join(vm("doctor")[1:])
    assert "vm-1 has no checkpoint 'clean'; `pipeline vm prepare a` if it is new" in expected

    assert vm("vm", "remove", "--all", "--yes")[0] == ExitCode.OK
    assert not (tmp_path / "m/vm-1").exists()


@contextmanager
def answering(path: Path, late: bytes = b"") -> Iterator[None]:
    """A guest agent that serves one connection, and first sends a response to an earlier request."""
    with socket.socket(socket.AF_UNIX) as guest:
        guest.bind(str(path))
        guest.listen()

        def answer() -> None:
            caller, _ = guest.accept()
            with caller:
                early = late
                while asked := caller.recv(65536):  # one request at a time
                    caller.sendall(early)
                    early = b""
                    question = orjson.loads(asked)
                    value = question["arguments"]["id"] if question["execute"] == "guest-sync" else {"pid": 2}
                    caller.sendall(orjson.dumps({"return": value, "id": question["id"]}) + b"\n")

        threading.Thread(target=answer, daemon=True).start()
        yield


def test_doctor_reports_unreachable_machine_only(
    tmp_path: Path, machines: QemuMachines, spec: QemuSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoint is unknown; that it does not respond is reported."""
    (tmp_path / "pipeline.toml").write_text(
        f"[qemu]\nimage = '{spec.image}'\nfolder = '{spec.folder}'\n[[worker]]\nname = 'a'\nmachine = 'vm-1'\n"
    )
    machines.start("vm-1")
    psutil.Process(machines.info("vm-1").pid).suspend()

    expected = " ".join(pipeline(capsys, "doctor", "--root", tmp_path)[1:])

    assert "vm-1 cannot be asked: QEMU did not answer" in expected
    assert "checkpoint" not in expected


def test_old_guest_agent_responses_are_discarded(tmp_path: Path) -> None:
    """A guest that resumes may respond to an old request with the same number; the response is skipped."""
    with answering(tmp_path / "guest", late=b'{"return": {"pid": 1}, "id": "__qmp#00000"}\n'):
        line = QmpConnection("vm-1", tmp_path / "guest", guest=True)
        assert line.ask("guest-exec", {"path": "/bin/true"}) == {"pid": 2}


@contextmanager
def greeting_late(path: Path, late: list[bytes]) -> Iterator[None]:
    """A monitor that begins each connection with the next line of `late`, and those after them with the greeting."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.bind(str(path))
        monitor.listen()

        def talk(caller: socket.socket) -> None:
            if late:
                caller.sendall(late.pop(0) + b"\n")
            caller.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
            while asked := caller.recv(65536):
                named = {key: value for key, value in orjson.loads(asked).items() if key == "id"}
                caller.sendall(orjson.dumps({"return": {}, **named}) + b"\n")

        def answer() -> None:
            with suppress(OSError):  # the monitor is closed
                while True:
                    caller, _ = monitor.accept()
                    with caller, suppress(OSError):
                        talk(caller)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        monitor.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_message_for_an_earlier_client_before_the_greeting_is_skipped(tmp_path: Path) -> None:
    """QEMU sends it to the next client; a new connection begins with the greeting."""
    late = [
        b'{"return": {}, "id": "__qmp#00001"}',
        b'{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}',
    ]
    with greeting_late(tmp_path / "monitor", late):
        assert QmpConnection("vm-1", tmp_path / "monitor").ask("cont", timeout_s=10.0) == {}


def test_monitor_that_never_greets_is_unreachable(tmp_path: Path) -> None:
    late = [b'{"return": {}, "id": "__qmp#00001"}'] * 100
    with greeting_late(tmp_path / "monitor", late), pytest.raises(MachineError) as caught:
        QmpConnection("vm-1", tmp_path / "monitor").ask("cont", timeout_s=10.0)
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_unwritable_heartbeat_file_is_ignored(tmp_path: Path) -> None:
    """This computer's disk is full, or the machine's folder was removed meanwhile."""
    with answering(tmp_path / "guest"):
        assert GuestAgent("vm-1", tmp_path / "guest", tmp_path / "gone/heard").heartbeat(ask=True) is Heartbeat.NONE
