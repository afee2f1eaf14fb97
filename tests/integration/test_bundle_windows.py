"""A bundle for Windows, installed and used by Windows CPython under Wine, without the steps of PowerShell."""

import base64
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.local_files import LocalFiles
from pipeline.bundle.bundle import EMBEDDED, make_bundle
from tests.harness.wine import WindowsPython, path_there
from tests.integration.test_agent_doctor import GAME

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def run(windows: WindowsPython, program: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs the installed Python, which finds only what was installed with it."""
    return subprocess.run(
        ["wine", program, *arguments],
        env=windows.environment(PYTHONPATH=""),
        input="",
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=200,
    )


def test_bundle_installs_and_runs_under_windows(windows: WindowsPython, tmp_path: Path) -> None:
    """Python is unpacked and the agent installed from the bundle alone; the doctor runs an evaluation."""
    bundle, game, share = tmp_path / "mein Bündel", tmp_path / "das Spiel ü", tmp_path / "Tausch ß"
    program = tmp_path / "Prögramm 1"
    game.mkdir()
    share.mkdir()
    (game / "my_game.py").write_text(GAME)
    (game / "a genome.json").write_text("{}")
    make_bundle(bundle, "3.12", ("win_amd64",), embed=windows.embeddable)
    with zipfile.ZipFile(bundle / EMBEDDED) as archive:
        archive.extractall(program / "python")
    LocalFiles(share).make_folders()
    python = program / "python" / "python.exe"
    order = {
        **{name: path_there(path) for name, path in {"program": program, "game": game, "share": share}.items()},
        "evaluator": {"python": "my_game:play"},
    }

    sent = base64.b64encode(json.dumps(order).encode()).decode()
    installed = run(windows, python, "-I", path_there(bundle / "install.py"), sent)

    answer: dict[str, Any] = json.loads(installed.stdout or "{}")
    assert answer.get("program", "").endswith("pythonw.exe"), installed.stdout + installed.stderr
    look = run(
        *(windows, python, "-m", "inbox_agent", "doctor", "--share", path_there(share), "--json"),
        *("--config", path_there(program / "agent.toml"), "--folder", path_there(game)),
        *("--genome", path_there(game / "a genome.json"), "--seed", "7"),
    )
    items = {item["item"]: item for item in json.loads(look.stdout)}
    assert [name for name, item in items.items() if not item["ok"]] == [], look.stdout
    assert items["trial"]["found"].startswith("fitness ")
    assert "win32" in items["versions"]["found"] or "Windows" in items["versions"]["found"]
