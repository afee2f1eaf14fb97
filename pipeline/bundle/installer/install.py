"""Installs the agent into a folder of this computer, from the bundle that contains this file only.

`install-agent.ps1` runs it with the Python that will run the agent; it needs nothing else. The request is JSON in
Base64, which needs no quoting; the answer is one line of JSON: the program and arguments of the agent, or `error`.
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


class InstallRefused(Exception):
    """The agent cannot be installed; the message is one line with reason and advice."""


def main(argv: list[str]) -> int:
    """Installs as requested by `argv[0]`; returns exit code 0, or 1 with the reason in the answer."""
    try:
        answer = install(json.loads(base64.b64decode(argv[0])))
    except InstallRefused as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": f"{error.filename}: {error.strerror}"}
    print(json.dumps(answer))  # noqa: T201  ASCII, so that the code page does not matter
    return int("error" in answer)


def install(request: dict[str, Any]) -> dict[str, str]:
    """Installs into `request["program"]` an agent for the folders `share` and `game` that runs `evaluator`."""
    verify()
    program, game = Path(request["program"]), Path(request["game"])
    python = _python(program, game)
    wheels = [str(path) for path in sorted(BUNDLE.glob("wheels/*.whl"))]
    (pip,) = (wheel for wheel in wheels if Path(wheel).name.startswith("pip-"))
    wheels.remove(pip)
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--no-cache-dir"]
    _run([python, str(Path(pip, "pip")), "install", "--isolated", "--no-index", *options, *wheels])
    config = program / "agent.toml"
    config.write_text(_toml(request["evaluator"]), encoding="utf-8")
    _run([python, "-m", "inbox_agent", "--help"])
    windowless = Path(python).with_name("pythonw.exe") if WINDOWS else Path(python)
    agent = ["-m", "inbox_agent", "--share", request["share"], "--config", str(config), "--folder", str(game)]
    return {"program": str(windowless), "arguments": subprocess.list2cmdline(agent)}


def verify() -> None:
    """Raises InstallRefused unless the bundle has exactly the files of its manifest, with the same bytes."""
    manifest = BUNDLE / "manifest.json"
    if not manifest.is_file():
        raise InstallRefused(f"{manifest}: not there, so the bundle is not whole; make and copy it again")
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    there = {
        path.relative_to(BUNDLE).as_posix(): path for path in BUNDLE.rglob("*") if path.is_file() and path != manifest
    }
    if differing := sorted(there.keys() ^ listed["files"].keys()):
        what = "does not belong to the bundle" if differing[0] in there else "is missing"
        raise InstallRefused(f"{BUNDLE / differing[0]}: {what}; copy the bundle again")
    for name, digest in listed["files"].items():
        if hashlib.sha256(there[name].read_bytes()).hexdigest() != digest:
            raise InstallRefused(f"{there[name]}: is not what was made; copy the bundle again")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != listed["python"]:
        raise InstallRefused(f"the bundle is for Python {listed['python']}, and {sys.executable} is {version}")


def _python(program: Path, game: Path) -> str:
    """The agent's own Python: the embeddable one that runs this file, or a virtual environment made from it."""
    if paths := list(Path(sys.executable).parent.glob("python*._pth")):
        # With the game's folder: the embeddable Python searches for modules only in the folders of this file.
        lines = [f"{paths[0].stem}.zip", ".", r"Lib\site-packages", "import site", str(game)]
        paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
        return sys.executable
    import venv  # missing from the embeddable Python

    venv.create(program / "python", with_pip=False)
    return str(program / "python" / ("Scripts/python.exe" if WINDOWS else "bin/python"))


def _toml(evaluator: dict[str, Any]) -> str:
    # A JSON string is a valid TOML string if non-ASCII characters are not escaped.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in evaluator.items()]
    text = "".join(["[evaluator]\n", *lines])
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
