"""Collecting results: payloads that are fetched with them, damaged and hostile bytes, and errors of share and host."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Outcome, PayloadRef
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.core.observation import CollectedResult
from pipeline.core.requests import ScanRequest
from pipeline.shares.result_collector import READS_MAX, REFUSALS_MAX
from pipeline.shares.share_client import ShareClient
from tests.harness import records
from tests.harness.host_share import HostShareHarness
from tests.harness.records import FARM, WORKER, attempt, sha256


def test_result_is_collected_with_log_and_artifacts(owner: HostShareHarness) -> None:
    """Record, its bytes, log and artifacts; the artifacts are stored under the attempt's id."""
    owner.files.write(f"outbox/{attempt(1)}.log", b"hello")
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    refs: dict[str, Any] = {"log": ref(f"{attempt(1)}.log", b"hello"), "artifacts": [ref("replay", b"replay")]}
    owner.publish_result(1, **refs)

    seen = owner.collect()

    assert seen == CollectedResult(
        attempt=attempt(1),
        record=records.result(1, **refs),
        data=layout.encode(records.result(1, **refs)),
        log=b"hello",
        artifacts=("replay",),
    )
    assert owner.incoming == {f"{attempt(1)}/replay"}


def ref(name: str, data: bytes, **other: object) -> PayloadRef:
    return PayloadRef(**{"name": name, "size_bytes": len(data), "sha256": sha256(data), **other})  # type: ignore[arg-type]


GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "truncated": layout.encode(records.result(1))[:-20],
    "too large": b" " * (layout.RECORD_BYTES_MAX + 1),
    "very large": b"[" * 10**6,
    "deeply nested": b'{"a":' * 10_000,
    "list": b"[]",
    "missing fields": b'{"layout": %d}' % layout.LAYOUT,
    "NaN": layout.encode(records.result(1)).replace(b"2.5", b"NaN"),
    "infinite": layout.encode(records.result(1)).replace(b"2.5", b"1e999"),
    "text instead of a number": layout.encode(records.result(1)).replace(b"2.5", b'"2.5"'),
    "an outcome of the host": layout.encode(records.result(1)).replace(b'"completed"', b'"lost"'),
    "completed without a fitness": layout.encode(records.result(1)).replace(b"2.5", b"null"),
    "a control character": b"\x1b[2J",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_damaged_result_is_retried_then_given_up(owner: HostShareHarness, data: bytes) -> None:
    """It may be incomplete; after three scans it is reported as unreadable in one printable line."""
    owner.publish_result(1, data)

    seen = owner.collect_until_given_up()

    assert (seen.attempt, seen.record, seen.data, seen.unknown_layout) == (attempt(1), None, b"", False)
    assert seen.problem.isprintable()
    assert 0 < len(seen.problem) <= 300


def test_result_completed_on_retry_counts(owner: HostShareHarness) -> None:
    """Incomplete at two scans, complete at the third."""
    owner.publish_result(1, b"")
    assert owner.collect() is None
    assert owner.collect() is None
    owner.publish_result(1)

    seen = owner.collect()

    assert seen is not None
    assert seen.record == records.result(1)


def test_retries_are_counted_per_result(owner: HostShareHarness) -> None:
    """A damaged result does not use up the retries of another one, nor delay it."""
    owner.publish_result(1, b"")
    assert owner.collect() is None
    owner.publish_result(2)
    owner.publish_result(3, b"")

    assert [seen.attempt for seen in owner.scan(full=False).results] == [attempt(2)]
    assert [seen.attempt for seen in owner.scan(full=False).results] == [attempt(1), attempt(2)]
    assert [seen.attempt for seen in owner.scan(full=False).results] == [attempt(1), attempt(2), attempt(3)]


def test_retries_are_reset_when_result_disappears(owner: HostShareHarness) -> None:
    """If it appears again, it gets all retries."""
    owner.publish_result(1, b"")
    assert owner.collect() is None
    assert owner.collect() is None
    owner.files.remove([f"outbox/{attempt(1)}.result.json"])
    assert owner.scan(full=False).answers == frozenset()

    owner.publish_result(1, b"")

    assert owner.collect_until_given_up().record is None


def test_unknown_layout_of_result_is_not_retried(owner: HostShareHarness) -> None:
    """It is complete and will not change."""
    owner.publish_result(1, records.of_another_version(records.result(1)))

    seen = owner.collect()

    assert seen is not None
    assert (seen.record, seen.unknown_layout) == (None, True)
    assert "layout 1, this program uses layout 2" in seen.problem


def test_echo_is_returned_unchanged(owner: HostShareHarness) -> None:
    """The file name identifies the attempt; the record is not changed."""
    owner.publish_result(1, layout.encode(records.result(2)))

    seen = owner.collect()

    assert seen is not None
    assert seen.record is not None
    assert (seen.attempt, seen.record.attempt) == (attempt(1), attempt(2))


def test_unavailable_result_does_not_use_up_retry(owner: HostShareHarness) -> None:
    """An error of the share is no damaged result."""
    owner.publish_result(1)
    owner.files.troubles = {("read", "outbox")}
    for _ in range(2 * READS_MAX):
        assert owner.scan(full=False).unknown
    owner.files.troubles = set()

    assert owner.collect() is not None


def test_refused_result_does_not_use_up_retry(owner: HostShareHarness) -> None:
    """Nothing was read, so nothing is known to be damaged, however often."""
    owner.publish_result(1)
    owner.files.held = {f"outbox/{attempt(1)}.result.json"}
    for _ in range(2 * REFUSALS_MAX):
        assert "has it open" in owner.scan(full=False).unknown
    owner.files.held = set()

    seen = owner.collect()

    assert seen is not None
    assert seen.record == records.result(1)


@pytest.mark.parametrize("payload", ["x.log", "x.files/replay"])
def test_refused_payload_is_missing_after_more_retries(owner: HostShareHarness, payload: str) -> None:
    """The other process may close the file, so it gets more retries than a damaged one."""
    path = f"outbox/{attempt(1)}{payload[1:]}"
    owner.files.write(path, b"hello")
    refs = {"log": ref(LOG, b"hello")} if payload == "x.log" else {"artifacts": [ref("replay", b"hello")]}
    owner.publish_result(1, **refs)
    owner.files.held = {path}
    for _ in range(REFUSALS_MAX - 1):
        assert owner.collect() is None

    seen = owner.collect()

    assert seen is not None
    assert seen.record is not None
    assert (seen.record.fitness, seen.missing) == (2.5, (path.rpartition("/")[2].removeprefix(f"{attempt(1)}."),))


LOG = f"{attempt(1)}.log"


@pytest.mark.parametrize(
    "log",
    [
        ref(LOG, b"other bytes"),
        ref(LOG, b"hello", size_bytes=4),
        ref(LOG, b"hello", sha256="0" * 64),
        ref(f"{attempt(2)}.log", b"hello"),
        ref("../inbox/1.host.json", b"hello"),
        ref("/etc/passwd", b"hello"),
        ref(f"{attempt(1)}.result.json", b"hello"),
    ],
    ids=["other bytes", "other size", "other digest", "another attempt's", "outside", "absolute", "a record"],
)
def test_wrong_log_is_missing_after_retries(owner: HostShareHarness, log: PayloadRef) -> None:
    """After three scans the fitness counts without it; only the attempt's own log is opened."""
    owner.files.write(f"outbox/{LOG}", b"hello")
    owner.files.write(f"outbox/{attempt(2)}.log", b"hello")
    owner.publish_result(1, log=log)

    seen = owner.collect_until_given_up()

    assert seen.record is not None
    assert (seen.record.fitness, seen.log, seen.missing) == (2.5, b"", ("log",))
    assert set(owner.files.asked) <= {"outbox", f"outbox/{LOG}", f"outbox/{attempt(1)}.result.json"}


@pytest.mark.parametrize("data", [None, b"x" * (layout.LOG_BYTES_MAX + 1)])
def test_unavailable_log_is_missing(owner: HostShareHarness, data: bytes | None) -> None:
    """The file does not exist, or is larger than a log may be."""
    if data is not None:
        owner.files.write(f"outbox/{LOG}", data)
    owner.publish_result(1, log=ref(LOG, data or b"hello"))

    assert owner.collect_until_given_up().missing == ("log",)


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "..",
        ".",
        "/etc/escaped",
        "a/b",
        "a\\b",
        "..\\escaped",
        "C:escaped",
        "con",
        "nul.txt",
        "UPPER",
        ".hidden",
        "trailing.",
        "with space",
        "Ⅸ",
        "a\x00b",
        "\x1b[2J",
    ],
)
def test_artifact_with_unsafe_name_is_missing(owner: HostShareHarness, name: str) -> None:
    """It is reported in printable characters, and never used as a path."""
    folder = f"outbox/{attempt(1)}.files"
    owner.files.write(f"{folder}/good", b"good")
    owner.files.files[f"{folder}/{name}"] = b"hostile"
    before = files_in(owner.state.parent)
    owner.publish_result(1, artifacts=[ref(name, b"hostile"), ref("good", b"good")])

    seen = owner.collect_until_given_up()

    assert seen.artifacts == ("good",)
    assert len(seen.missing) == 1
    assert seen.missing[0].isprintable()
    assert owner.incoming == {f"{attempt(1)}/good"}
    assert files_in(owner.state.parent) - before == {owner.state / "incoming" / attempt(1) / "good"}


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "artifact",
    [
        ref("replay", b"other bytes"),
        ref("replay", b"replay", sha256="0" * 64),
        ref("replay", b"replay", size_bytes=5),
        ref("absent", b"replay"),
    ],
    ids=["other bytes", "other digest", "wrong size", "absent"],
)
def test_wrong_artifact_is_missing(owner: HostShareHarness, artifact: PayloadRef) -> None:
    """The fitness counts without it, and nothing of it is kept."""
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    owner.publish_result(1, artifacts=[artifact])

    seen = owner.collect_until_given_up()

    assert seen.record is not None
    assert (seen.artifacts, seen.missing) == ((), (artifact.name,))
    assert owner.incoming == set()


def test_artifact_found_on_retry_is_collected(owner: HostShareHarness) -> None:
    """Absent at the first scan, present at the second."""
    owner.publish_result(1, artifacts=[ref("replay", b"replay")])
    assert owner.collect() is None
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")

    seen = owner.collect()

    assert seen is not None
    assert (seen.artifacts, seen.missing) == (("replay",), ())


@pytest.mark.parametrize("is_measured", [True, False])
def test_artifact_is_left_out_on_full_host_disk(tiny_disk: Path, is_measured: bool) -> None:
    """It is not fetched; or if the disk fills up meanwhile, what was written of it is removed. The fitness counts."""
    owner = HostShareHarness(tiny_disk)
    owner.publish_owner()
    if not is_measured:
        owner.share = ShareClient(WORKER, FARM, owner.files, tiny_disk / "incoming", lambda *_: b"")
    data = bytes(2**20)
    (tiny_disk / "filler").write_bytes(bytes(shutil.disk_usage(tiny_disk).free - 2**19))
    owner.files.write(f"outbox/{attempt(1)}.files/replay", data)
    owner.publish_result(1, artifacts=[ref("replay", data)])

    seen = owner.collect()

    assert seen is not None
    assert seen.record is not None
    assert (seen.record.fitness, seen.artifacts, seen.missing) == (2.5, (), ("replay (no room on the host)",))
    assert not list(tiny_disk.rglob("replay"))
    assert not list((tiny_disk / "incoming").glob("*"))


def test_busy_incoming_file_is_retried_at_next_scan(owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a virus scanner may have the file open that an earlier scan fetched."""
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    owner.publish_result(1, artifacts=[ref("replay", b"replay")])
    error = PermissionError(13, "another process has it open")
    error.winerror = 32  # type: ignore[attr-defined, unused-ignore]
    with monkeypatch.context() as patch:
        patch.setattr(owner.files, "fetch", Mock(side_effect=error))
        assert "has it open" in owner.scan(full=False).unknown

    seen = owner.collect()

    assert seen is not None
    assert seen.artifacts == ("replay",)


def test_incoming_folder_error_is_fatal_for_host(owner: HostShareHarness) -> None:
    """An error of the host's own disk is part of the response, and raises nothing."""
    (owner.state / "incoming").write_text("not a folder")
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    owner.publish_result(1, artifacts=[ref("replay", b"replay")])

    wanted = frozenset({attempt(1)})
    response = owner.share.execute(ScanRequest(worker=WORKER, unanswered=wanted, wanted=wanted))

    assert "incoming" in response.fatal


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.timeout(20)
def test_links_fifos_and_folders_in_outbox_are_given_up(tmp_path: Path) -> None:
    """On a real disk, under the names of records; none of them blocks the scan."""
    secret = tmp_path / "secret"
    secret.write_bytes(layout.encode(records.result(1)))
    root = tmp_path / "share"
    root.mkdir()
    files = LocalFiles(root)
    files.make_folders()
    files.publish("inbox/1.host.json", layout.encode(records.host(1)))
    (root / "outbox" / f"{attempt(1)}.result.json").symlink_to(secret)
    os.mkfifo(root / "outbox" / f"{attempt(2)}.result.json")
    (root / "outbox" / f"{attempt(3)}.result.json").mkdir()
    os.mkfifo(root / "outbox" / f"{attempt(4)}.log")
    files.publish(
        f"outbox/{attempt(4)}.result.json", layout.encode(records.result(4, log=ref(f"{attempt(4)}.log", b"x")))
    )
    (root / "status" / "agent.json").symlink_to(secret)
    share = ShareClient(WORKER, FARM, files, tmp_path / "incoming", lambda *_: b"")
    wanted = frozenset(map(attempt, range(1, 5)))

    for _ in range(READS_MAX):
        response = share.execute(ScanRequest(worker=WORKER, full=True, unanswered=wanted, wanted=wanted))

    assert response.scan is not None
    assert (response.scan.unknown, response.scan.heartbeat) == ("", None)
    assert [(seen.attempt, seen.record is None) for seen in response.scan.results] == [
        (attempt(1), True),
        (attempt(2), True),
        (attempt(3), True),
        (attempt(4), False),
    ]
    assert response.scan.results[3].missing == ("log",)
    assert response.scan.results[3].record is not None
    assert response.scan.results[3].record.outcome is Outcome.COMPLETED
