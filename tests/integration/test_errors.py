"""The errors of commands and programs: one base class, one exit code each, one line on standard error."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline as public
from pipeline import errors
from pipeline.cli import main, new_project
from pipeline.errors import (
    BundleError,
    ConfigError,
    ConflictError,
    EvaluationFailed,
    ExitCode,
    FarmClosed,
    GenomeError,
    HostError,
    InputError,
    LedgerError,
    MissingExtraError,
    NotFoundError,
    PipelineError,
    ProjectBusyError,
    QueueFullError,
    RemoteError,
    SecretError,
    StalledError,
    TakeOverError,
    VmError,
    disk_errors,
)
from pipeline.paths import ProjectPaths
from tests.harness.command_line import pipeline
from tests.harness.samba import free_port

pytestmark = pytest.mark.timeout(60)

#: As in docs/reference/api.md and the README.
CODES: dict[type[PipelineError], int] = {
    VmError: 1,
    InputError: 2,
    ConfigError: 2,
    SecretError: 2,
    GenomeError: 2,
    NotFoundError: 2,
    ConflictError: 2,
    QueueFullError: 2,
    FarmClosed: 2,
    EvaluationFailed: 1,
    MissingExtraError: 2,
    ProjectBusyError: 2,
    TakeOverError: 2,
    BundleError: 2,
    HostError: 3,
    RemoteError: 3,
    LedgerError: 4,
    StalledError: 4,
}


def test_every_error_has_its_code() -> None:
    """Every error is also exported by `pipeline`."""
    classes: set[type[PipelineError]] = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PipelineError) and kind is not PipelineError
    }
    assert {kind: kind.exit_code for kind in classes} == CODES
    drawn = re.findall(r"── (\w+) +(\d)", errors.__doc__ or "")
    assert dict(drawn) == {kind.__name__: str(code) for kind, code in CODES.items()}
    exported: set[type[PipelineError]] = {PipelineError, *classes}
    for kind in exported:
        assert getattr(public, kind.__name__) is kind
        assert kind.__name__ in public.__all__


def test_exported_names_exist() -> None:
    """A name of `__all__` that cannot be imported would break `from pipeline import *`."""
    for name in public.__all__:
        assert getattr(public, name) is not None
    assert not hasattr(public, "no_such_name")


def add_worker(root: Path, table: str) -> None:
    with (root / "pipeline.toml").open("a") as file:
        file.write(f"\n{table}\n")


def without_configuration(root: Path) -> list[str]:
    (root / "pipeline.toml").unlink()
    return ["run", "--gen", "1"]


def with_a_secret_that_is_not_set(root: Path) -> list[str]:
    add_worker(root, "[[worker]]\nname = 'a'\nshare = '//h/s'\naccount = 'x'\nsecret = 'env:NO_SUCH_VARIABLE'")
    return ["run", "--gen", "1"]


def with_an_empty_genome(root: Path) -> list[str]:
    (root / "genomes/gen-0001/empty.txt").touch()
    return ["run", "--gen", "1"]


def while_it_is_open_elsewhere(root: Path) -> list[str]:
    path = str(ProjectPaths(root).lock)
    lock = f"from inbox_agent.system.file_lock import FileLock; from pathlib import Path; FileLock(Path({path!r}))"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{lock}; print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    HOLDERS.append(holder)
    assert holder.stdout is not None
    holder.stdout.readline()
    return ["run", "--gen", "1"]


def with_a_share_that_is_not_there(root: Path) -> list[str]:
    add_worker(root, "[[worker]]\nname = 'vm-0'\nshare = 'nowhere/at-all'")
    (root / "nowhere").write_text("a file")
    return ["take-over", "vm-0"]


def into_a_folder_that_is_not_empty(root: Path) -> list[str]:
    return ["agent", "bundle", "--out", str(root)]


def of_machines_on_a_host_that_is_off(root: Path) -> list[str]:
    add_worker(root, "[[worker]]\nname = 'a'\nmachine = 'vm-a'\nshare = 'share'")
    (root / "secret").write_text("hunter2")
    (root / "secret").chmod(0o600)
    hyperv = f"host = '127.0.0.1'\naccount = 'a'\nsecret = 'file:secret'\nport = {free_port()}"
    add_worker(root, f"[hyperv]\n{hyperv}")
    return ["vm", "status"]


def with_a_file_in_place_of_the_state_folder(root: Path) -> list[str]:
    (root / "state").write_text("a file")
    return ["run", "--gen", "1"]


def with_a_file_in_place_of_the_snapshots(root: Path) -> list[str]:
    (root / "state").mkdir()
    (root / "state/genomes").write_text("a file")
    return ["run", "--gen", "1"]


def with_a_file_in_place_of_the_results(root: Path) -> list[str]:
    (root / "results").rmdir()
    (root / "results").write_text("a file")
    return ["run", "--gen", "1"]


def of_a_server_that_is_off(_root: Path) -> list[str]:
    return ["status", "--remote", f"http://127.0.0.1:{free_port()}"]


def with_a_damaged_ledger(root: Path) -> list[str]:
    (root / "state").mkdir()
    (root / "state/ledger.db").write_bytes(b"no ledger at all" * 1000)
    return ["status"]


def with_an_evaluator_that_is_not_there(root: Path) -> list[str]:
    config = root / "pipeline.toml"
    config.write_text(config.read_text().replace('"play.py"', '"plya.py"'))
    for number in range(12):
        (root / f"genomes/gen-0001/{number}.txt").write_text(str(number))
    return ["run", "--gen", "1"]


HOLDERS: list["subprocess.Popen[bytes]"] = []
#: How a command causes each error, except that of a missing extra, which has its own test.
CASES: list[tuple[type[PipelineError], Callable[[Path], list[str]]]] = [
    (InputError, lambda _root: ["run", "--gen", "seven"]),
    (InputError, lambda _root: ["status"]),
    (ConfigError, without_configuration),
    (SecretError, with_a_secret_that_is_not_set),
    (GenomeError, with_an_empty_genome),
    (ProjectBusyError, while_it_is_open_elsewhere),
    (TakeOverError, with_a_share_that_is_not_there),
    (BundleError, into_a_folder_that_is_not_empty),
    (VmError, of_machines_on_a_host_that_is_off),
    (RemoteError, of_a_server_that_is_off),
    (HostError, with_a_file_in_place_of_the_state_folder),
    (HostError, with_a_file_in_place_of_the_snapshots),
    (HostError, with_a_file_in_place_of_the_results),
    (LedgerError, with_a_damaged_ledger),
    (StalledError, with_an_evaluator_that_is_not_there),
]


@pytest.mark.parametrize(("kind", "prepare"), CASES, ids=[f"{n}-{kind.__name__}" for n, (kind, _) in enumerate(CASES)])
def test_command_exits_with_code_of_error(
    kind: type[PipelineError], prepare: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error has that class, its message is on standard error, and the command exits with its code."""
    new_project.init(tmp_path)
    command = [*prepare(tmp_path), *([] if kind in (BundleError, RemoteError) else ["--root", str(tmp_path)])]
    try:
        with pytest.raises(PipelineError) as raised:
            main.commands.main(command, standalone_mode=False)
        capsys.readouterr()
        code, _, err = pipeline(capsys, *command)
    finally:
        while HOLDERS:
            HOLDERS.pop().communicate()

    assert type(raised.value) is kind
    assert code == kind.exit_code
    lines = err[err.index("pipeline: ") :].splitlines()
    assert len(lines) == 1 or kind is StalledError  # which also shows the last log
    assert "Traceback" not in err


def test_every_error_has_a_case() -> None:
    """An error that no command ends with would be documented in vain, unless it is one of programs."""
    of_programs = {MissingExtraError, FarmClosed, EvaluationFailed, NotFoundError, ConflictError, QueueFullError}
    assert {kind for kind, _ in CASES} | of_programs == CODES.keys()


def test_unexpected_os_error_is_reported_as_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FileNotFoundError of our own is not reported as a run that was stopped early."""

    def forget(_folder: Path) -> list[Path]:
        raise FileNotFoundError(2, "No such file or directory", "forgotten.txt")

    monkeypatch.setattr(new_project, "init", forget)
    code, _, err = pipeline(capsys, "init", tmp_path)

    assert code == ExitCode.INTERNAL_ERROR
    assert "Traceback" in err
    assert "forgotten.txt" in err
    assert err.splitlines()[-1].startswith("pipeline: a defect of this program")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "there/file"), "there/file: No space left on device; "),
        (OSError(5, "Input/output error"), "state: Input/output error; "),
        (OSError("odd"), "state: odd; "),
    ],
)
def test_disk_error_names_file(error: OSError, expected: str) -> None:
    """If the system does not name it, the message names the folder that was written."""
    with pytest.raises(HostError) as raised, disk_errors(Path("state")):
        raise error
    assert str(raised.value).startswith(expected)
    assert raised.value.__cause__ is error


def test_unreadable_genome_is_refused(tmp_path: Path) -> None:
    """The message names its path; genomes that were already copied to the folder are removed."""
    with public.open_farm(tmp_path, evaluator=public.Evaluator(python="game:play"), workers=1) as farm:
        with pytest.raises(GenomeError, match=r"missing\.bin: cannot be read: "):
            farm.evaluate({"a": b"x", "b": tmp_path / "missing.bin"})
        assert not (tmp_path / "genomes/gen-0001").exists()


def test_init_reports_unwritable_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the path and the reason, as bad input."""
    (tmp_path / "file").touch()

    code, _, err = pipeline(capsys, "init", tmp_path / "file" / "project")

    assert code == InputError.exit_code
    assert err.count("\n") == 1
    assert str(tmp_path / "file") in err
    assert "give another folder" in err


def test_lock_that_cannot_be_created_is_host_error(tmp_path: Path) -> None:
    """The message names the file; it does not say that another process is running."""
    new_project.init(tmp_path)
    ProjectPaths(tmp_path).lock.mkdir(parents=True)  # no file can be opened there

    with (
        pytest.raises(HostError, match=r"host\.lock: "),
        public.open_farm(tmp_path),
    ):
        pass


# ------------------------------------------------------------------------------------------------- without the extra

WITHOUT_HOST = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
OF_THE_HOST = (
    *("apscheduler", "click", "keyring", "packaging", "plotly", "prometheus_client", "qemu", "rich"),
    *("smbprotocol", "spnego", "starlette", "uvicorn", "winrm"),
)


def without(names: tuple[str, ...], code: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program where these libraries cannot be imported."""
    program = WITHOUT_HOST.format(names=names) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("names", [OF_THE_HOST, ("smbprotocol",)])
def test_api_without_host_extra_names_pip_command(names: tuple[str, ...]) -> None:
    """In one line, as an ImportError and as a PipelineError; the package itself and its errors can be imported."""
    ran = without(names, "import pipeline\nprint(pipeline.PipelineError.__name__)\npipeline.open_farm")

    assert ran.stdout == "PipelineError\n"
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("pipeline.errors.MissingExtraError: ")
    assert last.endswith(' is not installed; run: pip install "genome-pipeline[host]"')
    caught = "import pipeline\ntry:\n    from pipeline import open_farm\nexcept {}:\n    print('caught')"
    assert without(names, caught.format("ImportError")).stdout == "caught\n"
    assert without(names, caught.format("pipeline.PipelineError")).stdout == "caught\n"


def test_command_without_host_extra_names_pip_command() -> None:
    """One line, and the exit code for bad input."""
    ran = without(OF_THE_HOST, "from pipeline.__main__ import main\nsys.exit(main())")

    assert ran.returncode == MissingExtraError.exit_code
    assert ran.stderr == 'pipeline: click is not installed; run: pip install "genome-pipeline[host]"\n'


def test_missing_own_module_is_not_reported_as_missing_extra() -> None:
    """If a module of this program is missing, installing the extra does not help."""
    ran = without((), "import pipeline\nsys.modules['pipeline.host.host'] = None\npipeline.open_farm")

    assert ran.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of pipeline.host.host halted")
