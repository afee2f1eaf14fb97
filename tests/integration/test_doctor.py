"""`pipeline doctor`: no output for a healthy share, one line with the fix for each problem."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.files import FileMissing
from inbox_agent.protocol.layout import encode
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.diagnosis import shares as doctor
from pipeline.diagnosis.evaluators import Fault
from pipeline.storage.ledger import Ledger
from tests.harness import records
from tests.harness.command_line import pipeline
from tests.harness.samba import ACCOUNT, PASSWORD, Samba, free_port, give_to_account, samba

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeats of these tests are frequent, so that a missing one is noticed early."""
    monkeypatch.setattr(doctor, "BEAT_WAIT_S", 2.0)
    monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 1024 * 1024)
    monkeypatch.setenv("FARM_SECRET", PASSWORD)


@pytest.fixture
def server() -> Iterator[Samba]:
    """A share as in docs/how-to/smb.md: the host owns `inbox/`, the agent everything else."""
    with samba() as server:
        prepare(server)
        yield server


def prepare(server: Samba) -> None:
    share = server.shares["exchange"]
    LocalFiles(share).make_folders()
    give_to_account(share / "inbox")


class HeartbeatWriter:
    """Writes heartbeats as an agent does, directly to the server's disk."""

    def __init__(self, share: Path) -> None:
        self._files, self._stop = LocalFiles(share), threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def _beat(self) -> None:
        counter = 0
        while not self._stop.wait(0.1):
            counter += 1
            self._files.replace("status/agent.json", encode(records.beat(counter=counter)))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def agent(server: Samba) -> Iterator[HeartbeatWriter]:
    beating = HeartbeatWriter(server.shares["exchange"])
    yield beating
    beating.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def configure(root: Path, server: Samba, **other: object) -> None:
    fields: dict[str, object] = {
        "name": "vm-0",
        "share": server.unc(),
        "port": server.port,
        "account": ACCOUNT,
        "secret": "env:FARM_SECRET",
        **other,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    (root / "pipeline.toml").write_text("\n".join(["[local]", "workers = 0", "[[worker]]", *lines]))


def examined(capsys: pytest.CaptureFixture[str], root: Path, *args: str) -> tuple[int, str]:
    code, out, err = pipeline(capsys, "doctor", *args, "--root", root)
    assert err == ""
    assert PASSWORD not in out
    return code, out


def test_healthy_share_prints_nothing(
    server: Samba, agent: HeartbeatWriter, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 and no output; with -v the measurements; no file is left there."""
    configure(root, server)

    assert examined(capsys, root) == (0, "")
    code, out = examined(capsys, root, "-v")

    assert code == 0
    assert out.startswith("vm-0: SMB 3.1.1, encrypted; round trip ")
    assert not list(server.shares["exchange"].rglob("doctor-*"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"share": r"\\no-such-machine.invalid\exchange"}, "no-such-machine.invalid has no address; correct the name"),
        ({"port": free_port()}, "does not answer on port"),
        ({"secret": "env:NO_SUCH_VARIABLE"}, "the environment variable NO_SUCH_VARIABLE is not set"),
        (
            {"account": "no-such-account"},
            "refuses account 'no-such-account': no such account, or it has another password ",
        ),
        ({"share": r"\\127.0.0.1\another"}, "has no share 'another'; correct `share`, or make it"),
        ({"share": r"\\127.0.0.1\exchange\vm-9"}, "it cannot be used"),
    ],
    ids=["name", "port", "secret", "account", "share", "folder"],
)
def test_configuration_error_is_reported(
    server: Samba, root: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], expected: str
) -> None:
    """It is found while connecting to the share; the checks after it are skipped."""
    configure(root, server, **changes)

    code, out = examined(capsys, root)

    assert code == 1
    assert expected in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"encrypt": "off"}, "is not encrypted; `Set-SmbShare -EncryptData $true` there"),
        ({"min_protocol": "SMB3_00", "max_protocol": "SMB3_02"}, "does not speak SMB 3.1.1; update it"),
        ({"users": "daemon"}, f"account '{ACCOUNT}' may not use"),
        ({"read_only": True}, "inbox/ cannot be written"),
    ],
    ids=["encryption", "dialect", "rights", "read-only"],
)
def test_server_error_is_reported(
    root: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], expected: str
) -> None:
    with samba(**options) as server:
        prepare(server)
        configure(root, server)

        code, out = examined(capsys, root)

    assert code == 1
    assert expected in out
    assert len(out.splitlines()) == 1


def test_dfs_link_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that leads to another server, which this host does not follow."""
    with samba(options="msdfs root = yes") as server:
        (server.shares["exchange"] / "link").symlink_to(r"msdfs:127.0.0.1\elsewhere")
        configure(root, server, share=rf"{server.unc()}\link")

        code, out = examined(capsys, root)

    assert code == 1
    assert out.endswith("a DFS link (status 0xc0000257); give the server and share it leads to in `share`\n")
    assert len(out.splitlines()) == 1


def test_disabled_account_is_reported(server: Samba, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told from a wrong password, which needs another fix."""
    server.disable(ACCOUNT)
    configure(root, server)

    assert examined(capsys, root) == (
        1,
        f"vm-0: 127.0.0.1 refuses account '{ACCOUNT}': the account is disabled (status 0xc0000072); enable it there\n",
    )


def test_writable_outbox_is_reported(
    server: Samba, agent: HeartbeatWriter, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Law 1: only the agent writes `outbox/`."""
    give_to_account(server.shares["exchange"] / "outbox")
    configure(root, server)

    code, out = examined(capsys, root)

    assert (code, out) == (
        1,
        "vm-0: this host may write outbox/, which is the agent's alone; take that right away from its account\n",
    )


def test_foreign_owner_is_reported(
    server: Samba, agent: HeartbeatWriter, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start signal of another farm shows it."""
    share = server.shares["exchange"]
    (share / "inbox/1.host.json").write_bytes(encode(records.host()))
    Ledger(root / "state").close()
    configure(root, server)

    code, out = examined(capsys, root)

    assert code == 1
    assert "it belongs to worker 'vm-0' of farm farm-1; if no other host is at work there: `pipeline take-over" in out


def test_missing_agent_is_reported(server: Samba, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There never was one, or it is silent."""
    configure(root, server)
    assert "no agent has ever written a heartbeat there; start `inbox-agent" in examined(capsys, root)[1]

    heartbeat = server.shares["exchange"] / "status/agent.json"
    heartbeat.write_bytes(encode(records.beat()))
    last = heartbeat.stat().st_mtime - 90
    os.utime(heartbeat, (last, last))
    silent = re.search(r"its agent has been silent for (\d+) s; look", examined(capsys, root)[1])
    assert silent is not None
    assert 90 <= int(silent[1]) < 120

    last -= 7 * 86400
    os.utime(heartbeat, (last, last))
    since = datetime.fromtimestamp(last).isoformat(sep=" ", timespec="minutes")
    assert f"its agent has been silent since {since}; look at the machine" in examined(capsys, root)[1]

    heartbeat.write_bytes(b"hello")
    assert "install the same version" in examined(capsys, root)[1]


@pytest.mark.parametrize("secret", ["env:NO_SUCH_VARIABLE", "file:no-such-file"])
def test_missing_secret_is_reported_also_if_the_server_does_not_answer(
    root: Path, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    """Both are to be fixed."""
    port = free_port()
    (root / "pipeline.toml").write_text(
        "[local]\nworkers = 0\n[[worker]]\nname = 'vm-0'\nshare = '//127.0.0.1/exchange'\naccount = 'a'\n"
        f"port = {port}\nsecret = '{secret}'"
    )

    code, out = examined(capsys, root)

    assert code == 1
    first, second = out.splitlines()
    assert first.startswith(f"vm-0: its secret: {secret.partition(':')[0]}:")
    assert second.startswith(f"vm-0: 127.0.0.1 does not answer on port {port}; ")


class LateHeartbeats(LocalFiles):
    """A share whose agent starts while it is looked for: it has written nothing at the first three readings."""

    readings = 0

    def read(self, path: str, bytes_max: int) -> bytes:
        if path != "status/agent.json":
            return super().read(path, bytes_max)
        self.readings += 1
        if self.readings <= 3:
            raise FileMissing(path)
        return encode(records.beat(counter=1 if self.readings <= 5 else 2))


def test_agent_that_starts_while_it_is_looked_for_is_not_silent(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that is waited for the next heartbeat begins with the first."""
    LocalFiles(tmp_path).make_folders()
    configure_by_path(root, {"vm-0": tmp_path})
    monkeypatch.setattr(doctor, "LocalFiles", LateHeartbeats)

    assert "silent" not in examined(capsys, root)[1]


def test_missing_folders_are_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with samba() as server:
        configure(root, server)
        assert "no inbox/, outbox/, status/ there; `pipeline run` or the agent makes them" in examined(capsys, root)[1]


def test_full_share_is_reported(tiny_disk: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server reports the free space."""
    tiny_disk.chmod(0o755)
    with samba(disk=tiny_disk) as server:
        prepare(server)
        hog = tiny_disk / "hog"
        hog.write_bytes(bytes(shutil.disk_usage(tiny_disk).free - 500_000))
        configure(root, server)
        assert "MiB are free on its disk; make room" in examined(capsys, root)[1]


def test_share_by_path_is_checked(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same checks, as far as they apply."""
    share = tmp_path / "mnt"
    configure_by_path(root, {"vm-0": share})
    assert examined(capsys, root) == (
        1,
        f"vm-0: {share} is not there; mount it, or correct `share` in pipeline.toml\n",
    )

    share.mkdir()
    LocalFiles(share).make_folders()
    beating = HeartbeatWriter(share)
    assert examined(capsys, root) == (0, "")
    beating.close()


def configure_by_path(root: Path, shares: dict[str, Path]) -> None:
    tables = [f"[[worker]]\nname = '{name}'\nshare = '{share}'\n" for name, share in shares.items()]
    (root / "pipeline.toml").write_text("[local]\nworkers = 0\n" + "".join(tables))


def test_same_finding_is_merged(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same problem of many machines is one line, with their names or their number."""
    shares = {f"vm-{number}": tmp_path / f"share-{number}" for number in range(6)}
    for share in shares.values():
        share.mkdir()
        if share != shares["vm-3"]:
            LocalFiles(share).make_folders()
    configure_by_path(root, shares)

    code, out = examined(capsys, root)

    assert code == 1
    silent, empty = out.splitlines()
    assert silent.startswith("vm-0, vm-1, vm-2, vm-4 and 1 more: no agent has ever written a heartbeat there; ")
    assert empty.startswith("vm-3: no inbox/, outbox/, status/ there; ")


def test_heartbeats_are_checked_concurrently(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waiting times for all agents overlap."""
    all_listened_to = threading.Barrier(3, timeout=20.0)

    def listen(*_: object) -> Iterator[Fault]:
        all_listened_to.wait()
        yield "silent", ""

    monkeypatch.setattr(doctor, "_heartbeat", listen)
    shares = {f"vm-{number}": tmp_path / f"share-{number}" for number in range(3)}
    for share in shares.values():
        share.mkdir()
        LocalFiles(share).make_folders()
    configure_by_path(root, shares)

    assert examined(capsys, root) == (1, "vm-0, vm-1, vm-2: silent\n")


def test_share_lost_during_check_is_reported(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one of the findings."""
    share = tmp_path / "share"
    share.mkdir()
    LocalFiles(share).make_folders()
    configure_by_path(root, {"vm-0": share})

    def unplugged(_medium: object) -> Iterator[str]:
        shutil.rmtree(share)
        yield from ()

    monkeypatch.setattr(doctor, "_space", unplugged)
    code, out = examined(capsys, root)

    assert code == 1
    assert out.startswith("vm-0: it went away while it was looked at (")


def test_unknown_worker_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "pipeline.toml").write_text("[local]\nworkers = 1\n[evaluator]\npython = 'a:b'\n")
    code, _, err = pipeline(capsys, "doctor", "vm-7", "--root", root)

    assert code == 2
    assert "vm-7: no [[worker]] of that name; configured are: none" in err


def test_doctor_runs_beside_host(server: Samba, agent: HeartbeatWriter, root: Path) -> None:
    """It takes no lock, so it may run beside a host."""
    configure(root, server)
    command = [sys.executable, "-m", "pipeline", "doctor", "--root", str(root)]
    assert subprocess.run(command, check=False).returncode == 0
