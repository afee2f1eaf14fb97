"""The shape of the house, enforced: who may import whom, what pure modules may touch, how long things may grow."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).parent.parent
PACKAGES = ("hyperv_ops", "inbox_agent", "pipeline")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

#: The rules, as the measurement of their coverage lists them.
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]["run"]["include"]
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

#: (importing path, imported module) pairs are allowed if the importing path starts with the first and the imported
#: module with the second; everything else between our packages is refused.
ALLOWED = (
    ("inbox_agent/", "inbox_agent"),
    ("hyperv_ops/", "hyperv_ops"),
    ("pipeline/core/", "pipeline.core"),
    ("pipeline/core/", "inbox_agent.share_layout"),
    ("pipeline/edges/", "pipeline.core"),
    ("pipeline/edges/", "pipeline.edges"),
    ("pipeline/edges/", "inbox_agent.share_layout"),
    ("pipeline/edges/", "inbox_agent.share_files"),
    ("pipeline/edges/", "inbox_agent.busy_files"),
    ("pipeline/edges/smb_session.py", "inbox_agent.settings_file"),
    ("pipeline/edges/workers.py", "inbox_agent.leash"),
    ("pipeline/edges/workers.py", "inbox_agent.settings_file"),
    ("pipeline/edges/workers.py", "hyperv_ops"),
    ("pipeline/edges/machine_room.py", "hyperv_ops"),
    ("pipeline/screens/", "pipeline.core"),
    ("pipeline/screens/", "pipeline.screens"),
    ("pipeline/screens/", "inbox_agent.share_layout"),
    ("pipeline/screens/standing.py", "pipeline.edges.ledger"),
    ("pipeline/screens/standing.py", "pipeline.generation"),
    ("pipeline/screens/standing.py", "inbox_agent.settings_file"),
)
#: The files directly in `pipeline/` put the parts together; they may use anything of the host and of the machines, and
#: these of the agent.
OF_THE_AGENT = ("share_layout", "share_files", "doorbell", "interpreter", "lock", "long_paths", "settings_file")

#: Libraries that are touched in one place each.
ONE_PLACE = {
    "watchdog": {"inbox_agent/doorbell.py"},
    "apscheduler": {"pipeline/metronome.py"},
    "click": {f"pipeline/{face}.py" for face in ("agent_commands", "cli", "look_commands", "options", "vm_commands")},
    "rich": {"pipeline/cli.py", "pipeline/look_commands.py", "pipeline/screens/monitor.py", "pipeline/screens/top.py"},
    "winrm": {"hyperv_ops/winrm.py"},
    "qemu": {"hyperv_ops/qmp.py"},
    "starlette": {"pipeline/serve.py"},
    "uvicorn": {"pipeline/serve.py"},
    "plotly": {"pipeline/screens/report.py"},
    "sqlite3": {"pipeline/edges/ledger.py"},
    "smbprotocol": {f"pipeline/edges/smb_{part}.py" for part in ("ears", "messages", "session")},
    "packaging": {"pipeline/agent_bundle.py"},
    "keyring": {"pipeline/secret_reference.py"},
    "ctypes": {f"inbox_agent/{name}.py" for name in ("session", "job_object", "orphans", "warm_child")},
}

#: Calls that are refused, where they are allowed after all, and what to do instead.
BANNED_CALLS = {
    "time.sleep": ({"inbox_agent/busy_files.py", "inbox_agent/__main__.py"}, "wait for an event"),
    "os.system": (set(), "use the leash"),
    "shutil.move": ({"pipeline/edges/archive.py"}, "publish without replacing"),
    "os.rename": ({"inbox_agent/share_files.py", "pipeline/host.py"}, "publish without replacing"),
    "eval": (set(), "decode with msgspec"),
    "exec": (set(), "decode with msgspec"),
    "pickle.loads": (set(), "genomes and results are data"),
}

LINES_MAX, FUNCTION_LINES_MAX = 420, 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    """Data flows one way: agent and machines know nothing of the host, the core nothing of the world."""
    name = name_of(path)
    for module in imports(path):
        if module.partition(".")[0] not in PACKAGES:
            continue
        if path.parent == ROOT / "pipeline":
            of_agent = any(module.startswith(f"inbox_agent.{part}") for part in OF_THE_AGENT)
            assert module.startswith(("pipeline", "hyperv_ops")) or of_agent, f"{name} must not import {module}"
        else:
            allowed = any(name.startswith(where) and module.startswith(what) for where, what in ALLOWED)
            assert allowed, f"{name} must not import {module}"


@pytest.mark.parametrize("path", [path for path in MODULES if any(path.match(rule) for rule in RULES)], ids=name_of)
def test_pure_modules_touch_nothing(path: Path) -> None:
    """No I/O, no clock, no threads, no dice in the rules: what they need is handed to them."""
    outside = {module.partition(".")[0] for module in imports(path)} - set(PACKAGES)
    assert outside <= PURE_IMPORTS
    assert not {"open", "print", "input"} & set(calls(path))


@pytest.mark.parametrize("library", ONE_PLACE)
def test_a_library_is_touched_in_one_place(library: str) -> None:
    """Who wants to know what we rely on in a library reads one file."""
    users = {name_of(path) for path in MODULES if library in {m.partition(".")[0] for m in imports(path)}}
    assert users <= ONE_PLACE[library]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_banned_calls(path: Path) -> None:
    """Some calls are traps here; each has something better."""
    for call in calls(path):
        allowed, instead = BANNED_CALLS.get(call, ({name_of(path)}, ""))
        assert name_of(path) in allowed, f"{call}: {instead}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_face_catches_everything(path: Path) -> None:
    """`except Exception` hides defects; it stands once, where the exit code is chosen."""
    broad = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    allowed = {"pipeline/cli.py", "inbox_agent/warm_child.py"}  # the warm child runs the user's code
    assert not broad or name_of(path) in allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_file_has_one_subject_and_says_so(path: Path) -> None:
    """A docstring that names the subject, no vague names, and a bound on what fits into one head."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert path.stem not in {"utils", "helpers", "common", "manager", "base", "misc"}
    assert len(text.splitlines()) <= LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
