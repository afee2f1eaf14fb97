"""Local files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from inbox_agent.system import atomic_file
from inbox_agent.system.atomic_file import replace_file, write_all


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
    """The part that was written is hidden, and overwritten by the next call."""
    path = tmp_path / "live.json"
    replace_file(path, b"old")

    def fill_up(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:1])
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "write_all", fill_up)
        with pytest.raises(OSError, match="full"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == ["live.json"]

    replace_file(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_data_is_written_in_as_many_parts_as_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    with (tmp_path / "file").open("wb", buffering=0) as file:
        write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
