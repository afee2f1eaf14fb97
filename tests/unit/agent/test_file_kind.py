"""Links and plain files, by what `os.lstat` finds on Windows; other systems have no reparse points."""

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from inbox_agent.system import file_kind
from inbox_agent.system.file_kind import is_link, is_regular, open_regular

REPARSE_POINT = 0x400


@dataclass(frozen=True)
class _Found:
    """The fields of `os.stat_result` that Windows has."""

    st_mode: int
    st_file_attributes: int
    st_reparse_tag: int


def found(mode: int, tag: int, attributes: int = REPARSE_POINT) -> os.stat_result:
    return cast("os.stat_result", _Found(mode, attributes, tag))


@pytest.mark.parametrize(
    "tag",
    [
        0xA000000C,  # a symbolic link
        0xA0000003,  # a junction or mount point
        0xA000001D,  # a symbolic link of Linux
        0xA0000019,  # a global reparse point
        0x20004321,  # unknown
        0xFFFFFFFF,
    ],
    ids=hex,
)
def test_name_surrogates_are_links(tag: int) -> None:
    """Whatever Python makes of their mode."""
    for mode in (stat.S_IFREG, stat.S_IFDIR):
        assert is_link(found(mode, tag))
        assert not is_regular(found(mode, tag))


@pytest.mark.parametrize(
    "tag",
    [
        0,  # Python has followed it: the attribute is left, and no tag
        0x80000013,  # deduplicated
        0x80000017,  # compressed (WOF)
        0x9000001A,  # a cloud file, and further states of one
        0x9000601A,
        0x9000F01A,
        0xC0000004,  # on other storage (HSM)
        0x80004321,  # unknown
    ],
    ids=hex,
)
def test_other_reparse_points_are_plain_files(tag: int) -> None:
    """They have their content under their own name."""
    assert not is_link(found(stat.S_IFREG, tag, 0x620))
    assert is_regular(found(stat.S_IFREG, tag, 0x620))
    assert not is_link(found(stat.S_IFDIR, tag))
    assert not is_regular(found(stat.S_IFDIR, tag))


def test_symbolic_link_of_any_system_is_one() -> None:
    """Its mode says so."""
    assert is_link(found(stat.S_IFLNK, 0, 0))


def test_file_of_this_system_is_regular() -> None:
    """Without the fields of Windows, too."""
    assert is_regular(os.lstat(__file__))


@pytest.mark.skipif(sys.platform == "win32", reason="links to files need a right there")
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_link_is_not_opened_where_the_system_would_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    """As on Windows, which has no `O_NOFOLLOW`; a file is opened, or made."""
    monkeypatch.setattr(file_kind, "SAFE_FLAGS", file_kind.SAFE_FLAGS & ~os.O_NOFOLLOW)
    monkeypatch.setattr(file_kind, "FOLLOWS_LINKS", True)
    (tmp_path / "there").write_bytes(b"there")
    for target in ("there", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        with pytest.raises(OSError, match="symbolic links"):
            open_regular(tmp_path / "link", flags)
        (tmp_path / "link").unlink()

    os.close(open_regular(tmp_path / "there", flags))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nowhere")
    os.close(open_regular(tmp_path / "nowhere", os.O_WRONLY | os.O_CREAT))
