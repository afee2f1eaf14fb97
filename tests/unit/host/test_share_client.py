"""The share client over a share in memory: scans, the order of operations in a request, damaged and foreign files."""

from typing import Any

import orjson
import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileRefused, Unavailable
from inbox_agent.protocol.layout import HostRecord, Kind
from pipeline.core.observation import ShareScan
from pipeline.shares.result_collector import RESULTS_PER_SCAN_MAX
from pipeline.shares.share_client import ENTRIES_MAX
from tests.harness import records
from tests.harness.host_share import HostShareHarness
from tests.harness.records import GENOME, WORKER, attempt

# --------------------------------------------------------------------------------------------------------------- scans


def test_first_scan_reports_no_folders(host: HostShareHarness) -> None:
    """The share is reachable, so it is not unknown; a scan creates nothing."""
    scan = host.scan()

    assert scan.no_folders
    assert not scan.unknown
    assert host.files.names("") == []


def test_share_that_cannot_be_listed_is_unknown(owner: HostShareHarness) -> None:
    """For each folder; the scan has the error and nothing else. The root is listed only if the inbox fails."""
    owner.publish_result()
    for folders in (["inbox"], ["outbox"], ["", "inbox"]):
        owner.files.troubles = {("names", folder) for folder in folders}
        scan = owner.scan()
        assert "cannot names there now" in scan.unknown
        assert scan == ShareScan(worker=WORKER, full=True, unknown=scan.unknown)

    owner.files.folders.clear()
    assert owner.scan().unknown
    assert owner.scan(full=False).unknown


def test_full_scan_reads_everything(owner: HostShareHarness) -> None:
    """Owner, start signals, payloads, heartbeat, claims, answers and results; other files are ignored."""
    owner.files.publish(f"inbox/{attempt(1)}.start.json", layout.encode(records.start(1)))
    owner.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    owner.files.write(f"inbox/{attempt(2)}.genome", GENOME)
    owner.files.write("inbox/notes.txt", b"notes")
    owner.files.replace("status/agent.json", layout.encode(records.beat(counter=7)))
    owner.files.publish(f"outbox/{attempt(1)}.started.json", b"")
    owner.files.publish(f"outbox/{attempt(3)}.started.json", b"")
    owner.publish_result(3)
    owner.files.write("outbox/g1.result.json", b"{}")

    scan = owner.scan()

    assert scan.owner == records.host(1)
    assert scan.starts == {attempt(1)}
    assert scan.payloads == {attempt(1), attempt(2)}
    assert scan.heartbeat == records.beat(counter=7)
    assert scan.claims == {attempt(1), attempt(3)}
    assert scan.answers == {attempt(3)}
    assert [seen.record for seen in scan.results] == [records.result(3)]
    assert not scan.no_folders


def test_quick_scan_reads_outbox_only(owner: HostShareHarness) -> None:
    """A notification costs one listing, and one read per result."""
    owner.publish_result(3)

    scan = owner.scan(full=False)

    assert owner.files.asked == ["outbox", f"outbox/{attempt(3)}.result.json"]
    assert (scan.owner, scan.heartbeat) == (None, None)
    assert scan.answers == {attempt(3)}


def test_heartbeat_is_read_before_outbox(owner: HostShareHarness) -> None:
    """If the heartbeat is old, the outbox already contains the agent's last result."""
    owner.scan()

    assert owner.files.asked.index("status/agent.json") < owner.files.asked.index("outbox")


@pytest.mark.parametrize("data", [None, b"", b"\xff", b"{}", records.of_another_version(records.beat()), b"x" * 10**6])
def test_missing_heartbeat_does_not_make_share_unknown(owner: HostShareHarness, data: bytes | None) -> None:
    """Missing, damaged or too large: the scan has no heartbeat, and everything else."""
    if data is not None:
        owner.files.replace("status/agent.json", data)
    owner.publish_result()

    scan = owner.scan()

    assert scan.heartbeat is None
    assert scan.answers == {attempt(1)}


def beat_with(**changes: object) -> bytes:
    """A heartbeat in which these fields are replaced."""
    return orjson.dumps({**orjson.loads(layout.encode(records.beat())), **changes})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (beat_with(progress="x" * 201), "agent.json: Expected `str` of length <= 200 - at `$.progress`"),
        (beat_with(state="thinking"), "agent.json: Invalid enum value 'thinking' - at `$.state`"),
        (
            beat_with(versions={str(number): "1" for number in range(17)}),
            "agent.json: Expected `object` of length <= 16 - at `$.versions`",
        ),
        (b"hello", "agent.json: JSON is malformed: invalid character (byte 0)"),
        (b"x" * 10**6, "status/agent.json: larger than 65536 bytes"),
    ],
    ids=["progress", "state", "versions", "no JSON", "too large"],
)
def test_unreadable_heartbeat_is_reported_with_its_field(owner: HostShareHarness, data: bytes, problem: str) -> None:
    """The scan has the message of the reader."""
    owner.files.replace("status/agent.json", data)

    scan = owner.scan()

    assert scan.heartbeat_problem.startswith(f"status/agent.json cannot be read ({problem}); install the same version")
    assert not scan.no_heartbeat


def test_missing_heartbeat_is_told_from_an_unreadable_one(owner: HostShareHarness) -> None:
    """No agent has ever written one."""
    scan = owner.scan()

    assert (scan.heartbeat_problem, scan.no_heartbeat) == ("", True)


def test_host_record_of_highest_epoch_counts(owner: HostShareHarness) -> None:
    """Epochs are compared as numbers: 10 is higher than 9."""
    owner.publish_owner(9, farm="farm-2")
    owner.publish_owner(10)

    assert owner.scan().owner == records.host(10)


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 40], ids=["empty", "cut off", "zeros"])
def test_damaged_host_record_is_rewritten(owner: HostShareHarness, data: bytes) -> None:
    """On a full disk the rename may succeed without content; a readable record is not changed."""
    owner.files.files["inbox/3.host.json"] = data

    owner.act(host=records.host(3))
    rewritten = owner.files.files["inbox/3.host.json"]
    owner.act(host=records.host(3, farm="another"))

    assert rewritten == layout.encode(records.host(3))
    assert owner.files.files["inbox/3.host.json"] == rewritten


@pytest.mark.parametrize("data", [b"", b"{}", layout.encode(records.host(3)), b"x" * 10**6])
def test_damaged_host_record_is_reported_with_epoch(owner: HostShareHarness, data: bytes) -> None:
    """The share is neither unknown nor without an owner, and the older record does not count."""
    owner.files.publish("inbox/2.host.json", data)

    scan = owner.scan()

    assert (scan.owner, scan.damaged_epoch, scan.unknown) == (None, 2, "")


def test_unavailable_host_record_makes_share_unknown(owner: HostShareHarness) -> None:
    """After an error of the share its owner is not known."""
    owner.files.troubles = {("read", "inbox")}

    assert owner.scan().unknown


def test_staging_is_cleared_at_first_owned_scan(host: HostShareHarness) -> None:
    """The first scan that shows this farm as the owner removes records from `inbox/tmp/`, and no other files."""
    record = Kind.START.of(attempt(1))
    host.publish_owner(1, farm="farm-2")
    for name in (record, "1.host.json", "notes.txt"):
        host.files.write(f"inbox/tmp/{name}", b"...")
    host.scan()
    assert sorted(host.files.names("inbox/tmp")) == ["1.host.json", record, "notes.txt"]

    host.publish_owner(2)
    host.scan()
    assert host.files.names("inbox/tmp") == ["notes.txt"]

    host.files.write(f"inbox/tmp/{record}", b"...")
    host.scan()
    assert sorted(host.files.names("inbox/tmp")) == [record, "notes.txt"]


@pytest.mark.parametrize("other", [{"farm": "farm-2"}, {"worker": "vm-1"}], ids=repr)
def test_staging_of_other_host_is_left_alone(host: HostShareHarness, other: dict[str, Any]) -> None:
    """The other host is about to rename it."""
    host.publish_owner(1, **other)
    host.files.write("inbox/tmp/1.host.json", b"...")

    assert host.scan().owner == records.host(**other)

    assert host.files.names("inbox/tmp") == ["1.host.json"]


@pytest.mark.parametrize(
    ("record", "genome", "complete"),
    [(0, 0, True), (0, -1, False), (-1, 0, False), (0, 1, False), (None, 0, False), (0, None, False)],
)
def test_publication_is_complete_in_full_size_only(
    owner: HostShareHarness, record: int | None, genome: int | None, complete: bool
) -> None:
    """After an unknown outcome both record and payload must exist in the right size."""
    sizes = (500, 100)
    for kind, size, difference in ((Kind.START, sizes[0], record), (Kind.GENOME, sizes[1], genome)):
        if difference is not None:
            owner.files.write(f"inbox/{kind.of(attempt(1))}", b"x" * (size + difference))

    scan = owner.scan(expected_sizes={attempt(1): sizes, attempt(2): sizes})

    assert scan.complete == ({attempt(1)} if complete else set())


@pytest.mark.parametrize("folder", ["inbox", "outbox"])
def test_folder_with_too_many_entries_is_unknown(owner: HostShareHarness, folder: str) -> None:
    """Its files are not read."""
    free = ENTRIES_MAX - len(owner.files.names(folder))
    for number in range(free):
        owner.files.files[f"{folder}/{number}"] = b""
    assert not owner.scan().unknown

    owner.files.files[f"{folder}/one-too-many"] = b""

    assert "more than 10000 entries" in owner.scan().unknown


def test_results_per_scan_are_bounded(owner: HostShareHarness) -> None:
    """The next scan, with the handled ones in its request, reads the others."""
    expected = {owner.publish_result(number) for number in range(1, RESULTS_PER_SCAN_MAX + 51)}

    first = owner.scan(full=False)
    assert first.answers == expected
    handled = frozenset(seen.attempt for seen in first.results)
    assert len(handled) == RESULTS_PER_SCAN_MAX

    second = owner.scan(full=False, handled=handled)
    assert {seen.attempt for seen in second.results} == expected - handled


def test_scan_that_takes_long_leaves_results_to_next_one(
    owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scan collects one at least, so all are collected."""
    monkeypatch.setattr("pipeline.shares.result_collector.COLLECT_LIMIT_S", 0.0)
    expected = {owner.publish_result(number) for number in range(1, 4)}
    handled: frozenset[str] = frozenset()
    for _ in expected:
        scan = owner.scan(full=False, handled=handled)
        assert scan.answers == expected
        assert len(scan.results) == 1
        handled |= {seen.attempt for seen in scan.results}

    assert handled == expected


def test_handled_results_are_not_read_again(owner: HostShareHarness) -> None:
    """They are still reported as answers until they are removed."""
    owner.publish_result(1)

    scan = owner.scan(full=False, handled=frozenset({attempt(1)}))

    assert scan.answers == {attempt(1)}
    assert scan.results == ()
    assert owner.files.asked == ["outbox"]


# ------------------------------------------------------------------------------------------------------------ writing


def test_first_request_creates_folders_and_host_record(host: HostShareHarness) -> None:
    """The record is flushed, and the next scan shows it."""
    response = host.act(host=records.host(1))

    assert host.files.journal == [("publish durably", "inbox/1.host.json")]
    assert response.error == ""
    assert host.scan().owner == records.host(1)


def test_host_record_that_cannot_be_written_is_reported(host: HostShareHarness) -> None:
    """It is no failed request: the next scan shows whether it is there."""
    host.files.troubles = {("publish", "inbox")}

    response = host.act(host=records.host(1))

    assert response.write_problem == "inbox/ cannot be written: inbox: cannot publish there now"
    assert response.error == ""
    assert host.act(remove=(attempt(1),)).write_problem is None


def test_existing_publication_does_not_mean_that_inbox_cannot_be_written(owner: HostShareHarness) -> None:
    """Records are written once."""
    owner.act(publish=(owner.start(1),))

    response = owner.act(publish=(owner.start(1),))

    assert response.error
    assert response.write_problem is None


def test_host_record_of_other_farm_is_not_replaced(host: HostShareHarness) -> None:
    """The scan shows the other owner."""
    host.publish_owner(1, farm="farm-2")

    host.act(host=records.host(1))

    assert host.scan().owner == HostRecord(farm="farm-2", worker=WORKER, epoch=1)


def test_genome_is_written_before_start_signal(owner: HostShareHarness) -> None:
    """Each is written once, and byte for byte."""
    response = owner.act(publish=(owner.start(1),))

    genome, record = f"inbox/{attempt(1)}.genome", f"inbox/{attempt(1)}.start.json"
    assert owner.files.journal == [("write", genome), ("publish", record)]
    assert owner.files.files[genome] == GENOME
    assert layout.decode(layout.StartRecord, owner.files.files[record], "x") == records.start(1)
    assert (response.sent, response.error, response.fatal) == ({attempt(1): True}, "", "")
    assert response.write_problem == ""


@pytest.mark.parametrize("verb", ["write", "publish"])
def test_failed_publication_is_unconfirmed(owner: HostShareHarness, verb: str) -> None:
    """The later ones are not begun."""
    owner.files.troubles = {(verb, "inbox")}

    response = owner.act(publish=(owner.start(1), owner.start(2)))

    assert response.sent == {attempt(1): False}
    assert "cannot" in response.error
    assert response.write_problem == f"inbox/ cannot be written: inbox: cannot {verb} there now"
    assert owner.scan().starts == frozenset()


def test_existing_start_signal_is_not_replaced(owner: HostShareHarness) -> None:
    """An id is published once; the publication is unconfirmed."""
    owner.files.publish(f"inbox/{attempt(1)}.start.json", b"of another host")

    response = owner.act(publish=(owner.start(1),))

    assert response.sent == {attempt(1): False}
    assert owner.files.files[f"inbox/{attempt(1)}.start.json"] == b"of another host"


def test_publications_before_failure_are_confirmed(owner: HostShareHarness) -> None:
    """A failed publication does not affect the earlier ones."""
    owner.files.publish(f"inbox/{attempt(2)}.start.json", b"of another host")

    response = owner.act(publish=tuple(owner.start(number) for number in (1, 2, 3)))

    assert response.sent == {attempt(1): True, attempt(2): False}


def test_each_publication_of_an_exchange_has_its_own_outcome(
    owner: HostShareHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server goes on behind a member that failed; what it was not sent is not unconfirmed, but planned again."""
    outcomes = [None, FileRefused("held open"), None, Unavailable("no answer in time")]
    monkeypatch.setattr(owner.files, "deliver_all", lambda _deliveries: iter(outcomes))

    response = owner.act(publish=tuple(owner.start(number) for number in (1, 2, 3, 4, 5)))

    assert response.sent == {attempt(1): True, attempt(2): False, attempt(3): True, attempt(4): False}
    assert response.error == "held open"
    assert (response.write_problem or "").startswith("inbox/ cannot be written: held open")


def test_start_signal_is_removed_before_genome(owner: HostShareHarness) -> None:
    """While a start signal exists, so must its genome; attempts in the given order."""
    response = owner.act(remove=(attempt(2), attempt(1)))

    assert owner.files.journal == [
        ("remove", f"inbox/{attempt(2)}.start.json"),
        ("remove", f"inbox/{attempt(2)}.genome"),
        ("remove", f"inbox/{attempt(1)}.start.json"),
        ("remove", f"inbox/{attempt(1)}.genome"),
    ]
    assert response.removed == {attempt(1), attempt(2)}


def test_failed_removal_reports_nothing_removed(owner: HostShareHarness) -> None:
    """Nothing is published after it, and the removal is planned again."""
    owner.files.troubles = {("remove", "inbox")}

    response = owner.act(remove=(attempt(1),), publish=(owner.start(2),))

    assert (response.removed, response.sent) == (frozenset(), {})
    assert "cannot remove there now" in response.error


def test_open_genome_does_not_block_other_work(owner: HostShareHarness) -> None:
    """On Windows another program may have it open for a long time."""
    owner.files.troubles = {("remove", f"inbox/{Kind.GENOME.of(attempt(1))}")}

    response = owner.act(remove=(attempt(1), attempt(2)), publish=(owner.start(3),))

    assert response.removed == {attempt(2)}
    assert response.sent == {attempt(3): True}
    assert "cannot remove there now" in response.error


def test_unremovable_start_signal_blocks_publication(owner: HostShareHarness) -> None:
    """The agent would play its attempt first, and hold more attempts than its queue allows."""
    owner.files.troubles = {("remove", f"inbox/{Kind.START.of(attempt(1))}")}

    response = owner.act(remove=(attempt(1),), publish=(owner.start(3),))

    assert (response.removed, response.sent) == (frozenset(), {})
    assert "cannot remove there now" in response.error


def test_request_is_executed_in_order(owner: HostShareHarness) -> None:
    """`host.json`, removals, publications."""
    owner.act(host=records.host(2), remove=(attempt(1),), publish=(owner.start(2),))

    assert [verb for verb, _ in owner.files.journal] == ["publish durably", "remove", "remove", "write", "publish"]
