"""Which files count for an evaluator, on a real disk: defaults, patterns, links, limits, and what is read again."""

import os
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.arguments import LOCK
from inbox_agent.evaluation.version import changed_files
from inbox_agent.evaluator_files import EvaluatorFiles, EvaluatorFilesError, FileLimits, open_to_read
from inbox_agent.settings import EvaluatorTable
from pipeline.paths import ProjectPaths
from tests.harness.other_user import allow_traversal, as_unprivileged_user

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")

PYTHON = {"python": "play:play"}
COMMAND = {"command": ["python", "play.py", "{genome}"]}


class CountedOpens:
    """Opens files, and notes their names. `before` and `after` run around each, to interfere with it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.before: Callable[[str], object] = lambda path: None
        self.after: Callable[[str], object] = lambda path: None

    def __call__(self, path: str) -> int:
        self.names.append(os.path.basename(path))
        self.before(path)
        descriptor = open_to_read(path)
        self.after(path)
        return descriptor

    def taken(self) -> list[str]:
        """The names since the last call, sorted."""
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an evaluator, with one module."""
    folder = tmp_path / "game"
    write(folder, "play.py")
    return folder


@pytest.fixture
def opens() -> CountedOpens:
    return CountedOpens()


def write(folder: Path, *paths: str) -> None:
    """Files, each with its own path as content."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def later() -> float:
    """A time at which no file of the test is new."""
    return time.time() + 3600


def evaluator_files(folder: Path, table: dict[str, Any], **keys: Any) -> EvaluatorFiles:
    return EvaluatorFiles(EvaluatorTable(**table), folder, **{"now": later} | keys)


def counted(folder: Path, **table: Any) -> list[str]:
    """The paths of the files that count."""
    return sorted(evaluator_files(folder, table).read())


def problem(folder: Path, table: dict[str, Any], **keys: Any) -> str:
    """The error, without the folder at its start."""
    with pytest.raises(EvaluatorFilesError) as error:
        evaluator_files(folder, table, **keys).read()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{folder}: ")
    return str(error.value).removeprefix(f"{folder}: ")


def test_all_modules_count(folder: Path) -> None:
    """Python imports any of them; path with `/` -> SHA-256 of the content."""
    write(folder, "game/rules/moves.py", "levels.json", "game/sprites.png")

    assert evaluator_files(folder, PYTHON).read() == {
        path: sha256(path.encode()).hexdigest() for path in ("play.py", "game/rules/moves.py")
    }


def test_files_that_command_names_count(folder: Path) -> None:
    """Its program and its arguments, as they are written; `./` is no part of a name."""
    write(folder, "bin/player", "levels/1.json", "levels/2.json", "other.json")
    command = ["./bin/player", "levels/1.json", "--level", "levels/../levels/2.json", "{genome}"]

    assert counted(folder, command=command) == ["bin/player", "levels/../levels/2.json", "levels/1.json", "play.py"]


def test_file_elsewhere_counts_if_command_names_it(folder: Path, tmp_path: Path) -> None:
    """With its whole path, which is the same in the command of each worker."""
    write(tmp_path / "library", "engine.bin")
    engine = tmp_path / "library" / "engine.bin"

    assert counted(folder, command=[str(engine), "play.py"]) == sorted([engine.as_posix(), "play.py"])


def test_argument_that_names_no_file_does_not_count(folder: Path) -> None:
    """Programs of the system, options, code, folders, text that cannot be a path."""
    write(folder, "levels/1.json")
    arguments = ["-c", "import play\nplay.play()", "levels", "", "a\0b", "\ud800", "x" * 5000, "--level=levels/1.json"]

    assert counted(folder, command=["some-program", *arguments]) == ["play.py"]


@posix
def test_device_as_argument_does_not_count(folder: Path) -> None:
    """It has no content to compare."""
    assert counted(folder, command=["python", "play.py", "/dev/null"]) == ["play.py"]


def test_python_means_interpreter(folder: Path) -> None:
    """As it does when the game is started; a file of that name is not what runs."""
    write(folder, "python")

    assert counted(folder, **COMMAND) == ["play.py"]


@pytest.mark.parametrize(
    "path",
    [
        "genomes/gen-0001/a.py",
        "results/gen-0001/attempts/x/files/a.py",
        "state/local/a.py",
        "__pycache__/a.py",
        "game/__pycache__/a.py",
        "game/node_modules/x/a.py",
        ".git/hooks/a.py",
        "game/.ipynb_checkpoints/a.py",
        "game/.#rules.py",
        "game/._rules.py",
        "game/rules.py~",
        "game/rules.py.orig",
        "game/rules.pyc",
        "game/#rules.py#",
    ],
)
def test_file_of_other_programs_does_not_count(folder: Path, path: str) -> None:
    """Of the farm, of tools, of editors that keep a lock or a copy beside a module."""
    write(folder, path)

    assert counted(folder, **PYTHON) == ["play.py"]


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_virtual_environment_does_not_count(folder: Path, mark: str) -> None:
    """Whatever its name is."""
    write(folder, f"tools/env/{mark}", "tools/env/lib/site-packages/x.py", "tools/own.py")

    assert counted(folder, **PYTHON) == ["play.py", "tools/own.py"]


def test_folder_that_is_virtual_environment_itself_counts(folder: Path) -> None:
    """Else no module of it would."""
    write(folder, "pyvenv.cfg")

    assert counted(folder, **PYTHON) == ["play.py"]


def test_folder_named_results_below_counts(folder: Path) -> None:
    """Only the farm's own ones, directly in the folder, are left out."""
    write(folder, "game/results/table.py", "game/state/x.py", "game/genomes/__init__.py")

    assert len(counted(folder, **PYTHON)) == 4


def test_project_below_does_not_count(folder: Path) -> None:
    """A program may open a farm in a subfolder; the genomes and artifacts there may be Python files."""
    write(folder, "runs/1/state/local/local-0/scratch/genome.py", "runs/1/evaluator.py")
    write(folder, "runs/1/genomes/gen-0001/a.py", "runs/1/results/gen-0001/attempts/x/files/a.py")
    ProjectPaths(folder / "runs" / "1").lock.touch()

    assert counted(folder, **PYTHON) == ["play.py", "runs/1/evaluator.py"]


def test_state_folder_of_agent_does_not_count(folder: Path) -> None:
    """Its scratch folder has each genome in turn, which may be a Python file."""
    write(folder, f"notes/{LOCK}", "notes/scratch/genome.py")

    assert counted(folder, **PYTHON) == ["play.py"]


def test_named_file_in_skipped_folder_counts(folder: Path) -> None:
    """Because it is played."""
    write(folder, "state/player.py")

    assert counted(folder, command=["python", "state/player.py"]) == ["play.py", "state/player.py"]


def test_patterns_say_which_files_count(folder: Path) -> None:
    """And no other one: neither modules nor what the command names. Two patterns may match one file."""
    write(folder, "bots/a.lua", "bots/old/b.lua", "bots/old/b.txt", "levels/1.json", "levels/2.json")
    patterns = ["bots/**/*.lua", "**/a.lua", "./levels/[1]*"]

    assert counted(folder, **COMMAND, files=patterns) == ["bots/a.lua", "bots/old/b.lua", "levels/1.json"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("**", ["a/b/c.lua", "a/c.lua", "play.py"]),
        ("a/**", ["a/b/c.lua", "a/c.lua"]),
        ("**/**/c.lua", ["a/b/c.lua", "a/c.lua"]),
        ("**/b/**/c.lua", ["a/b/c.lua"]),
        ("*/?.lua", ["a/c.lua"]),
        ("a/b/c.lua", ["a/b/c.lua"]),
        ("a/**/b/../../play.py", None),
        ("[!a]*", ["play.py"]),
    ],
)
def test_wildcards_match_names_and_folders(folder: Path, pattern: str, matched: list[str] | None) -> None:
    """`*` within a name, `**` any number of folders, none included; no pattern leaves the folder."""
    write(folder, "a/b/c.lua", "a/c.lua")

    if matched is None:
        with pytest.raises(ValueError, match="cannot leave"):
            counted(folder, **PYTHON, files=[pattern])
    else:
        assert counted(folder, **PYTHON, files=[pattern]) == matched


@pytest.mark.parametrize("path", [".github/a.lua", "state/a.lua", "x/node_modules/a.lua", "x/.a.lua"])
def test_pattern_with_name_reaches_what_wildcards_skip(folder: Path, path: str) -> None:
    """A name that is written out is meant."""
    write(folder, path, "b.lua")
    start, _, name = path.rpartition("/")
    pattern = f"{start}/.*" if name.startswith(".") else f"{start}/*"

    assert counted(folder, **PYTHON, files=["**/*.lua"]) == ["b.lua"]
    assert counted(folder, **PYTHON, files=[pattern]) == [path]


def test_case_of_names_counts(folder: Path) -> None:
    """On Windows as on Linux, so that both find the same files."""
    write(folder, "a.lua")

    assert problem(folder, {**PYTHON, "files": ["*.LUA"]}).startswith("no file matches '*.LUA' of `files`")


def test_pattern_without_match_is_error(folder: Path) -> None:
    """It is probably misspelt; a folder is no file."""
    write(folder, "bots/a.lua")

    assert (
        problem(folder, {**PYTHON, "files": ["*.py", "bot/*.lua"]})
        == "no file matches 'bot/*.lua' of `files` in [evaluator]; correct the pattern"
    )
    assert (
        problem(folder, {**PYTHON, "files": ["bots"]})
        == "no file matches 'bots' of `files` in [evaluator]; it is a folder, write bots/** for the files in it"
    )


@posix
def test_linked_file_counts_by_its_content(folder: Path, tmp_path: Path) -> None:
    """A change of the file that it leads to changes the version."""
    write(tmp_path, "shared.py")
    (folder / "shared.py").symlink_to(tmp_path / "shared.py")
    files = evaluator_files(folder, PYTHON)
    before = files.read()

    (tmp_path / "shared.py").write_text("changed")

    assert before["shared.py"] == sha256(b"shared.py").hexdigest()
    assert changed_files(before, files.read()) == ["shared.py differs"]


@posix
def test_linked_folder_is_not_entered(folder: Path, tmp_path: Path) -> None:
    """It may lead to its own parent, or to a whole disk; a pattern that names it does enter it."""
    write(tmp_path, "library/x.py")
    (folder / "library").symlink_to(tmp_path / "library")
    (folder / "loop").symlink_to(folder)

    assert counted(folder, **PYTHON) == ["play.py"]
    assert counted(folder, **PYTHON, files=["library/**/*.py"]) == ["library/x.py"]


@posix
@pytest.mark.parametrize("target", ["nothing", "gone.py"])
@pytest.mark.parametrize("table", [PYTHON, {"command": ["gone.py"]}, {**PYTHON, "files": ["gone.*"]}])
def test_link_to_nothing_is_error(folder: Path, target: str, table: dict[str, Any]) -> None:
    """Also one to itself: what the game would do with it is unknown."""
    (folder / "gone.py").symlink_to(folder / target)

    assert problem(folder, table).startswith("gone.py is a link that leads to no file: ")
    assert problem(folder, table).endswith("; correct or remove the link")


@posix
def test_lock_of_editor_is_no_error(folder: Path) -> None:
    """Emacs keeps a link to nothing beside a file with unsaved changes."""
    (folder / ".#play.py").symlink_to("user@host.1234")

    assert counted(folder, **PYTHON) == ["play.py"]


@posix
@pytest.mark.parametrize("table", [PYTHON, COMMAND, {**PYTHON, "files": ["play.py"]}])
def test_unreadable_file_is_named(folder: Path, table: dict[str, Any]) -> None:
    """The line says what to do."""
    allow_traversal(folder)
    (folder / "play.py").chmod(0)

    with as_unprivileged_user():
        line = problem(folder, table)

    assert line.startswith("play.py cannot be read: Permission denied; correct its rights, or say which files count")


@posix
def test_unreadable_folder_is_named(folder: Path) -> None:
    """It may have modules."""
    allow_traversal(folder)
    (folder / "secret").mkdir(mode=0)

    with as_unprivileged_user():
        line = problem(folder, PYTHON)

    assert line.startswith(f"the folder {folder / 'secret'} cannot be listed: Permission denied; correct its rights")


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("table", [PYTHON, {"command": ["pipe.py"]}, {**PYTHON, "files": ["pipe.*"]}])
def test_fifo_is_error_and_does_not_block(folder: Path, table: dict[str, Any]) -> None:
    """Opening it would wait for a writer."""
    os.mkfifo(folder / "pipe.py")

    assert problem(folder, table).startswith("pipe.py is no regular file; remove it, or ")


@posix
@pytest.mark.timeout(20)
def test_file_that_becomes_fifo_does_not_block(folder: Path, opens: CountedOpens) -> None:
    """Between the look at it and the read."""

    def replace(path: str) -> None:
        os.unlink(path)
        os.mkfifo(path)

    opens.before = replace

    assert problem(folder, PYTHON, open_file=opens).startswith("play.py is no regular file")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_name_that_is_no_utf8_counts(folder: Path) -> None:
    """It has a version, and a message shows it."""
    before = evaluator_files(folder, PYTHON)
    old, files = before.version(), before.read()
    Path(os.fsdecode(os.fsencode(folder) + b"/bot\xe9.py")).write_bytes(b"")
    after = evaluator_files(folder, PYTHON)

    assert after.version() != old
    assert changed_files(files, after.read()) == [r"bot\udce9.py is new"]
    assert r"bot\udce9.py" in problem(folder, {**PYTHON, "files": ["bot*", "bot\udce9.py/x"]})


def test_too_many_files_are_refused_early(folder: Path) -> None:
    """After one file more than allowed, and not after all of them: the limit of names is not reached."""
    write(folder, *(f"module_{number}.py" for number in range(500)))

    line = problem(folder, PYTHON, limits=FileLimits(files_max=10, names_max=20))

    assert line == (
        'more than 10 files count for the evaluator; say which files count with `files = ["bots/**/*.lua"]` '
        "in [evaluator], or set `version` there"
    )


def test_search_of_too_many_names_ends(folder: Path) -> None:
    """Also if none of them counts. A pattern that names its folders needs no search."""
    write(folder, *(f"frames/{number}.png" for number in range(200)))
    limits = FileLimits(names_max=100)

    assert problem(folder, PYTHON, limits=limits).startswith("more than 100 names were searched for the evaluator's")
    assert evaluator_files(folder, {**PYTHON, "files": ["play.py", "frames/7.png"]}, limits=limits).read().keys() == {
        "play.py",
        "frames/7.png",
    }


def test_too_large_files_are_refused_unread(folder: Path, opens: CountedOpens) -> None:
    """By their sizes; a sparse file is as large as it says."""
    with (folder / "play.py").open("wb") as file:
        file.truncate(3 * 2**20)

    line = problem(folder, PYTHON, limits=FileLimits(total_bytes_max=2 * 2**20), open_file=opens)

    assert line.startswith("the files that count for the evaluator have more than 2 MiB; say which files count")
    assert opens.taken() == []


def test_no_file_is_read_for_named_version(tmp_path: Path, opens: CountedOpens) -> None:
    """Not even the folder must exist."""
    files = evaluator_files(tmp_path / "nowhere", {"version": "2026-11"}, open_file=opens)

    assert (files.version(), files.read(), opens.taken()) == ("2026-11", {}, [])


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """As any other error, in one line."""
    assert problem(tmp_path / "nowhere", PYTHON) == "no such folder; correct the folder of the evaluator's files"


def test_nothing_to_play_is_error(folder: Path) -> None:
    """A host with remote workers only need not say what they play; then it has no version to compare."""
    assert problem(folder, {}).startswith("[evaluator] does not say what is played; give `command` or `python`")


def test_unchanged_files_are_not_read_again(folder: Path, opens: CountedOpens) -> None:
    """A further call looks at them only; a new or changed file is read alone."""
    write(folder, "rules.py", "moves.py")
    files = evaluator_files(folder, PYTHON, open_file=opens)
    first = files.read()
    assert opens.taken() == ["moves.py", "play.py", "rules.py"]

    assert files.read() == first
    assert files.version() == files.version()
    assert opens.taken() == []

    write(folder, "new.py")
    (folder / "rules.py").write_text("longer than before")
    (folder / "moves.py").unlink()
    assert changed_files(first, files.read()) == ["moves.py is missing", "new.py is new", "rules.py differs"]
    assert opens.taken() == ["new.py", "rules.py"]


def test_new_file_is_read_again(folder: Path, opens: CountedOpens) -> None:
    """A second change within one tick of the file system's clock would leave no trace beside its content."""
    files = evaluator_files(folder, PYTHON, open_file=opens, now=lambda: (folder / "play.py").stat().st_mtime + 0.5)

    files.read()
    files.read()

    assert opens.taken() == ["play.py", "play.py"]


@posix
def test_edit_that_hides_itself_is_noticed(folder: Path) -> None:
    """One byte differs; the size is the same, and the time of modification is set back.

    POSIX keeps another time, `st_ctime`, which no program can set. Windows shows none that is like it, so there such an
    edit is not noticed until the file has another time or is replaced. No editor makes one.
    """
    path = folder / "play.py"
    files = evaluator_files(folder, PYTHON)
    before, info = files.read(), path.stat()

    while path.stat().st_ctime_ns == info.st_ctime_ns:  # until the next tick of the file system's clock
        path.write_bytes(b"plaY.py")
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))

    assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)
    assert changed_files(before, files.read()) == ["play.py differs"]


def test_replacement_of_same_size_and_time_is_noticed(folder: Path) -> None:
    """It is another file, on Windows too."""
    path, other = folder / "play.py", folder / "other.txt"
    files = evaluator_files(folder, PYTHON)
    before, info = files.read(), path.stat()
    other.write_bytes(b"plaY.py")
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))

    other.replace(path)

    assert changed_files(before, files.read()) == ["play.py differs"]


def test_file_that_vanishes_does_not_count(folder: Path, opens: CountedOpens) -> None:
    """It was listed, and is gone when it is read."""
    write(folder, "temporary.py")
    opens.before = lambda path: (folder / "temporary.py").unlink(missing_ok=True)

    assert evaluator_files(folder, PYTHON, open_file=opens).read().keys() == {"play.py"}


def test_file_that_changes_is_read_again(folder: Path, opens: CountedOpens) -> None:
    """The digest is that of the whole new content, not of a mixture."""

    def change(path: str) -> None:
        opens.after = lambda path: None
        Path(path).write_bytes(b"new content")

    opens.after = change

    assert evaluator_files(folder, PYTHON, open_file=opens).read() == {"play.py": sha256(b"new content").hexdigest()}
    assert opens.taken() == ["play.py", "play.py"]


def test_file_that_changes_all_the_time_is_error(folder: Path, opens: CountedOpens) -> None:
    """A log, for example, that grows while it is read."""

    def grow(path: str) -> None:
        with open(path, "ab") as file:
            file.write(b"line\n")

    opens.after = grow

    assert problem(folder, PYTHON, open_file=opens) == (
        "play.py changes while it is read; stop what writes it, or leave it out with `files` in [evaluator]"
    )
    assert opens.taken() == ["play.py"] * 3


def test_equal_folders_have_equal_versions(tmp_path: Path) -> None:
    """Wherever they are, in whatever order their files were made, and whatever else is in them."""
    write(tmp_path / "host", "play.py", "bots/a.py", "bots/b.py", "results/x.py")
    write(tmp_path / "vm" / "game", "bots/b.py", "agent.toml", "bots/a.py", "play.py")

    for table in (PYTHON, COMMAND, {**COMMAND, "files": ["**/*.py"]}):
        one, other = (evaluator_files(tmp_path / name, table).version() for name in ("host", "vm/game"))
        assert one == other


def test_each_difference_changes_version(folder: Path, tmp_path: Path) -> None:
    """What is played, how it is called, and each file."""
    slower = {"command": [*COMMAND["command"], "--slow"]}
    tables: list[dict[str, Any]] = [PYTHON, {"python": "play:other"}, COMMAND, slower]
    versions = {evaluator_files(folder, table).version() for table in tables}
    write(folder, "new.py")
    versions.add(evaluator_files(folder, PYTHON).version())
    (folder / "new.py").write_text("other content")
    versions.add(evaluator_files(folder, PYTHON).version())
    (folder / "new.py").rename(folder / "renamed.py")
    versions.add(evaluator_files(folder, PYTHON).version())

    assert len(versions) == 7


def test_version_of_files_read_before(folder: Path, opens: CountedOpens) -> None:
    """A caller that needs both has them of one moment."""
    files = evaluator_files(folder, PYTHON, open_file=opens)
    read = files.read()
    version = files.version()
    (folder / "play.py").write_text("other content")

    assert files.version(read) == version != files.version()
