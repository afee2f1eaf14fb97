"""The contract of every implementation of `ShareFiles`. A new one adds itself to the `case` fixture."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from inbox_agent.protocol.files import (
    Delivery,
    FileAlreadyExists,
    FileInvalid,
    FileMissing,
    FileRefused,
    ShareFiles,
    Unavailable,
)
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.local_folders import Folders, FoldersByPath, folders_of
from pipeline.shares.smb.files import SmbFiles
from tests.fakes.memory_files import MemoryFiles
from tests.harness.other_user import allow_traversal, as_unprivileged_user
from tests.harness.records import sha256
from tests.harness.samba import SmbShares

RECORD, PAYLOAD = "inbox/x.start.json", "inbox/x.genome"
ARTIFACTS = "outbox/x.files"
BEAT = "status/agent.json"


@dataclass(frozen=True)
class ShareFilesCase:
    """One implementation, and the shares that it can make for a test."""

    bare: Callable[[], ShareFiles]  #: a share without any folder
    nowhere: Callable[[], ShareFiles]  #: a share that does not exist
    kept: Callable[[ShareFiles, str], AbstractContextManager[None]]  #: another program holds a file open


def share_in_memory(*, there: bool) -> MemoryFiles:
    files = MemoryFiles()
    if not there:
        files.folders.clear()
    return files


def share_on_disk(root: Path, folders: Callable[[Path], Folders]) -> LocalFiles:
    root.mkdir()
    return LocalFiles(root, folders=folders)


@contextmanager
def kept_in_memory(files: ShareFiles, path: str) -> Iterator[None]:
    assert isinstance(files, MemoryFiles)
    files.held.add(path)
    yield
    files.held.remove(path)


@contextmanager
def kept_on_disk(files: ShareFiles, path: str) -> Iterator[None]:
    """Holds a file open exclusively where the system supports it; elsewhere removes the rights to it."""
    assert isinstance(files, LocalFiles)
    if sys.platform == "win32":
        import _winapi

        handle = _winapi.CreateFile(str(files.root / path), _winapi.GENERIC_READ, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
        try:
            yield
        finally:
            _winapi.CloseHandle(handle)
        return
    allow_traversal(files.root)
    (files.root / path).chmod(0)
    with as_unprivileged_user():
        yield


@pytest.fixture(params=["local", "local by path", "memory", "samba"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> ShareFilesCase:
    if request.param == "memory":
        return ShareFilesCase(lambda: share_in_memory(there=True), lambda: share_in_memory(there=False), kept_in_memory)
    if request.param == "samba":
        shares: SmbShares = request.getfixturevalue("smb_shares")
        return ShareFilesCase(shares.fresh, shares.missing_share, shares.held_open)
    folders: Callable[[Path], Folders] = FoldersByPath if request.param == "local by path" else folders_of
    return ShareFilesCase(
        lambda: share_on_disk(tmp_path / "share", folders),
        lambda: LocalFiles(tmp_path / "unmounted", folders=folders),
        kept_on_disk,
    )


@pytest.fixture
def files(case: ShareFilesCase) -> ShareFiles:
    """A share with the folders of the layout."""
    files = case.bare()
    files.make_folders()
    return files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A local payload that needs several writes."""
    path = tmp_path / "payload"
    path.write_bytes(os.urandom(3 * 1024 * 1024 + 7))
    return path


# ------------------------------------------------------------------------------------------------- every implementation


def test_folder_with_more_entries_than_allowed_is_unavailable(files: ShareFiles) -> None:
    """None of them are returned; a part of a listing would be taken for the whole."""
    for number in range(2):
        files.publish(f"inbox/{number}.start.json", b"record")

    assert sorted(files.names("inbox", 3)) == ["0.start.json", "1.start.json", "tmp"]
    with pytest.raises(Unavailable, match="inbox holds more than 2 entries"):
        files.names("inbox", 2)


def test_new_share_lists_its_folders(files: ShareFiles) -> None:
    """The share itself can be listed and shows the three folders of the layout."""
    assert sorted(files.names("")) == ["inbox", "outbox", "status"]
    assert files.names("inbox") == files.names("outbox") == ["tmp"]
    assert files.names("status") == []


def test_share_without_folders_lists_nothing(case: ShareFilesCase) -> None:
    """A share without folders can be listed and shows nothing."""
    assert case.bare().names("") == []


def test_make_folders_is_idempotent(files: ShareFiles) -> None:
    """Making the folders again changes nothing in them."""
    files.publish(RECORD, b"record")

    files.make_folders()

    assert files.read(RECORD, 100) == b"record"


def test_published_record_is_listed_and_read(files: ShareFiles) -> None:
    """A published record is listed under its name, with its size and its bytes."""
    files.publish(RECORD, b"record")

    assert sorted(files.names("inbox")) == ["tmp", "x.start.json"]
    assert files.size(RECORD) == 6
    assert files.read(RECORD, 100) == b"record"


def test_staging_folder_may_be_cleared(files: ShareFiles) -> None:
    """Removing the files in the staging folder does not affect later publications."""
    files.publish(RECORD, b"record")
    files.publish("inbox/1.host.json", b"host", durable=True)

    files.remove([f"inbox/tmp/{name}" for name in files.names("inbox/tmp")])

    assert files.read(RECORD, 100) == b"record"
    files.remove([RECORD])
    files.publish(RECORD, b"again")
    assert (files.read(RECORD, 100), files.read("inbox/1.host.json", 100)) == (b"again", b"host")


def test_records_keep_their_bytes_while_others_change(files: ShareFiles) -> None:
    """While other records of any length are published and removed, each record keeps its bytes."""
    there: dict[str, bytes] = {}
    for number in range(60):
        path, data = f"{'inbox' if number % 3 else 'outbox'}/{number}.json", b"%d" % number * (1 + 7 * number % 50)
        files.publish(path, data, durable=number % 5 == 0)
        there[path] = data
        if number % 2:
            gone = sorted(there)[number % len(there)]
            files.remove([gone])
            del there[gone]
        assert {path: files.read(path, 1000) for path in there} == there


def test_deliveries_are_confirmed_one_by_one(files: ShareFiles, source: Path) -> None:
    """More than fit into one exchange, one of them large and from a file, one empty."""
    large_bytes = source.stat().st_size
    payloads: dict[str, bytes | Path] = {str(number): b"%d" % number for number in range(20)}
    payloads |= {"large": source, "empty": b""}
    deliveries = [delivery(name, payload) for name, payload in payloads.items()]

    assert list(files.deliver_all(deliveries)) == [None] * len(payloads)

    assert set(files.names("inbox")) == {"tmp", *(f"{name}{end}" for name in payloads for end in (".genome", ".json"))}
    for name, payload in payloads.items():
        assert files.size(f"inbox/{name}.genome") == (len(payload) if isinstance(payload, bytes) else large_bytes)
        assert files.read(f"inbox/{name}.json", 100) == name.encode()


def test_refused_delivery_is_told_from_the_others(files: ShareFiles) -> None:
    """What comes before it is confirmed. What comes after it may be left out, or have its own outcome."""
    files.publish("inbox/b.json", b"there already")
    deliveries = [delivery(name, b"payload") for name in "abc"]

    first, second, *rest = files.deliver_all(deliveries)

    assert first is None
    assert isinstance(second, FileAlreadyExists)
    assert files.read("inbox/b.json", 100) == b"there already"
    assert ("c.json" in files.names("inbox")) == (rest == [None])


def test_delivery_without_folders_is_not_confirmed(case: ShareFilesCase) -> None:
    """Nothing of it is published."""
    outcomes = list(case.bare().deliver_all([delivery("a", b"payload"), delivery("b", b"payload")]))

    assert outcomes
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)


def delivery(name: str, payload: bytes | Path) -> Delivery:
    return Delivery(f"inbox/{name}.genome", payload, f"inbox/{name}.json", name.encode())


@pytest.mark.parametrize("data", [b"", b"claim"])
def test_durable_record_is_like_any_record(files: ShareFiles, data: bytes) -> None:
    """A durable publication has the same visible effect, also with an empty record."""
    files.publish("outbox/x.started.json", data, durable=True)

    assert files.read("outbox/x.started.json", 100) == data


@pytest.mark.parametrize("durable", [False, True])
def test_publish_refuses_existing_name(files: ShareFiles, durable: bool) -> None:
    """A second record of the same name is refused; the first one is unchanged."""
    files.publish(RECORD, b"the first")

    with pytest.raises(FileAlreadyExists):
        files.publish(RECORD, b"second", durable=durable)

    assert files.read(RECORD, 100) == b"the first"


def test_staged_leftover_is_overwritten(files: ShareFiles) -> None:
    """A partial file of a killed process in tmp/ is overwritten, not appended to."""
    files.write("inbox/tmp/x.start.json", b"a long half of an earlier record")

    files.publish(RECORD, b"record")

    assert files.read(RECORD, 100) == b"record"


def test_publish_refuses_name_of_folder(files: ShareFiles) -> None:
    """A record is not published over a folder of its name."""
    files.write(f"{ARTIFACTS}/replay", b"replay")

    with pytest.raises(FileAlreadyExists):
        files.publish(ARTIFACTS, b"record")

    assert files.names(ARTIFACTS) == ["replay"]


def test_replace_swaps_whole_file(files: ShareFiles) -> None:
    """The file is created, then replaced by a shorter one; no other file is left."""
    files.replace(BEAT, b"the first beat")
    assert files.read(BEAT, 100) == b"the first beat"

    files.replace(BEAT, b"beat")

    assert files.read(BEAT, 100) == b"beat"
    assert files.names("status") == ["agent.json"]


def test_written_payload_replaces_longer_one(files: ShareFiles) -> None:
    """The second write leaves nothing of the first, longer payload."""
    files.write(PAYLOAD, b"a long genome")
    files.write(PAYLOAD, b"genome")

    assert files.read(PAYLOAD, 100) == b"genome"


@pytest.mark.parametrize("path", ["inbox/x", "inbox/tmp/x", "outbox/x.log", f"{ARTIFACTS}/x", "status/x"])
def test_payload_is_written_anywhere(files: ShareFiles, path: str) -> None:
    """In every folder, with and without a staging folder."""
    for data in (b"a long payload", b"short", b""):
        files.write(path, data)
        assert files.read(path, 100) == data

    files.remove([path])

    with pytest.raises(FileMissing):
        files.read(path, 100)


def test_large_payload_is_written_and_fetched(files: ShareFiles, source: Path, tmp_path: Path) -> None:
    """A payload of several pieces is copied from a local file to the share and back; its digest is returned."""
    files.write(PAYLOAD, source)

    digest = files.fetch(PAYLOAD, tmp_path / "fetched", source.stat().st_size)

    assert (tmp_path / "fetched").read_bytes() == source.read_bytes()
    assert digest == sha256(source.read_bytes())
    assert files.size(PAYLOAD) == source.stat().st_size


def test_write_protected_payload_is_written_and_removed(files: ShareFiles, source: Path, tmp_path: Path) -> None:
    """The copy of a write-protected file can be read and removed, and the file can be sent again."""
    data = source.read_bytes()
    source.chmod(stat.S_IREAD)
    for _ in range(2):
        files.write(PAYLOAD, source)
        assert files.fetch(PAYLOAD, tmp_path / "fetched", len(data)) == sha256(data)
        files.remove([PAYLOAD])
        assert files.names("inbox") == ["tmp"]

    assert source.read_bytes() == data


def test_writing_does_not_change_sources(files: ShareFiles, source: Path) -> None:
    """Writing over a leftover file changes neither its own source nor the source of the leftover."""
    data, other = source.read_bytes(), source.with_name("other")
    other.write_bytes(b"other")
    source.chmod(stat.S_IREAD)
    other.chmod(stat.S_IREAD)

    files.write(PAYLOAD, source)
    files.write(PAYLOAD, other)
    assert (source.read_bytes(), other.read_bytes()) == (data, b"other")
    files.write(PAYLOAD, other)

    assert (source.read_bytes(), other.read_bytes()) == (data, b"other")
    assert files.read(PAYLOAD, 100) == b"other"


def test_empty_file_exists(files: ShareFiles, tmp_path: Path) -> None:
    """An empty file is not a missing file."""
    files.write(PAYLOAD, b"")

    assert files.size(PAYLOAD) == 0
    assert files.read(PAYLOAD, 0) == b""
    assert files.fetch(PAYLOAD, tmp_path / "fetched", 0) == sha256(b"")
    assert (tmp_path / "fetched").read_bytes() == b""


def test_full_local_disk_fails_fetch(files: ShareFiles, tiny_disk: Path) -> None:
    """The genome is fetched completely or not at all; the error names the local disk and not the share."""
    files.write(PAYLOAD, b"x" * 300_000)
    room = os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize
    (tiny_disk / "filler").write_bytes(b"x" * (room - 200_000))

    with pytest.raises(OSError, match="No space left"):
        files.fetch(PAYLOAD, tiny_disk / "genome", 10**7)


def test_unwritable_destination_is_not_share_error(files: ShareFiles, tmp_path: Path) -> None:
    """The destination folder is missing or its file is held open: the error is local, since the share responded."""
    files.write(PAYLOAD, b"genome")

    with pytest.raises(FileNotFoundError):
        files.fetch(PAYLOAD, tmp_path / "gone" / "genome", 100)


def test_fetch_replaces_earlier_copy(files: ShareFiles, tmp_path: Path) -> None:
    """The local copy contains this payload and nothing of a longer one before."""
    (tmp_path / "fetched").write_bytes(b"the genome of an earlier attempt")
    files.write(PAYLOAD, b"genome")

    files.fetch(PAYLOAD, tmp_path / "fetched", 100)

    assert (tmp_path / "fetched").read_bytes() == b"genome"


def test_file_of_size_limit_is_read(files: ShareFiles, tmp_path: Path) -> None:
    """A file of exactly the limit is read and fetched; one byte more is invalid."""
    files.write(PAYLOAD, b"12345678")

    assert files.read(PAYLOAD, 8) == b"12345678"
    assert files.fetch(PAYLOAD, tmp_path / "fetched", 8) == sha256(b"12345678")
    with pytest.raises(FileInvalid):
        files.read(PAYLOAD, 7)
    with pytest.raises(FileInvalid):
        files.fetch(PAYLOAD, tmp_path / "fetched", 7)


def test_payload_beyond_limit_is_invalid(files: ShareFiles, source: Path, tmp_path: Path) -> None:
    """The limit holds across pieces; at most that many bytes are written to the local disk."""
    files.write(PAYLOAD, source)
    limit = source.stat().st_size - 1

    with pytest.raises(FileInvalid):
        files.fetch(PAYLOAD, tmp_path / "fetched", limit)

    assert not (tmp_path / "fetched").exists() or (tmp_path / "fetched").stat().st_size <= limit


def test_exclusively_opened_file_is_refused(case: ShareFilesCase, tmp_path: Path) -> None:
    """Only that file, and only while it is open: other files of the share can be read."""
    files = case.bare()
    files.make_folders()
    for name in "ab":
        files.publish(f"outbox/{name}.result.json", name.encode())
    paths = [f"outbox/{name}.result.json" for name in "ab"]

    with case.kept(files, paths[0]):
        found = files.read_all([(path, 100) for path in paths])
        with pytest.raises(FileRefused):
            files.read(paths[0], 100)
        with pytest.raises(FileRefused):
            files.fetch(paths[0], tmp_path / "fetched", 100)
        assert sorted(files.names("outbox")) == ["a.result.json", "b.result.json", "tmp"]

    assert isinstance(found[0], FileRefused)
    assert found[1] == b"b"


def test_missing_file_raises_file_missing(files: ShareFiles, tmp_path: Path) -> None:
    """If the folder exists and the file does not, the error is FileMissing."""
    with pytest.raises(FileMissing):
        files.size(RECORD)
    with pytest.raises(FileMissing):
        files.read(RECORD, 100)
    with pytest.raises(FileMissing):
        files.fetch(PAYLOAD, tmp_path / "fetched", 100)


def test_missing_artifact_raises_file_missing(files: ShareFiles, tmp_path: Path) -> None:
    """Whether the folder of its attempt exists or not: that folder is not part of the layout."""
    with pytest.raises(FileMissing):
        files.fetch(f"{ARTIFACTS}/replay", tmp_path / "fetched", 100)

    files.write(f"{ARTIFACTS}/screenshot", b"...")

    with pytest.raises(FileMissing):
        files.fetch(f"{ARTIFACTS}/replay", tmp_path / "fetched", 100)


def test_artifact_folder_is_created_and_removed(files: ShareFiles, source: Path, tmp_path: Path) -> None:
    """Artifacts are in a folder of their attempt. The first one creates it; removing the folder removes all."""
    files.write(f"{ARTIFACTS}/replay", source)
    files.write(f"{ARTIFACTS}/screenshot", b"...")
    assert sorted(files.names("outbox")) == ["tmp", "x.files"]
    assert sorted(files.names(ARTIFACTS)) == ["replay", "screenshot"]
    assert files.fetch(f"{ARTIFACTS}/replay", tmp_path / "fetched", 10**7) == sha256(source.read_bytes())

    files.remove([ARTIFACTS])

    assert files.names("outbox") == ["tmp"]
    files.remove([ARTIFACTS])


def test_folder_under_file_name_is_invalid(files: ShareFiles, tmp_path: Path) -> None:
    """The name exists, so the error is not FileMissing, but it is not a file."""
    files.write(f"{ARTIFACTS}/replay", b"replay")

    with pytest.raises(FileInvalid):
        files.size(ARTIFACTS)
    with pytest.raises(FileInvalid):
        files.read(ARTIFACTS, 100)
    with pytest.raises(FileInvalid):
        files.fetch(ARTIFACTS, tmp_path / "fetched", 100)


def test_write_does_not_replace_folder(files: ShareFiles) -> None:
    """Neither a payload nor a heartbeat replaces a folder."""
    files.write(f"{ARTIFACTS}/replay", b"replay")

    with pytest.raises(Unavailable):
        files.write(ARTIFACTS, b"payload")
    with pytest.raises(Unavailable):
        files.replace(ARTIFACTS, b"beat")

    assert files.names(ARTIFACTS) == ["replay"]


def test_remove_is_idempotent(files: ShareFiles) -> None:
    """Removing a missing file is no error, the first time and every other time."""
    files.write(PAYLOAD, b"genome")

    for _ in range(3):
        files.remove([RECORD, PAYLOAD])

    assert files.names("inbox") == ["tmp"]


def test_remove_accepts_empty_list(files: ShareFiles) -> None:
    """An empty list makes no request."""
    files.remove([])
    files.remove(iter(()))


def test_files_are_removed_in_given_order(files: ShareFiles) -> None:
    """If one cannot be removed, earlier files are gone and later files remain, unless all go in one message."""
    if isinstance(files, LocalFiles):  # the protocol has no nested folders, so no method makes one
        (files.root / ARTIFACTS / "tree").mkdir(parents=True)
    else:
        files.write(f"{ARTIFACTS}/a/tree", b"nothing the protocol knows")
    files.publish(RECORD, b"record")
    files.write(PAYLOAD, b"genome")

    with pytest.raises(Unavailable):
        files.remove([RECORD, ARTIFACTS, PAYLOAD])

    behind_it = [] if isinstance(files, SmbFiles) else ["x.genome"]
    assert sorted(files.names("inbox")) == ["tmp", *behind_it]


def test_files_are_unavailable_without_folders(case: ShareFilesCase, tmp_path: Path) -> None:
    """Every read of a file raises Unavailable and never FileMissing."""
    for files in (case.nowhere(), case.bare()):
        with pytest.raises(Unavailable):
            files.size(RECORD)
        with pytest.raises(Unavailable):
            files.read(RECORD, 100)
        with pytest.raises(Unavailable):
            files.fetch(PAYLOAD, tmp_path / "fetched", 100)


def test_remove_fails_without_folders(case: ShareFilesCase) -> None:
    """An unreachable share does not report that the files are gone."""
    for files in (case.nowhere(), case.bare()):
        with pytest.raises(Unavailable):
            files.remove([RECORD])


def test_writing_fails_without_folders(case: ShareFilesCase) -> None:
    """Neither listing nor writing works without the folders, and no method creates them."""
    for files in (case.nowhere(), case.bare()):
        with pytest.raises(Unavailable):
            files.names("inbox")
        with pytest.raises(Unavailable):
            files.write(PAYLOAD, b"genome")
        with pytest.raises(Unavailable):
            files.publish(RECORD, b"record")
        with pytest.raises(Unavailable):
            files.publish("outbox/x.started.json", b"claim", durable=True)
        with pytest.raises(Unavailable):
            files.replace(BEAT, b"beat")


def test_missing_share_cannot_be_listed(case: ShareFilesCase) -> None:
    """If nothing is mounted, listing the share fails."""
    with pytest.raises(Unavailable):
        case.nowhere().names("")


def test_make_folders_fails_on_missing_share(case: ShareFilesCase) -> None:
    """If nothing is mounted, no folders are made: they would be on the wrong disk and look like a new share."""
    files = case.nowhere()

    with pytest.raises(Unavailable):
        files.make_folders()


def test_artifact_needs_outbox(case: ShareFilesCase) -> None:
    """An artifact creates the folder of its attempt, but neither `outbox/` nor the share."""
    for files in (case.nowhere(), case.bare()):
        with pytest.raises(Unavailable):
            files.write(f"{ARTIFACTS}/replay", b"replay")
