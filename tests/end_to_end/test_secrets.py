"""Secrets in the environment of the host reach no agent, no game and no hook."""

import json
import sys
from pathlib import Path

import pytest

from tests.harness.farm_project import FarmProject

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CANARIES = {"OF_SHARE": "canary-of-share", "OF_HOST": "canary-of-host", "OF_GUEST": "canary-of-guest"}
#: Writes everything that a process can see of its own environment and, on Linux, of its parent's.
LOOKS = """
import os, subprocess, sys
from pathlib import Path


def look(name, *pids):
    seen = [repr(dict(os.environ)).encode()]
    for pid in pids if sys.platform == "linux" else ():
        seen.append(Path(f"/proc/{pid}/environ").read_bytes())
    if os.name == "nt":
        seen.append(subprocess.run(["cmd", "/c", "set"], capture_output=True).stdout)
    Path(__file__).with_name("seen-" + name).write_bytes(b"\\n".join(seen))


def play(genome, trial):
    parent = os.getppid() if sys.platform == "linux" else 0  # Wine has no os.getppid
    look(genome.read_text(), "self", parent)
    return 1


if __name__ == "__main__":
    look("hook", "self")
"""
TABLES = """
[evaluator]
python = "looks:play"
[evaluator.environment]
allow = ["*"]
[local]
workers = {workers}
[hyperv]
host = "hv"
account = "farmer"
secret = "env:OF_HOST"
guest_account = "player"
guest_secret = "env:OF_GUEST"
[hooks]
command = {hook}
"""
SHARE = """
[[worker]]
name = "vm-1"
share = '//127.0.0.1/nothing'
port = 9
account = "exchange"
secret = "env:OF_SHARE"
"""


@pytest.fixture
def looking(project: FarmProject, monkeypatch: pytest.MonkeyPatch) -> FarmProject:
    """A project whose game and hook write what they see of environments; a host that knows secrets."""
    for name, secret in CANARIES.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("OF_USER", "passed")
    genomes = project.root / "genomes" / "gen-0001"
    genomes.mkdir(parents=True)
    (genomes / "run.txt").write_text("run")
    (project.root / "looks.py").write_text(LOOKS)
    hook = json.dumps(["python", "looks.py", "{event}"])
    (project.root / "pipeline.toml").write_text(TABLES.format(workers=1, hook=hook) + SHARE)
    return project


def assert_without_secrets(seen: Path) -> None:
    """The file has other variables, and no canary."""
    content = seen.read_text(encoding="utf-8", errors="replace")
    assert "passed" in content
    assert "canary" not in content


def test_run_keeps_secrets_from_agents_games_and_hooks(looking: FarmProject) -> None:
    """Whatever the table allows, for each kind of reference, and although no machine needs two of them."""
    code, out = looking.run()

    assert code == 0, out
    assert_without_secrets(looking.root / "seen-run")
    assert_without_secrets(looking.root / "seen-hook")


@pytest.mark.parametrize("command", [("try", "genomes/gen-0001/run.txt"), ("check",)], ids=["try", "check"])
@pytest.mark.skipif(sys.platform != "linux", reason="the environment of a parent is looked at on Linux")
def test_single_game_gets_no_secrets(looking: FarmProject, command: tuple[str, ...]) -> None:
    """Its parent is the command itself, which needs them for nothing, but cannot forget how it was started."""
    (looking.root / "looks.py").write_text(LOOKS.replace(', "self", parent)', ', "self")'))

    code, out = looking.run(*command)

    assert code == 0, out
    assert_without_secrets(looking.root / "seen-run")
