"""The host's side of a share, over a share in memory: what it does in which order, and what hostile bytes become."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from inbox_agent import share_layout as layout
from inbox_agent.share_files import LocalFiles
from inbox_agent.share_layout import HostRecord, Kind, Outcome, PayloadRef
from pipeline.core.view import Look, ResultSeen
from pipeline.edges.shares import ENTRIES_MAX, READS_MAX, RESULTS_PER_LOOK_MAX, Order, Publication, Report, Share
from tests import records
from tests.memory_files import ProbedFiles
from tests.records import FARM, GENOME, WORKER, attempt, sha256

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
MIB = 1024 * 1024


class Host:
    """A host with one share, its snapshots and its incoming folder; the test is the worker."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = ProbedFiles()
        self.share = Share(WORKER, FARM, self.files, state / "incoming")

    def does(self, **order: object) -> Report:
        return self.share.carry_out(Order(worker=WORKER, **order))  # type: ignore[arg-type]

    def looks(self, *, full: bool = True, **order: object) -> Look:
        self.files.asked.clear()
        look = self.does(look=True, full=full, **order).look
        assert look is not None
        assert (look.worker, look.full) == (WORKER, full)
        return look

    def owns(self, epoch: int = 1, **other: object) -> None:
        """The share carries that owner's host.json."""
        self.files.make_folders()
        self.files.publish(f"inbox/{epoch}.host.json", layout.encode(records.host(epoch, **other)))
        self.files.journal.clear()

    def snapshot(self, genome: bytes = GENOME) -> str:
        path = self.state / sha256(genome)
        path.write_bytes(genome)
        return str(path)

    def publication(self, number: int = 1, genome: bytes = GENOME) -> Publication:
        return Publication(records.start(number, genome), self.snapshot(genome))

    def answers(self, number: int = 1, data: bytes | None = None, **other: object) -> str:
        """The worker's result lies in the outbox, whatever its bytes."""
        data = layout.encode(records.result(number, **other)) if data is None else data
        self.files.files[f"outbox/{Kind.RESULT.of(attempt(number))}"] = data
        return attempt(number)

    def collects(self) -> ResultSeen | None:
        """What one quick look makes of the only result there is."""
        found = self.looks(full=False)
        assert not found.unknown
        return found.results[0] if found.results else None

    def gives_up(self) -> ResultSeen:
        """Looks until a result is taken or given up; it must take all the readings that are allowed."""
        for _ in range(READS_MAX - 1):
            assert self.collects() is None
        seen = self.collects()
        assert seen is not None
        return seen

    @property
    def incoming(self) -> set[str]:
        """Every file that was fetched from the share."""
        folder = self.state / "incoming"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host at first contact: the share has no folders yet."""
    state = tmp_path / "state"
    state.mkdir()
    return Host(state)


@pytest.fixture
def owner(host: Host) -> Host:
    """A host whose share is its own."""
    host.owns()
    return host


# ------------------------------------------------------------------------------------------------------------- looks


def test_at_first_contact_a_share_is_bare(host: Host) -> None:
    """Reachable and without folders: that is not unknown, and nothing is made by looking."""
    look = host.looks()

    assert look.bare
    assert not look.unknown
    assert host.files.names("") == []


def test_a_share_that_cannot_be_listed_is_unknown(owner: Host) -> None:
    """Whichever folder it is, the look says why and nothing else. The root is asked only if the inbox cannot tell."""
    owner.answers()
    for folders in (["inbox"], ["outbox"], ["", "inbox"]):
        owner.files.troubles = {("names", folder) for folder in folders}
        look = owner.looks()
        assert "cannot names there now" in look.unknown
        assert look == Look(worker=WORKER, full=True, unknown=look.unknown)

    owner.files.folders.clear()
    assert owner.looks().unknown
    assert owner.looks(full=False).unknown


def test_a_full_look_sees_everything(owner: Host) -> None:
    """Owner, start signals, payloads, heartbeat, claims, answers, results; other files are not seen."""
    owner.files.publish(f"inbox/{attempt(1)}.start.json", layout.encode(records.start(1)))
    owner.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    owner.files.write(f"inbox/{attempt(2)}.genome", GENOME)
    owner.files.write("inbox/notes.txt", b"a person was here")
    owner.files.replace("status/agent.json", layout.encode(records.beat(counter=7)))
    owner.files.publish(f"outbox/{attempt(1)}.started.json", b"")
    owner.files.publish(f"outbox/{attempt(3)}.started.json", b"")
    owner.answers(3)
    owner.files.write("outbox/g1.result.json", b"{}")

    look = owner.looks()

    assert look.owner == records.host(1)
    assert look.starts == {attempt(1)}
    assert look.payloads == {attempt(1), attempt(2)}
    assert look.beat == records.beat(counter=7)
    assert look.claims == {attempt(1), attempt(3)}
    assert look.answers == {attempt(3)}
    assert [seen.record for seen in look.results] == [records.result(3)]
    assert not look.bare


def test_a_quick_look_asks_the_outbox_only(owner: Host) -> None:
    """One listing and one reading: that is what a doorbell costs."""
    owner.answers(3)

    look = owner.looks(full=False)

    assert owner.files.asked == ["outbox", f"outbox/{attempt(3)}.result.json"]
    assert (look.owner, look.beat) == (None, None)
    assert look.answers == {attempt(3)}


def test_the_heartbeat_is_read_before_the_outbox_is_listed(owner: Host) -> None:
    """Whoever is silent by then had its last word in the outbox already."""
    owner.looks()

    assert owner.files.asked.index("status/agent.json") < owner.files.asked.index("outbox")


@pytest.mark.parametrize("data", [None, b"", b"\xff", b"{}", records.of_another_version(records.beat()), b"x" * 10**6])
def test_without_a_heartbeat_a_share_is_not_unknown(owner: Host, data: bytes | None) -> None:
    """Missing, damaged or too large: there is no beat, and the rest is seen."""
    if data is not None:
        owner.files.replace("status/agent.json", data)
    owner.answers()

    look = owner.looks()

    assert look.beat is None
    assert look.answers == {attempt(1)}


def test_the_highest_owner_counts(owner: Host) -> None:
    """Epochs are numbers: 10 is higher than 9."""
    owner.owns(9, farm="farm-2")
    owner.owns(10)

    assert owner.looks().owner == records.host(10)


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 40], ids=["empty", "cut off", "zeros"])
def test_a_host_json_that_cannot_be_read_is_written_again(owner: Host, data: bytes) -> None:
    """A full disk let the rename through and nothing else; one that can be read is left as it is."""
    owner.files.files["inbox/3.host.json"] = data

    owner.does(host=records.host(3))
    mended = owner.files.files["inbox/3.host.json"]
    owner.does(host=records.host(3, farm="another"))

    assert mended == layout.encode(records.host(3))
    assert owner.files.files["inbox/3.host.json"] == mended


@pytest.mark.parametrize("data", [b"", b"{}", layout.encode(records.host(3)), b"x" * 10**6])
def test_a_damaged_owner_is_told_with_its_epoch(owner: Host, data: bytes) -> None:
    """A torn host.json is neither unknown nor nobody's, and the lower one does not count instead."""
    owner.files.publish("inbox/2.host.json", data)

    look = owner.looks()

    assert (look.owner, look.damaged_epoch, look.unknown) == (None, 2, "")


def test_an_owner_that_cannot_be_asked_for_is_unknown(owner: Host) -> None:
    """An error of the share says nothing about whose it is."""
    owner.files.troubles = {("read", "inbox")}

    assert owner.looks().unknown


def test_what_was_staged_goes_once_the_share_is_ours(host: Host) -> None:
    """Halves in `inbox/tmp/` go with the first look that shows this farm as the owner, and with no earlier one."""
    host.owns(1, farm="farm-2")
    host.files.write("inbox/tmp/half", b"...")
    host.looks()
    assert host.files.names("inbox/tmp") == ["half"]

    host.owns(2)
    host.looks()
    assert host.files.names("inbox/tmp") == []

    host.files.write("inbox/tmp/being-staged", b"...")
    host.looks()
    assert host.files.names("inbox/tmp") == ["being-staged"]


@pytest.mark.parametrize(
    ("record", "genome", "whole"),
    [(0, 0, True), (0, -1, False), (-1, 0, False), (0, 1, False), (None, 0, False), (0, None, False)],
)
def test_a_publication_is_whole_in_full_size_only(
    owner: Host, record: int | None, genome: int | None, whole: bool
) -> None:
    """After an unknown outcome record and payload are measured: both there, both of the right size."""
    sizes = (500, 100)
    for kind, size, off in ((Kind.START, sizes[0], record), (Kind.GENOME, sizes[1], genome)):
        if off is not None:
            owner.files.write(f"inbox/{kind.of(attempt(1))}", b"x" * (size + off))

    look = owner.looks(measure={attempt(1): sizes, attempt(2): sizes})

    assert look.whole == ({attempt(1)} if whole else set())


@pytest.mark.parametrize("folder", ["inbox", "outbox"])
def test_a_flood_is_unknown(owner: Host, folder: str) -> None:
    """A folder with more entries than any farm needs is not read."""
    room = ENTRIES_MAX - len(owner.files.names(folder))
    for number in range(room):
        owner.files.files[f"{folder}/{number}"] = b""
    assert not owner.looks().unknown

    owner.files.files[f"{folder}/one-too-many"] = b""

    assert "10001 entries" in owner.looks().unknown


def test_many_results_are_read_a_part_at_a_time(owner: Host) -> None:
    """One look reads a bounded number; the next one, told what is handled, reads the others."""
    everything = {owner.answers(number) for number in range(1, RESULTS_PER_LOOK_MAX + 51)}

    first = owner.looks(full=False)
    assert first.answers == everything
    handled = frozenset(seen.attempt for seen in first.results)
    assert len(handled) == RESULTS_PER_LOOK_MAX

    second = owner.looks(full=False, handled=handled)
    assert {seen.attempt for seen in second.results} == everything - handled


def test_handled_results_are_not_read_again(owner: Host) -> None:
    """They are still seen, because the host waits for them to be cleaned."""
    owner.answers(1)

    look = owner.looks(full=False, handled=frozenset({attempt(1)}))

    assert look.answers == {attempt(1)}
    assert look.results == ()
    assert owner.files.asked == ["outbox"]


# ------------------------------------------------------------------------------------------------------------ writing


def test_at_first_contact_the_share_gets_its_folders_and_its_owner(host: Host) -> None:
    """bare -> folders -> host.json, durable -> the look of the same order sees it."""
    report = host.does(host=records.host(1), look=True, full=True)

    assert host.files.journal == [("publish durably", "inbox/1.host.json")]
    assert report.trouble == ""
    assert report.look is not None
    assert report.look.owner == records.host(1)


def test_another_farms_claim_stands(host: Host) -> None:
    """Who comes second to an epoch replaces nothing, and its look says whose the share is."""
    host.owns(1, farm="farm-2")

    report = host.does(host=records.host(1), look=True, full=True)

    assert report.look is not None
    assert report.look.owner == HostRecord(farm="farm-2", worker=WORKER, epoch=1)


def test_a_genome_is_published_before_its_start_signal(owner: Host) -> None:
    """Payload first, record last, each once and byte for byte."""
    report = owner.does(publish=(owner.publication(1),))

    genome, record = f"inbox/{attempt(1)}.genome", f"inbox/{attempt(1)}.start.json"
    assert owner.files.journal == [("write", genome), ("publish", record)]
    assert owner.files.files[genome] == GENOME
    assert layout.decode(layout.StartRecord, owner.files.files[record], "x") == records.start(1)
    assert (report.sent, report.trouble, report.damage) == ({attempt(1): True}, "", "")


@pytest.mark.parametrize("verb", ["write", "publish"])
def test_a_failed_publication_did_not_surely_arrive(owner: Host, verb: str) -> None:
    """The first one that fails is told as unsure, the ones behind it are not begun, and the look is still taken."""
    owner.files.troubles = {(verb, "inbox")}

    report = owner.does(publish=(owner.publication(1), owner.publication(2)), look=True, full=True)

    assert report.sent == {attempt(1): False}
    assert "cannot" in report.trouble
    assert report.look is not None
    assert report.look.starts == frozenset()


def test_a_name_that_is_taken_is_not_published(owner: Host) -> None:
    """An id is published once: what lies there stays, and nothing is sure."""
    owner.files.publish(f"inbox/{attempt(1)}.start.json", b"of somebody else")

    report = owner.does(publish=(owner.publication(1),))

    assert report.sent == {attempt(1): False}
    assert owner.files.files[f"inbox/{attempt(1)}.start.json"] == b"of somebody else"


def test_publications_before_a_failure_have_arrived(owner: Host) -> None:
    """One failing order does not make the others unsure."""
    owner.files.publish(f"inbox/{attempt(2)}.start.json", b"of somebody else")

    report = owner.does(publish=tuple(owner.publication(number) for number in (1, 2, 3)))

    assert report.sent == {attempt(1): True, attempt(2): False}


def test_the_record_is_removed_before_its_payload(owner: Host) -> None:
    """While a start signal is there, its genome must be there too; attempts in the given order."""
    report = owner.does(remove=(attempt(2), attempt(1)))

    assert owner.files.journal == [
        ("remove", f"inbox/{attempt(2)}.start.json"),
        ("remove", f"inbox/{attempt(2)}.genome"),
        ("remove", f"inbox/{attempt(1)}.start.json"),
        ("remove", f"inbox/{attempt(1)}.genome"),
    ]
    assert report.removed == {attempt(1), attempt(2)}


def test_a_failed_removal_removed_nothing_for_sure(owner: Host) -> None:
    """It is planned again, and nothing is published on top of it."""
    owner.files.troubles = {("remove", "inbox")}

    report = owner.does(remove=(attempt(1),), publish=(owner.publication(2),))

    assert (report.removed, report.sent) == (frozenset(), {})
    assert "cannot remove there now" in report.trouble


def test_an_order_is_carried_out_in_its_sequence(owner: Host) -> None:
    """owner, removals, publications, look."""
    owner.does(host=records.host(2), remove=(attempt(1),), publish=(owner.publication(2),), look=True)

    assert [verb for verb, _ in owner.files.journal] == ["publish durably", "remove", "remove", "write", "publish"]


@pytest.mark.parametrize("size", [8, 2 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("damage", ["gone", "short", "long", "empty"])
def test_a_damaged_snapshot_is_this_hosts_trouble(owner: Host, size: int, damage: str) -> None:
    """It is no fault of the share, and no start signal speaks for it."""
    publication = owner.publication(1, b"x" * size)
    if damage == "gone":
        os.unlink(publication.snapshot)
    else:
        os.truncate(publication.snapshot, {"short": size - 1, "long": size + 1, "empty": 0}[damage])

    report = owner.does(publish=(publication,))

    assert publication.snapshot in report.damage
    assert (report.trouble, report.sent) == ("", {attempt(1): False})
    assert f"inbox/{attempt(1)}.start.json" not in owner.files.files


# --------------------------------------------------------------------------------------------------------- collecting


def test_a_result_is_collected_with_all_it_speaks_for(owner: Host) -> None:
    """Record, its very bytes, log and artifacts; the artifacts land under the attempt's id."""
    owner.files.write(f"outbox/{attempt(1)}.log", b"hello")
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    refs = {"log": ref(f"{attempt(1)}.log", b"hello"), "artifacts": [ref("replay", b"replay")]}
    owner.answers(1, **refs)

    seen = owner.collects()

    assert seen == ResultSeen(
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
    "half": layout.encode(records.result(1))[:-20],
    "too large": b" " * (layout.RECORD_BYTES_MAX + 1),
    "very large": b"[" * 10**6,
    "deep": b'{"a":' * 10_000,
    "a list": b"[]",
    "without fields": b'{"layout": 1}',
    "not a number": layout.encode(records.result(1)).replace(b"2.5", b"NaN"),
    "infinite": layout.encode(records.result(1)).replace(b"2.5", b"1e999"),
    "text for a number": layout.encode(records.result(1)).replace(b"2.5", b'"2.5"'),
    "the host's to say": layout.encode(records.result(1)).replace(b'"completed"', b'"lost"'),
    "completed without a fitness": layout.encode(records.result(1)).replace(b"2.5", b"null"),
    "a control character": b"\x1b[2J",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_read_again_and_then_given_up(owner: Host, data: bytes) -> None:
    """A result that is none may not be whole yet; after three looks it is told as such in one printable line."""
    owner.answers(1, data)

    seen = owner.gives_up()

    assert (seen.attempt, seen.record, seen.data, seen.unknown_layout) == (attempt(1), None, b"", False)
    assert seen.problem.isprintable()
    assert 0 < len(seen.problem) <= 300


def test_a_result_may_be_late_in_becoming_whole(owner: Host) -> None:
    """Half at the first two looks, whole at the third: it counts like any other."""
    owner.answers(1, b"")
    assert owner.collects() is None
    assert owner.collects() is None
    owner.answers(1)

    seen = owner.collects()

    assert seen is not None
    assert seen.record == records.result(1)


def test_readings_are_counted_for_each_result(owner: Host) -> None:
    """One bad result does not use up another one's readings, and a good one does not wait for it."""
    owner.answers(1, b"")
    assert owner.collects() is None
    owner.answers(2)
    owner.answers(3, b"")

    assert [seen.attempt for seen in owner.looks(full=False).results] == [attempt(2)]
    assert [seen.attempt for seen in owner.looks(full=False).results] == [attempt(1), attempt(2)]
    assert [seen.attempt for seen in owner.looks(full=False).results] == [attempt(1), attempt(2), attempt(3)]


def test_a_result_that_went_is_forgotten(owner: Host) -> None:
    """Its readings are counted anew if it ever comes back."""
    owner.answers(1, b"")
    assert owner.collects() is None
    assert owner.collects() is None
    owner.files.remove([f"outbox/{attempt(1)}.result.json"])
    assert owner.looks(full=False).answers == frozenset()

    owner.answers(1, b"")

    assert owner.gives_up().record is None


def test_a_result_of_another_version_needs_no_second_reading(owner: Host) -> None:
    """It is complete, and will not become another one."""
    owner.answers(1, records.of_another_version(records.result(1)))

    seen = owner.collects()

    assert seen is not None
    assert (seen.record, seen.unknown_layout) == (None, True)
    assert "layout 2, spoken is 1" in seen.problem


def test_what_a_result_says_of_other_attempts_is_the_cores_to_judge(owner: Host) -> None:
    """The name of its file decides whose result it is; the echo comes along unchanged."""
    owner.answers(1, layout.encode(records.result(2)))

    seen = owner.collects()

    assert seen is not None
    assert seen.record is not None
    assert (seen.attempt, seen.record.attempt) == (attempt(1), attempt(2))


def test_a_result_that_cannot_be_asked_for_is_unknown(owner: Host) -> None:
    """An error of the share uses up no reading."""
    owner.answers(1)
    owner.files.troubles = {("read", "outbox")}
    for _ in range(2 * READS_MAX):
        assert owner.looks(full=False).unknown
    owner.files.troubles = set()

    assert owner.collects() is not None


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
def test_a_log_that_is_not_what_it_should_be_is_missing(owner: Host, log: PayloadRef) -> None:
    """After three looks the fitness counts without it; only the attempt's own log is ever opened."""
    owner.files.write(f"outbox/{LOG}", b"hello")
    owner.files.write(f"outbox/{attempt(2)}.log", b"hello")
    owner.answers(1, log=log)

    seen = owner.gives_up()

    assert seen.record is not None
    assert (seen.record.fitness, seen.log, seen.missing) == (2.5, b"", ("log",))
    assert set(owner.files.asked) <= {"outbox", f"outbox/{LOG}", f"outbox/{attempt(1)}.result.json"}


@pytest.mark.parametrize("data", [None, b"x" * (layout.LOG_BYTES_MAX + 1)])
def test_a_log_that_cannot_be_had_is_missing(owner: Host, data: bytes | None) -> None:
    """It is not there, or larger than a log may be."""
    if data is not None:
        owner.files.write(f"outbox/{LOG}", data)
    owner.answers(1, log=ref(LOG, data or b"hello"))

    assert owner.gives_up().missing == ("log",)


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
def test_no_artifact_leaves_its_folder(owner: Host, name: str) -> None:
    """A name that is not plainly one of the protocol's is missing, told in printable characters, and never a path."""
    folder = f"outbox/{attempt(1)}.files"
    owner.files.write(f"{folder}/good", b"good")
    owner.files.files[f"{folder}/{name}"] = b"evil"
    before = everything_in(owner.state.parent)
    owner.answers(1, artifacts=[ref(name, b"evil"), ref("good", b"good")])

    seen = owner.gives_up()

    assert seen.artifacts == ("good",)
    assert len(seen.missing) == 1
    assert seen.missing[0].isprintable()
    assert owner.incoming == {f"{attempt(1)}/good"}
    assert everything_in(owner.state.parent) - before == {owner.state / "incoming" / attempt(1) / "good"}


def everything_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "artifact",
    [
        ref("replay", b"other bytes"),
        ref("replay", b"replay", sha256="0" * 64),
        ref("replay", b"replay", size_bytes=5),
        ref("absent", b"replay"),
    ],
    ids=["other bytes", "other digest", "larger than it says", "absent"],
)
def test_an_artifact_that_is_not_what_it_should_be_is_missing(owner: Host, artifact: PayloadRef) -> None:
    """The fitness counts without it, and nothing of it is kept."""
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    owner.answers(1, artifacts=[artifact])

    seen = owner.gives_up()

    assert seen.record is not None
    assert (seen.artifacts, seen.missing) == ((), (artifact.name,))
    assert owner.incoming == set()


def test_an_artifact_may_be_late(owner: Host) -> None:
    """Absent at the first look, there at the second: nothing is missing."""
    owner.answers(1, artifacts=[ref("replay", b"replay")])
    assert owner.collects() is None
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")

    seen = owner.collects()

    assert seen is not None
    assert (seen.artifacts, seen.missing) == (("replay",), ())


def test_an_artifact_for_which_this_host_has_no_room_is_this_hosts_trouble(owner: Host, tiny_disk: Path) -> None:
    """The share is well, and must not be blamed; half of the artifact does not keep the room that is missing."""
    data = bytes(2**20)
    (tiny_disk / "hog").write_bytes(bytes(shutil.disk_usage(tiny_disk).free - 2**19))
    owner.share = Share(WORKER, FARM, owner.files, tiny_disk / "incoming")
    owner.files.write(f"outbox/{attempt(1)}.files/replay", data)
    owner.answers(1, artifacts=[ref("replay", data)])

    report = owner.does(look=True)

    assert "No space left" in report.damage
    assert not list(tiny_disk.rglob("replay"))


def test_an_incoming_folder_that_cannot_be_made_is_this_hosts_trouble(owner: Host) -> None:
    """Whatever is wrong with the host's own disk is told in the report, and does not end a courier."""
    (owner.state / "incoming").write_text("in the way")
    owner.files.write(f"outbox/{attempt(1)}.files/replay", b"replay")
    owner.answers(1, artifacts=[ref("replay", b"replay")])

    report = owner.does(look=True)

    assert "incoming" in report.damage


@posix
@pytest.mark.timeout(20)
def test_an_outbox_full_of_traps(tmp_path: Path) -> None:
    """Links, FIFOs and folders under the names of records on a real disk: given up one by one, blocking nobody."""
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
    share = Share(WORKER, FARM, files, tmp_path / "incoming")

    for _ in range(READS_MAX):
        report = share.carry_out(Order(worker=WORKER, look=True, full=True))

    assert report.look is not None
    assert (report.look.unknown, report.look.beat) == ("", None)
    assert [(seen.attempt, seen.record is None) for seen in report.look.results] == [
        (attempt(1), True),
        (attempt(2), True),
        (attempt(3), True),
        (attempt(4), False),
    ]
    assert report.look.results[3].missing == ("log",)
    assert report.look.results[3].record is not None
    assert report.look.results[3].record.outcome is Outcome.COMPLETED
