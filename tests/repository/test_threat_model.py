"""docs/threat-model.md names tests that exist, and every attack that was tried has one."""

import ast
import re

import pytest

from tests.fuzz.target import NAMES
from tests.harness.source_tree import ROOT

pytestmark = pytest.mark.source
DOCUMENT = ROOT / "docs" / "threat-model.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def commands() -> list[tuple[str, str]]:
    """File and test of each command; the test is empty where the whole file is meant."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [(path, name) for path, _, name in (found.partition("::") for found in re.findall(r"`pytest (\S+)`", text))]


def test_every_command_names_an_existing_test() -> None:
    """Also after a test was renamed or moved."""
    assert len(commands()) > 50
    for path, name in commands():
        assert (ROOT / path).exists(), path
        if name:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


@pytest.mark.parametrize("heading", ["Findings and the tests that play them", "Tried, and held"])
def test_every_row_has_a_test(heading: str) -> None:
    assert rows(heading)
    for row in rows(heading):
        assert len(row) == 3, row[0]
        assert re.fullmatch(r"`pytest \S+`( `pytest \S+`)*", row[2]), row[0]


def test_every_attacker_is_described() -> None:
    assert [len(row) for row in rows("Attackers")] == [4] * len(rows("Attackers"))
    assert len(rows("Attackers")) >= 7


def test_every_fuzz_target_is_listed() -> None:
    """A module of tests/fuzz that has a target is run by `make fuzz` and by `pytest tests/fuzz`."""
    with_target = {
        path.stem for path in (ROOT / "tests" / "fuzz").glob("*.py") if "\nTARGET = " in path.read_text("utf-8")
    }
    assert with_target == {*NAMES}


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/threat-model.md"])
def test_links_of_security_documents_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)", path.read_text(encoding="utf-8")):
        assert path.parent.joinpath(target).exists(), target
