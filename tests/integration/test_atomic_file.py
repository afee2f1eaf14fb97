"""Local files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from inbox_agent.system import atomic_file
from inbox_agent.system.atomic_file import made_folder, new_file, replace_file, write_all


@pytest.mark.parametrize("durable", [False, True])
def test_file_is_replaced(tmp_path: Path, durable: bool) -> None:
    """Nothing else is left in its folder."""
    path = tmp_path / "live.json"
    for data in (b"first", b"second, and longer", b""):
        replace_file(path, data, durable=durable)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_file_of_the_longest_name_is_replaced(tmp_path: Path) -> None:
    """The hidden file beside it has a shorter name."""
    path = tmp_path / ("ü" * 127)
    replace_file(path, b"data")
    assert path.read_bytes() == b"data"


def test_failed_write_keeps_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the new content is left, whatever ended the call."""
    path = tmp_path / "live.json"
    replace_file(path, b"old")

    for error in (OSError("full"), KeyboardInterrupt()):

        def fill_up(descriptor: int, data: bytes, error: BaseException = error) -> None:
            os.write(descriptor, data[:1])
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(atomic_file, "write_all", fill_up)
            with pytest.raises(type(error)):
                replace_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_failed_block_takes_new_files_back(tmp_path: Path) -> None:
    """Also the folders above, but none that was there and none that has other files."""
    (tmp_path / "there").mkdir()
    with (
        pytest.raises(KeyboardInterrupt),
        made_folder(tmp_path / "there/a/b"),
        made_folder(tmp_path / "c"),
        new_file(tmp_path / "there/a/b/file", b"data"),
    ):
        assert (tmp_path / "there/a/b/file").read_bytes() == b"data"
        (tmp_path / "c/of-another-program").touch()
        raise KeyboardInterrupt
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "c",
        "c/of-another-program",
        "there",
    ]


def test_block_keeps_new_files(tmp_path: Path) -> None:
    with made_folder(tmp_path / "a/b"), new_file(tmp_path / "a/b/file", b"data"):
        pass
    assert (tmp_path / "a/b/file").read_bytes() == b"data"


def test_data_is_written_in_as_many_parts_as_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    with (tmp_path / "file").open("wb", buffering=0) as file:
        write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
