"""The types of the public API, as mypy and pyright show them to users, both strict.

The programs of `tests/typing_project` are copied to a place without this repository, so that the checkers read the
installed package.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

PROGRAMS = next(folder for folder in Path(__file__).parents if folder.name == "tests") / "typing_project"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    return copytree(PROGRAMS, tmp_path / "programs", ignore=ignore_patterns("__init__.py", "__pycache__"))


def checked(folder: Path, checker: str, *arguments: str) -> str:
    """What a checker says of the programs."""
    command = [sys.executable, "-m", checker, *arguments, "."]
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # it would ask an index for a newer version
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ran.stdout


def test_mypy_finds_exactly_the_expected_errors(programs: Path) -> None:
    number = len([*programs.glob("*.py")])

    assert checked(programs, "mypy") == f"Success: no issues found in {number} source files\n"


def test_pyright_finds_exactly_the_expected_errors(programs: Path) -> None:
    found = json.loads(checked(programs, "pyright", "--pythonpath", sys.executable, "--outputjson"))

    assert found["generalDiagnostics"] == []
    assert found["summary"]["filesAnalyzed"] == len([*programs.glob("*.py")])


@pytest.mark.parametrize(
    ("checker", "finds"),
    [
        (("mypy",), 'Unused "type: ignore" comment'),
        (("pyright", "--pythonpath", sys.executable), 'Unnecessary "# pyright: ignore" rule'),
    ],
)
def test_expected_error_that_is_gone_is_an_error(programs: Path, checker: tuple[str, ...], finds: str) -> None:
    """Else a type that became `Any` would pass: what a program expects to be refused has to be refused."""
    for program in programs.glob("*.py"):
        program.unlink()
    (programs / "accepted.py").write_text(
        "from pipeline import OpenFarm\n\n\ndef submit(farm: OpenFarm) -> None:\n"
        "    farm.submit(b'a')  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]\n"
    )

    assert finds in checked(programs, *checker)
