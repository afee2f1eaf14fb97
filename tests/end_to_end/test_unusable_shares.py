"""A worker behind a share that the host cannot write, or whose agent is not heard: `run` says why.

Hosts and agents are processes.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.layout import encode
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.errors import ExitCode
from tests.harness import records
from tests.harness.farm_project import GAMES, games
from tests.harness.samba import PASSWORD as SAMBA_PASSWORD
from tests.harness.samba import give_to_account, samba, worker_table
from tests.harness.waiting import PATIENCE

pytestmark = [
    pytest.mark.processes,
    pytest.mark.needs(*([] if sys.platform == "win32" else ["setpriv"])),
    pytest.mark.timeout(120),
]

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
#: Before a command: the rights of files hold for it also if it is run by root.
NO_ROOT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if IS_ROOT else []
NOBODY_UID = 65534
posix = pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
FIX = "give this host's account the right to modify inbox/ and what is in it"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one genome."""
    root = tmp_path / "project"
    genomes = root / "genomes/gen-0001"
    genomes.mkdir(parents=True)
    for name, commands in games(1).items():
        (genomes / name).write_text(json.dumps(commands))
    return root


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share with its folders."""
    share = tmp_path / "share"
    share.mkdir()
    LocalFiles(share).make_folders()
    return share


def configure(root: Path, *workers: str) -> None:
    """Without local workers, and with little patience: what is wrong here does not change."""
    limits = f"silence_limit_s = {2 * PATIENCE}\nback_off_s = 0.2\nagent_restart_limit_s = 0.5\nprobations_max = 1"
    head = f"[generation]\ntrials_per_genome = 1\n[local]\nworkers = 0\n[limits]\n{limits}"
    (root / "pipeline.toml").write_text("\n".join([head, *workers]))


def by_path(name: str, share: Path) -> str:
    return f"[[worker]]\nname = '{name}'\nshare = '{share}'"


@contextmanager
def agent_of(share: Path, state: Path) -> Iterator[None]:
    """A real agent that plays the tests' game."""
    command = [sys.executable, "-m", "inbox_agent", "--share", share, "--state", state, "--folder", GAMES]
    agent = subprocess.Popen(
        [*map(str, command), "--beat", "0.2", "--poll", "0.2", "--python", "game:play"], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        agent.terminate()
        agent.wait()


@contextmanager
def written_again(share: Path, text: Callable[[int], bytes]) -> Iterator[None]:
    """For the duration of the block something writes a heartbeat again and again; `text` makes the nth."""
    files, stop = LocalFiles(share), threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            files.replace("status/agent.json", text(number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run(root: Path, *args: str) -> tuple[int, str]:
    """Runs generation 1, or another command. Returns exit code and all output, in one line."""
    command = [sys.executable, "-m", "pipeline", *(args or ("run", "--gen", "1")), "--root", str(root)]
    done = subprocess.run(
        [*NO_ROOT_RIGHTS, *command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=90,
    )
    print(done.stdout)
    return done.returncode, " ".join(done.stdout.split())


def forbid_writing(inbox: Path) -> None:
    """The host may read a folder and not write it."""
    for path in (inbox, *inbox.rglob("*")):
        if IS_ROOT:
            os.chown(path, NOBODY_UID, -1)
        path.chmod(0o555 if path.is_dir() else 0o444)


# ------------------------------------------------------------------------------------------- `inbox/` is not writable


@posix
def test_inbox_that_the_host_may_not_write_is_the_reason(root: Path, share: Path, tmp_path: Path) -> None:
    """The agent is alive, and waits for a host: it is not called silent. The warning comes once."""
    configure(root, by_path("vm-0", share))
    forbid_writing(share / "inbox")
    with agent_of(share, tmp_path / "agent"):
        code, said = run(root)

    assert code == ExitCode.CANNOT_CONTINUE
    assert "every worker is out (1 probation failed; the last: inbox/ cannot be written: Permission denied; " in said
    assert FIX in said
    assert "silent" not in said


@posix
def test_genome_is_not_given_up_for_an_inbox_that_became_read_only(root: Path, share: Path, tmp_path: Path) -> None:
    """An earlier run had written there. The worker is out, the genome stays open and is not charged."""
    configure(root, by_path("vm-0", share))
    with agent_of(share, tmp_path / "agent"):
        assert run(root)[0] == ExitCode.OK
        (genomes := root / "genomes/gen-0002").mkdir()
        (genomes / "g.json").write_text(json.dumps(games(1)["g000.json"]))
        forbid_writing(share / "inbox")
        code, said = run(root, "run", "--gen", "2")

    assert code == ExitCode.CANNOT_CONTINUE
    assert "1 genome, 0 completed, 0 failed, 1 open" in said
    for text in (said, run(root, "status")[1], run(root, "explain", "vm-0")[1]):
        assert "inbox/ cannot be written: Permission denied" in text


@posix
def test_other_workers_play_on_beside_one_with_read_only_inbox(root: Path, share: Path, tmp_path: Path) -> None:
    """The genome completes, on the worker that can be written to."""
    (good := tmp_path / "good").mkdir()
    configure(root, by_path("vm-0", share), by_path("vm-1", good))
    forbid_writing(share / "inbox")
    with agent_of(share, tmp_path / "agent-0"), agent_of(good, tmp_path / "agent-1"):
        code, said = run(root)

    assert code == ExitCode.OK
    assert "vm-0: inbox/ cannot be written: Permission denied" in said


def test_read_only_smb_share_is_the_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says `access denied`; the account may list and read."""
    monkeypatch.setenv("FARM_SECRET", SAMBA_PASSWORD)
    with samba("vm-0", read_only=True) as server:
        files = server.shares["vm-0"]
        LocalFiles(files).make_folders()
        give_to_account(files)
        configure(root, worker_table("vm-0", server.port))
        with written_again(files, lambda number: encode(records.beat(counter=number, farm=None))):
            code, said = run(root)

    assert code == ExitCode.CANNOT_CONTINUE
    assert f"the last: inbox/ cannot be written: access denied (status 0xc0000022); {FIX}" in said
    assert "silent" not in said


# ------------------------------------------------------------------------------------------- the agent is not heard


def test_agent_that_never_came_is_the_reason(root: Path, share: Path) -> None:
    """As `pipeline doctor` says it."""
    configure(root, by_path("vm-0", share))

    code, said = run(root)

    assert code == ExitCode.CANNOT_CONTINUE
    assert "the last: no agent has ever written a heartbeat there; start `inbox-agent --share …` in its machine" in said


def beat_with(**changes: Any) -> Callable[[int], bytes]:
    """A heartbeat in which these fields are replaced."""
    return lambda number: json.dumps({**json.loads(encode(records.beat(counter=number))), **changes}).encode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (beat_with(progress="x" * 201), "(agent.json: Expected `str` of length <= 200 - at `$.progress`)"),
        (lambda _number: b"hello", "(agent.json: JSON is malformed: invalid character (byte 0))"),
    ],
    ids=["progress", "no JSON"],
)
def test_heartbeat_that_cannot_be_read_is_the_reason(
    root: Path, share: Path, text: Callable[[int], bytes], problem: str
) -> None:
    """It is no sign of life, and what is wrong with it is told instead of silence."""
    configure(root, by_path("vm-0", share))
    with written_again(share, text):
        code, said = run(root)
    _, explained = run(root, "explain", "vm-0")

    assert code == ExitCode.CANNOT_CONTINUE
    assert f"the last: status/agent.json cannot be read {problem}; install the same version" in said
    assert problem in explained
    assert "silent" not in said


def test_heartbeat_of_another_version_is_the_reason(root: Path, share: Path) -> None:
    """The worker is out at once."""
    configure(root, by_path("vm-0", share))
    with written_again(share, beat_with(layout=9)):
        code, said = run(root)

    assert code == ExitCode.CANNOT_CONTINUE
    assert "its agent writes layout 9, this program uses layout 2; install the same version on both" in said
