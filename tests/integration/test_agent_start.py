"""What `inbox-agent` says at its start: what it watches and plays, or what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.waiting import PATIENCE_S

pytestmark = pytest.mark.processes
WARNING = 'no argument of the command is "{genome}"'


def lines_until(last: str, share: Path, *arguments: str) -> str:
    """Starts an agent; returns what it says until a line contains `last`."""
    share.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "inbox_agent", "--share", str(share), "--state", str(share.parent / "state")]
    agent = subprocess.Popen(
        [*command, "--folder", str(share.parent), *arguments], stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert agent.stderr is not None
        said = ""
        while last not in said:
            line = agent.stderr.readline()
            assert line, said
            said += line
        return said
    finally:
        agent.kill()
        agent.communicate(timeout=PATIENCE_S)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--", "pythn", "play.py", "{genome}"], "cannot start 'pythn': no such program"),
        (["--", "python", "plya.py", "{genome}"], "plya.py: no such file in"),
        (["--python", "nosuch:play"], "No module named 'nosuch'"),
    ],
    ids=["program", "script", "module"],
)
def test_agent_says_why_its_evaluator_cannot_be_loaded(tmp_path: Path, arguments: list[str], problem: str) -> None:
    """At once, without any genome: the user is at the console then."""
    said = lines_until(problem, tmp_path / "share", *arguments)

    assert f"watches {tmp_path / 'share'}, plays " in said
    assert "the evaluator cannot be loaded: " in said


@pytest.mark.timeout(60)
def test_agent_says_that_its_evaluator_is_loaded(tmp_path: Path) -> None:
    """Nothing else is said of an agent that is ready."""
    said = lines_until("the evaluator is loaded", tmp_path / "share", "--", "python", "-c", "pass", "{genome}")

    assert len(said.splitlines()) == 2
    assert WARNING not in said


@pytest.mark.timeout(60)
def test_agent_warns_of_placeholders_that_a_shell_has_changed(tmp_path: Path) -> None:
    """PowerShell passes `{genome}` without its braces if it is not quoted."""
    said = lines_until("the evaluator is loaded", tmp_path / "share", "--", "python", "-c", "pass", "genome")

    assert WARNING in said
    assert "put quotes around it" in said
