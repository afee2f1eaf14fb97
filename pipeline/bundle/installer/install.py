"""Installs the agent into a folder of this computer, from the bundle that contains this file only.

`install-agent.ps1` runs it with the Python that will run the agent; it needs nothing else. The request is JSON in
Base64, which needs no quoting; the answer is one line of JSON: the program and arguments of the agent, or `error`.
A request with `bundle` only checks that bundle: `pipeline agent verify`.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).resolve().parent
WINDOWS = sys.platform == "win32"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
SIGNER, SIGNED_FOR = "bundle", "genome-pipeline-bundle"  # principal and namespace in the file of allowed signers


class InstallRefused(Exception):
    """The agent cannot be installed; the message is one line with reason and advice."""


def main(argv: list[str]) -> int:
    """Installs as requested by `argv[0]`; returns exit code 0, or 1 with the reason in the answer."""
    try:
        request = json.loads(base64.b64decode(argv[0]))
        if "bundle" in request:
            verify(Path(request["bundle"]), request["allowed_signers"])
            answer = {}
        else:
            answer = install(request)
    except InstallRefused as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": f"{error.filename}: {error.strerror}"}
    print(json.dumps(answer))  # noqa: T201  ASCII, so that the code page does not matter
    return int("error" in answer)


def install(request: dict[str, Any]) -> dict[str, str]:
    """Installs into `request["program"]` an agent for the folders `share` and `game` that runs `evaluator`.

    With `accept_evaluators` it runs what the host deploys; then `evaluator` and `game` may be empty.
    """
    listed = verify(BUNDLE, request.get("allowed_signers", ""))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != listed["python"]:
        raise InstallRefused(f"the bundle is for Python {listed['python']}, and {sys.executable} is {version}")
    program, game = Path(request["program"]), request["game"]
    python = _python(program, game)
    wheels = [str(path) for path in sorted(BUNDLE.glob("wheels/*.whl"))]
    (pip,) = (wheel for wheel in wheels if Path(wheel).name.startswith("pip-"))
    wheels.remove(pip)
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--no-cache-dir"]
    _run([python, str(Path(pip, "pip")), "install", "--isolated", "--no-index", *options, *wheels])
    config = program / "agent.toml"
    accepts = bool(request.get("accept_evaluators"))
    config.write_text(_toml(request["evaluator"], accepts=accepts), encoding="utf-8")
    _run([python, "-m", "inbox_agent", "--help"])
    windowless = Path(python).with_name("pythonw.exe") if WINDOWS else Path(python)
    agent = ["-m", "inbox_agent", "--share", request["share"], "--config", str(config)]
    agent += ["--folder", game] if game else []
    return {"program": str(windowless), "arguments": subprocess.list2cmdline(agent)}


def verify(bundle: Path, allowed_signers: str) -> dict[str, Any]:
    """The manifest of a bundle that has exactly its files, with the same bytes.

    Args:
        allowed_signers: a file as described in ssh-keygen(1), ALLOWED SIGNERS. Empty: no signature is required.

    Raises:
        InstallRefused: a file is missing, added or changed, or the signature is missing or of another key.
    """
    manifest = bundle / MANIFEST
    if not manifest.is_file():
        raise InstallRefused(f"{manifest}: not there, so the bundle is not whole; make and copy it again")
    content = manifest.read_bytes()
    if allowed_signers:
        _verify_signature(content, bundle / SIGNATURE, allowed_signers)
    listed: dict[str, Any] = json.loads(content)
    there = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    del there[MANIFEST]
    there.pop(SIGNATURE, None)
    if differing := sorted(there.keys() ^ listed["files"].keys()):
        what = "does not belong to the bundle" if differing[0] in there else "is missing"
        raise InstallRefused(f"{bundle / differing[0]}: {what}; copy the bundle again")
    for name, digest in listed["files"].items():
        if hashlib.sha256(there[name].read_bytes()).hexdigest() != digest:
            raise InstallRefused(f"{there[name]}: is not what was made; copy the bundle again")
    return listed


def _verify_signature(content: bytes, signature: Path, allowed_signers: str) -> None:
    if not signature.is_file():
        raise InstallRefused(f"{signature}: not there, and a signature is required; get a signed bundle")
    files = ["-f", allowed_signers, "-s", str(signature)]
    command = ["ssh-keygen", "-Y", "verify", "-I", SIGNER, "-n", SIGNED_FOR, *files]
    try:
        ran = subprocess.run(command, input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InstallRefused("there is no ssh-keygen to check the signature; install the OpenSSH client") from error
    if ran.returncode:
        words = (ran.stderr + ran.stdout).decode("utf-8", "replace").split()
        raise InstallRefused(f"{signature}: not signed by a key of {allowed_signers}: {' '.join(words)[-300:]}")


def _python(program: Path, game: str) -> str:
    """The agent's own Python: the embeddable one that runs this file, or a virtual environment made from it."""
    if paths := list(Path(sys.executable).parent.glob("python*._pth")):
        # With the game's folder: the embeddable Python searches for modules only in the folders of this file.
        lines = [f"{paths[0].stem}.zip", ".", r"Lib\site-packages", "import site", *([game] if game else [])]
        paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
        return sys.executable
    import venv  # missing from the embeddable Python

    venv.create(program / "python", with_pip=False)
    return str(program / "python" / ("Scripts/python.exe" if WINDOWS else "bin/python"))


def _toml(evaluator: dict[str, Any], *, accepts: bool) -> str:
    # A JSON string is a valid TOML string if non-ASCII characters are not escaped.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in evaluator.items()]
    text = "".join([*["accept_evaluators = true\n"] * accepts, "[evaluator]\n", *lines])
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InstallRefused(f"the evaluator's command has a character that TOML cannot contain: {error}") from error
    return text


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode:
        words = (ran.stderr or ran.stdout).decode("utf-8", "replace").split()
        raise InstallRefused(f"{command[0]} ended with {ran.returncode}: {' '.join(words)[-600:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
