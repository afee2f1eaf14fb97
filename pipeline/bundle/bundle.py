"""Makes the bundle: wheels, installers, and a manifest with the digest of each file.

Owns: the content of the bundle. Not here: its installation and the check of its signature (`installer/`, which runs
without this program).
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from email.parser import HeaderParser
from functools import partial
from pathlib import Path

import orjson
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from inbox_agent.system.atomic_file import made_folder
from inbox_agent.system.file_retry import retry_while_busy
from pipeline.bundle.lock import locked, refuse_other_files
from pipeline.bundle.wheel import pack_own_wheel
from pipeline.errors import BundleError

INSTALLER = Path(__file__).parent / "installer"
MANIFEST, WHEELS = "manifest.json", "wheels"
SIGNED_FOR = "genome-pipeline-bundle"  #: the namespace of the signature: a signature for something else is refused
EMBEDDED = "python-embedded.zip"
_STAGED = ".new"


def make_bundle(
    out: Path,
    python: str,
    platforms: Sequence[str],
    *,
    embed: Path | None = None,
    extra: Sequence[str] = (),
    key: Path | None = None,
) -> list[str]:
    """Makes the bundle in `out`, which must not exist or be empty; returns the names of its wheels.

    It appears when it is complete, the manifest last: an installer refuses a bundle without it. If anything fails,
    nothing of it is left.

    Args:
        python: version of the Python that runs the agent, `3.12`.
        platforms: its tags, best first, as `pip download --platform` takes them: `win_amd64`.
        embed: the embeddable Python for Windows from python.org, for a machine without Python.
        extra: further requirements of the evaluator, in pip's syntax; their files are not locked.
        key: signs the manifest with this private key of OpenSSH; a public key stands for its private one in ssh-agent.

    Raises:
        BundleError: a folder, version, zip, requirement or key cannot be used, or a download failed or is not locked.
    """
    if not re.fullmatch(r"3\.\d{1,2}", python):
        raise BundleError(f"--python {python}: give major and minor version, e.g. 3.12")
    if embed is not None:
        _require_embeddable(embed, python)
    try:
        if out.exists() and any(path.name != _STAGED for path in out.iterdir()):
            raise BundleError(f"--out {out}: is not empty; give a new folder")
        with made_folder(out), ExitStack() as always, ExitStack() as failing:
            staged = out / _STAGED
            shutil.rmtree(staged, ignore_errors=True)  # left by a killed program
            always.callback(shutil.rmtree, staged, ignore_errors=True)
            _fill(staged, python, platforms, embed, extra)
            if key is not None:
                _sign(staged / MANIFEST, key)
            for path in sorted(staged.iterdir(), key=lambda path: (path.name == MANIFEST, path.name)):
                failing.callback(_remove, out / path.name)
                retry_while_busy(partial(os.replace, path, out / path.name))
            failing.pop_all()
        return sorted(path.name for path in (out / WHEELS).iterdir())
    except OSError as error:
        raise BundleError(f"{error.filename or out}: {error.strerror}; give another place with --out") from error


def _fill(folder: Path, python: str, platforms: Sequence[str], embed: Path | None, extra: Sequence[str]) -> None:
    wheels = folder / WHEELS
    wheels.mkdir(parents=True)
    own = pack_own_wheel(wheels)
    pinned = [f"{name}=={version}" for name, (version, _) in locked().items()]
    _download([str(own), *pinned, *extra], wheels, python, platforms)
    while missing := sorted(_missing(wheels, python, platforms[0])):
        _download(missing, wheels, python, platforms)
    refuse_other_files(wheels)
    for path in sorted(INSTALLER.iterdir()):
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    if embed is not None:
        (folder / EMBEDDED).write_bytes(embed.read_bytes())
    (folder / MANIFEST).write_bytes(_manifest(folder, python, platforms))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _require_embeddable(embed: Path, python: str) -> None:
    wanted = {"python.exe", "pythonw.exe", f"python{python.replace('.', '')}._pth"}
    try:
        with zipfile.ZipFile(embed) as archive:
            missing = sorted(wanted - set(archive.namelist()))
    except OSError as error:
        raise BundleError(f"--embed {embed}: cannot be read: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise BundleError(f"--embed {embed}: is no zip; get python-{python}.…-embed-amd64.zip again") from error
    if missing:
        raise BundleError(f"--embed {embed}: has no {missing[0]}; it must be the embeddable Python {python}")


def _download(requirements: Sequence[str], wheels: Path, python: str, platforms: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--dest={wheels}"]
    command += [f"--platform={platform}" for platform in platforms]
    ran = subprocess.run([*command, "--", *requirements], capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR:")] or ran.stderr.splitlines()
        why = said[-1].removeprefix("ERROR: ") if said else f"exit code {ran.returncode}"
        raise BundleError(f"pip download for Python {python} on {platforms[0]}: {why}")


def _missing(wheels: Path, python: str, platform: str) -> Iterator[str]:
    """Requirements of the target without a wheel: pip evaluates environment markers for this computer."""
    there = {parse_wheel_filename(path.name)[0] for path in wheels.iterdir()}
    target = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    if platform.startswith("win"):
        target |= {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}
        target |= {"platform_machine": "ARM64" if platform.endswith("arm64") else "AMD64"}
    for path in wheels.iterdir():
        with zipfile.ZipFile(path) as wheel:
            (name,) = (name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = HeaderParser().parsestr(wheel.read(name).decode())
        for line in metadata.get_all("Requires-Dist", ()):
            needed = Requirement(line)
            if canonicalize_name(needed.name) not in there and (not needed.marker or needed.marker.evaluate(target)):
                needed.marker = None
                yield str(needed)


def _manifest(out: Path, python: str, platforms: Sequence[str]) -> bytes:
    files = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    manifest = {"python": python, "platforms": platforms, "files": files}
    return orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _sign(manifest: Path, key: Path) -> None:
    """Writes the signature beside the manifest. ssh-keygen asks the terminal for the passphrase."""
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", SIGNED_FOR, str(manifest)]
    try:
        ran = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise BundleError("--sign: there is no ssh-keygen; install OpenSSH") from error
    if ran.returncode:
        words = ran.stderr.decode("utf-8", "replace").split()
        raise BundleError(f"--sign {key}: ssh-keygen says: {' '.join(words)[-300:]}")


def verify_bundle(bundle: Path, allowed_signers: Path) -> None:
    """Checks a bundle with the installer of this program, not with its own.

    Raises:
        BundleError: no key in `allowed_signers` signed the manifest, or a file differs from the manifest.
    """
    request = {"bundle": str(bundle.absolute()), "allowed_signers": str(allowed_signers.absolute())}
    sent = base64.b64encode(orjson.dumps(request)).decode()
    ran = subprocess.run([sys.executable, "-I", INSTALLER / "install.py", sent], stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        raise BundleError(str(orjson.loads(ran.stdout)["error"]))
