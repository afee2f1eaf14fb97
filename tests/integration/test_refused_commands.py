"""A command that is refused or fails half-way leaves no part of its output, and what was there as it was."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperv_ops import MachineError
from hyperv_ops.qemu.machines import QemuMachines, QemuSpec
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import Unavailable
from inbox_agent.system import atomic_file
from pipeline.bundle import bundle
from pipeline.bundle.bundle import make_bundle
from pipeline.cli import new_project
from pipeline.config import load_config
from pipeline.errors import BundleError, ExitCode, InputError, TakeOverError
from pipeline.host import takeover
from tests.harness.command_line import pipeline
from tests.harness.other_user import allow_traversal, as_unprivileged_user

pytestmark = pytest.mark.timeout(120)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


ONE_WORKER = "[local]\nworkers = 0\n[[worker]]\nname = 'a'\nshare = 'share'\n"


def content(folder: Path) -> dict[str, bytes | None]:
    """Every path of a folder with its bytes, of folders None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def interrupt_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int, error: BaseException) -> None:
    """Lets one call of a function raise."""
    real: Callable[..., Any] = getattr(module, name)
    calls: list[None] = []

    def once(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(module, name, once)


# ----------------------------------------------------------------------------------------------------------------- init


@pytest.mark.parametrize("in_the_way", ["pipeline.toml", "play.py", "genomes", "genomes/gen-0001", "results"])
def test_init_over_a_file_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], in_the_way: str) -> None:
    """A file has the name of one that init makes, or of one of its folders."""
    (tmp_path / "own").mkdir()
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    (tmp_path / in_the_way).write_text("mine")
    before = content(tmp_path)

    code, out, err = pipeline(capsys, "init", tmp_path)

    assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1)
    assert content(tmp_path) == before


@pytest.mark.parametrize("call", [1, 2, 3, 6])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_init_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException
) -> None:
    """A full disk or Ctrl-C, at any of its files."""
    interrupt_at(monkeypatch, atomic_file, "write_all", call, error)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        new_project.init(tmp_path / "new/project")
    assert content(tmp_path) == {}


@posix
def test_init_in_folder_without_rights_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allow_traversal(tmp_path)
    with as_unprivileged_user():
        code, _, err = pipeline(capsys, "init", tmp_path / "new")
    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "Permission denied; give another folder" in err
    assert content(tmp_path) == {}


# --------------------------------------------------------------------------------------------------------------- bundle


@pytest.fixture
def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded: what pip gets is tested elsewhere."""
    monkeypatch.setattr(bundle, "_download", lambda *_args: None)
    monkeypatch.setattr(bundle, "_missing", lambda *_args: iter(()))


@pytest.mark.usefixtures("without_pip")
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("function", "call"),
    [
        *(("pack_own_wheel", 1), ("_download", 1), ("_missing", 1), ("_manifest", 1)),
        *(("retry_while_busy", call) for call in (1, 3, 6)),
    ],
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BundleError("pip"), KeyboardInterrupt()])
def test_failed_bundle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int, error: BaseException, exists: bool
) -> None:
    """At any step; a folder that was there and empty is so again, and then a bundle can be made there."""
    out = tmp_path / "new/bundle"
    if exists:
        out.mkdir(parents=True)
    before = content(tmp_path)

    with monkeypatch.context() as patch:
        interrupt_at(patch, bundle, function, call, error)
        with pytest.raises(BundleError if isinstance(error, OSError) else type(error)):
            make_bundle(out, HERE, ("any",))
    assert content(tmp_path) == before

    assert len(make_bundle(out, HERE, ("any",))) == 1
    there = sorted(path.name for path in out.iterdir())
    assert there == ["README.txt", "install-agent.ps1", "install.py", "manifest.json", "uninstall-agent.ps1", "wheels"]


@pytest.mark.usefixtures("without_pip")
def test_older_bundle_is_not_touched(tmp_path: Path) -> None:
    """Neither by a second call for its folder nor by one that fails."""
    make_bundle(tmp_path / "bundle", HERE, ("any",))
    before = content(tmp_path)

    for python in (HERE, "3"):
        with pytest.raises(BundleError):
            make_bundle(tmp_path / "bundle", python, ("any",))
    assert content(tmp_path) == before


@pytest.mark.usefixtures("without_pip")
def test_leftover_of_killed_bundle_is_replaced(tmp_path: Path) -> None:
    """A program that was killed left it, and no manifest."""
    (tmp_path / "bundle/.new/wheels").mkdir(parents=True)
    (tmp_path / "bundle/.new/wheels/half.whl").touch()

    (wheel,) = make_bundle(tmp_path / "bundle", HERE, ("any",))
    assert wheel.startswith("genome_pipeline-")
    assert not (tmp_path / "bundle/.new").exists()


# ---------------------------------------------------------------------------------------------------- report, take-over


@pytest.fixture
def played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A project with a finished generation."""
    root = tmp_path / "project"
    assert pipeline(capsys, "init", root)[0] == 0
    config = root / "pipeline.toml"
    config.write_text(config.read_text().replace("trials_per_genome = 3", "trials_per_genome = 1"))
    assert pipeline(capsys, "run", "--gen", "1", "--root", root)[0] == 0
    return root


@pytest.mark.processes
def test_failed_report_keeps_the_older_one(
    played: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the old page is whole, and no part of the new one is left."""
    report = played / "results/report-gen-0001.html"
    assert pipeline(capsys, "report", "--root", played)[0] == 0
    before = content(played / "results")
    assert len(report.read_bytes()) > 100_000

    interrupt_at(monkeypatch, atomic_file, "write_all", 1, OSError(28, "No space left on device"))
    code, out, err = pipeline(capsys, "report", "--root", played)

    assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1)
    assert "No space left on device; give another place with --out" in err
    assert content(played / "results") == before


@pytest.mark.processes
def test_report_and_serve_write_nothing_when_refused(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that does not exist, and a port that another program has."""
    before = content(played / "results")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = pipeline(capsys, "serve", "--port", port, "--root", played)
    assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1)
    assert f"127.0.0.1:{port}: " in err and "give another --port or --host" in err

    code, out, err = pipeline(capsys, "report", "--out", played / "no/page.html", "--root", played)
    assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1)
    assert content(played / "results") == before
    assert not (played / "no").exists()


def test_interrupted_take_over_says_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share does not answer any more in the middle; the same command does the rest."""
    (tmp_path / "share/inbox").mkdir(parents=True)
    (tmp_path / "share/outbox").mkdir()
    (tmp_path / "share/status").mkdir()
    (tmp_path / "pipeline.toml").write_text(
        f"[local]\nworkers = 0\n[[worker]]\nname = 'a'\nshare = '{tmp_path}/share'\n"
    )
    config = load_config(tmp_path)

    with monkeypatch.context() as patch:
        interrupt_at(patch, layout, "attempt_of", 1, Unavailable("does not answer"))
        (tmp_path / "share/inbox/g0001-0001-t1-a1-000000000000.genome").touch()
        with pytest.raises(TakeOverError, match="what was removed there stays removed, and the same command goes on"):
            takeover.take_over(tmp_path, config, "a")

    assert "this farm's now" in takeover.take_over(tmp_path, config, "a")
    assert not list((tmp_path / "share/inbox").glob("*.genome"))


def test_refused_take_over_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(
        f"[local]\nworkers = 0\n[[worker]]\nname = 'a'\nshare = '{tmp_path}/share'\n"
    )
    with pytest.raises(InputError, match="no worker of that name"):
        takeover.take_over(tmp_path, load_config(tmp_path), "b")
    assert list(content(tmp_path)) == ["pipeline.toml"]


# ------------------------------------------------------------------------------------------------------------- machines


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="q-") as folder:
        yield Path(folder)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("image", [b"", b"no disk"])
def test_failed_create_leaves_no_disk(short_folder: Path, monkeypatch: pytest.MonkeyPatch, image: bytes) -> None:
    """The disk is made beside its place first; neither it nor the machine's folder is left."""
    template = short_folder / "template.qcow2"
    template.write_bytes(image)
    machines = QemuMachines(QemuSpec(image=template, folder=short_folder / "machines"), {"vm-1": 4450})
    interrupt_at(monkeypatch, os, "replace", 1, OSError(28, "No space left on device"))

    with pytest.raises(MachineError):
        machines.create("vm-1")

    assert set(content(short_folder)) == {"machines", "template.qcow2"}
    assert machines.infos() == {}


@posix
def test_take_back_of_folders_in_a_real_full_disk(tiny_disk: Path) -> None:
    """What init leaves on a full disk: nothing, so that there is as much room as before."""
    with open(tiny_disk / "filler", "wb") as filler:
        free = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
        filler.write(b"x" * (free - 8192))
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "init", tiny_disk / "project"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]
