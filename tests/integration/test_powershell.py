"""The runner of the local PowerShell, with a scripted process that implements the bootstrap's protocol."""

import concurrent.futures
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hyperv_ops import HyperVMachines, PowerShellRunner, Trouble
from hyperv_ops.hyperv import script_call as scripts
from tests.harness.hyperv_farm import refusal

pytestmark = pytest.mark.timeout(60)

#: Reads jobs line by line and replies to each, as bootstrap.ps1 does. Its parameters choose how it behaves.
PROGRAM = """
import base64, json, os, sys, time
mode = sys.argv[1]
with open(os.environ["STARTS"], "a") as starts:
    starts.write(f"{os.getpid()}\\n")
if mode == "broken":
    sys.exit("it cannot start")
lines = sys.stdin.readlines() if mode == "collects" else sys.stdin
for number, line in enumerate(lines):
    if mode == "once" and number:
        sys.stdin.read()
    job = json.loads(base64.b64decode(line.strip()))
    name = job["parameters"].get("Name")
    if name == "hangs":
        time.sleep(60)
    if name == "dies":
        sys.exit("it died")
    if name == "floods":
        sys.stderr.write("x" * 1_000_000)
    value = [
        {"name": f"vm-{n}", "state": "Off", "heartbeat": "", "uptime_s": 0, "cpu_percent": 0, "memory_mb": 0,
         "addresses": [], "checkpoints": []} for n in range(len(name))
    ] if isinstance(name, list) else {
        "parameters": job["parameters"], "argv": sys.argv[2:], "script": len(job["script"]), "pid": os.getpid()
    }
    print("other output")
    reply = {"ok": True, "value": json.dumps(value) if job["script"] else "", "last": name == "last"}
    print("reply:" + base64.b64encode(json.dumps(reply).encode()).decode(), flush=True)
"""
Make = Callable[..., PowerShellRunner]


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of started processes."""
    path = tmp_path / "starts"
    monkeypatch.setenv("STARTS", str(path))
    return lambda: len(path.read_text().split()) if path.exists() else 0


@pytest.fixture
def make(tmp_path: Path, starts: Callable[[], int]) -> Iterator[Make]:
    (tmp_path / "powershell.py").write_text(PROGRAM)
    made: list[PowerShellRunner] = []

    def make(mode: str = "streams", **limits: Any) -> PowerShellRunner:
        program = (sys.executable, "-I", str(tmp_path / "powershell.py"), mode)
        made.append(PowerShellRunner(program, **limits))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def pid_of(runner: PowerShellRunner, name: str = "vm-1") -> int:
    """The process that replied."""
    return int(runner.run("Start-FarmVM", {"Name": name}, 30).value["pid"])


def test_local_powershell_gets_same_input(make: Make) -> None:
    """The same command line, script and parameters."""
    value = make().run("Start-FarmVM", {"Name": "Grüße"}, 30).value

    assert value["parameters"] == {"Name": "Grüße"}
    assert tuple(value["argv"]) == scripts.powershell_arguments()
    assert value["script"] == len(scripts.script_text("Start-FarmVM"))


def test_repeated_calls_use_one_process(make: Make, starts: Callable[[], int]) -> None:
    """Hyper-V runs on the computer of the evaluations, and is queried every five seconds."""
    machines = HyperVMachines(make(), [f"vm-{n}" for n in range(16)])

    for _ in range(200):
        assert len(machines.infos()) == 16

    assert starts() == 1


@pytest.mark.parametrize("mode", ["collects", "once"])
def test_powershell_without_streaming_input_gets_process_per_job(
    make: Make, starts: Callable[[], int], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The probe runs once, and its result is logged once."""
    runner = make(mode, probe_limit_s=1.0)

    with caplog.at_level(logging.WARNING):
        pids = {pid_of(runner) for _ in range(3)}

    assert runner.reuses is False
    assert len(pids) == 3 and starts() == 4
    assert [record.getMessage() for record in caplog.records] == [
        "PowerShell does not read its input line by line: a process is started for each call"
    ]


def test_timed_out_probe_is_repeated(make: Make) -> None:
    """The first call may be short on a busy computer; the next one probes again."""
    runner = make("collects", probe_limit_s=10.0)

    error = refusal(lambda: runner.run("Start-FarmVM", {"Name": "hangs"}, 1.0))

    assert error.trouble is Trouble.UNKNOWN_OUTCOME
    assert runner.reuses is None


def test_probe_of_exiting_powershell_is_repeated(make: Make) -> None:
    """The reason of its end is the error of the call."""
    runner = make("broken")

    error = refusal(lambda: pid_of(runner))

    assert "it cannot start" in error.reason
    assert runner.reuses is None


def test_process_is_replaced_after_job_count_age_or_request(make: Make) -> None:
    """Leaks in a process are bounded."""
    few, old, plain = make(jobs_max=4), make(age_max_s=0.0), make()

    assert len({pid_of(few) for _ in range(6)}) == 2  # the probe's two jobs count
    assert pid_of(old) != pid_of(old)
    assert pid_of(plain, "last") != pid_of(plain)


def test_hung_job_times_out_without_delaying_others(make: Make) -> None:
    """Another process runs the jobs that come meanwhile."""
    runner = make()
    hung_pid = pid_of(runner)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hung = pool.submit(refusal, lambda: runner.run("Start-FarmVM", {"Name": "hangs"}, 20))
        while runner._idle:  # until the hanging job has taken the process
            time.sleep(0.01)
        assert pid_of(runner) != hung_pid
        assert not hung.done()
        psutil.Process(hung_pid).kill()
        assert hung.result().trouble is Trouble.UNKNOWN_OUTCOME


def test_hung_process_is_killed_at_limit(make: Make) -> None:
    """With its job, whose outcome is unknown."""
    runner = make()
    process = psutil.Process(pid_of(runner))

    error = refusal(lambda: runner.run("Start-FarmVM", {"Name": "hangs"}, 0.5))

    assert (error.trouble, error.reason) == (Trouble.UNKNOWN_OUTCOME, "no answer in time")
    assert not process.is_running()
    assert pid_of(runner) != process.pid


def test_process_death_leaves_outcome_unknown(make: Make) -> None:
    """Its error output is in the message, and the next job gets another process."""
    runner = make()

    error = refusal(lambda: runner.run("Start-FarmVM", {"Name": "dies"}, 30))

    assert error.trouble is Trouble.UNKNOWN_OUTCOME
    assert "it died" in error.reason
    assert pid_of(runner)


def test_dead_idle_process_is_replaced(make: Make) -> None:
    """The next call succeeds."""
    runner = make()
    process = psutil.Process(pid_of(runner))
    process.kill()
    process.wait(10)

    assert pid_of(runner) != process.pid


def test_large_error_output_does_not_block(make: Make) -> None:
    """It is read all the time, and its end is kept."""
    assert make().run("Start-FarmVM", {"Name": "floods"}, 30).value["pid"]


def test_close_ends_idle_processes(make: Make) -> None:
    """A later call still works; its process is not kept."""
    runner = make()
    process = psutil.Process(pid_of(runner))

    runner.close()

    assert not process.is_running()
    assert pid_of(runner) != pid_of(runner)


def test_collected_runner_ends_its_processes(make: Make) -> None:
    """Also without `close`."""
    runner = PowerShellRunner(make()._argv[:4])
    process = psutil.Process(pid_of(runner))

    del runner

    process.wait(20)


def test_missing_powershell_is_reported(tmp_path: Path) -> None:
    """The computer is no Hyper-V host."""
    error = refusal(lambda: PowerShellRunner((str(tmp_path / "nothing"),)).run("Start-FarmVM", {"Name": "x"}, 5))

    assert error.trouble is Trouble.NO_HYPER_V
