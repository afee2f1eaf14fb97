"""The architecture, enforced: imports between units, side effects of pure modules, sizes."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from pipeline import paths
from tests.harness.source_tree import PACKAGES, PYPROJECT, ROOT, imports, is_within
from tests.repository.architecture import (
    ALLOWED,
    FLOORS_MAX,
    MODULES,
    ROOT_FILES_MAX,
    arrows,
    circles,
    crossings,
    floors,
    imports_of,
    loaded_with,
    module_graph,
    ours,
    permissions,
    root_files,
    tree_of,
)

pytestmark = pytest.mark.source

#: The rules, as listed for the measurement of their coverage.
RULES: list[str] = PYPROJECT["tool"]["coverage"]["run"]["source_pkgs"]
#: What a pure module may import of the standard library: no I/O, waiting, randomness or clock.
PURE_IMPORTS = {
    "bisect",
    "collections",
    "dataclasses",
    "decimal",
    "enum",
    "hashlib",
    "itertools",
    "math",
    "re",
    "typing",
    "msgspec",
    "orjson",
}

#: The rules that the dispatcher applies one after another.
INDEPENDENT_RULES = ("ownership", "acceptance", "deadlines", "recovery", "assignment")

#: Modules that are loaded with a pure one may also name paths in their messages.
OF_THE_LOADED = {"contextlib", "pathlib"}

#: Libraries that only some modules import.
ONE_PLACE = {
    "watchdog": {"inbox_agent.conformance.journal", "inbox_agent.system.folder_watcher"},
    "apscheduler": {"pipeline.host.timers"},
    "click": {
        "pipeline.cli.agent",
        "pipeline.cli.completion",
        "pipeline.cli.deploy",
        "pipeline.cli.evaluator",
        "pipeline.cli.main",
        "pipeline.cli.mcp",
        "pipeline.cli.inspect",
        "pipeline.cli.options",
        "pipeline.cli.play",
        "pipeline.cli.prune",
        "pipeline.cli.remote",
        "pipeline.cli.serve",
        "pipeline.cli.service",
        "pipeline.cli.token",
        "pipeline.cli.vm",
        "pipeline.cli.worker",
    },
    "rich": {"pipeline.cli.play", "pipeline.cli.inspect", "pipeline.ui.display", "pipeline.ui.terminal"},
    "winrm": {"hyperv_ops.hyperv.sealed_transport", "hyperv_ops.hyperv.winrm"},
    "qemu": {"hyperv_ops.qemu.qmp"},
    "starlette": {
        "pipeline.cli.serve",
        "pipeline.http_api.call",
        "pipeline.http_api.endpoint",
        "pipeline.http_api.guard",
        "pipeline.http_api.gate",
        "pipeline.http_api.interface",
        "pipeline.http_api.long_poll",
        "pipeline.http_api.parameters",
        "pipeline.http_api.problems",
        "pipeline.http_api.reading",
        "pipeline.http_api.changing",
        "pipeline.http_api.request_body",
        "pipeline.mcp_server.http_transport",
        "pipeline.ui.connections",
        "pipeline.ui.web_server",
    },
    "uvicorn": {"pipeline.mcp_server.http_transport", "pipeline.ui.connections"},
    "anyio": {
        "pipeline.http_api.call",
        "pipeline.http_api.event_feed",
        "pipeline.http_api.submission_groups",
        "pipeline.mcp_server.server",
        "pipeline.mcp_server.stdio_transport",
    },
    "mcp": {
        "pipeline.mcp_server.http_transport",
        "pipeline.mcp_server.resources",
        "pipeline.mcp_server.server",
        "pipeline.mcp_server.stdio_transport",
    },
    "prometheus_client": {"pipeline.ui.metrics_text"},
    "plotly": set(),  # its script is read as a resource
    "sqlite3": {
        "pipeline.storage.ledger",
        "pipeline.storage.ledger_migration",
        "pipeline.storage.ledger_rows",
        "pipeline.storage.read_connection",
        "pipeline.storage.submission_store",
    },
    "smbprotocol": {
        "pipeline.shares.smb.change_notify",
        "pipeline.shares.smb.channel",
        "pipeline.shares.smb.messages",
        "pipeline.shares.smb.packets",
        "pipeline.shares.smb.seal",
        "pipeline.shares.smb.sealed_connection",
        "pipeline.shares.smb.session",
    },
    "httpcore2": {"pipeline.remote.http_connections"},
    "distributed": {
        "pipeline.machines.sites.dask_cluster",
        "pipeline.machines.sites.dask_plugin",
        "pipeline.machines.sites.dask_sites",
    },
    "joblib": {"pipeline.calls.joblib_backend"},
    "pyarrow": {"pipeline.cli.parquet"},
    "packaging": {"pipeline.bundle.bundle", "pipeline.bundle.lock"},
    "keyring": {"pipeline.secrets"},
    "mss": {"game_window.picture", "game_window.screen", "game_window.x11"},
    "Xlib": {"game_window.x11"},
    "ctypes": {
        "game_window.win32",
        "inbox_agent.system.job_object",
        "inbox_agent.system.orphans",
        "inbox_agent.system.crash_dialogs",
        "inbox_agent.system.desktop",
        "inbox_agent.evaluation.worker_process",
    },
}

#: Refused calls, where they are allowed, and what to use instead.
BANNED_CALLS = {
    "time.sleep": ({"inbox_agent.system.file_retry", "inbox_agent.__main__"}, "wait for an event"),
    "os.system": (set(), "use ProcessTree"),
    "shutil.move": (set(), "publish without replacing"),
    "os.rename": ({"inbox_agent.protocol.local_files", "pipeline.host.outputs"}, "publish without replacing"),
    "eval": (set(), "decode with msgspec"),
    "exec": (set(), "decode with msgspec"),
    "pickle.loads": ({"pipeline.calls.player"}, "genomes and results are data"),
}

#: What a unit test may not import. A test that starts processes or servers belongs to tests/integration.
NOT_IN_UNIT_TESTS = (
    "http.server",
    "multiprocessing",
    "psutil",
    "socket",
    "subprocess",
    "inbox_agent.system.process_tree",
    "pipeline.ui.web_server",
    "tests.fakes.simulated_hyperv",
    "tests.fakes.smb_proxy",
    "tests.fakes.wsman_server",
    "tests.harness.evaluator_harness",
    "tests.harness.farm_project",
    "tests.harness.hyperv_farm",
    "tests.harness.qemu_farm",
    "tests.harness.samba",
    "tests.harness.smb_relay",
    "tests.harness.vm_farm",
    "tests.harness.wine",
)

#: Where `except Exception` is allowed: at the exit code, around the user's code, around all requests to one share or
#: machine, around the libraries that read what a machine or a server sends, and where another thread or a future raises
#: it.
CATCHES_EVERYTHING = {
    "hyperv_ops.error_boundary",
    "hyperv_ops.hyperv.winrm",
    "hyperv_ops.qemu.qmp",
    "inbox_agent.evaluation.worker_process",
    "pipeline.api",
    "pipeline.cli.main",
    "pipeline.host.host_thread",
    "pipeline.http_api.submission_groups",
    "pipeline.machines.sites.dask_cluster",
    "pipeline.machines.sites.site_search",
    "pipeline.remote.farm",
    "pipeline.remote.generation",
    "pipeline.remote.name_lookup",
    "pipeline.shares.executor",
    "pipeline.shares.smb.change_notify",
    "pipeline.shares.smb.channel",
    "pipeline.shares.smb.session",
}

LINES_MAX, FUNCTION_LINES_MAX = 420, 60


@cache
def calls(module: str) -> frozenset[str]:
    return frozenset(ast.unparse(node.func) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call))


def users(library: str) -> set[str]:
    return {module for module in MODULES if library in {name.partition(".")[0] for name in imports_of(module)}}


def catches_everything(module: str) -> bool:
    return any(
        isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        for node in ast.walk(tree_of(module))
    )


def test_imports_follow_table() -> None:
    """A unit imports only what its row of the table lists."""
    assert [
        f"{module} imports {imported}" for module, imported in crossings() if not permissions(module, imported)
    ] == []


def test_rows_list_only_rows_above_them() -> None:
    """The table is ordered from the bottom up, so no import goes upwards."""
    rows = list(ALLOWED)
    for number, row in enumerate(rows):
        for what in ALLOWED[row]:
            assert any(is_within(what, above) for above in rows[:number] if above != "pipeline"), f"{row}: {what}"


def test_imports_have_no_cycles() -> None:
    """Neither units nor modules import each other in a cycle."""
    assert circles(arrows()) | circles(arrows("inbox_agent")) | circles(module_graph()) == set()


@pytest.mark.parametrize("rule", INDEPENDENT_RULES)
def test_rules_do_not_import_each_other(rule: str) -> None:
    """Their order is the dispatcher's alone, and each can be read alone."""
    assert (
        ours(imports_of(f"pipeline.core.{rule}")) & {f"pipeline.core.{other}" for other in INDEPENDENT_RULES} == set()
    )


def test_root_files_and_import_depth_are_bounded() -> None:
    """A new module of the host goes into a folder; a new folder does not lengthen the longest chain of imports."""
    assert len(root_files()) <= ROOT_FILES_MAX
    assert max(floors(arrows()).values()) <= FLOORS_MAX


@pytest.mark.parametrize("module", [module for module in MODULES if any(is_within(module, rule) for rule in RULES)])
def test_pure_modules_have_no_side_effects(module: str) -> None:
    """No I/O, clock, threads or randomness in the rules, nor in any shipped module that is loaded with them."""
    for loaded in loaded_with(module):
        outside = {imported.partition(".")[0] for imported in imports_of(loaded)} - set(PACKAGES)
        assert outside <= (PURE_IMPORTS if loaded == module else PURE_IMPORTS | OF_THE_LOADED), loaded
        assert not {"open", "print", "input"} & calls(loaded), loaded


@pytest.mark.parametrize("library", ONE_PLACE)
def test_library_is_imported_in_allowed_modules(library: str) -> None:
    """All uses of a library are found in a few files."""
    assert users(library) <= ONE_PLACE[library]


@pytest.mark.parametrize("module", MODULES)
def test_banned_calls_are_absent(module: str) -> None:
    """Each of these calls has a pitfall and a replacement."""
    for call in calls(module):
        allowed, instead = BANNED_CALLS.get(call, ({module}, ""))
        assert module in allowed, f"{call}: {instead}"


#: Names of the package's own data: packaged files, and the bundle's installer, which is not part of the program.
OWN_FILES = ("pipeline.bundle.bundle", "pipeline.bundle.installer", "pipeline.cli.new_project", "pipeline.ui.html")
FILE_NAMES = {name for key, name in vars(paths).items() if key.isupper() and isinstance(name, str) and "." in name}
HOST_MODULES = [
    module
    for module in MODULES
    if is_within(module, "pipeline") and not any(is_within(module, own) for own in ("pipeline.paths", *OWN_FILES))
]


def literals_of_paths(tree: ast.AST) -> Iterator[str]:
    """Paths joined with a literal name, and strings that are the name of a file or of a generation's folder."""
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
def test_project_paths_are_defined_in_one_module(module: str) -> None:
    """The names of files are found, and changed, in `pipeline.paths`."""
    assert not list(literals_of_paths(tree_of(module)))


@pytest.mark.parametrize(
    "code", ["root / 'state'", "root / f'gen-{n}'", "files.read('results.csv')", "f'{folder}/result.json'"]
)
def test_literal_path_is_found(code: str) -> None:
    assert len(list(literals_of_paths(ast.parse(code)))) >= 1


def test_agent_errors_are_converted_in_one_module() -> None:
    """A caller that catches PipelineError also catches the agent's errors about a file."""
    raised = "inbox_agent.settings.SettingsError"
    assert {module for module in HOST_MODULES if raised in set(imports_of(module))} == {"pipeline.config"}


@pytest.mark.parametrize("module", MODULES)
def test_except_exception_only_at_boundaries(module: str) -> None:
    """`except Exception` hides defects; it is used where the exit code is chosen, where the rest must go on, and where
    foreign data is read.
    """
    assert not catches_everything(module) or module in CATCHES_EVERYTHING


def test_every_import_permission_is_used() -> None:
    """A moved module leaves no permission behind, and every measured rule exists."""
    used = {row for module, imported in crossings() for row in permissions(module, imported)}
    assert used == {(who, what) for who, row in ALLOWED.items() for what in row}
    assert {library: users(library) for library in ONE_PLACE} == ONE_PLACE
    callers = {call: {module for module in MODULES if call in calls(module)} for call in BANNED_CALLS}
    assert callers == {call: allowed for call, (allowed, _instead) in BANNED_CALLS.items()}
    assert {module for module in MODULES if catches_everything(module)} == CATCHES_EVERYTHING
    assert [rule for rule in RULES if not any(is_within(module, rule) for module in MODULES)] == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_have_docstrings_and_bounded_size(module: str) -> None:
    """Each module has a docstring about its subject, no vague name, and a bounded number of lines."""
    path, tree = MODULES[module], tree_of(module)
    assert ast.get_docstring(tree)
    assert path.stem not in {"utils", "helpers", "common", "manager", "base", "misc"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


def test_unit_tests_start_no_processes_or_servers() -> None:
    """They import nothing that starts one, so that `make unit` stays fast."""
    found = {
        f"{path.relative_to(ROOT).as_posix()} imports {name}"
        for path in (ROOT / "tests" / "unit").rglob("*.py")
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if any(is_within(name, refused) for refused in NOT_IN_UNIT_TESTS)
    }
    assert found == set()
