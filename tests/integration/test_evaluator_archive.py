"""Archives of an evaluator: what is packed comes out equal, and whatever no packer writes is refused as a whole."""

import os
import stat
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inbox_agent import evaluator_archive
from inbox_agent.evaluator_archive import ArchiveError, pack_evaluator, path_problem, unpack_evaluator
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.settings import EvaluatorTable
from tests.harness.links import link_folder
from tests.harness.raw_zip import DEFLATED, ENCRYPTED, REGULAR, UTF8, Entry, raw_zip

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file names, modes and links")


def content_of(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of all files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[[bytes], None]:
    """Unpacks the bytes of an archive into `tmp_path/inside/new`."""

    def unpack(archive: bytes) -> None:
        (tmp_path / "archive.zip").write_bytes(archive)
        unpack_evaluator(tmp_path / "archive.zip", tmp_path / "inside" / "new")

    return unpack


def assert_nothing_outside(tmp_path: Path) -> None:
    """Nothing was written but in the folder that was given."""
    assert {path.name for path in tmp_path.iterdir()} <= {"archive.zip", "inside"}
    assert {path.name for path in (tmp_path / "inside").glob("*")} <= {"new"}


# ------------------------------------------------------------------------------------------------------------- hostile

HOSTILE_NAMES = {
    "absolute": b"/tmp/evil.py",
    "parent": b"../evil.py",
    "parent inside": b"a/../../evil.py",
    "drive": b"C:/evil.py",
    "drive, relative": b"c:evil.py",
    "stream": b"play.py:hidden",
    "backslash": b"..\\evil.py",
    "backslash inside": b"a\\b.py",
    "share": b"\\\\server\\share\\evil.py",
    "device": b"con.py",
    "device in folder": b"a/NUL/b.py",
    "device with superscript": "com\N{SUPERSCRIPT ONE}.py".encode(),
    "console": b"CONOUT$",
    "dot at the end": b"a./b.py",
    "space at the end": b"b.py ",
    "dot": b"./b.py",
    "empty part": b"a//b.py",
    "empty": b"",
    "folder": b"a/",
    "null": b"play.py\0.txt",
    "control character": b"a\x1b[2J.py",
    "wildcard": b"*.py",
    "too long": b"a" * 181,
    "no Unicode": b"\xff\xfe.py",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES.keys())
def test_hostile_name_is_refused(unpack: Callable[[bytes], None], tmp_path: Path, name: bytes) -> None:
    with pytest.raises(ArchiveError) as raised:
        unpack(raw_zip([Entry(name=b"good.py"), Entry(name=name, data=b"evil")]))

    assert str(raised.value).isprintable()
    assert_nothing_outside(tmp_path)
    assert not list((tmp_path / "inside").rglob("*")), "names are checked before anything is written"


HOSTILE_PAIRS = {
    "the same name": (b"a.py", b"a.py"),
    "names that differ in case": (b"a.py", b"A.PY"),
    "folders that differ in case": (b"lib/a.py", b"LIB/a.py"),
    "a file that is a folder": (b"a", b"a/b.py"),
    "a folder that is a file": (b"a/b/c.py", b"A/B"),
}


@pytest.mark.parametrize("names", HOSTILE_PAIRS.values(), ids=HOSTILE_PAIRS.keys())
def test_paths_that_collide_are_refused(
    unpack: Callable[[bytes], None], tmp_path: Path, names: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ArchiveError):
        unpack(raw_zip([Entry(name=name) for name in names]))

    assert not list((tmp_path / "inside").rglob("*"))


HOSTILE_ENTRIES = {
    "symbolic link": Entry(name=b"a.py", data=b"/etc/passwd", external=(stat.S_IFLNK | 0o777) << 16),
    "folder by its mode": Entry(name=b"a.py", external=(stat.S_IFDIR | 0o755) << 16),
    "device by its mode": Entry(name=b"a.py", external=(stat.S_IFCHR | 0o666) << 16),
    "pipe by its mode": Entry(name=b"a.py", external=(stat.S_IFIFO | 0o666) << 16),
    "socket by its mode": Entry(name=b"a.py", external=(stat.S_IFSOCK | 0o666) << 16),
    "encrypted": Entry(name=b"a.py", data=b"x" * 20, flags=UTF8 | ENCRYPTED),
    "strongly encrypted": Entry(name=b"a.py", data=b"x" * 20, flags=UTF8 | 0x40),
    "patched": Entry(name=b"a.py", data=b"x" * 20, flags=UTF8 | 0x20),
    "bzip2": Entry(name=b"a.py", data=b"x", method=12),
    "LZMA": Entry(name=b"a.py", data=b"x", method=14),
    "Zstandard": Entry(name=b"a.py", data=b"x", method=93),
    "AES": Entry(name=b"a.py", data=b"x", method=99),
    "wrong sum": Entry(name=b"a.py", data=b"x", crc=1),
    "more than declared": Entry(name=b"a.py", data=b"x" * 100, declared_size=10),
    "more than declared, deflated": Entry(name=b"a.py", data=b"x" * 100, method=DEFLATED, declared_size=10),
    "less than declared": Entry(name=b"a.py", data=b"x" * 10, declared_size=1000),
    "less than declared, deflated": Entry(name=b"a.py", data=b"x" * 10, method=DEFLATED, declared_size=1000),
    "another name before the data": Entry(name=b"a.py", local_name=b"../b"),
    "header elsewhere": Entry(name=b"a.py", starts_at=7),
    "header behind the end": Entry(name=b"a.py", starts_at=2**31),
    "another name in a further field": Entry(name=b"a.py", extra=b"\x75\x70\x0d\x00\x01\xd3\x3c\x6f\x8f../b.py"),
    "sizes of ZIP64": Entry(name=b"a.py", declared_size=0xFFFFFFFF, extra=b"\x01\x00\x08\x00" + b"\xff" * 8),
    "damaged further field": Entry(name=b"a.py", extra=b"\x01\x00\xff\xff"),
}


@pytest.mark.parametrize("entry", HOSTILE_ENTRIES.values(), ids=HOSTILE_ENTRIES.keys())
def test_hostile_entry_is_refused(unpack: Callable[[bytes], None], tmp_path: Path, entry: Entry) -> None:
    with pytest.raises(ArchiveError) as raised:
        unpack(raw_zip([entry]))

    assert str(raised.value).isprintable()
    assert_nothing_outside(tmp_path)


def test_what_is_no_deflate_stream_is_refused(unpack: Callable[[bytes], None]) -> None:
    archive = raw_zip([Entry(name=b"a.py", data=b"x" * 64, method=DEFLATED)])
    packed = Entry(name=b"a.py", data=b"x" * 64, method=DEFLATED).packed()

    with pytest.raises(ArchiveError):
        unpack(archive.replace(packed, b"\xff" * len(packed)))


def test_entries_that_share_their_bytes_are_refused(unpack: Callable[[bytes], None], tmp_path: Path) -> None:
    """Many files out of one: a bomb that no single entry shows."""
    inner = raw_zip([Entry(name=b"b.py", data=b"x" * 1000)])[: 30 + 4 + 1000]
    outer = Entry(name=b"a.py", data=inner)
    with pytest.raises(ArchiveError, match="share bytes"):
        unpack(raw_zip([outer, Entry(name=b"b.py", data=b"x" * 1000, starts_at=30 + 4)]))

    assert_nothing_outside(tmp_path)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_truncated_archive_is_refused(unpack: Callable[[bytes], None], tmp_path: Path, quarter: int) -> None:
    whole = raw_zip([Entry(name=f"{n}.py".encode(), data=os.urandom(500)) for n in range(4)])
    with pytest.raises(ArchiveError):
        unpack(whole[: len(whole) * quarter // 4])

    assert_nothing_outside(tmp_path)


@pytest.mark.parametrize("archive", [b"", b"PK\5\6", b"<html>", b"\0" * 1000, b"PK\3\4" * 100])
def test_what_is_no_archive_is_refused(unpack: Callable[[bytes], None], archive: bytes) -> None:
    with pytest.raises(ArchiveError):
        unpack(archive)


def test_bomb_is_refused_before_it_fills_the_disk(
    unpack: Callable[[bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are counted as they come out, whatever was declared."""
    monkeypatch.setattr(evaluator_archive, "ARCHIVE_BYTES_MAX", 2**20)
    bomb = [Entry(name=f"{n}.py".encode(), data=bytes(400_000), method=DEFLATED) for n in range(4)]
    with pytest.raises(ArchiveError, match="more than 1 MiB"):
        unpack(raw_zip(bomb))

    written = sum(path.stat().st_size for path in (tmp_path / "inside").rglob("*"))
    assert written < 2**20 + 2**16


def test_bomb_of_one_declared_gigabyte_writes_no_gigabyte(unpack: Callable[[bytes], None], tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        unpack(raw_zip([Entry(name=b"a.py", data=b"x", method=DEFLATED, declared_size=2**30)]))

    assert sum(path.stat().st_size for path in (tmp_path / "inside").rglob("*")) < 2**20


def test_too_many_files_are_refused(unpack: Callable[[bytes], None]) -> None:
    with pytest.raises(ArchiveError, match="more than 1000 files"):
        unpack(raw_zip([Entry(name=f"{n}.py".encode()) for n in range(1001)]))


@pytest.mark.parametrize("count", [None, 1])
def test_endless_directory_takes_no_memory(unpack: Callable[[bytes], None], count: int | None) -> None:
    """A directory of a hundred thousand entries is refused before it is read, also if its end says that it has one."""
    archive = raw_zip([Entry(name=b"play.py")] * 100_000, count=count)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError):
            unpack(archive)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


# ------------------------------------------------------------------------------------------------------ pack and unpack

_PARTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda part: not path_problem(part) and not part.startswith(".")  # hidden files count only if they are named
)
_PATHS = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.dictionaries(_PATHS, st.binary(max_size=2000), min_size=1, max_size=6))
def test_what_is_packed_comes_out_equal(files: dict[str, bytes]) -> None:
    """Equal files and equal versions, for any names that an archive may have; or the packer refuses them."""
    with tempfile.TemporaryDirectory() as place:
        source, target, archive = Path(place, "source"), Path(place, "target"), Path(place, "archive.zip")
        try:
            for path, data in files.items():
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                (source / path).write_bytes(data)
        except OSError:  # a file is a folder of another one, or the name is too long for this disk
            return
        table = EvaluatorTable(python="play:play", files=["**"])
        read = EvaluatorFiles(table, source).read()
        try:
            pack_evaluator(source, read, archive)
        except ArchiveError as error:
            assert "same name" in str(error) or "more than 180 characters" in str(error)
            return
        unpack_evaluator(archive, target)

        assert content_of(target) == content_of(source)
        assert EvaluatorFiles(table, target).version() == EvaluatorFiles(table, source).version()


def test_equal_files_make_equal_archives(tmp_path: Path) -> None:
    """Whenever they were written."""
    archives = []
    for name, at in (("one", 1_000_000_000), ("two", 1_700_000_000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "play.py").write_text("x = 1\n")
        os.utime(folder / "play.py", (at, at))
        files = EvaluatorFiles(EvaluatorTable(python="play:play"), folder).read()
        pack_evaluator(folder, files, tmp_path / f"{name}.zip")
        archives.append((tmp_path / f"{name}.zip").read_bytes())
    assert archives[0] == archives[1]


def test_folder_that_is_packed_may_be_reached_through_link(tmp_path: Path) -> None:
    """The user chose its path; links below it are refused."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "play.py").write_text("x = 1\n")
    link_folder(tmp_path / "link", tmp_path / "source")
    files = EvaluatorFiles(EvaluatorTable(python="play:play"), tmp_path / "link").read()

    pack_evaluator(tmp_path / "link", files, tmp_path / "archive.zip")

    unpack_evaluator(tmp_path / "archive.zip", tmp_path / "target")
    assert content_of(tmp_path / "target") == {"play.py": (tmp_path / "source" / "play.py").read_bytes()}


@posix
def test_program_stays_executable(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    program = tmp_path / "source" / "bot"
    program.write_text("#!/bin/sh\necho played\n")
    program.chmod(0o4755)
    files = EvaluatorFiles(EvaluatorTable(command=["bot"], files=["bot"]), tmp_path / "source").read()
    pack_evaluator(tmp_path / "source", files, tmp_path / "archive.zip")
    unpack_evaluator(tmp_path / "archive.zip", tmp_path / "target")

    unpacked = tmp_path / "target" / "bot"
    assert subprocess.run([unpacked], capture_output=True, text=True, check=True).stdout == "played\n"
    assert stat.S_IMODE(unpacked.stat().st_mode) == 0o755, "no right of another user's"


def test_archive_of_any_zip_program_can_be_unpacked(tmp_path: Path) -> None:
    """What other hosts write: also with data descriptors, without modes, with a newer Zip."""
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("stored.py", "a = 1\n")
        archive.writestr("lib/\N{LATIN SMALL LETTER E WITH ACUTE}.py", "b = 1\n", zipfile.ZIP_DEFLATED)
        info = zipfile.ZipInfo("mode.py")
        info.external_attr = REGULAR
        archive.writestr(info, "c = 1\n")
    unpack_evaluator(tmp_path / "archive.zip", tmp_path / "new")

    assert content_of(tmp_path / "new") == {
        "stored.py": b"a = 1\n",
        "lib/\N{LATIN SMALL LETTER E WITH ACUTE}.py": b"b = 1\n",
        "mode.py": b"c = 1\n",
    }
