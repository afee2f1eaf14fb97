"""When a file of a running generation's folder is complete, unfinished or gone, by the looks at it."""

from collections.abc import Collection, Mapping

import pytest

from pipeline.core.folder_looks import Changes, FolderLooks, Stamp

pytestmark = pytest.mark.rules

OLD, NEW, NEWER = (Stamp(size_bytes=n, modified_ns=n, changed_ns=n) for n in (1, 2, 3))
NOTHING: Changes = Changes([], set(), set())


class Looks:
    """Looks at a folder, one second after the other unless a test says otherwise."""

    def __init__(self, before: Mapping[str, Stamp]) -> None:
        self.looks = FolderLooks(before)
        self.now = 100.0

    def compare(self, look: Mapping[str, Stamp], genomes: Collection[str], *, after_s: float = 1.0) -> Changes:
        self.now += after_s
        return self.looks.compare(look, genomes, self.now)


def test_known_files_are_no_change() -> None:
    looks = Looks({"a": OLD})

    assert looks.compare({"a": OLD}, {"a"}) == NOTHING


def test_new_file_is_complete_after_two_equal_looks() -> None:
    looks = Looks({})

    assert looks.compare({"a": NEW}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": NEW}, ()) == Changes(["a"], set(), set())


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.5])
def test_file_is_not_complete_after_two_looks_that_are_close(after_s: float) -> None:
    """A program that writes it may pause for longer, and the clock of its times may be coarse."""
    looks = Looks({})
    looks.compare({"a": NEW}, ())

    assert looks.compare({"a": NEW}, (), after_s=after_s) == Changes([], {"a"}, set())
    assert looks.compare({"a": NEW}, (), after_s=1.0 - after_s) == Changes(["a"], set(), set())


@pytest.mark.parametrize(
    "grown", [NEW._replace(size_bytes=9), NEW._replace(modified_ns=9), NEW._replace(changed_ns=9)], ids=str
)
def test_file_that_is_still_written_is_unfinished(grown: Stamp) -> None:
    """Size and times must all be the same."""
    looks = Looks({})
    looks.compare({"a": NEW}, ())

    assert looks.compare({"a": grown}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": grown}, ()) == Changes(["a"], set(), set())


def test_complete_file_is_reported_until_it_is_read() -> None:
    """One that could not be read is tried again at the next look; one that was read is done."""
    looks = Looks({})
    for _ in range(2):
        looks.compare({"a": NEW}, ())

    assert looks.compare({"a": NEW}, (), after_s=0.0) == Changes(["a"], set(), set())
    looks.looks.note_read("a")
    assert looks.compare({"a": NEW}, ()) == NOTHING


def test_file_that_was_refused_is_complete_again_when_it_changes() -> None:
    """As when an empty file is filled."""
    looks = Looks({"a": OLD})

    assert looks.compare({"a": NEW}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": NEW}, ()) == Changes(["a"], set(), set())


def test_refused_file_that_is_gone_is_new_when_it_comes_back() -> None:
    looks = Looks({"a": OLD})
    assert looks.compare({}, ()) == NOTHING

    assert looks.compare({"a": OLD}, ()) == Changes([], {"a"}, set())
    assert looks.compare({"a": OLD}, ()) == Changes(["a"], set(), set())


def test_file_of_a_genome_is_gone_after_two_looks() -> None:
    """A program that replaces a file may delete it for a moment."""
    looks = Looks({"a": OLD})

    assert looks.compare({}, {"a"}) == Changes([], {"a"}, set())
    assert looks.compare({}, {"a"}, after_s=0.0) == Changes([], {"a"}, set())
    assert looks.compare({}, {"a"}) == Changes([], set(), {"a"})
    assert looks.compare({}, {"a"}) == Changes([], set(), {"a"})
    assert looks.compare({"a": OLD}, {"a"}) == NOTHING


def test_genome_without_a_file_from_the_begin_is_not_gone() -> None:
    """It was missing when the run was resumed."""
    assert Looks({}).compare({}, {"a"}) == NOTHING


def test_complete_files_are_sorted() -> None:
    looks = Looks({})
    for _ in range(2):
        changes = looks.compare({"b": NEW, "a": NEWER}, ())

    assert changes.complete == ["a", "b"]


def test_file_that_could_not_be_read_is_complete_again() -> None:
    """It is the same as when it was reported, e.g. after another program has closed it."""
    looks = Looks({"a": OLD})
    for _ in range(2):
        looks.compare({"a": OLD, "b": NEW}, ())
    looks.looks.note_read("b")
    assert looks.compare({"a": OLD, "b": NEW}, ()) == NOTHING

    looks.looks.note_unread(["b", "gone"])

    assert not looks.looks.is_as_before({"a": OLD, "b": NEW})
    assert looks.compare({"a": OLD, "b": NEW}, ()) == Changes(["b"], set(), set())
