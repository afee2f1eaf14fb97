"""The import rules, one row per folder, and figures of the structure: `python -m tests.repository.architecture`.

A unit is a folder or a file directly in `pipeline/`, a folder of `inbox_agent/`, the agent's own files,
`hyperv_ops`, or `game_window`.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from tests.harness.source_tree import PACKAGES, ROOT, imports, is_within, module_name

MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
ROOT_FILES_MAX, FLOORS_MAX = 7, 9

#: What a unit, or one module, may import besides its own unit, from the bottom up: a row lists only rows above it.
ALLOWED: dict[str, tuple[str, ...]] = {
    "game_window": (),
    "inbox_agent.system": (),
    "inbox_agent.protocol": ("inbox_agent.system",),
    "inbox_agent.evaluation": ("inbox_agent.protocol", "inbox_agent.system"),
    "inbox_agent.conformance": ("inbox_agent.protocol", "inbox_agent.system"),
    "inbox_agent": ("inbox_agent.evaluation", "inbox_agent.protocol", "inbox_agent.system"),
    "hyperv_ops": (),
    "pipeline.errors": (),
    "pipeline.paths": (),
    "pipeline.secrets": ("inbox_agent.system.text_encoding", "pipeline.errors"),
    "pipeline.core": ("inbox_agent.protocol.deployment", "inbox_agent.protocol.layout"),
    "pipeline.core.params": ("pipeline.errors",),
    "pipeline.core.runs": ("pipeline.errors", "pipeline.paths"),
    "pipeline.config": (
        "hyperv_ops",
        "inbox_agent.protocol.layout",
        "inbox_agent.settings",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.paths",
        "pipeline.secrets",
    ),
    "pipeline.views": ("inbox_agent.protocol.layout", "inbox_agent.protocol.printable", "pipeline.core"),
    "pipeline.storage": (
        "inbox_agent.protocol",
        "inbox_agent.system",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.paths",
    ),
    "pipeline.shares": (
        "inbox_agent.protocol",
        "inbox_agent.system",
        "pipeline.core",
        "pipeline.errors",
    ),
    "pipeline.machines": (
        "hyperv_ops",
        "inbox_agent.arguments",
        "inbox_agent.identity",
        "inbox_agent.protocol",
        "inbox_agent.settings",
        "inbox_agent.system",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.paths",
        "pipeline.secrets",
        "pipeline.shares",
    ),
    "pipeline.machines.fleet": ("pipeline.views.text_table",),
    "pipeline.host": (
        "inbox_agent.evaluation.version",
        "inbox_agent.evaluator_archive",
        "inbox_agent.evaluator_files",
        "inbox_agent.protocol",
        "inbox_agent.settings",
        "inbox_agent.system",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.machines",
        "pipeline.paths",
        "pipeline.shares",
        "pipeline.storage",
        "pipeline.views",
    ),
    "pipeline.inspection": (
        "inbox_agent.identity",
        "inbox_agent.protocol",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.paths",
        "pipeline.storage",
        "pipeline.views",
    ),
    "pipeline.diagnosis": (
        "hyperv_ops",
        "inbox_agent.checks",
        "inbox_agent.evaluation.version",
        "inbox_agent.evaluator_files",
        "inbox_agent.protocol",
        "inbox_agent.single_game",
        "inbox_agent.system.atomic_file",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.machines",
        "pipeline.paths",
        "pipeline.shares",
        "pipeline.storage",
    ),
    "pipeline.bundle": (
        "inbox_agent.system",
        "pipeline.errors",
    ),
    "pipeline.ui": (
        "pipeline.core",
        "pipeline.errors",
        "pipeline.inspection",
        "pipeline.views",
    ),
    "pipeline.service": (
        "inbox_agent.system.atomic_file",
        "pipeline.errors",
        "pipeline.paths",
    ),
    "pipeline.api": (
        "inbox_agent.evaluation.environment",
        "inbox_agent.protocol.layout",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.host",
        "pipeline.machines.sites.interface",
        "pipeline.storage",
        "pipeline.views",
    ),
    "pipeline.control": (
        "inbox_agent.identity",
        "inbox_agent.protocol.files",
        "inbox_agent.protocol.layout",
        "inbox_agent.protocol.local_files",
        "inbox_agent.system.atomic_file",
        "pipeline.config",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.host",
        "pipeline.inspection",
        "pipeline.paths",
        "pipeline.storage",
        "pipeline.views",
    ),
    "pipeline.http_api": (
        "inbox_agent.identity",
        "inbox_agent.protocol.layout",
        "pipeline.control",
        "pipeline.core",
        "pipeline.errors",
        "pipeline.storage",
        "pipeline.ui.connections",
        "pipeline.ui.own_names",
    ),
    "pipeline.mcp_server": (
        "inbox_agent.protocol.layout",
        "inbox_agent.protocol.printable",
        "pipeline.control",
        "pipeline.core.workers",
        "pipeline.errors",
        "pipeline.views.csv_table",
    ),
    "pipeline.remote": (
        "inbox_agent.protocol.layout",
        "inbox_agent.protocol.printable",
        "pipeline.control.operations",
        "pipeline.core.params",
        "pipeline.core.runs",
        "pipeline.errors",
        "pipeline.host.genome_fitness",
        "pipeline.host.no_farm",
        "pipeline.secrets",
        "pipeline.storage.submitted_genomes",
        "pipeline.views",
    ),
    "pipeline.calls": (
        "inbox_agent.evaluation.trial",
        "inbox_agent.system.atomic_file",
        "pipeline.api",
        "pipeline.errors",
        "pipeline.host.genome_fitness",
        "pipeline.host.no_farm",
        "pipeline.paths",
        "pipeline.remote",
    ),
    "pipeline.contrib": ("pipeline.calls.executor", "pipeline.machines.sites"),
    "pipeline": (
        "pipeline.api",
        "pipeline.calls",
        "pipeline.errors",
        "pipeline.host.genome_fitness",
        "pipeline.views.generation_summary",
        "pipeline.views.progress",
        "pipeline.views.table",
    ),
    "pipeline.cli": (
        "hyperv_ops",
        "inbox_agent.arguments",
        "inbox_agent.identity",
        "inbox_agent.protocol.layout",
        "inbox_agent.protocol.printable",
        "inbox_agent.settings",
        "inbox_agent.system.atomic_file",
        "inbox_agent.system.standard_output",
        "pipeline.bundle",
        "pipeline.config",
        "pipeline.control",
        "pipeline.core",
        "pipeline.diagnosis",
        "pipeline.errors",
        "pipeline.host",
        "pipeline.http_api",
        "pipeline.inspection",
        "pipeline.machines",
        "pipeline.mcp_server",
        "pipeline.paths",
        "pipeline.remote",
        "pipeline.secrets",
        "pipeline.service",
        "pipeline.storage",
        "pipeline.ui",
        "pipeline.views",
    ),
    "pipeline.__main__": (
        "inbox_agent.system.standard_output",
        "pipeline.cli",
        "pipeline.errors",
    ),
}


@cache
def tree_of(module: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def unit(module: str) -> str:
    """The unit that a module is part of."""
    parts = module.split(".")
    if parts[0] in ("game_window", "hyperv_ops"):
        return parts[0]
    is_folder = ROOT.joinpath(*parts[:2]).is_dir()
    return ".".join(parts[:2]) if len(parts) > 1 and (is_folder or parts[0] == "pipeline") else parts[0]


@cache
def imports_of(module: str) -> frozenset[str]:
    """What a module imports, as dotted names."""
    return frozenset(imports(tree_of(module)))


def ours(names: Iterable[str]) -> set[str]:
    """The shipped modules among names of modules and of their members."""
    return {module for name in names if (module := _module_of(name))}


def _module_of(name: str) -> str:
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def permissions(module: str, imported: str) -> set[tuple[str, str]]:
    """The rows of the table that let a module import a module of another unit."""
    return {(who, what) for who in (unit(module), module) for what in ALLOWED.get(who, ()) if is_within(imported, what)}


@cache
def crossings() -> frozenset[tuple[str, str]]:
    """Each import across units: importing and imported module. A package counts before its modules."""
    return frozenset(
        (module, imported)
        for module in MODULES
        for imported in ours(imports_of(module))
        if unit(imported) != unit(module) and not is_within(module, imported)
    )


def arrows(package: str = "pipeline") -> dict[str, set[str]]:
    """The units that each unit of a package imports."""
    found: dict[str, set[str]] = {unit(module): set() for module in MODULES if is_within(module, package)}
    for module, imported in crossings():
        if is_within(module, package) and is_within(imported, package):
            found[unit(module)].add(unit(imported))
    return found


def circles(graph: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """The imports that are part of a cycle."""
    return {(start, end) for start, ends in graph.items() for end in ends if start in reached(graph, end)}


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All nodes reachable from a node, and the node itself."""
    found, left = set[str](), [start]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += graph[node]
    return found


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """The length of the longest chain of imports below each unit, counted from 1. There must be no cycles."""

    @cache
    def floor(node: str) -> int:
        return 1 + max((floor(below) for below in graph[node]), default=0)

    return {node: floor(node) for node in graph}


def module_graph() -> dict[str, set[str]]:
    """The shipped modules that each of them imports."""
    return {module: {name for name in ours(imports_of(module)) if not is_within(module, name)} for module in MODULES}


def loaded_with(module: str) -> set[str]:
    """The shipped modules that are loaded with a module, without imports in functions and for type checkers."""
    found, left = set[str](), [module]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += ours(_loaded(tree_of(name)))
            left += [name.rpartition(".")[0]] if "." in name else []
    return found


def _loaded(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(ast.Module([node], []))


def root_files() -> list[str]:
    """The Python files directly in `pipeline/`."""
    return sorted(path.name for path in (ROOT / "pipeline").glob("*.py"))


def main() -> int:
    """Prints the figures and the units by floor."""
    graph = arrows()
    upward = circles(graph)
    print(f"files directly in pipeline/: {len(root_files())} (at most {ROOT_FILES_MAX})")
    print(f"units: {len(graph)}, arrows: {sum(map(len, graph.values()))}, in circles: {len(upward)}")
    if upward:
        print("\n".join(f"  {start} -> {end}" for start, end in sorted(upward)))
        return 1
    by_floor: dict[int, list[str]] = defaultdict(list)
    for node, floor in floors(graph).items():
        by_floor[floor].append(node)
    print(f"floors: {len(by_floor)} (at most {FLOORS_MAX})")
    for floor in sorted(by_floor, reverse=True):
        print(f"  {floor}: {', '.join(sorted(by_floor[floor]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
