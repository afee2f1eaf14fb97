"""The tests that Windows leaves out have unique names, whatever their files are."""

from pathlib import Path

import pytest

from tests.windows.left_out import left_out, node_of, nodes_by_name


def test_every_left_out_name_is_one_test() -> None:
    """Reading the table fails otherwise; no name is listed twice."""
    nodes = [(node, one.wine) for one in left_out() for node in one.tests]
    assert nodes
    assert len(set(nodes)) == len(nodes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Test modules in two folders: each has its own test, and both have one of the same name."""
    for name in ("unit/test_one", "test_two"):
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        own = name[-3:]
        path.write_text(f"def test_of_{own}():\n    pass\n\n\ndef test_of_both():\n    def test_inner(): pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("test_one", "tests/unit/test_one.py"),
        ("test_of_one", "tests/unit/test_one.py::test_of_one"),
        ("test_of_two", "tests/test_two.py::test_of_two"),
    ],
)
def test_left_out_name_is_found_in_any_folder(root: Path, name: str, node: str) -> None:
    assert node_of(name, nodes_by_name(root)) == node


def test_left_out_name_of_two_tests_is_error(root: Path) -> None:
    """The error names both, so that one can be renamed."""
    with pytest.raises(LookupError, match=r"2 tests .* tests/test_two.py::test_of_both, tests/unit/test_one.py::"):
        node_of("test_of_both", nodes_by_name(root))


@pytest.mark.parametrize("name", ["test_gone", "test_inner", "tests/test_two.py"])
def test_left_out_name_of_no_test_is_error(root: Path, name: str) -> None:
    with pytest.raises(LookupError, match=f"0 tests are named {name}"):
        node_of(name, nodes_by_name(root))
