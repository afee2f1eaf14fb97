"""`inbox-agent` where the environment names no home folder, a wrong one, or one that cannot be written."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from inbox_agent.protocol.local_files import LocalFiles
from tests.harness.other_user import UNKNOWN_UID, allow_traversal, reader_prefix
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

as_root = pytest.mark.needs("setpriv", root=True)
WINDOWS = sys.platform == "win32"
#: The variable that names the folder of programs' state, and those that name the user's home folder.
STATE_HOME = "LOCALAPPDATA" if WINDOWS else "XDG_STATE_HOME"
HOMES = ("USERPROFILE", "HOMEDRIVE", "HOMEPATH") if WINDOWS else ("HOME",)
IN_HOME = "AppData/Local" if WINDOWS else ".local/state"


class AgentOfUser:
    """An agent that is started with the given variables, and as another user if there is one."""

    def __init__(self, folder: Path) -> None:
        self.share, self._prefix = folder / "share", list[str]()
        self.share.mkdir()
        LocalFiles(self.share).make_folders()
        (folder / "game.py").write_text("def play(genome, trial):\n    return 1.0\n")
        self._folder = folder

    def become_unknown_user(self) -> None:
        """From now on the agent has neither root's rights nor an entry in the list of users."""
        self._prefix = reader_prefix(UNKNOWN_UID)
        allow_traversal(self._folder)
        for folder in (self.share, *self.share.rglob("*")):
            folder.chmod(0o777)

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        inherited = {name: text for name, text in os.environ.items() if name not in (STATE_HOME, *HOMES)}
        played = ("--share", str(self.share), "--python", "game:play", "--folder", str(self._folder))
        ends = () if command else ("--leave-with-parent",)
        return subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "inbox_agent", *command, *played, *ends],
            env={**inherited, **variables},
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def refusal(self, *command: str, **variables: str) -> str:
        """What it prints; it must end by itself with exit code 2 and one line."""
        agent = self.start(*command, **variables)
        out, err = agent.communicate(timeout=PATIENCE_S)
        assert agent.returncode == 2, err
        refusals = [line for line in err.splitlines() if line.startswith("inbox-agent")]
        assert (out, len(refusals)) == ("", 1), err
        assert "Traceback" not in err
        return refusals[0]

    def assert_keeps_state_in(self, folder: Path, **variables: str) -> None:
        """Starts it, waits until it has the share and ends it."""
        agent = self.start(**variables)
        try:
            assert eventually((self.share / "status/agent.json").exists) or agent.communicate()
            assert len(list((folder / "inbox-agent").glob("*/agent.lock"))) == 1
        finally:
            _, err = agent.communicate(timeout=PATIENCE_S)
        assert agent.returncode == 0, err


@pytest.fixture
def agent_of_user(tmp_path: Path) -> AgentOfUser:
    return AgentOfUser(tmp_path)


def home(folder: Path | str) -> Mapping[str, str]:
    """The variables of a home folder."""
    return {HOMES[0]: str(folder)}


def test_state_is_in_home_folder(agent_of_user: AgentOfUser, tmp_path: Path) -> None:
    """If nothing else is set."""
    agent_of_user.assert_keeps_state_in(tmp_path / "home" / IN_HOME, **home(tmp_path / "home"))


@as_root
def test_user_without_home_is_refused(agent_of_user: AgentOfUser) -> None:
    """A user id without an entry, and no variable: one line that names the option, of the doctor as well."""
    agent_of_user.become_unknown_user()

    expected = "this user has no home folder for the agent's state; give a folder with --state"
    assert agent_of_user.refusal() == f"inbox-agent: {expected}"
    assert agent_of_user.refusal("doctor") == f"inbox-agent doctor: {expected}"


@as_root
def test_variable_replaces_missing_home(agent_of_user: AgentOfUser, tmp_path: Path) -> None:
    """The home folder is not asked for when it is not needed."""
    agent_of_user.become_unknown_user()
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(0o777)

    agent_of_user.assert_keeps_state_in(tmp_path / "own", **{STATE_HOME: str(tmp_path / "own")})


def test_relative_home_is_refused(agent_of_user: AgentOfUser) -> None:
    """Two agents that start in two folders would not find each other's lock."""
    assert agent_of_user.refusal(**home("somewhere")).endswith("give a folder with --state")


def test_relative_variable_is_ignored(agent_of_user: AgentOfUser, tmp_path: Path) -> None:
    """As the XDG specification says."""
    agent_of_user.assert_keeps_state_in(
        tmp_path / "home" / IN_HOME, **home(tmp_path / "home"), **{STATE_HOME: "somewhere"}
    )


def test_file_in_place_of_home_is_refused(agent_of_user: AgentOfUser, tmp_path: Path) -> None:
    """With the path that cannot be made."""
    (tmp_path / "home").write_bytes(b"")

    refusal = agent_of_user.refusal(**home(tmp_path / "home"))

    assert str(tmp_path / "home") in refusal
    assert refusal.endswith("give another folder with --state")


@as_root
@pytest.mark.parametrize("variable", [HOMES[0], STATE_HOME])
def test_read_only_folder_is_refused(agent_of_user: AgentOfUser, tmp_path: Path, variable: str) -> None:
    """The home folder, or the one that the variable names."""
    agent_of_user.become_unknown_user()
    (tmp_path / "home").mkdir()

    refusal = agent_of_user.refusal(**{variable: str(tmp_path / "home")})

    assert "Permission denied; give another folder with --state" in refusal


def test_doctor_names_state_folder_that_cannot_be_made(agent_of_user: AgentOfUser, tmp_path: Path) -> None:
    """It is not the fault of the user who runs the doctor."""
    (tmp_path / "home").write_bytes(b"")

    doctor = agent_of_user.start("doctor", **home(tmp_path / "home"))
    out, err = doctor.communicate(timeout=PATIENCE_S)

    assert doctor.returncode == 1, err
    assert any(
        line.startswith(f"state: {tmp_path / 'home'}") and line.endswith("another folder with --state")
        for line in out.splitlines()
    ), out
