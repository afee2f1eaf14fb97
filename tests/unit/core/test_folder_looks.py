"""When a file of a running generation's folder is complete, unfinished or gone, by the looks at it."""

import pytest

from pipeline.core.folder_looks import Changes, FolderLooks, Stamp

pytestmark = pytest.mark.rules

OLD, NEW, NEWER = (Stamp(size_bytes=n, modified_ns=n, changed_ns=n) for n in (1, 2, 3))
NOTHING: Changes = Changes([], set(), set())


def test_known_files_are_no_change() -> None:
    looks = FolderLooks({"a": OLD})

    assert looks.compare({"a": OLD}, {"a"}) == NOTHING


def test_new_file_is_complete_after_two_equal_looks() -> None:
    looks = FolderLooks({})

    assert looks.compare({"a": NEW}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": NEW}, ()) == Changes(["a"], set(), set())


@pytest.mark.parametrize(
    "grown", [NEW._replace(size_bytes=9), NEW._replace(modified_ns=9), NEW._replace(changed_ns=9)], ids=str
)
def test_file_that_is_still_written_is_unfinished(grown: Stamp) -> None:
    """Size and times must all be the same."""
    looks = FolderLooks({})
    looks.compare({"a": NEW}, ())

    assert looks.compare({"a": grown}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": grown}, ()) == Changes(["a"], set(), set())


def test_complete_file_is_reported_until_it_is_read() -> None:
    """One that could not be read is tried again at the next look; one that was read is done."""
    looks = FolderLooks({})
    for _ in range(2):
        looks.compare({"a": NEW}, ())

    assert looks.compare({"a": NEW}, ()) == Changes(["a"], set(), set())
    looks.note_read("a")
    assert looks.compare({"a": NEW}, ()) == NOTHING


def test_file_that_was_refused_is_complete_again_when_it_changes() -> None:
    """As when an empty file is filled."""
    looks = FolderLooks({"a": OLD})

    assert looks.compare({"a": NEW}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": NEW}, ()) == Changes(["a"], set(), set())


def test_refused_file_that_is_gone_is_new_when_it_comes_back() -> None:
    looks = FolderLooks({"a": OLD})
    assert looks.compare({}, ()) == NOTHING

    looks.compare({"a": OLD}, ())
    assert looks.compare({"a": OLD}, ()) == Changes(["a"], set(), set())


def test_file_of_a_genome_is_gone_after_two_looks() -> None:
    """A program that replaces a file may delete it for a moment."""
    looks = FolderLooks({"a": OLD})

    assert looks.compare({}, {"a"}) == Changes([], {"a"}, set())
    assert looks.compare({}, {"a"}) == Changes([], set(), {"a"})
    assert looks.compare({}, {"a"}) == Changes([], set(), {"a"})
    assert looks.compare({"a": OLD}, {"a"}) == NOTHING


def test_genome_without_a_file_from_the_begin_is_not_gone() -> None:
    """It was missing when the run was resumed."""
    assert FolderLooks({}).compare({}, {"a"}) == NOTHING


def test_complete_files_are_sorted() -> None:
    looks = FolderLooks({})
    for _ in range(2):
        changes = looks.compare({"b": NEW, "a": NEWER}, ())

    assert changes.complete == ["a", "b"]
