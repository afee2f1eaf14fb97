"""The repository for tests: its root, and the shipped packages, modules and functions by name.

No path of a source file is written here, so that files can move.
"""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: The packages of the wheel.
PACKAGES: tuple[str, ...] = tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


@dataclass(frozen=True)
class Function:
    """The position of a function."""

    name: str  #: qualified within its module: `Class.method`, or the name of a module-level function
    path: Path
    first: int  #: line, from 1
    last: int


def module_name(path: Path) -> str:
    """The dotted name of a module of the repository."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_within(module: str, package: str) -> bool:
    """Whether a dotted name is a package or module, or is inside it."""
    return f"{module}.".startswith(f"{package}.")


def imports(tree: ast.Module) -> set[str]:
    """The imports of a module, as dotted names of modules or of their members."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def imported_by(module: str) -> dict[str, Path]:
    """The modules of the repository that a module imports, directly or indirectly, and itself."""
    found: dict[str, Path] = {}
    left = [module]
    while left:
        name = left.pop()
        left += [name.rpartition(".")[0]] if "." in name else []  # its package is imported first
        place = ROOT.joinpath(*name.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")
        if name not in found and path.is_file():
            found[name] = path
            left += imports(ast.parse(path.read_text(encoding="utf-8")))
    return found


def find_function(name: str, root: Path = ROOT, package: str = "") -> Function:
    """The function of this qualified name in the shipped packages below `root`, or in one of them.

    Raises:
        LookupError: There is none or more than one. The message names similar functions.
    """
    folders = [root.joinpath(*one.split(".")) for one in ([package] if package else PACKAGES)]
    last = name.rpartition(".")[2]
    namesakes = [one for folder in folders for path in sorted(folder.rglob("*.py")) for one in _functions(path, last)]
    found = [one for one in namesakes if one.name == name]
    if len(found) != 1:
        candidates = [f"{one.name} ({one.path.relative_to(root).as_posix()})" for one in found or namesakes]
        raise LookupError(f"{len(found)} functions are named {name}; candidates: {', '.join(candidates) or 'none'}")
    return found[0]


def _functions(path: Path, last: str) -> Iterator[Function]:
    """The functions of a file whose name ends with `last`."""
    text = path.read_text(encoding="utf-8")
    if f"def {last}(" not in text:
        return  # parsing takes time
    for name, node in _definitions(ast.parse(text), ""):
        if node.name == last:
            yield Function(name, path, node.lineno, node.end_lineno or node.lineno)


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{prefix}{child.name}."
            if isinstance(child, ast.FunctionDef):
                yield f"{prefix}{child.name}", child
        yield from _definitions(child, inner)
