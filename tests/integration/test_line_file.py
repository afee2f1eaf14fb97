"""A file of lines: appended whole, also after a kill, a power failure or a full disk; read line by line."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.storage.line_file import LineFile, read_lines

BYTES_MAX = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "lines"


@pytest.fixture
def file(path: Path) -> Iterator[LineFile]:
    made = LineFile(path)
    yield made
    made.close()


def contents(path: Path) -> list[bytes | None]:
    return [line.content for line in read_lines(path, BYTES_MAX)]


def test_appended_lines_are_read_in_order(file: LineFile, path: Path) -> None:
    """With their numbers and places; the folder is made with the first one."""
    file.append(b"one\ntwo\n")
    file.append(b"three\n")

    lines = list(read_lines(path, BYTES_MAX))
    assert [(line.number, line.offset, line.content) for line in lines] == [
        (1, 0, b"one"),
        (2, 4, b"two"),
        (3, 8, b"three"),
    ]


def test_lines_are_on_the_disk_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each append is flushed once, after it was written: a power failure then takes no line of a counted result."""
    flushed = list[int]()
    name = "fsync" if sys.platform == "win32" else "fdatasync"
    flush: Callable[[int], None] = getattr(os, name)

    def observed(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_size)
        flush(descriptor)

    monkeypatch.setattr(os, name, observed)
    file = LineFile(path)
    file.append(b"one\n")
    file.append(b"two\n")
    file.close()

    assert flushed == [4, 8]


def test_lines_that_cannot_be_flushed_are_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller counts nothing then, and may append them again."""
    LineFile(path).append(b"one\n")
    with monkeypatch.context() as failing:

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        failing.setattr(os, "fsync" if sys.platform == "win32" else "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            LineFile(path).append(b"two\n")

    assert path.read_bytes() == b"one\n"
    LineFile(path).append(b"two\n")
    assert contents(path) == [b"one", b"two"]


@pytest.mark.parametrize("torn", [b"tw", b"two\nthr", b"\0\0\0\0", b"two\0\0\0"])
def test_line_after_a_torn_one_is_whole(path: Path, torn: bytes) -> None:
    """A kill or a power failure left the beginning of a line, or zeros; a later append is on a line of its own."""
    LineFile(path).append(b"one\n")
    with path.open("ab") as broken:
        broken.write(torn)
    before = contents(path)

    file = LineFile(path)
    file.append(b"four\n")
    file.append(b"five\n")
    file.close()

    assert before[-1] is None
    assert contents(path) == [b"one", *torn.split(b"\n"), b"four", b"five"]


def test_line_without_end_is_none(file: LineFile, path: Path) -> None:
    """It may be in the making."""
    file.append(b"one\n")
    with path.open("ab") as other:
        other.write(b"tw")

    assert contents(path) == [b"one", None]


def test_long_line_is_skipped(file: LineFile, path: Path) -> None:
    """However long it is, at most a little more than the limit is in memory; numbers and places go on rightly."""
    longest = b"x" * BYTES_MAX
    file.append(longest + b"\n" + longest + b"y\n" + longest * 50 + b"\n" + b"last\n")

    lines = list(read_lines(path, BYTES_MAX))
    assert [line.content for line in lines] == [longest, None, None, b"last"]
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert path.read_bytes()[lines[3].offset :] == b"last\n"


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond a size: a write takes what fits, and the next one fails."""
    import resource  # Windows has none

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_partial_write_is_taken_back(file: LineFile, path: Path) -> None:
    """What did not fit leaves nothing of itself; with more room the next append follows the last whole line."""
    file.append(b"one\n")
    with file_size_limit(10), pytest.raises(OSError, match="File too large"):
        file.append(b"two\nthree\nfour\n")
    assert path.read_bytes() == b"one\n"

    file.append(b"two\n")

    assert contents(path) == [b"one", b"two"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_torn_line_that_cannot_be_ended_raises(file: LineFile, path: Path) -> None:
    """The disk is too full for one byte more."""
    path.parent.mkdir()
    path.write_bytes(b"tw")
    with file_size_limit(2), pytest.raises(OSError, match="File too large"):
        file.append(b"three\n")
    file.append(b"three\n")

    assert contents(path) == [b"tw", b"three"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a file that is open")
def test_file_that_was_removed_is_made_again(file: LineFile, path: Path) -> None:
    """What is appended later is not in a file without a name."""
    file.append(b"one\n")
    path.unlink()
    path.parent.rmdir()

    file.append(b"two\n")

    assert contents(path) == [b"two"]


def test_file_is_read_while_it_grows(file: LineFile, path: Path) -> None:
    """A reader that has it open does not keep it from growing, on Windows either."""
    file.append(b"one\n")
    with path.open("rb") as reader:
        assert reader.readline() == b"one\n"
        file.append(b"two\n")
        assert reader.readline() == b"two\n"


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_link_is_refused(file: LineFile, path: Path, tmp_path: Path) -> None:
    """Lines are not appended to another file, and not read from one."""
    path.parent.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"elsewhere\n")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        file.append(b"one\n")
    with pytest.raises(OSError, match="symbolic links"):
        contents(path)
    assert (tmp_path / "elsewhere").read_bytes() == b"elsewhere\n"


@pytest.mark.processes
def test_killed_writer_leaves_whole_lines(path: Path) -> None:
    """Except for the last one, maybe; each writer goes on where the one before was killed."""
    program = (
        "import sys; from pathlib import Path; from pipeline.storage.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]))\n"
        "while True: file.append(b'x' * 90 + b'\\n' + b'y' * 90 + b'\\n'); print(flush=True)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _line in range(20):
            writer.stdout.readline()
        writer.kill()
        writer.stdout.close()
        writer.wait()
    LineFile(path).append(b"end\n")

    found = contents(path)
    whole = [line for line in found if line in (b"x" * 90, b"y" * 90)]
    assert len(whole) >= 2 * 20 * 3
    assert len(found) - len(whole) <= 1 + 3
    assert found[-1] == b"end"
