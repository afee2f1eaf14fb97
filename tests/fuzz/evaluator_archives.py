"""Archives of deployed evaluators: whatever is in one, nothing is written outside of its folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from inbox_agent.evaluator_archive import ArchiveError, path_problem, unpack_evaluator
from tests.fuzz.target import FuzzTarget
from tests.harness.raw_zip import DEFLATED, ENCRYPTED, UTF8, Entry, raw_zip


def _decode(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-archive-") as place:
        archive, folder = Path(place, "archive.zip"), Path(place, "inside", "new")
        archive.write_bytes(data)
        try:
            unpack_evaluator(archive, folder)
        finally:
            assert {path.name for path in Path(place).iterdir()} <= {"archive.zip", "inside"}
            assert {path.name for path in Path(place, "inside").glob("*")} <= {"new"}
        for path in folder.rglob("*"):
            assert not path.is_symlink()
            assert path.is_file() or path.is_dir()
            assert not path_problem(path.relative_to(folder).as_posix())


def _seeds() -> Iterator[bytes]:
    play, part = Entry(name=b"play.py", data=b"x = 1\n"), Entry(name=b"lib/part.py", data=b"y" * 300, method=DEFLATED)
    whole = raw_zip([play, part])
    yield whole
    yield whole[: len(whole) // 2]
    yield raw_zip([play, part], comment=b"comment")
    yield raw_zip([play], count=0)
    yield raw_zip([play, Entry(name=b"../evil.py"), Entry(name=b"PLAY.py"), Entry(name=b"play.py/a")])
    yield raw_zip([Entry(name=b"a", flags=UTF8 | ENCRYPTED), Entry(name=b"b", method=12)])
    yield raw_zip([Entry(name=b"a", data=b"/etc", external=0o120777 << 16), Entry(name=b"a/b")])
    yield raw_zip([Entry(name=b"a", data=b"x", declared_size=2**31, extra=b"\x01\x00\x08\x00" + b"\xff" * 8)])
    yield raw_zip([Entry(name=b"a", data=b"x", starts_at=2**31)])
    yield b""


TARGET = FuzzTarget(_decode, (ArchiveError,), _seeds)
