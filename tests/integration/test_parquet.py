"""`pipeline results --parquet`: the table as a file with types."""

import sys
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from inbox_agent.system import atomic_file
from pipeline.cli.parquet import write_parquet
from pipeline.errors import ExitCode
from pipeline.views.table import Table
from tests.harness.command_line import pipeline
from tests.programs.faulty_run import faulty_project

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    faulty_project(root, generations=2)
    return root


def test_file_has_the_rows_of_the_table(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all generations, in the order that was asked for."""
    file = tmp_path / "all.parquet"

    code, out, err = pipeline(capsys, "results", "--all", "--sort", "genome", "--parquet", file, "--root", project)

    assert (code, out, err) == (ExitCode.OK, f"48 genomes in {file}\n", "")
    found = read_table(file)
    names = found.column("genome").to_pylist()
    assert names == sorted(names)
    assert {*found.column("generation").to_pylist()} == {1, 2}
    types = {name: str(found.schema.field(name).type) for name in ("genome", "fitness", "trials", "seconds")}
    assert types == {"genome": "string", "fitness": "double", "trials": "int64", "seconds": "double"}
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_column_without_values_is_of_numbers(tmp_path: Path) -> None:
    """If no genome has a fitness yet: files of several generations can be put together."""
    write_parquet(Table({"fitness": [None], "param_x": [True], "reason": [""]}), tmp_path / "it")

    assert [str(field.type) for field in read_table(tmp_path / "it").schema] == ["double", "bool", "string"]


def test_missing_pyarrow_is_reported(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line with the command that installs it; no file is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    code, out, err = pipeline(capsys, "results", "--parquet", tmp_path / "it", "--root", project)

    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert err == 'pipeline: pyarrow is not installed; run: pip install "genome-pipeline[table]"\n'
    assert not [*tmp_path.iterdir()]


def test_failed_writing_keeps_the_older_file(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: no part of the new one is left."""

    def fill_up(_descriptor: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "it").write_bytes(b"older")
    monkeypatch.setattr(atomic_file, "write_all", fill_up)

    code, out, err = pipeline(capsys, "results", "--parquet", tmp_path / "it", "--root", project)

    assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1)
    assert "No space left on device; give another place with --parquet" in err
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("it", b"older")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--json",), "--json and --parquet cannot both be had"),
        (("--csv",), "--csv and --parquet cannot both be had"),
        (("--unpack",), "leave out the options of the table"),
    ],
)
def test_parquet_is_refused_with_other_forms(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    code, _, err = pipeline(capsys, "results", "--parquet", tmp_path / "it", "--root", project, *options)

    assert code == ExitCode.BAD_INPUT
    assert words in err
    assert not [*tmp_path.iterdir()]
