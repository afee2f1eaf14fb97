"""A call of the API that is refused or fails leaves files, generations and numbers as they were."""

import array
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import ConfigError, Evaluator, GenomeError, HostError, InputError, open_farm
from pipeline.api import OpenFarm
from pipeline.host.generation_numbers import next_generation
from pipeline.host.host import Host
from pipeline.storage import submitted_genomes
from pipeline.storage.submitted_genomes import put_genome, put_genomes, refuse_names
from tests.harness.farm_project import GAMES

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)


class Lazy(Mapping[str, Any]):
    """Makes each genome when it is asked for; one cannot be made."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[str]:
        return iter(["first", "second", "third"])

    def __len__(self) -> int:
        return 3

    def __getitem__(self, name: str) -> bytes:
        if name == "second":
            raise self._error
        return b"{}"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[OpenFarm]:
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        yield farm


def files(folder: Path) -> dict[str, bytes | None]:
    """Every path of a folder with its bytes, of folders None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


REFUSED: list[tuple[Any, type[BaseException], str]] = [
    ({"a.bin": b"1", "b.bin": "[1, 2]"}, GenomeError, "a str may be content or path"),
    ({"a.bin": b"1", "b.bin": Path("missing")}, GenomeError, "missing: cannot be read: "),
    ({"a.bin": b"1", "b.bin": Path("/")}, GenomeError, r"[/\\]: not a regular file"),
    ({"a.bin": b"1", "b.bin": Path("a\0b")}, GenomeError, "null"),
    ({"a.bin": b"1", "b.bin": [1, 2]}, GenomeError, "'b.bin': expected bytes or a pathlib.Path, found list"),
    ({"a.bin": b"1", "b.bin": None}, GenomeError, "found NoneType"),
    ({"a.bin": b"1", "b.bin": b""}, GenomeError, "empty"),
    ({"a.bin": b"1", "b.bin": b"x" * 1001}, GenomeError, "1001 bytes, allowed are 1000"),
    ({"a.bin": b"1", 2: b"2"}, GenomeError, "genome name 2: expected a str, found int"),
    ({"a.bin": b"1", "b\0": b"2"}, GenomeError, "control characters"),
    ({"a.bin": b"1", "\ud800": b"2"}, GenomeError, "broken Unicode"),
    ({"a.bin": b"1", "ü" * 200: b"2"}, GenomeError, "too long"),
    ({"a.bin": b"1", "b" * 256: b"2"}, GenomeError, "longer than 255"),
    ([("a.bin", b"1")], GenomeError, "expected a mapping of names to bytes or paths, found list"),
    (Lazy(ZeroDivisionError("in the middle")), ZeroDivisionError, "in the middle"),
    (Lazy(KeyboardInterrupt("Ctrl-C")), KeyboardInterrupt, "Ctrl-C"),
    (Lazy(KeyError("second")), KeyError, "second"),
]


@pytest.mark.parametrize("number", [None, 1])
@pytest.mark.parametrize(("genomes", "error", "words"), REFUSED)
def test_refused_genomes_leave_nothing(
    tmp_path: Path, genomes: Any, error: type[BaseException], words: str, number: int | None
) -> None:
    """Neither files nor a used-up number; the next call counts only its own genomes."""
    (tmp_path / "pipeline.toml").write_text("[generation]\ngenome_bytes_max = 1000\n")
    with open_farm(tmp_path, evaluator=GAME, workers=1) as farm:
        before = files(tmp_path)

        with pytest.raises(error, match=words):
            farm.evaluate(genomes, generation=number)

        after = {path: content for path, content in files(tmp_path).items() if "state/evaluators" not in path}
        assert after.keys() == before.keys()
        assert farm.generation == 0
        assert farm._host.call(next_generation) == 1


def test_call_after_refused_one_has_its_own_genomes(farm: OpenFarm, tmp_path: Path) -> None:
    """The genome before the refused one does not take part in the next call."""
    unusable: Any = {"a.bin": b"1", "b.bin": "[1, 2]"}
    with pytest.raises(GenomeError):
        farm.evaluate(unusable, generation=1)

    assert list(farm.evaluate({"c.bin": b'{"n": 1}'}, generation=1)) == ["c.bin"]
    assert list(files(tmp_path / "genomes")) == ["gen-0001", "gen-0001/c.bin"]


def test_refused_call_keeps_files_of_user(farm: OpenFarm, tmp_path: Path) -> None:
    """Files that were in the folder have their bytes again, also one that the call had replaced."""
    folder = tmp_path / "genomes/gen-0003"
    folder.mkdir(parents=True)
    (folder / "mine").write_bytes(b'{"n": 1}')
    (folder / "other").write_bytes(b'{"n": 2}')
    before = files(tmp_path / "genomes")

    with pytest.raises(GenomeError, match="empty"):
        farm.evaluate({"mine": b'{"n": 3}', "new": b'{"n": 4}', "void": b""}, generation=3)

    assert files(tmp_path / "genomes") == before
    assert set(farm.evaluate({"mine": b'{"n": 3}'}, generation=3)) == {"mine", "other"}
    assert (folder / "mine").read_bytes() == b'{"n": 3}'


def test_refused_call_keeps_played_generations(farm: OpenFarm, tmp_path: Path) -> None:
    """What `generation` and `scores` say is still of the generation that was evaluated last."""
    farm.evaluate({"a": b'{"n": 1}'})
    scores = farm.evaluate({"b": b'{"n": 2}'})
    before = files(tmp_path / "genomes")

    for number in (None, 1, 2, 7):
        with pytest.raises(GenomeError, match=r"empty|begun with other bytes"):
            farm.evaluate({"a": b'{"n": 9}', "b": b'{"n": 9}', "c": b""}, generation=number)
        assert (farm.generation, farm.scores()) == (2, scores)
        assert files(tmp_path / "genomes") == before

    assert set(farm.evaluate({"a": b'{"n": 1}', "c": b'{"n": 3}'}, generation=1)) == {"a", "c"}


def test_changed_settings_leave_nothing(tmp_path: Path) -> None:
    """They are refused after the genomes were imported: also the new snapshot is gone."""
    genomes = {"a": b'{"n": 1}'}
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        farm.evaluate(genomes)
    before = files(tmp_path / "genomes"), files(tmp_path / "state/genomes")

    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=2) as farm:
        with pytest.raises(InputError, match="begun with other settings"):
            farm.evaluate({**genomes, "b": b'{"n": 2}'}, generation=1)
        assert farm.generation == 0
    assert (files(tmp_path / "genomes"), files(tmp_path / "state/genomes")) == before


@pytest.mark.parametrize(
    "data", [bytearray(b"{}"), memoryview(b"{}"), memoryview(b"{ } ")[::2], array.array("B", b"{}")]
)
def test_genome_is_any_object_with_bytes(farm: OpenFarm, tmp_path: Path, data: Any) -> None:
    """Its bytes are the file."""
    assert farm.evaluate({"a": data})["a"].status == "completed"
    assert (tmp_path / "genomes/gen-0001/a").read_bytes() == b"{}"


@pytest.mark.parametrize("generation", ["1", 1.0, b"1", [1]])
def test_number_must_be_integer(farm: OpenFarm, tmp_path: Path, generation: Any) -> None:
    with pytest.raises(InputError, match="expected a number from 1"):
        farm.evaluate({"a": b"{}"}, generation=generation)
    assert not (tmp_path / "genomes").exists()


def test_progress_must_be_function(farm: OpenFarm, tmp_path: Path) -> None:
    """It is refused before the generation is begun, not at the first progress."""
    not_a_function: Any = "print"
    with pytest.raises(InputError, match="on_progress: expected a function, found str"):
        farm.evaluate({"a": b"{}"}, on_progress=not_a_function)
    assert not (tmp_path / "genomes").exists()


# ------------------------------------------------------------------------------------------------- when something fails


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, after: int) -> None:
    """Lets a function of the module that puts genomes raise once, after so many calls."""
    real, calls = getattr(submitted_genomes, name), []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == after + 1:
            raise error
        return real(*args)

    monkeypatch.setattr(submitted_genomes, name, failing)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(("name", "after"), [("write_all", 0), ("write_all", 2), ("_move", 0), ("_move", 2)])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int, error: BaseException, exists: bool
) -> None:
    """A full disk or Ctrl-C while genomes are written or moved to their places."""
    folder = tmp_path / "genomes/gen-0001"
    if exists:
        folder.mkdir(parents=True)
        (folder / "b").write_bytes(b"before")
    before = files(tmp_path)

    with monkeypatch.context() as patch:
        fail_at(patch, name, error, after if exists or name == "write_all" else 0)
        expected = HostError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected), put_genomes(folder, dict.fromkeys("abcd", b"new"), set):
            raise AssertionError("the generation is not begun")

    assert files(tmp_path) == before


def test_full_disk_leaves_nothing(tiny_disk: Path) -> None:
    """The space is free again."""
    genomes = {f"g{number}": b"x" * 1024 * 1024 for number in range(16)}
    with (
        pytest.raises(HostError, match="No space left"),
        put_genomes(tiny_disk / "genomes/gen-0001", genomes, set),
    ):
        raise AssertionError("the generation is not begun")
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize("kept", [False, True])
def test_failure_after_record_keeps_files(tmp_path: Path, kept: bool) -> None:
    """The ledger has them as genomes of the generation; anything else would differ from it."""
    folder, recorded = tmp_path / "genomes/gen-0001", set[str]()
    with pytest.raises(KeyboardInterrupt), put_genomes(folder, {"a": b"1", "b": b"2"}, lambda: set(recorded)):
        if kept:
            recorded |= {"a", "b"}
        raise KeyboardInterrupt
    assert folder.exists() is kept


@pytest.mark.parametrize("committed", [False, True])
def test_interrupted_begin(farm: OpenFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    """Ctrl-C before the commit leaves nothing; after it, the generation exists with its genomes."""
    begin: Callable[..., None] = Host.begin

    def interrupted(host: Host, number: int, **more: Any) -> None:
        if committed:
            begin(host, number, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Host, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            farm.evaluate({"a": b"{}"})

    assert (tmp_path / "genomes/gen-0001/a").exists() is committed
    assert set(farm.evaluate({"b": b"{}"}, generation=1)) == ({"a", "b"} if committed else {"b"})


def test_leftovers_of_killed_program_are_replaced(tmp_path: Path) -> None:
    """It was killed while it wrote: the hidden folders beside the generation's are not part of a later call."""
    folder = tmp_path / "genomes/gen-0001"
    for suffix in ("new", "old"):
        (folder.parent / f".gen-0001.{suffix}").mkdir(parents=True)
        (folder.parent / f".gen-0001.{suffix}/half").write_bytes(b"ha")
    with put_genomes(folder, {"a": b"1"}, set):
        pass
    assert files(tmp_path / "genomes") == {"gen-0001": None, "gen-0001/a": b"1"}


@pytest.fixture
def ignoring_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk ignores case, on a system that does not."""
    monkeypatch.setattr(Path, "__truediv__", lambda path, name: Path(os.path.join(path, name.lower())))


@pytest.mark.usefixtures("ignoring_case")
def test_names_that_are_one_file_are_refused(tmp_path: Path) -> None:
    """Found when the second one is written."""
    folder = tmp_path / "gen-0001"
    with (
        pytest.raises(GenomeError, match=r"'A'.* one file"),
        put_genomes(folder, {"a": b"1", "A": b"2"}, set),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ignoring_case")
def test_name_in_other_spelling_is_refused(tmp_path: Path) -> None:
    """The result would have the name of the file that is there."""
    folder = tmp_path / "gen-0001"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    with pytest.raises(GenomeError, match=r"'A': .* in another spelling"), put_genomes(folder, {"A": b"2"}, set):
        pass
    with pytest.raises(GenomeError, match=r"'A': .* in another spelling"):
        put_genome(folder, "A", b"2")
    assert files(tmp_path) == {"gen-0001": None, "gen-0001/a": b"1"}


def test_folder_in_place_of_a_submitted_genome_is_named(tmp_path: Path) -> None:
    (tmp_path / "gen-0001/a").mkdir(parents=True)
    with pytest.raises(GenomeError, match=r"gen-0001.a: not a regular file; move it away"):
        put_genome(tmp_path / "gen-0001", "a", b"1")


def test_file_that_was_not_recorded_is_replaced_by_a_submitted_genome(tmp_path: Path) -> None:
    """A program that was killed may have left it."""
    put_genome(tmp_path / "gen-0001", "a", b"1")
    put_genome(tmp_path / "gen-0001", "a", b"2")
    assert files(tmp_path) == {"gen-0001": None, "gen-0001/a": b"2"}


@pytest.mark.skipif(os.name == "nt", reason="Windows says nothing of a name in bytes")
def test_submitted_genome_with_a_name_that_the_disk_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match="choose another"):
        put_genome(tmp_path / "gen-0001", "ü" * 200, b"1")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\udce4", "x" * 256])
def test_name_that_import_refuses_is_refused_first(name: str) -> None:
    """Before any file is written."""
    with pytest.raises(GenomeError, match="rename it"):
        refuse_names([name], windows=False)


# ------------------------------------------------------------------------------------------------------- opening a farm


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"evaluator": "my_game:play"}, "evaluator 'my_game:play': expected an Evaluator"),
        ({"evaluator": Evaluator(python="a:b", inherited="PATH")}, "inherited 'PATH': expected a list of names"),
        ({"evaluator": Evaluator(command=5)}, "command 5: expected its parts"),  # type: ignore[arg-type]
        ({"evaluator": Evaluator(python="a:b", environment="A=B")}, "environment 'A=B': expected"),  # type: ignore[arg-type]
        ({"evaluator": Evaluator(python="a:b", folder=5)}, "open_farm: folder 5"),  # type: ignore[arg-type]
        ({"evaluator": Evaluator(python=5)}, "`evaluator.python` must be a text"),  # type: ignore[arg-type]
        ({"evaluator": Evaluator(python="no function")}, "expected module:function"),
        ({"evaluator": Evaluator()}, "does not say what the local workers play"),
        ({"workers": "4"}, "`local.workers` must be a number"),
        ({"workers": -1}, "Expected `int` >= 0"),
        ({"workers": object()}, "open_farm: "),
        ({"trials_per_genome": 2.5}, "`generation.trials_per_genome` must be a whole number"),
        ({"seed": "1"}, "`generation.seed` must be a number"),
        ({"settings": [("a", 1)]}, "settings .*: expected a mapping"),
        ({"settings": {"a": {"b": 1}}}, "open_farm: "),
        ({"settings": {"a": {1, 2}}}, "open_farm: "),
    ],
)
def test_refused_argument_makes_no_folder(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    """One line, and neither the project's folder nor one above it."""
    with (
        pytest.raises(InputError, match=words) as error,
        open_farm(tmp_path / "new/project", **{"evaluator": GAME, **arguments}),
    ):
        pass
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_root_must_be_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    no_path: Any = None
    with pytest.raises(InputError, match="open_farm: root None"), open_farm(no_path, evaluator=GAME):
        pass
    assert list(tmp_path.iterdir()) == []


def test_refused_configuration_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text("[local]\nworkers = 'many'\n")
    with pytest.raises(ConfigError), open_farm(tmp_path, evaluator=GAME):
        pass
    assert list(files(tmp_path)) == ["pipeline.toml"]
