"""The agent's bundle: made by pip from its index, installed without one, and used."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import platform_tags
from packaging.utils import parse_wheel_filename

from inbox_agent.protocol.layout import Kind, encode
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.bundle import bundle as bundles
from pipeline.bundle import lock
from pipeline.bundle.bundle import make_bundle
from pipeline.bundle.lock import locked
from pipeline.bundle.wheel import PACKAGES
from pipeline.errors import BundleError
from tests.harness import records
from tests.harness.command_line import pipeline
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually
from tests.integration.test_agent_doctor import GAME

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the Python of the tests, in a folder whose name needs quoting."""
    bundle = tmp_path_factory.mktemp("bundle") / "mein Bündel"
    make_bundle(bundle, HERE, tuple(platform_tags()), extra=["tomli-w"])
    return bundle


@pytest.fixture(scope="session")
def for_windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for a Windows machine without Python; the zip has the files of the embeddable package."""
    folder = tmp_path_factory.mktemp("windows")
    make_bundle(folder / "bundle", "3.12", ("win_amd64",), embed=embeddable(folder, "312"), extra=["tqdm"])
    return folder / "bundle"


def embeddable(folder: Path, version: str) -> Path:
    path = folder / "python-embed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("python.exe", "pythonw.exe", f"python{version}._pth"):
            archive.writestr(name, "")
    return path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "mein Bündel"))


class Vm:
    """Folders of a machine with Python and without network."""

    def __init__(self, root: Path, bundle: Path) -> None:
        self.game, self.share, self.program = root / "das Spiel ü", root / "Tausch ß", root / "Prögramm 1"
        self.bundle = bundle
        for folder in (self.game, self.share, self.program):
            folder.mkdir(parents=True)
        (self.game / "game.py").write_text(GAME)

    def install(self, evaluator: dict[str, Any], allowed_signers: str = "", **more: Any) -> tuple[int, dict[str, str]]:
        """Runs the installer as install-agent.ps1 does; pip has no index."""
        order: dict[str, Any] = {name: str(getattr(self, name)) for name in ("program", "game", "share")}
        order |= {"evaluator": evaluator, "allowed_signers": allowed_signers, **more}
        sent = base64.b64encode(json.dumps(order).encode()).decode()
        ran = subprocess.run(
            [sys.executable, "-I", self.bundle / "install.py", sent],
            capture_output=True,
            check=False,
            env={"PATH": os.environ["PATH"], "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")},
        )
        assert ran.stdout.isascii() and ran.stdout.count(b"\n") == 1, ran.stderr.decode()
        return ran.returncode, json.loads(ran.stdout)

    @property
    def python(self) -> Path:
        return self.program / "python" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@pytest.fixture
def vm(tmp_path: Path, bundle: Path) -> Vm:
    return Vm(tmp_path / "vm", bundle)


# --------------------------------------------------------------------------------------------------------- the bundle


def test_bundle_has_only_requirements_of_agent(made: Path) -> None:
    """Four libraries, the agent itself, pip to install them, and the additional requirements."""
    names = {parse_wheel_filename(path.name)[0] for path in (made / "wheels").iterdir()}
    assert names == {"genome-pipeline", "msgspec", "orjson", "psutil", "watchdog", "pip", "tomli-w"}


def test_windows_only_requirements_are_bundled(for_windows: Path) -> None:
    """Every requirement that applies on Windows is in the bundle, also if it does not apply here (tqdm)."""
    wheels = list((for_windows / "wheels").iterdir())
    there = {str(parse_wheel_filename(path.name)[0]) for path in wheels}
    assert "colorama" in there
    target = {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "python_version": "3.12"}
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
            metadata = HeaderParser().parsestr(wheel.read(name).decode())
        for needed in map(Requirement, metadata.get_all("Requires-Dist", ())):
            if needed.marker is None or needed.marker.evaluate({**target, "extra": ""}):
                assert needed.name in there, f"{path.name} needs {needed}"


def test_wheels_match_target_platform(for_windows: Path) -> None:
    """No wheel is for this computer's platform."""
    for path in (for_windows / "wheels").iterdir():
        assert {tag.platform for tag in parse_wheel_filename(path.name)[3]} <= {"win_amd64", "any"}, path.name
    assert (for_windows / "python-embedded.zip").exists()


def test_manifest_names_every_file(made: Path) -> None:
    """With its SHA-256."""
    files = json.loads((made / "manifest.json").read_bytes())["files"]
    there = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
    assert files.keys() == there.keys() - {"manifest.json"}
    assert all(hashlib.sha256(there[name].read_bytes()).hexdigest() == digest for name, digest in files.items())
    assert {"install-agent.ps1", "uninstall-agent.ps1", "install.py", "README.txt"} < files.keys()


@pytest.mark.source
def test_packed_wheel_equals_built_wheel(made: Path, tmp_path: Path) -> None:
    """All files except for the list of files."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (built,), (packed,) = tmp_path.glob("*.whl"), made.glob("wheels/genome_pipeline-*.whl")
    assert built.name == packed.name
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(packed) as other:
        assert other.testzip() is None
        in_both = set(one.namelist())
        assert {name for name in other.namelist() if "__pycache__" not in name} == in_both
        for name in in_both:
            if not name.endswith(("RECORD", "METADATA")):  # an editable installation's METADATA may be older
                assert one.read(name) == other.read(name), name
    assert {name.partition("/")[0] for name in in_both if ".dist-info" not in name} == set(PACKAGES)


# ---------------------------------------------------------------------------------------------------------- installing


def test_installed_wheel_repacks_identically(vm: Vm, tmp_path: Path) -> None:
    """A wheel made from an installation, without a checkout, is the same in every byte."""
    assert vm.install({"python": "game:play"})[0] == 0
    pack = "import sys, pathlib; from pipeline.bundle.wheel import pack_own_wheel as p; p(pathlib.Path(sys.argv[1]))"
    subprocess.run([vm.python, "-P", "-c", pack, tmp_path], check=True)
    (again,), (packed,) = tmp_path.glob("*.whl"), vm.bundle.glob("wheels/genome_pipeline-*.whl")
    with zipfile.ZipFile(packed) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        assert all(one.read(name) == other.read(name) for name in one.namelist() if not name.endswith("RECORD"))


def test_installed_agent_evaluates_genome(vm: Vm) -> None:
    """From the bundle into an empty environment: the agent starts as its task starts it, and evaluates a genome."""
    code, answer = vm.install({"python": "game:play"})
    assert code == 0, answer
    config = vm.program / "agent.toml"
    arguments = ["-m", "inbox_agent", "--share", str(vm.share), "--config", str(config), "--folder", str(vm.game)]
    assert answer["arguments"] == subprocess.list2cmdline(arguments)
    result = vm.share / "outbox" / Kind.RESULT.of(records.attempt(1))
    agent = subprocess.Popen(
        [answer["program"], *arguments, "--state", vm.program / "notes", "--leave-with-parent"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert eventually((vm.share / "status/agent.json").exists, 20)
        host = LocalFiles(vm.share)
        host.publish("inbox/1.host.json", encode(records.host()))
        start = records.start(genome=b"abcd", seed=5, evaluator=None)
        host.deliver(f"inbox/{start.attempt}.genome", b"abcd", f"inbox/{start.attempt}.start.json", encode(start))
        assert eventually(result.exists, 30)
        assert json.loads(result.read_bytes())["fitness"] == 4.5
        agent.communicate(timeout=20)
    finally:
        agent.kill()
    doctor: list[str | Path] = [
        vm.python,
        "-m",
        "inbox_agent",
        "doctor",
        *arguments[2:],
        "--state",
        vm.program / "notes",
    ]
    assert subprocess.run(doctor, check=False).returncode == 0


def test_installed_agent_plays_what_is_deployed(
    vm: Vm, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed to accept evaluators, without a game of its own, the agent takes the first that is deployed."""
    code, answer = vm.install({}, game="", accept_evaluators=True)
    assert code == 0, answer
    arguments = ["-m", "inbox_agent", "--share", str(vm.share), "--config", str(vm.program / "agent.toml")]
    assert answer["arguments"] == subprocess.list2cmdline(arguments)
    project = tmp_path / "project"
    project.mkdir()
    (project / "game.py").write_text(GAME)
    (project / "pipeline.toml").write_text(
        f"[evaluator]\npython = 'game:play'\n[local]\nworkers = 0\n[[worker]]\nname = 'vm-1'\nshare = '{vm.share}'\n"
    )
    monkeypatch.chdir(tmp_path)
    agent = subprocess.Popen(
        [answer["program"], *arguments, "--state", vm.program / "notes", "--beat", "1", "--leave-with-parent"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually((vm.share / "status/agent.json").exists, 20)
        code, out, err = pipeline(capsys, "deploy", "--root", project)
        assert (code, err) == (0, ""), out
        assert re.search(r"^vm-1 +[0-9a-f]{16} +has deployment 1$", out, re.MULTILINE), out
    finally:
        agent.kill()
        agent.communicate()


def test_command_is_escaped_in_generated_configuration(vm: Vm) -> None:
    """Quotes, backslashes, braces and non-ASCII letters."""
    command = ["C:\\Spiele\\größe 1\\bot.exe", "{genome}", '--say="hi \\"', "雪", "😀", "'", "$(whoami)", "`n"]
    assert vm.install({"command": command})[0] == 0
    read = "import sys, tomllib; print(ascii(tomllib.load(open(sys.argv[1], 'rb'))['evaluator']['command']))"
    ran = subprocess.run([vm.python, "-c", read, vm.program / "agent.toml"], capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == ascii(command)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda bundle: (bundle / "README.txt").write_text("?"), "README.txt: is not what was made; copy the bundle"),
        (lambda bundle: (bundle / "README.txt").unlink(), "README.txt: is missing; copy the bundle again"),
        (lambda bundle: (bundle / "wheels/x.whl").touch(), "x.whl: does not belong to the bundle"),
        (lambda bundle: (bundle / "manifest.json").unlink(), "manifest.json: not there, so the bundle is not whole"),
    ],
    ids=["changed", "missing", "added", "unfinished"],
)
def test_damaged_bundle_is_refused(vm: Vm, spoil: Any, expected: str) -> None:
    """The message names the file and the fix, and the program folder stays empty."""
    spoil(vm.bundle)
    code, answer = vm.install({"python": "game:play"})
    assert code == 1
    assert expected in answer["error"]
    assert list(vm.program.iterdir()) == []


def test_wrong_python_version_is_refused(vm: Vm) -> None:
    """The wheels would not fit it."""
    manifest = vm.bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"python": "{HERE}"', '"python": "3.99"'))
    assert f"is for Python 3.99, and {sys.executable} is {HERE}" in vm.install({"python": "game:play"})[1]["error"]


def test_missing_library_is_named(vm: Vm) -> None:
    """A bundle from another source, with a valid manifest and too few wheels."""
    (gone,) = vm.bundle.glob("wheels/orjson-*.whl")
    manifest = json.loads((vm.bundle / "manifest.json").read_bytes())
    del manifest["files"][f"wheels/{gone.name}"]
    (vm.bundle / "manifest.json").write_text(json.dumps(manifest))
    gone.unlink()
    code, answer = vm.install({"python": "game:play"})
    assert code == 1
    assert "No matching distribution found for orjson" in answer["error"]


# ---------------------------------------------------------------------------------------------- locked files, signature


def test_wheels_of_agent_are_locked_files(made: Path, for_windows: Path) -> None:
    """Each requirement of the agent has its locked version, and a digest that the lock has for it."""
    for bundle in (made, for_windows):
        wheels = {parse_wheel_filename(path.name)[0]: path for path in (bundle / "wheels").iterdir()}
        for name, (version, digests) in locked().items():
            assert str(parse_wheel_filename(wheels[name].name)[1]) == version
            assert hashlib.sha256(wheels[name].read_bytes()).hexdigest() in digests


def test_wheel_with_other_bytes_is_not_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index, or what is between, serves a locked version with other bytes: no bundle is made."""
    digests = {name: (version, frozenset({"0" * 64})) for name, (version, _) in locked().items()}
    monkeypatch.setattr(lock, "locked", lambda: digests)

    with pytest.raises(BundleError, match=r"\.whl: the index serves other bytes than those of agent-requirements\.txt"):
        make_bundle(tmp_path / "out", HERE, tuple(platform_tags()))
    assert not (tmp_path / "out").exists()


class Signers:
    """A folder with keys of OpenSSH, and the file of the one that may sign."""

    def __init__(self, folder: Path) -> None:
        self.key, self.other = self._generate(folder / "my key"), self._generate(folder / "other")
        self.allowed = folder / "allowed signers"
        kind, public, *_ = self.key.with_suffix(".pub").read_text().split()
        self.allowed.write_text(f'bundle namespaces="genome-pipeline-bundle" {kind} {public}\n')

    def _generate(self, path: Path) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
        return path


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    return Signers(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(vm: Vm, signers: Signers) -> Vm:
    """A machine with a bundle that the allowed key signed, as `make_bundle` does."""
    bundles._sign(vm.bundle / "manifest.json", signers.key)
    return vm


def swap_library(bundle: Path) -> None:
    """Replaces a wheel and its digest in the manifest, as an attacker would."""
    (wheel,) = bundle.glob("wheels/orjson-*.whl")
    wheel.write_bytes(b"evil")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"][f"wheels/{wheel.name}"] = hashlib.sha256(b"evil").hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.needs("ssh-keygen")
def test_signed_bundle_is_installed(signed: Vm, signers: Signers) -> None:
    code, answer = signed.install({"python": "game:play"}, allowed_signers=str(signers.allowed))
    assert code == 0, answer


@pytest.mark.needs("ssh-keygen")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bundle, _keys: swap_library(bundle), "not signed by a key of"),
        (lambda bundle, _keys: (bundle / "manifest.json.sig").unlink(), "not there, and a signature is required"),
        (lambda bundle, keys: resign(bundle, keys.other), "not signed by a key of"),
        (lambda bundle, keys: resign(bundle, keys.key, "file"), "not signed by a key of"),
        (lambda bundle, _keys: (bundle / "README.txt").write_text("?"), "README.txt: is not what was made"),
    ],
    ids=["wheel and manifest", "no signature", "another key", "another purpose", "file"],
)
def test_changed_bundle_is_refused_if_signature_is_required(
    signed: Vm, signers: Signers, change: Any, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the installer, and by `pipeline agent verify`, which runs nothing of the bundle."""
    change(signed.bundle, signers)
    code, answer = signed.install({"python": "game:play"}, allowed_signers=str(signers.allowed))
    assert code == 1
    assert expected in answer["error"]
    assert list(signed.program.iterdir()) == []
    verified = pipeline(capsys, "agent", "verify", str(signed.bundle), "--allowed-signers", str(signers.allowed))
    assert verified[0] == 2
    assert expected in verified[2]


def resign(bundle: Path, key: Path, namespace: str = "genome-pipeline-bundle") -> None:
    (bundle / "manifest.json.sig").unlink()
    sign: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace, bundle / "manifest.json"]
    subprocess.run(sign, check=True, capture_output=True)


@pytest.mark.needs("ssh-keygen")
def test_bundle_is_made_signed_and_verified(
    tmp_path: Path, signers: Signers, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the commands."""
    out = tmp_path / "bundle"
    here = [word for tag in platform_tags() for word in ("--platform", tag)]
    made = pipeline(capsys, "agent", "bundle", "--out", str(out), "--python", HERE, *here, "--sign", str(signers.key))
    assert made[0] == 0, made[2]
    verified = pipeline(capsys, "agent", "verify", str(out), "--allowed-signers", str(signers.allowed))
    assert verified[:2] == (0, f"{out}: as it was signed\n")


@pytest.mark.needs("ssh-keygen")
def test_unusable_key_is_reported(bundle: Path, tmp_path: Path) -> None:
    """With the words of ssh-keygen; the bundle is not signed."""
    (tmp_path / "no key").write_text("no key")
    with pytest.raises(BundleError, match=r"--sign .*no key: ssh-keygen says: "):
        bundles._sign(bundle / "manifest.json", tmp_path / "no key")
    assert not (bundle / "manifest.json.sig").exists()


# ----------------------------------------------------------------------------------------------------------- bad input


def test_bundle_bad_input_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and no folder, so that an incomplete bundle cannot be installed."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    no_zip = tmp_path / "no.zip"
    no_zip.write_bytes(b"no zip")
    out = str(tmp_path / "out")
    for arguments, expected in [
        (["--out", str(full)], "is not empty; give a new folder"),
        (["--out", out, "--python", "3"], "--python 3: give major and minor version, e.g. 3.12"),
        (["--out", out, "--embed", str(tmp_path / "none.zip")], "none.zip: cannot be read: "),
        (["--out", out, "--embed", str(no_zip)], "no.zip: is no zip"),
        (["--out", out, "--embed", str(embeddable(tmp_path, "311"))], "has no python312._pth; it must be"),
        (["--out", str(no_zip)], "is a file"),
        (["--out", out, "--platform", "pdp_11"], "pip download for Python 3.12 on pdp_11: No matching distribution"),
    ]:
        code, _, complained = pipeline(capsys, "agent", "bundle", *arguments)
        assert code == 2
        assert expected in complained
    assert not (tmp_path / "out").exists()


def test_requirement_starting_with_dash_is_refused(tmp_path: Path) -> None:
    """It is refused, and pip does not read it as an option."""
    with pytest.raises(BundleError, match="pip download"):
        make_bundle(tmp_path / "out", HERE, tuple(platform_tags()), extra=["--index-url=https://example.invalid"])
