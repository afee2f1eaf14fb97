"""The shape of the house, enforced: who may import whom, what pure modules may touch, how long things may grow."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from pipeline import paths
from tests.harness.source_tree import PACKAGES, PYPROJECT, ROOT, imports, is_within, module_name

pytestmark = pytest.mark.source

MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}

#: The rules, as the measurement of their coverage lists them.
RULES: list[str] = PYPROJECT["tool"]["coverage"]["run"]["source_pkgs"]
#: What a pure module may import of the standard library: nothing that acts, waits, rolls dice or tells the time.
PURE_IMPORTS = {
    "collections",
    "dataclasses",
    "enum",
    "hashlib",
    "itertools",
    "math",
    "re",
    "typing",
    "msgspec",
    "orjson",
}

#: What the modules of the first may import of our packages is in the second; everything else is refused.
ALLOWED = (
    ("inbox_agent", "inbox_agent"),
    ("hyperv_ops", "hyperv_ops"),
    ("pipeline.core", "pipeline.core"),
    ("pipeline.core", "inbox_agent.protocol.layout"),
    ("pipeline.edges", "pipeline.core"),
    ("pipeline.edges", "pipeline.edges"),
    ("pipeline.edges", "pipeline.errors"),
    ("pipeline.edges", "pipeline.paths"),
    ("pipeline.edges", "inbox_agent.protocol.layout"),
    ("pipeline.edges", "inbox_agent.protocol.local_files"),
    ("pipeline.edges", "inbox_agent.system.file_retry"),
    ("pipeline.machines.local_workers", "inbox_agent.system.process_tree"),
    ("pipeline.machines.local_workers", "inbox_agent.settings"),
    ("pipeline.machines.local_workers", "hyperv_ops"),
    ("pipeline.machines.controller", "hyperv_ops"),
    ("pipeline.screens", "pipeline.core"),
    ("pipeline.screens", "pipeline.screens"),
    ("pipeline.views.results", "pipeline.errors"),
    ("pipeline.views.results", "pipeline.paths"),
    ("pipeline.screens", "inbox_agent.protocol.layout"),
)
#: The files directly in `pipeline/` put the parts together; they may use these.
ALLOWED_AT_THE_ROOT = (
    "pipeline",
    "hyperv_ops",
    "inbox_agent.protocol.layout",
    "inbox_agent.protocol.local_files",
    "inbox_agent.system.folder_watcher",
    "inbox_agent.system.interpreter",
    "inbox_agent.system.file_lock",
    "inbox_agent.system.long_paths",
    "inbox_agent.settings",
)

#: Libraries that are touched in one place each.
ONE_PLACE = {
    "watchdog": {"inbox_agent.system.folder_watcher"},
    "apscheduler": {"pipeline.host.timers"},
    "click": {
        "pipeline.cli.agent",
        "pipeline.cli.main",
        "pipeline.cli.inspect",
        "pipeline.cli.options",
        "pipeline.cli.vm",
    },
    "rich": {"pipeline.cli.main", "pipeline.cli.inspect", "pipeline.ui.terminal", "pipeline.ui.terminal"},
    "winrm": {"hyperv_ops.hyperv.winrm"},
    "qemu": {"hyperv_ops.qemu.qmp"},
    "starlette": {"pipeline.ui.web_server"},
    "uvicorn": {"pipeline.ui.web_server"},
    "plotly": set(),  # its script is read as a resource
    "sqlite3": {"pipeline.storage.ledger"},
    "smbprotocol": {"pipeline.shares.smb.change_notify", "pipeline.shares.smb.messages", "pipeline.shares.smb.session"},
    "packaging": {"pipeline.bundle.bundle"},
    "keyring": {"pipeline.secrets"},
    "ctypes": {
        "inbox_agent.system.job_object",
        "inbox_agent.system.orphans",
        "inbox_agent.system.desktop",
        "inbox_agent.evaluation.worker_process",
    },
}

#: Calls that are refused, where they are allowed after all, and what to do instead.
BANNED_CALLS = {
    "time.sleep": ({"inbox_agent.system.file_retry", "inbox_agent.__main__"}, "wait for an event"),
    "os.system": (set(), "use the leash"),
    "shutil.move": (set(), "publish without replacing"),
    "os.rename": ({"inbox_agent.protocol.local_files", "pipeline.host.host"}, "publish without replacing"),
    "eval": (set(), "decode with msgspec"),
    "exec": (set(), "decode with msgspec"),
    "pickle.loads": (set(), "genomes and results are data"),
}

#: Where `except Exception` is allowed: at the exit code, and around the user's code.
CATCHES_EVERYTHING = {"pipeline.cli.main", "inbox_agent.evaluation.worker_process"}

LINES_MAX, FUNCTION_LINES_MAX = 420, 60


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> set[str]:
    return imports(tree_of(module))


@cache
def calls(module: str) -> frozenset[str]:
    return frozenset(ast.unparse(node.func) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call))


def permissions(module: str, imported: str) -> set[tuple[str, str]]:
    """The rows of the tables that let one module import the other."""
    if MODULES[module].parent == ROOT / "pipeline":
        return {("", what) for what in ALLOWED_AT_THE_ROOT if is_within(imported, what)}
    return {(who, what) for who, what in ALLOWED if is_within(module, who) and is_within(imported, what)}


def users(library: str) -> set[str]:
    return {module for module in MODULES if library in {name.partition(".")[0] for name in imports_of(module)}}


def catches_everything(module: str) -> bool:
    return any(
        isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        for node in ast.walk(tree_of(module))
    )


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    """Data flows one way: agent and machines know nothing of the host, the core nothing of the world."""
    for imported in imports_of(module):
        if imported.partition(".")[0] in PACKAGES:
            assert permissions(module, imported), f"{module} must not import {imported}"


@pytest.mark.parametrize("module", [module for module in MODULES if any(is_within(module, rule) for rule in RULES)])
def test_pure_modules_touch_nothing(module: str) -> None:
    """No I/O, no clock, no threads, no dice in the rules: what they need is handed to them."""
    outside = {imported.partition(".")[0] for imported in imports_of(module)} - set(PACKAGES)
    assert outside <= PURE_IMPORTS
    assert not {"open", "print", "input"} & calls(module)


@pytest.mark.parametrize("library", ONE_PLACE)
def test_a_library_is_touched_in_one_place(library: str) -> None:
    """Who wants to know what we rely on in a library reads one file."""
    assert users(library) <= ONE_PLACE[library]


@pytest.mark.parametrize("module", MODULES)
def test_banned_calls(module: str) -> None:
    """Some calls are traps here; each has something better."""
    for call in calls(module):
        allowed, instead = BANNED_CALLS.get(call, ({module}, ""))
        assert module in allowed, f"{call}: {instead}"


#: What its own data is found by: packaged files, and the bundle's installer, which is no part of the running program.
OWN_FILES = ("pipeline.bundle.bundle", "pipeline.installer", "pipeline.ui.html")
FILE_NAMES = {name for key, name in vars(paths).items() if key.isupper() and isinstance(name, str) and "." in name}
HOST_MODULES = [
    module
    for module in MODULES
    if is_within(module, "pipeline") and not any(is_within(module, own) for own in ("pipeline.paths", *OWN_FILES))
]


def literals_of_paths(tree: ast.AST) -> Iterator[str]:
    """What joins a path with a literal name, and strings that are the name of a file or of a generation's folder."""
    with_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, with_docstring)]
    docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            name = node.right.values[0] if isinstance(node.right, ast.JoinedStr) else node.right
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            parts = node.value.split("/") if " " not in node.value else ()
            if any(part in FILE_NAMES or part.startswith("gen-") for part in parts):
                yield node.value


@pytest.mark.parametrize("module", HOST_MODULES)
def test_paths_of_a_project_are_spelt_in_one_module(module: str) -> None:
    """Whoever wants to know where something is, or to move it, reads `pipeline.paths`."""
    assert not list(literals_of_paths(tree_of(module)))


@pytest.mark.parametrize(
    "code", ["root / 'state'", "root / f'gen-{n}'", "files.read('results.csv')", "f'{folder}/result.json'"]
)
def test_a_literal_of_a_path_is_found(code: str) -> None:
    assert len(list(literals_of_paths(ast.parse(code)))) >= 1


def test_errors_of_the_agent_are_converted_in_one_place() -> None:
    """Whoever catches PipelineError catches what the agent's package finds wrong in a file."""
    raised = "inbox_agent.settings.SettingsError"
    assert {module for module in HOST_MODULES if raised in set(imports_of(module))} == {"pipeline.config"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_face_catches_everything(module: str) -> None:
    """`except Exception` hides defects; it stands once, where the exit code is chosen."""
    assert not catches_everything(module) or module in CATCHES_EVERYTHING


def test_every_permission_is_used() -> None:
    """A module that moved away leaves no permission behind, and every rule that is measured exists."""
    ours = [(module, name) for module in MODULES for name in imports_of(module) if name.partition(".")[0] in PACKAGES]
    used = {row for module, imported in ours for row in permissions(module, imported)}
    assert used == {*ALLOWED, *(("", what) for what in ALLOWED_AT_THE_ROOT)}
    assert {library: users(library) for library in ONE_PLACE} == ONE_PLACE
    callers = {call: {module for module in MODULES if call in calls(module)} for call in BANNED_CALLS}
    assert callers == {call: allowed for call, (allowed, _instead) in BANNED_CALLS.items()}
    assert {module for module in MODULES if catches_everything(module)} == CATCHES_EVERYTHING
    assert [rule for rule in RULES if not any(is_within(module, rule) for module in MODULES)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_file_has_one_subject_and_says_so(module: str) -> None:
    """A docstring that names the subject, no vague names, and a bound on what fits into one head."""
    path, tree = MODULES[module], tree_of(module)
    assert ast.get_docstring(tree)
    assert path.stem not in {"utils", "helpers", "common", "manager", "base", "misc"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
