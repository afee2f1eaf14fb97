"""The check for Windows' limit of 259 characters per path, unless long paths are enabled."""

from pathlib import Path

from inbox_agent.protocol.layout import Kind, attempt_id
from inbox_agent.system.long_paths import IN_A_PROJECT, IN_A_SHARE, PATH_CHARS_MAX, long_paths_enabled, too_long

LONGEST = attempt_id(999_999_999, 999_999_999, 999_999, 999_999, "0" * 12)
ARTIFACT = "a" * 64


def folder_of(length: int) -> Path:
    base = Path("/").absolute()
    return base / ("x" * (length - len(str(base))))


def test_longest_allowed_folder_passes() -> None:
    """With one more character the deepest file could not be opened."""
    fits = PATH_CHARS_MAX - 1 - IN_A_SHARE
    assert too_long(folder_of(fits), IN_A_SHARE, enabled=lambda: False) == ""
    problem = too_long(folder_of(fits + 1), IN_A_SHARE, enabled=lambda: False)
    assert f"with {fits + 1} characters" in problem
    assert f"at most {fits}," in problem
    assert "LongPathsEnabled" in problem


def test_enabled_long_paths_remove_limit() -> None:
    """The limit does not apply to other systems either."""
    assert too_long(folder_of(2000), IN_A_SHARE, enabled=lambda: True) == ""
    assert (too_long(folder_of(2000), IN_A_SHARE) == "") is long_paths_enabled()


def test_deepest_names_match_limits() -> None:
    """An artifact with the longest name, in the share and in the archive."""
    in_share = f"outbox/{Kind.FILES.of(LONGEST)}/{ARTIFACT}"
    in_project = f"results/gen-999999999/attempts/{LONGEST}/files/{ARTIFACT}"
    assert IN_A_SHARE - 10 <= len(in_share) <= IN_A_SHARE
    assert IN_A_PROJECT - 10 <= len(in_project) <= IN_A_PROJECT


def test_long_path_setting_is_read() -> None:
    """It can be read without special rights."""
    assert isinstance(long_paths_enabled(), bool)
