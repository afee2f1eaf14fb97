"""The folder of a running generation, with real files: what joins, what is named, and what is waited for."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import facts as f
from pipeline.core.facts import Fact, GenomeAdded, Settlement
from pipeline.core.farm import Farm
from pipeline.core.folder_looks import FolderLooks
from pipeline.core.runs import opening_facts
from pipeline.errors import HostError
from pipeline.host import genome_folder
from pipeline.host.genome_folder import FILES_PER_LOOK_MAX, LOOK_INTERVAL_S, UNFINISHED_WAIT_S, GenomeFolder
from pipeline.storage.snapshots import LOOK_STEP, GenomeFiles, Snapshots
from tests.harness.core import SETTINGS
from tests.harness.other_user import allow_traversal, as_unprivileged_user

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file names and permissions")


class OpenGeneration:
    """A generation whose folder is looked at, on a clock of its own."""

    def __init__(self, root: Path, *genomes: str) -> None:
        self.folder = root / "genomes" / "gen-0001"
        self.folder.mkdir(parents=True)
        self.snapshots = Snapshots(root / "state")
        self.now = 0.0
        self.recorded: list[list[Fact]] = []
        self.before_record: Callable[[], None] = lambda: None
        self.farm = Farm("f00d", ["w0"])
        for name in genomes:
            self.write(name)
        files = GenomeFiles(self.snapshots, self.folder, 1000)
        before = files.look()
        for fact in opening_facts(self.farm, 1, self.snapshots.import_folder(self.folder), SETTINGS, fresh=False):
            self.farm.evolve(fact, 0.0)
        self.files = GenomeFolder(files, self.farm, before, self._record, lambda: self.now)

    def restart(self) -> None:
        """Another host goes on with it."""
        files = GenomeFiles(self.snapshots, self.folder, 1000)
        self.files = GenomeFolder(files, self.farm, files.look(), self._record, lambda: self.now)

    def _record(self, facts: list[Fact]) -> None:
        self.before_record()
        for fact in facts:
            self.farm.evolve(fact, 0.0)
        self.recorded.append(facts)

    def write(self, name: str, data: bytes = b"genome") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def look(self, times: int = 1) -> list[str]:
        """Looks at the folder that many times; returns the names of the genomes that joined."""
        joined: list[Fact] = []
        for _ in range(times):
            self.now += LOOK_INTERVAL_S
            joined += self.files.update(self.farm)
        return [fact.name for fact in joined if isinstance(fact, GenomeAdded)]

    def settle(self) -> None:
        """Settles every open trial."""
        for genome in self.farm.genomes:
            for trial in genome.trials:
                if trial.settlement is None:
                    skipped = f.TrialSettled(genome=genome.number, trial=trial.number, settlement=Settlement.SKIPPED)
                    self.farm.evolve(skipped, 0.0)

    @property
    def not_counted(self) -> list[str]:
        """The lines about files, without the path of the folder."""
        return [line.replace(f"{self.folder}{os.sep}", "") for line in self.files.notes.not_counted]


@pytest.fixture
def generation(tmp_path: Path) -> OpenGeneration:
    """A generation of one genome, in a folder with one file."""
    return OpenGeneration(tmp_path, "first")


# ---------------------------------------------------------------- files that join


def test_file_in_the_making_at_a_restart_joins_when_it_is_complete(tmp_path: Path) -> None:
    """It came while no host was running; a part of it is never taken for a genome."""
    generation = OpenGeneration(tmp_path, "a")
    generation.settle()
    generation.write("b", b"half of")
    generation.restart()
    assert generation.look() == []
    assert generation.files.is_open(generation.farm)

    generation.write("b", b"half of it, and the rest")

    assert generation.look() == []
    assert generation.look() == ["b"]
    assert generation.farm.genomes[1].size_bytes == 24


def test_new_file_joins_at_the_second_look(generation: OpenGeneration) -> None:
    """With its bytes in the snapshot."""
    generation.write("late", b"late genome")

    assert generation.look() == []
    assert generation.look() == ["late"]
    assert generation.look(3) == []
    assert generation.farm.genomes[1].sha256 == hashlib.sha256(b"late genome").hexdigest()
    assert Path(generation.snapshots.path(generation.farm.genomes[1].sha256)).read_bytes() == b"late genome"
    assert generation.files.notes == genome_folder.FileNotes()


def test_snapshot_is_stored_before_the_genome_is_recorded(generation: OpenGeneration) -> None:
    """A host that is killed in between has a snapshot too many, and no genome without its bytes."""
    path = Path(generation.snapshots.path(hashlib.sha256(b"late genome").hexdigest()))
    found: list[bytes] = []
    generation.before_record = lambda: found.append(path.read_bytes())
    generation.write("late", b"late genome")

    generation.look(2)

    assert found == [b"late genome"]


def test_genome_that_could_not_be_recorded_does_not_join(generation: OpenGeneration) -> None:
    def fail() -> None:
        raise HostError("disk full")

    generation.before_record = fail
    generation.write("late")

    with pytest.raises(HostError, match="disk full"):
        generation.look(2)
    assert len(generation.farm.genomes) == 1


def test_file_in_the_making_is_not_taken_in_half(generation: OpenGeneration) -> None:
    with open(generation.folder / "late", "wb", buffering=0) as late:
        for part in (b"one ", b"two ", b"three"):
            late.write(part)
            assert generation.look() == []
    generation.look()

    assert generation.farm.genomes[1].sha256 == hashlib.sha256(b"one two three").hexdigest()


def test_file_that_was_renamed_in_joins(generation: OpenGeneration) -> None:
    """Its temporary name is ignored."""
    for name in (".late", "late.tmp", "late.part", "late.PARTIAL", "late.filepart", "late.crdownload", "~$late"):
        temporary = generation.write(name)
        assert generation.look(2) == []
        os.replace(temporary, generation.folder / f"renamed from {name.strip('.~$')}{len(name)}")
        assert len(generation.look(2)) == 1
    assert generation.not_counted == []


def test_many_files_join_in_several_steps(generation: OpenGeneration) -> None:
    """The control loop goes on in between; the next step is due at once."""
    for number in range(FILES_PER_LOOK_MAX + 1):
        generation.write(f"late{number:04d}")
    generation.look()

    assert len(generation.look()) == FILES_PER_LOOK_MAX
    assert generation.files.wait_s(generation.farm) == 0
    assert [fact.name for fact in generation.files.update(generation.farm) if isinstance(fact, GenomeAdded)] == [
        f"late{FILES_PER_LOOK_MAX:04d}"
    ]
    assert generation.files.wait_s(generation.farm) > 0


def test_folder_is_not_looked_at_before_the_next_look_is_due(generation: OpenGeneration) -> None:
    generation.look()
    generation.write("late")

    assert generation.files.wait_s(generation.farm) == LOOK_INTERVAL_S
    for _ in range(3):
        assert generation.files.update(generation.farm) == []


# ---------------------------------------------------------------- files that do not


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda path: path.touch(),
            "not counted: late: it is empty, and a genome has at least one byte; write it or remove it",
        ),
        (
            lambda path: path.mkdir(),
            "not counted: late: a folder; a generation is a flat folder of files, move it away",
        ),
        (
            lambda path: path.write_bytes(b"x" * 1001),
            "not counted: late: 1001 bytes, allowed are 1000; raise [generation] genome_bytes_max or remove it",
        ),
        pytest.param(
            lambda path: path.symlink_to("first"), "not counted: late: a link; put the file itself there", marks=posix
        ),
    ],
    ids=["empty", "folder", "large", "link"],
)
def test_invalid_file_is_named_once(
    generation: OpenGeneration, spoil: Callable[[Path], None], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the rules of the start of a run, and without an effect on it."""
    spoil(generation.folder / "late")

    with caplog.at_level(logging.WARNING):
        assert generation.look(5) == []

    assert generation.not_counted == [line]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@posix
def test_name_with_control_characters_is_named_in_one_line(generation: OpenGeneration) -> None:
    generation.write("a\nb")
    generation.look(2)

    (line,) = generation.not_counted
    assert line.endswith("control characters or broken Unicode in its name; rename it")
    assert line.isprintable()


@posix
def test_unreadable_file_is_named(generation: OpenGeneration) -> None:
    allow_traversal(generation.folder)
    generation.write("late").chmod(0)

    with as_unprivileged_user():
        generation.look(2)

    assert generation.not_counted == [
        "not counted: late: cannot be read: Permission denied; correct its rights or remove it"
    ]


def test_invalid_file_that_is_corrected_joins(generation: OpenGeneration) -> None:
    """Nothing more is said of it, and nothing of one that was removed."""
    generation.write("late", b"")
    generation.write("gone", b"")
    generation.look(2)
    assert len(generation.not_counted) == 2

    generation.write("late", b"late genome")
    (generation.folder / "gone").unlink()

    assert generation.look(2) == ["late"]
    assert generation.not_counted == []


# ---------------------------------------------------------------- files of genomes that change

CHANGED = (
    "first was changed after it was read; the run plays the bytes that it had read; "
    "`pipeline run --gen 1 --only first` plays the new ones"
)


def test_changed_file_is_named_once(generation: OpenGeneration, caplog: pytest.LogCaptureFixture) -> None:
    """The snapshot stays, and the new bytes are not copied."""
    generation.write("first", b"other")

    with caplog.at_level(logging.WARNING):
        generation.look(4)
        generation.write("first", b"yet another")
        generation.look(4)

    assert generation.not_counted == [CHANGED]
    assert len(caplog.records) == 1
    assert generation.farm.genomes[0].sha256 == hashlib.sha256(b"genome").hexdigest()
    assert not Path(generation.snapshots.path(hashlib.sha256(b"other").hexdigest())).exists()


@pytest.mark.parametrize("size", [0, 1001])
def test_file_that_is_no_genome_any_more_is_changed(generation: OpenGeneration, size: int) -> None:
    generation.write("first", b"x" * size)
    generation.look(2)

    assert generation.not_counted == [CHANGED]


def test_file_with_the_same_bytes_is_not_changed(generation: OpenGeneration) -> None:
    """It was saved again, or put back."""
    generation.write("first", b"genome")
    os.utime(generation.folder / "first", (1, 1))
    generation.look(2)
    assert generation.not_counted == []

    generation.write("first", b"other")
    generation.look(2)
    generation.write("first", b"genome")
    generation.look(2)
    assert generation.not_counted == []


def test_file_with_a_space_is_quoted_in_the_command(tmp_path: Path) -> None:
    generation = OpenGeneration(tmp_path, "a b")
    generation.write("a b", b"other")
    generation.look(2)

    assert '--only "a b"` plays' in generation.not_counted[0]


def test_deleted_file_is_named_once(generation: OpenGeneration, caplog: pytest.LogCaptureFixture) -> None:
    """All that is in the folder is counted. When it is there again, nothing is said of it."""
    (generation.folder / "first").unlink()
    with caplog.at_level(logging.WARNING):
        generation.look(4)

    line = "first was deleted after it was read; the run plays the bytes that it had read"
    assert generation.files.notes == genome_folder.FileNotes(deleted=(line,))
    assert [record.getMessage() for record in caplog.records] == [line]
    generation.write("first", b"genome")
    generation.look(2)
    assert generation.files.notes == genome_folder.FileNotes()


def test_file_that_joined_and_changes_is_named(generation: OpenGeneration) -> None:
    late = generation.write("late")
    generation.look(2)
    late.write_bytes(b"other")
    generation.look(2)

    assert generation.not_counted == [CHANGED.replace("first", "late")]


# ---------------------------------------------------------------- the end of a run


def test_run_is_open_until_the_look_after_the_last_trial(generation: OpenGeneration) -> None:
    """That look is due at once."""
    generation.look()
    assert generation.files.is_open(generation.farm)

    generation.settle()

    assert generation.files.is_open(generation.farm)
    assert generation.files.wait_s(generation.farm) == 0
    assert generation.files.update(generation.farm) == []
    assert not generation.files.is_open(generation.farm)


def test_file_that_arrives_before_the_last_look_joins(generation: OpenGeneration) -> None:
    """And once it is played another look follows."""
    generation.look()
    generation.write("late")
    generation.settle()

    assert generation.files.update(generation.farm) == []
    assert generation.files.is_open(generation.farm)
    assert generation.look() == ["late"]
    assert generation.files.is_open(generation.farm)
    generation.settle()
    assert generation.files.wait_s(generation.farm) == 0
    generation.files.update(generation.farm)
    assert not generation.files.is_open(generation.farm)


def test_file_in_the_making_is_waited_for_and_named(generation: OpenGeneration) -> None:
    """For a bounded time."""
    generation.settle()
    for number in range(round(UNFINISHED_WAIT_S / LOOK_INTERVAL_S)):
        generation.write("late", b"x" * (1 + number))
        generation.look()
        assert generation.files.is_open(generation.farm)
    generation.write("late", b"")
    generation.look()

    assert not generation.files.is_open(generation.farm)
    assert generation.not_counted == ["not counted: late was still being written at the end; the same command plays it"]


def test_genome_that_is_being_changed_at_the_end_is_named_as_changed(generation: OpenGeneration) -> None:
    generation.settle()
    for number in range(round(UNFINISHED_WAIT_S / LOOK_INTERVAL_S) + 2):
        generation.write("first", b"x" * (1 + number))
        generation.look()

    assert not generation.files.is_open(generation.farm)
    assert generation.not_counted == [CHANGED]


def test_folder_that_cannot_be_listed_is_not_empty(generation: OpenGeneration) -> None:
    """It is waited for, and then named; no file is reported as deleted."""
    away = generation.folder.rename(generation.folder.with_name("away"))
    generation.folder.write_bytes(b"")  # a file in its place: listing it fails
    generation.settle()
    generation.look(3)

    assert generation.files.is_open(generation.farm)
    assert generation.files.notes.deleted == ()
    assert generation.not_counted == [f"not counted: what was put into {generation.folder} since: Not a directory"]
    generation.folder.unlink()
    away.rename(generation.folder)
    generation.look()
    assert not generation.files.is_open(generation.farm)
    assert generation.files.notes == genome_folder.FileNotes()


def test_missing_folder_is_not_waited_for(generation: OpenGeneration) -> None:
    """One line, not one for each genome."""
    generation.write("late")
    generation.look()
    generation.folder.rename(generation.folder.with_name("away"))
    generation.settle()
    generation.look(3)

    assert not generation.files.is_open(generation.farm)
    assert len(generation.not_counted) == 1
    assert generation.files.notes.deleted == ()


def test_look_at_many_files_is_made_in_steps(generation: OpenGeneration) -> None:
    """Other things have their turn between them; at the end the look counts as a whole."""
    for number in range(2 * LOOK_STEP):
        generation.write(f"n{number:04d}")
    generation.now += LOOK_INTERVAL_S
    for _ in range(2):
        assert generation.files.update(generation.farm) == []
        assert generation.files.wait_s(generation.farm) == 0
    assert generation.files.update(generation.farm) == []
    assert generation.files.wait_s(generation.farm) == LOOK_INTERVAL_S


def test_look_that_began_before_the_last_trial_was_settled_is_not_the_last(generation: OpenGeneration) -> None:
    """A file that is put into a part of the folder that it has passed would be missed."""
    for number in range(2 * LOOK_STEP):
        generation.write(f".ignored{number}")
    generation.now += LOOK_INTERVAL_S
    generation.files.update(generation.farm)
    generation.settle()
    for _ in range(2):
        generation.files.update(generation.farm)

    assert generation.files.is_open(generation.farm)
    for _ in range(3):
        generation.files.update(generation.farm)
    assert not generation.files.is_open(generation.farm)


def test_folder_that_stays_as_it_is_costs_no_comparison(
    generation: OpenGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every file with what was known of it."""
    generation.look(2)
    monkeypatch.setattr(FolderLooks, "compare", None)
    generation.look(3)
