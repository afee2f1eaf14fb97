"""Installs the agent into a folder of this computer, from the bundle that this file lies in and from nothing else.

`install-agent.ps1` runs it with the Python that is to run the agent; it needs only that. The order comes as base64 of
JSON, which no shell can spoil; the answer is one line of JSON: the program and arguments of the agent, or `error`.
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


class Refused(Exception):
    """It cannot be installed: one line that says why, and what to do."""


def main(argv: list[str]) -> int:
    """Installs what `argv[0]` orders; exit code 0, or 1 with the reason in the answer."""
    try:
        answer = install(json.loads(base64.b64decode(argv[0])))
    except Refused as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": f"{error.filename}: {error.strerror}"}
    print(json.dumps(answer))  # noqa: T201  ASCII: no code page can spoil it
    return int("error" in answer)


def install(order: dict[str, Any]) -> dict[str, str]:
    """Installs into `order["program"]`, an agent for the folders `share` and `game` that plays `evaluator`."""
    verify()
    program, game = Path(order["program"]), Path(order["game"])
    python = _python(program, game)
    wheels = [str(path) for path in sorted(BUNDLE.glob("wheels/*.whl"))]
    (pip,) = (wheel for wheel in wheels if Path(wheel).name.startswith("pip-"))
    wheels.remove(pip)
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--no-cache-dir"]
    _run([python, str(Path(pip, "pip")), "install", "--isolated", "--no-index", *options, *wheels])
    config = program / "agent.toml"
    config.write_text(_toml(order["evaluator"]), encoding="utf-8")
    _run([python, "-m", "inbox_agent", "--help"])
    windowless = Path(python).with_name("pythonw.exe") if WINDOWS else Path(python)
    agent = ["-m", "inbox_agent", "--share", order["share"], "--config", str(config), "--folder", str(game)]
    return {"program": str(windowless), "arguments": subprocess.list2cmdline(agent)}


def verify() -> None:
    """Raises Refused unless the bundle has exactly the files, byte for byte, that its manifest names."""
    manifest = BUNDLE / "manifest.json"
    if not manifest.is_file():
        raise Refused(f"{manifest}: not there, so the bundle is not whole; make and copy it again")
    told = json.loads(manifest.read_text(encoding="utf-8"))
    there = {
        path.relative_to(BUNDLE).as_posix(): path for path in BUNDLE.rglob("*") if path.is_file() and path != manifest
    }
    if strange := sorted(there.keys() ^ told["files"].keys()):
        what = "does not belong to the bundle" if strange[0] in there else "is missing"
        raise Refused(f"{BUNDLE / strange[0]}: {what}; copy the bundle again")
    for name, digest in told["files"].items():
        if hashlib.sha256(there[name].read_bytes()).hexdigest() != digest:
            raise Refused(f"{there[name]}: is not what was made; copy the bundle again")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != told["python"]:
        raise Refused(f"the bundle is for Python {told['python']}, and {sys.executable} is {version}")


def _python(program: Path, game: Path) -> str:
    """The agent's own Python: the embeddable one that runs this, or a virtual environment of the one that does."""
    if paths := list(Path(sys.executable).parent.glob("python*._pth")):
        # The game's folder as well: this kind of Python looks for modules here and nowhere else.
        lines = [f"{paths[0].stem}.zip", ".", r"Lib\site-packages", "import site", str(game)]
        paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
        return sys.executable
    import venv  # which the embeddable Python has not got

    venv.create(program / "python", with_pip=False)
    return str(program / "python" / ("Scripts/python.exe" if WINDOWS else "bin/python"))


def _toml(evaluator: dict[str, Any]) -> str:
    # A JSON string is one of TOML if what is not ASCII stays as it is.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in evaluator.items()]
    text = "".join(["[evaluator]\n", *lines])
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"the evaluator's command has a character that cannot be written down: {error}") from error
    return text


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode:
        words = (ran.stderr or ran.stdout).decode("utf-8", "replace").split()
        raise Refused(f"{command[0]} ended with {ran.returncode}: {' '.join(words)[-600:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
