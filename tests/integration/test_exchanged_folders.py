"""A share on a disk where another program exchanges its folders and files for links, pipes and other folders."""

import contextlib
import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inbox_agent.protocol import local_folders
from inbox_agent.protocol.files import FileMissing, ShareError, Unavailable
from inbox_agent.protocol.layout import INBOX, OUTBOX, STATUS
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.local_folders import Folders, FoldersByPath, folders_of
from tests.harness.links import link_folder

linux = pytest.mark.skipif(sys.platform != "linux", reason="exchanges two names in one call")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not rename a share that is in use")

RECORD, PAYLOAD = "inbox/x.start.json", "inbox/x.genome"
ARTIFACT = "outbox/x.files/replay"
VICTIM, ROUNDS = b"a file of another folder", 300
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "share"
    path.mkdir()
    return path


@pytest.fixture
def files(root: Path) -> LocalFiles:
    """A share with its folders."""
    files = LocalFiles(root)
    files.make_folders()
    return files


@contextlib.contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Exchanges two names again and again."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    stopped, counts = threading.Event(), [0]

    def exchange() -> None:
        while not stopped.is_set():
            counts[0] += renameat2(*names) == 0

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    assert counts[0] > ROUNDS


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside of the share, with the names that files of a share have."""
    folder = tmp_path / "victim"
    (folder / "tmp").mkdir(parents=True)
    for name in ("x.start.json", "x.genome", "replay", "agent.json", "tmp/x.start.json"):
        (folder / name).write_bytes(VICTIM)
    return folder


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files of a folder with their bytes and times."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@linux
@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", ["inbox/tmp", "inbox", "outbox/x.files", "status"])
def test_exchanged_folder_is_not_left(files: LocalFiles, root: Path, victim: Path, tmp_path: Path, place: str) -> None:
    """No file behind the link is deleted, changed or read while every operation is repeated."""
    files.write(ARTIFACT, b"replay")
    (root / "link").symlink_to(victim)
    before, read = content(victim), list[bytes]()

    def clear(folder: str) -> None:
        files.remove([f"{folder}/{name}" for name in files.names(folder)])

    steps: list[Callable[[], object]] = [
        lambda: clear("inbox/tmp"),
        lambda: files.publish(RECORD, b"record", durable=True),
        lambda: files.write(PAYLOAD, b"genome"),
        lambda: files.write(ARTIFACT, b"replay"),
        lambda: files.replace("status/agent.json", b"beat"),
        *(lambda path=path: read.append(files.read(path, 100)) for path in (RECORD, PAYLOAD, ARTIFACT)),
        lambda: files.fetch(ARTIFACT, tmp_path / "fetched", 100),
        lambda: read.append((tmp_path / "fetched").read_bytes()),
        lambda: files.remove([RECORD, PAYLOAD, "outbox/x.files"]),
    ]
    with exchanging(root / place, root / "link"):
        for _ in range(ROUNDS):
            for step in steps:
                with contextlib.suppress(ShareError, FileNotFoundError):
                    step()

    assert content(victim) == before
    assert VICTIM not in read


@pytest.mark.parametrize("folders", [folders_of, FoldersByPath])
@pytest.mark.parametrize(
    ("place", "below"),
    [
        ("attempts", "a1/files/replay"),
        ("attempts/a1", "files/replay"),
        ("attempts/a1/files", "replay"),
        ("outbox", "x.files/replay"),
        ("outbox/x.files", "replay"),
    ],
)
def test_link_in_place_of_any_folder_of_a_path_is_refused(
    tmp_path: Path, root: Path, folders: Callable[[Path], Folders], place: str, below: str
) -> None:
    """Also of a folder further up; on Windows a junction."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / below).parent.mkdir(parents=True)
    (elsewhere / below).write_bytes(VICTIM)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    link_folder(root / place, elsewhere)
    assert (root / place / below).read_bytes() == VICTIM
    files, path = LocalFiles(root, folders=folders), f"{place}/{below}"

    attempts: list[Callable[[], object]] = [
        lambda: files.names(path.rpartition("/")[0]),
        lambda: files.size(path),
        lambda: files.read(path, 100),
        lambda: files.fetch(path, tmp_path / "fetched", 100),
        lambda: files.remove([path]),
    ]
    for attempt in attempts:
        with pytest.raises(ShareError):
            attempt()

    assert content(elsewhere)[str(Path(below))][0] == VICTIM
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("folders", [folders_of, FoldersByPath])
@pytest.mark.parametrize("place", ["inbox", "inbox/tmp", "outbox", "status"])
def test_link_in_place_of_a_folder_of_the_layout_is_refused(
    root: Path, victim: Path, tmp_path: Path, folders: Callable[[Path], Folders], place: str
) -> None:
    """Nothing behind it is read, changed or removed."""
    files = LocalFiles(root, folders=folders)
    files.make_folders()
    shutil.rmtree(root / place)
    link_folder(root / place, victim)
    calls: dict[str, list[Callable[[], object]]] = {
        "inbox": [
            lambda: files.read(RECORD, 100),
            lambda: files.size(RECORD),
            lambda: files.fetch(PAYLOAD, tmp_path / "fetched", 100),
            lambda: files.write(PAYLOAD, b"genome"),
        ],
        "inbox/tmp": [
            lambda: files.publish("inbox/y.start.json", b"record", durable=True),
            lambda: files.remove([f"inbox/tmp/{name}" for name in ("x.start.json", "y")]),
        ],
        "outbox": [lambda: files.read("outbox/replay", 100), lambda: files.write(ARTIFACT, b"replay")],
        "status": [
            lambda: files.read("status/agent.json", 100),
            lambda: files.replace("status/agent.json", b"beat"),
            lambda: files.remove(["status/agent.json"]),
        ],
    }

    before = content(victim)
    for each in (*calls[place], *calls["inbox/tmp"]) if place == "inbox" else calls[place]:
        with pytest.raises(Unavailable):
            each()

    assert content(victim) == before


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("has_reader", [False, True])
def test_pipe_in_place_of_staged_file_is_not_filled(files: LocalFiles, root: Path, has_reader: bool) -> None:
    """A staged file that would be reused is a pipe by now: the record is written to a file, and nothing waits."""
    files.publish(RECORD, b"first")
    files.remove([RECORD])
    (staged,) = (root / "inbox/tmp").iterdir()
    staged.unlink()
    os.mkfifo(staged)
    reader = os.open(staged, os.O_RDONLY | os.O_NONBLOCK) if has_reader else None

    files.publish("inbox/y.start.json", b"y" * 200_000)
    files.publish(RECORD, b"second")

    if reader is not None:
        assert os.read(reader, 1) == b""
        os.close(reader)
    assert files.read("inbox/y.start.json", 200_000) == b"y" * 200_000
    assert files.read(RECORD, 100) == b"second"


@linux
@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", ["inbox/tmp/x.start.json", RECORD, "status/agent.json.new"])
def test_exchanged_pipe_does_not_block(files: LocalFiles, root: Path, place: str) -> None:
    """A pipe that takes the place of a file between two looks at it is neither read from nor waited for."""
    files.publish(RECORD, b"record")
    (root / place).touch()
    os.mkfifo(root / "pipe")
    with exchanging(root / place, root / "pipe"):
        for _ in range(ROUNDS):
            for step in (
                lambda: files.read(RECORD, 100),
                lambda: files.remove([RECORD]),
                lambda: files.publish(RECORD, b"record", durable=True),
                lambda: files.replace("status/agent.json", b"beat"),
                (root / place).touch,
            ):
                with contextlib.suppress(ShareError, OSError):
                    step()


@posix
@pytest.mark.timeout(20)
def test_pipe_at_destination_does_not_block(files: LocalFiles, tmp_path: Path) -> None:
    """A game may leave one where the next genome is written."""
    files.write(PAYLOAD, b"genome")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="pipe"):
        files.fetch(PAYLOAD, tmp_path / "pipe", 100)

    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="not a regular file"):
        files.fetch(PAYLOAD, tmp_path / "pipe", 100)
    assert os.read(reader, 100) == b""
    os.close(reader)


@posix
@pytest.mark.timeout(20)
def test_pipe_or_link_is_no_payload(files: LocalFiles, root: Path, victim: Path, tmp_path: Path) -> None:
    """A game may put one in the place of an artifact that is about to be copied."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(victim / "replay")

    for source in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(Unavailable):
            files.write(ARTIFACT, source)
        assert not (root / ARTIFACT).exists() or not (root / ARTIFACT).read_bytes()


@posix
@pytest.mark.parametrize("place", ["", "inbox"])
def test_replaced_folder_is_noticed(files: LocalFiles, root: Path, tmp_path: Path, place: str) -> None:
    """Files are read from and written to the folder that has the place now; while there is none, all is unknown."""
    files.publish(RECORD, b"old")
    (root / place).rename(tmp_path / "aside")

    with pytest.raises(Unavailable):
        files.names("inbox")
    with pytest.raises(Unavailable):
        files.read(RECORD, 100)
    with pytest.raises(Unavailable):
        files.remove([RECORD])

    (root / place).mkdir()
    files.make_folders()
    with pytest.raises(FileMissing):
        files.read(RECORD, 100)
    files.publish(RECORD, b"new")
    assert (root / RECORD).read_bytes() == b"new"
    assert (tmp_path / "aside" / RECORD.removeprefix(f"{place}/")).read_bytes() == b"old"


@posix
def test_share_may_be_reached_through_link(files: LocalFiles, root: Path, tmp_path: Path) -> None:
    """The user chose the path of the share; another share that it leads to later is noticed."""
    other = tmp_path / "other"
    other.mkdir()
    LocalFiles(other).make_folders()
    (tmp_path / "link").symlink_to(root)
    by_link = LocalFiles(tmp_path / "link")
    by_link.publish(RECORD, b"record")

    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(other)

    assert files.read(RECORD, 100) == b"record"
    assert by_link.names("inbox") == ["tmp"]


@linux
def test_few_folders_are_kept_open(files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has many files open opens the folders for each operation: it may have hundreds of shares."""
    kept = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(local_folders, "_KEPT_BELOW", 0)
    for folder in (INBOX, OUTBOX, STATUS):
        shutil.rmtree(files.root / folder)  # those that are open are closed when they are missed
    files.make_folders()

    files.publish(RECORD, b"record")

    assert files.read(RECORD, 100) == b"record"
    assert files.names("outbox") == ["tmp"]
    assert len(os.listdir("/proc/self/fd")) < kept


@linux
def test_folders_are_closed_with_their_share(root: Path) -> None:
    """Nothing stays open: a program may look at many shares, and disks are unmounted."""

    def look() -> None:
        files = LocalFiles(root)
        files.make_folders()
        files.publish(RECORD, b"record")
        files.remove([RECORD])

    look()
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        look()

    assert os.listdir("/proc/self/fd") == before
