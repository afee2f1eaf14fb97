"""Budgets of what is collected: artifacts by bytes, results by number; a neighbour loses nothing."""

import logging
import threading
from pathlib import Path

import pytest

from inbox_agent.protocol.files import FileRefused, Unavailable
from inbox_agent.protocol.layout import PayloadRef
from pipeline.core.limits import Limits
from pipeline.core.requests import ScanRequest
from pipeline.shares.artifact_room import NO_ROOM, ArtifactRoom
from pipeline.shares.result_collector import OTHERS_PER_SCAN_MAX
from tests.harness.host_share import HostShareHarness
from tests.harness.records import WORKER, attempt, sha256

KIB = 1024


def publish(owner: HostShareHarness, number: int, sizes: dict[str, int]) -> None:
    """A result with artifacts of these sizes, each of zeros."""
    refs = []
    for name, size in sizes.items():
        owner.files.write(f"outbox/{attempt(number)}.files/{name}", bytes(size))
        refs.append(PayloadRef(name=name, size_bytes=size, sha256=sha256(bytes(size))))
    owner.files.write(f"outbox/{attempt(number)}.log", b"hello")
    log = PayloadRef(name=f"{attempt(number)}.log", size_bytes=5, sha256=sha256(b"hello"))
    owner.publish_result(number, artifacts=refs, log=log)


# ------------------------------------------------------------------------------------------------------ whose payloads


@pytest.mark.parametrize("wanted", [frozenset[str](), frozenset({attempt(2)})])
def test_payloads_of_unwanted_attempt_are_not_fetched(owner: HostShareHarness, wanted: frozenset[str]) -> None:
    """Of one that was never issued, or issued to a neighbour, only the record is read; once is enough."""
    publish(owner, 1, {"replay": KIB})
    owner.files.remove([f"outbox/{attempt(1)}.log"])

    (seen,) = owner.scan(full=False, unanswered=wanted, wanted=wanted).results

    assert seen.record is not None
    assert (seen.log, seen.artifacts, seen.missing) == (b"", (), ())
    assert owner.files.asked == ["outbox", f"outbox/{attempt(1)}.result.json"]
    assert not (owner.state / "incoming").exists()


def test_few_results_of_others_are_read_in_one_scan(owner: HostShareHarness) -> None:
    """The worker's own result is read first, whatever its name."""
    for number in range(1, 100):
        owner.publish_result(number)
    own = frozenset({attempt(99)})

    first = owner.scan(full=False, unanswered=own, wanted=own)

    assert len(first.results) == 1 + OTHERS_PER_SCAN_MAX
    assert first.results[0].attempt == attempt(99)
    assert len(first.answers) == 99
    handled = frozenset(seen.attempt for seen in first.results)
    second = owner.scan(full=False, unanswered=own, wanted=own, handled=handled)
    assert len(second.results) == OTHERS_PER_SCAN_MAX
    assert not handled & {seen.attempt for seen in second.results}


def test_results_of_others_are_not_read_on_flooded_share(owner: HostShareHarness) -> None:
    """They are seen in the listing alone."""
    owner.publish_result(1)
    owner.publish_result(2)

    scan = owner.scan(full=False, unanswered=frozenset({attempt(2)}), reads_others=False)

    assert [seen.attempt for seen in scan.results] == [attempt(2)]
    assert owner.files.asked == ["outbox", f"outbox/{attempt(2)}.result.json"]


# ------------------------------------------------------------------------------------------------------------- budgets


def test_artifacts_over_the_budget_of_a_result_are_left_out(
    owner: HostShareHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that have room are kept; the result says what was left out, and one warning says why."""
    owner.limit(result_artifact_bytes_max=3 * KIB)
    publish(owner, 1, {"a": 2 * KIB, "b": 2 * KIB, "c": KIB})
    publish(owner, 2, dict.fromkeys("abcd", 4 * KIB))

    first, second = owner.scan(full=False).results

    assert (first.artifacts, first.missing) == (("a", "c"), ("b (over result_artifact_bytes_max)",))
    assert (second.artifacts, second.missing) == ((), ("4 artifacts (over result_artifact_bytes_max)",))
    assert owner.incoming == {f"{attempt(1)}/a", f"{attempt(1)}/c"}
    assert [record.getMessage() for record in caplog.records] == [
        f"{WORKER}: artifacts are left out: over result_artifact_bytes_max; results count without them"
    ]


@pytest.mark.parametrize("budget", ["worker_artifact_bytes_max", "generation_artifact_bytes_max"])
def test_artifacts_over_the_budget_of_a_generation_are_left_out(owner: HostShareHarness, budget: str) -> None:
    """What was collected earlier counts; the next generation has room again."""
    owner.limit(**{budget: 3 * KIB})
    publish(owner, 1, {"replay": 2 * KIB})
    publish(owner, 2, {"replay": 2 * KIB})

    first, second = owner.scan(full=False).results

    assert (first.artifacts, second.artifacts, second.missing) == (("replay",), (), (f"replay (over {budget})",))
    (again,) = owner.scan(full=False, handled=frozenset({attempt(1)}), generation=2).results
    assert again.artifacts == ("replay",)


def test_artifact_that_is_read_again_is_counted_once(owner: HostShareHarness) -> None:
    """The result waits for its log; meanwhile nothing of it is on the host's disk."""
    owner.limit(worker_artifact_bytes_max=2 * KIB)
    publish(owner, 1, {"replay": 2 * KIB})
    owner.files.files[f"outbox/{attempt(1)}.log"] = b"hell"
    assert owner.collect() is None
    assert owner.incoming == set()
    owner.files.files[f"outbox/{attempt(1)}.log"] = b"hello"

    seen = owner.collect()

    assert seen is not None
    assert (seen.artifacts, seen.missing) == (("replay",), ())


def test_wrong_artifact_takes_no_room(owner: HostShareHarness) -> None:
    """Its digest is another one; the next artifact has the room."""
    owner.limit(result_artifact_bytes_max=2 * KIB)
    publish(owner, 1, {"a": 2 * KIB, "b": 2 * KIB})
    owner.files.files[f"outbox/{attempt(1)}.files/a"] = b"x" * 2 * KIB

    seen = owner.collect_until_given_up()

    assert (seen.artifacts, seen.missing) == (("b",), ("a",))


@pytest.mark.parametrize("error", [Unavailable("gone"), OSError(5, "Input/output error")])
def test_nothing_is_left_of_a_scan_that_failed(
    owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The second result could not be read: the first one is collected again later, and its artifact removed."""
    owner.limit(worker_artifact_bytes_max=2 * KIB)
    publish(owner, 1, {"replay": KIB})
    publish(owner, 2, {"replay": KIB})
    fetch = owner.files.fetch

    def fetch_or_fail(path: str, destination: Path, bytes_max: int) -> str:
        if attempt(2) in path:
            raise error
        return fetch(path, destination, bytes_max)

    with monkeypatch.context() as patch:
        patch.setattr(owner.files, "fetch", fetch_or_fail)
        wanted = frozenset({attempt(1), attempt(2)})
        for _ in range(3):
            owner.share.execute(ScanRequest(worker=WORKER, generation=1, unanswered=wanted, wanted=wanted))
            assert owner.incoming == set()

    assert [seen.artifacts for seen in owner.scan(full=False).results] == [("replay",), ("replay",)]


def test_one_scan_fetches_a_bounded_number_of_bytes(owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next scan reads the results that are left."""
    monkeypatch.setattr("pipeline.shares.result_collector.ARTIFACT_BYTES_PER_SCAN", 3 * KIB)
    for number in range(1, 5):
        publish(owner, number, {"replay": 2 * KIB})
    handled = frozenset[str]()
    scans: list[list[str]] = []
    while not scans or scans[-1]:
        scans.append([seen.attempt for seen in owner.scan(full=False, handled=handled).results])
        handled |= frozenset(scans[-1])

    assert scans == [[attempt(1), attempt(2)], [attempt(3), attempt(4)], []]


# --------------------------------------------------------------------------------------------------- the disk's reserve


def test_reserve_is_a_twentieth_of_a_small_disk(tiny_disk: Path) -> None:
    """8 MiB: all but 0.4 MiB of it may be used; a reserve that is set holds instead."""
    room = ArtifactRoom(Limits(), [tiny_disk, tiny_disk / "not there yet"])

    assert room.take(1, "vm-0", 7 * KIB**2) == ""
    assert room.take(1, "vm-0", KIB**2) == NO_ROOM
    assert ArtifactRoom(Limits(disk_reserve_bytes=2 * KIB**2), [tiny_disk]).take(1, "vm-0", 7 * KIB**2) == NO_ROOM
    assert ArtifactRoom(Limits(disk_reserve_bytes=0), [tiny_disk]).take(1, "vm-0", 8 * KIB**2 - 64 * KIB) == ""


def test_artifacts_that_arrive_at_once_share_the_room(tiny_disk: Path) -> None:
    """Several threads fetch; what is not on the disk yet is counted as if it were."""
    room = ArtifactRoom(Limits(), [tiny_disk])
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(room.take(1, "vm-0", 2 * KIB**2))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(said) == ["", "", "", *[NO_ROOM] * 5]
    room.note_arrived(2 * KIB**2)
    assert room.take(1, "vm-0", 2 * KIB**2) == ""


def test_full_disk_is_told_once_for_all_workers(caplog: pytest.LogCaptureFixture) -> None:
    """A budget is told once for each worker."""
    caplog.set_level(logging.WARNING)
    room = ArtifactRoom(Limits())
    for worker in ("vm-0", "vm-1", "vm-0"):
        room.warn(worker, NO_ROOM)
        room.warn(worker, "over worker_artifact_bytes_max")

    assert len(caplog.records) == 3


def test_room_of_an_older_generation_is_not_given_back() -> None:
    """A late response gives back what this generation never took."""
    room = ArtifactRoom(Limits(worker_artifact_bytes_max=KIB))
    assert room.take(1, "vm-0", KIB) == ""
    assert room.take(2, "vm-0", KIB) == ""
    room.give_back(1, "vm-0", KIB)

    assert room.take(2, "vm-0", 1) == "over worker_artifact_bytes_max"


def test_refused_artifact_gives_its_room_back(owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the share gives it."""
    owner.limit(worker_artifact_bytes_max=KIB)
    publish(owner, 1, {"replay": KIB})
    with monkeypatch.context() as patch:

        def refuse(*_args: object) -> str:
            raise FileRefused("another process has it open")

        patch.setattr(owner.files, "fetch", refuse)
        assert owner.collect() is None

    seen = owner.collect()

    assert seen is not None
    assert seen.artifacts == ("replay",)
