"""The tests that Windows does not run, and why: applies `left_out.toml` to pytest."""

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.harness.source_tree import ROOT

FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tests with the same reason."""

    tests: list[str]  #: node ids of files, or of tests without their parameters
    reason: str
    wine: bool  #: whether only Wine fails, so that real Windows runs them

    def covers(self, node: str) -> bool:
        """Whether it includes a test, or a whole file."""
        return any(covers(name, node) for name in self.tests)


def covers(name: str, node: str) -> bool:
    """Whether a name of the table matches a test, or a whole file."""
    return node == name or node.startswith((f"{name}::", f"{name}["))


@cache
def left_out() -> list[LeftOut]:
    """All entries. Raises LookupError if a name of the table is not that of exactly one test or test module."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))["left_out"]
    nodes = nodes_by_name()
    return [
        LeftOut([node_of(name, nodes) for name in table["tests"]], table["reason"], table.get("wine", False))
        for table in tables
    ]


def nodes_by_name(root: Path = ROOT) -> dict[str, list[str]]:
    """The node ids of the test modules and test functions below `root`, by name."""
    nodes: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        node = path.relative_to(root).as_posix()
        nodes.setdefault(path.stem, []).append(node)
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            nodes.setdefault(name, []).append(f"{node}::{name}")
    return nodes


def node_of(name: str, nodes: Mapping[str, list[str]]) -> str:
    """The node with that name. Raises LookupError if there is none, or more than one."""
    found = nodes.get(name, [])
    if len(found) != 1:
        raise LookupError(f"{FILE.name}: {len(found)} tests are named {name}: {', '.join(found) or 'none'}")
    return found[0]


def left_out_here() -> list[LeftOut]:
    """The entries for this system."""
    return [one for one in left_out() if sys.platform == "win32" and (is_wine() or not one.wine)]


def is_wine() -> bool:
    """Whether this Windows is Wine."""
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whole files are not imported: their imports may not exist here."""
    node = _node(collection_path, config)
    return True if any(node in one.tests for one in left_out_here()) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Single tests are skipped by name."""
    here = left_out_here()
    for item in items:
        for one in here:
            if one.covers(item.nodeid.replace("\\", "/")):
                item.add_marker(pytest.mark.skip(reason=one.reason))


def _node(path: Path, config: pytest.Config) -> str:
    try:
        return path.relative_to(config.rootpath).as_posix()
    except ValueError:
        return ""
