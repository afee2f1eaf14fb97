"""The documents are correct: commands work, blocks parse, named files and terms exist."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import tree_sitter_powershell
from click.testing import CliRunner
from tree_sitter import Language, Parser, Tree

from hyperv_ops.hyperv.script_call import script_folder
from inbox_agent.arguments import agent_parser, doctor_parser
from inbox_agent.settings import PLACEHOLDERS
from pipeline import errors
from pipeline.bundle.bundle import INSTALLER
from pipeline.cli import main
from pipeline.cli.agent import agent_commands
from pipeline.cli.new_project import init
from pipeline.cli.vm import vm_commands
from pipeline.config import Config, load_config
from pipeline.config.machine_tables import HyperVTable, QemuTable
from pipeline.core.model import trial_seed
from pipeline.diagnosis.machines import FREE_DISK_GB_PER_MACHINE
from pipeline.storage.result_lines import encode_line
from pipeline.views.csv_table import ENCODING, csv_text
from pipeline.views.results import ATTEMPT_COLUMNS, RESULT_COLUMNS
from tests.harness.source_tree import PACKAGES, ROOT
from tests.simulator.mutations import MUTATIONS

pytestmark = pytest.mark.source

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "share_layout.md",
    "docs/reliability.md",
    "docs/beside-other-tools.md",
    "docs/reference/api.md",
    "docs/how-to/smb.md",
    "docs/how-to/hyper-v.md",
    "docs/how-to/scale-out.md",
    "docs/how-to/qemu.md",
    "docs/how-to/template-vm.md",
    "docs/how-to/windows.md",
    "docs/how-to/editor-and-shell.md",
    "docs/how-to/your-game.md",
    "docs/how-to/unattended.md",
    "docs/how-to/monitoring.md",
    "docs/how-to/notifications.md",
    "docs/how-to/metrics.md",
    "docs/how-to/mcp.md",
    "docs/how-to/disk-space.md",
    "docs/how-to/tables-and-progress.md",
    "docs/how-to/optimisers.md",
    "docs/how-to/optimiser-recipes.md",
    "docs/how-to/tracking.md",
    "docs/how-to/remote-client.md",
    "docs/how-to/another-agent.md",
    "docs/reference/results.md",
    "docs/tutorial.md",
    "docs/tutorial-gui-game.md",
    "docs/upstream/smbprotocol.md",
    "CONTRIBUTING.md",
    "examples/gui_game/README.md",
    "examples/lunar_lander/README.md",
    "inbox_agent/conformance/records/README.md",
    "tests/powershell/README.md",
)


def text_of(document: str) -> str:
    """The text of a document, or of another file."""
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language, without their common indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text_of(document), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def parse(code: bytes) -> Tree:
    """PowerShell as a syntax tree."""
    return Parser(Language(tree_sitter_powershell.language())).parse(code)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_exist(document: str) -> None:
    """Every relative link names a file of this repository."""
    text = text_of(document)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_named_in_docs_exist(document: str) -> None:
    """Documents name modules and their members by dotted name, so that a search for an import finds them."""
    text = text_of(document)
    for name in set(re.findall(r"(?<![\w./-])(?:hyperv_ops|inbox_agent|pipeline|tests|vm_image)(?:\.\w+)+", text)):
        module, _, attribute = name.rpartition(".")
        if attribute not in ("toml", "json", "jsonl"):
            assert hasattr(import_module(module), attribute) or find_spec(name), name
    assert re.findall(rf"\b(?:{'|'.join(PACKAGES)})/[\w/]+\.py\b", text) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_test_files_named_in_docs_exist(document: str) -> None:
    """Documents name a test file without its folder, as `pytest -k` does; exactly one has that name."""
    for name in re.findall(r"\btest_\w+\.py\b", text_of(document)):
        assert len([*(ROOT / "tests").rglob(name)]) == 1, name
    assert not re.search(r"\btests/[\w/]*test_\w+\.py", text_of(document))


def test_make_targets_in_docs_exist() -> None:
    """Every `make x` of the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(document), re.MULTILINE))
        assert named <= targets, document


def test_readme_lists_all_exit_codes() -> None:
    """The table has a row for each exit code, in their order."""
    codes = re.findall(r"^\| (\d+) \|", text_of("README.md"), re.MULTILINE)
    assert [int(code) for code in codes] == list(errors.ExitCode)


def test_readme_first_steps_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `pipeline` commands of the README, in their order, each with exit code 0."""
    monkeypatch.chdir(tmp_path)
    done = 0
    for line in "\n".join(blocks("README.md", "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["cd"]:
            monkeypatch.chdir(words[1])
        elif words[:1] == ["pipeline"]:
            assert main.run_commands(words[1:]) == 0, line
            done += 1
    assert done >= 3


def test_readme_toml_blocks_are_valid(tmp_path: Path) -> None:
    """Every TOML block is accepted as a `pipeline.toml`."""
    for number, block in enumerate(blocks("README.md", "toml")):
        root = tmp_path / str(number)
        root.mkdir()
        (root / "pipeline.toml").write_text(block)
        assert load_config(root).evaluator.is_playable


def test_smb_docs_workers_are_valid(tmp_path: Path) -> None:
    """Every `[[worker]]` of docs/how-to/smb.md is valid, uses SMB, and has a reference as its secret."""
    for block in blocks("docs/how-to/smb.md", "toml"):
        (tmp_path / "pipeline.toml").write_text(block)
        (worker,) = load_config(tmp_path).worker
        assert worker.unc == ("vm-3", "exchange", "")
        assert worker.secret.startswith("keyring:")


def test_hyperv_docs_configurations_are_valid(tmp_path: Path) -> None:
    """The blocks of docs/how-to/hyper-v.md are configurations; the tables have the defaults; its commands exist."""
    here, from_elsewhere, several = blocks("docs/how-to/hyper-v.md", "toml")
    (tmp_path / "pipeline.toml").write_text(here.replace("[hyperv]\n", from_elsewhere))
    elsewhere = load_config(tmp_path).hyperv
    assert elsewhere is not None
    assert elsewhere[""].host == "hv1"
    (tmp_path / "pipeline.toml").write_text(several)
    hosts = load_config(tmp_path)
    assert hosts.hyperv is not None
    assert [(name, table.network) for name, table in hosts.hyperv.items()] == [
        ("lab-1", "192.168.10.0/24"),
        ("lab-2", "192.168.10.0/24"),
    ]
    assert [worker.machine_host for worker in hosts.worker] == ["lab-1", "lab-2"]
    (tmp_path / "pipeline.toml").write_text(here)
    config = load_config(tmp_path)
    assert config.worker[0].unc == ("vm-1", "exchange", "")
    assert config.hyperv is not None
    text = text_of("docs/how-to/hyper-v.md")
    for key, default in re.findall(r"^\| `(\w+)` \| `?\"?([\w-]+)\"?`? \|", text, re.MULTILINE):
        if key != "port":
            value = getattr(config.hyperv[""], key)
            assert ("unset" if value is None else str(value)) == default
    for name in re.findall(r"`(\w+_s)` \((\d+)\)", text):
        assert getattr(config.limits, name[0]) == float(name[1])
    for command in re.findall(r"pipeline vm ([\w-]+)", text):
        assert command in vm_commands.commands


def test_qemu_docs_configurations_are_valid(tmp_path: Path) -> None:
    """The block of docs/how-to/qemu.md is a configuration; its table has the defaults; its commands exist."""
    (block,) = blocks("docs/how-to/qemu.md", "toml")
    (tmp_path / "pipeline.toml").write_text(block)
    config = load_config(tmp_path)
    assert config.worker[1].unc == ("vm-2", "exchange", "")
    assert config.qemu is not None
    text = text_of("docs/how-to/qemu.md")
    defaults = re.findall(r"^\| `(\w+)` \| `?\"?([\w-]+)\"?`? \|", text, re.MULTILINE)
    assert {key: str(getattr(QemuTable(), key)) for key, _default in defaults} == dict(defaults)
    for command in re.findall(r"pipeline vm ([\w-]+)", text):
        assert command in vm_commands.commands


def test_capacity_table_matches_defaults(tmp_path: Path) -> None:
    """The figures of the capacity table follow from the defaults."""
    table, rows = (
        HyperVTable(),
        text_of("docs/how-to/hyper-v.md").partition("## How many machines")[2],
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines() if line[:1] == "|"]
    counts = [int(cell) for cell in cells[0][1:]]
    wanted = {
        "memory if all": [f"{n * table.memory_max_mb // 1024 + 4} GB" for n in counts],
        "memory they keep": [f"{n * table.memory_min_mb // 1024 + 4} GB" for n in counts],
        "logical processors": [f"{n * table.processors + 2}" for n in counts],
        "disk": [f"{n * FREE_DISK_GB_PER_MACHINE + 40:.0f} GB" for n in counts],
        "from all off": [f"{-(-n // table.booting_max)} min" for n in counts],
    }
    for (words, figures), row in zip(wanted.items(), cells[2:], strict=True):
        assert row[0].startswith(words)
        assert row[1:] == figures


@pytest.mark.parametrize(
    "document",
    ["docs/how-to/hyper-v.md", "docs/how-to/template-vm.md", "docs/how-to/smb.md", "docs/how-to/notifications.md"],
)
def test_powershell_in_docs_parses(document: str) -> None:
    """With the grammar for the scripts; each script in a document exists and has the parameters that it shows."""
    paths = [path for folder in (script_folder(), INSTALLER) for path in folder.glob("*-*.ps1")]
    scripts = {path.name: path.read_text(encoding="utf-8") for path in paths}
    for block in blocks(document, "powershell"):
        assert not parse(block.encode()).root_node.has_error, block
        for name, arguments in re.findall(r"\.\\([\w-]+\.ps1)((?:[^\n]|`\n)*)", block):
            for parameter in re.findall(r"(?<= )-([A-Z]\w+)", arguments):
                known = parameter == "WhatIf" or re.search(rf"\${parameter}\b", scripts[name])
                assert known, f"{name} -{parameter}"


def test_installer_readme_is_valid() -> None:
    """README.txt of the bundle: its PowerShell parses and uses existing parameters."""
    text = (INSTALLER / "README.txt").read_text(encoding="utf-8")
    script = (INSTALLER / "install-agent.ps1").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^    (.*)", text, re.MULTILINE))
    assert not parse(commands.encode()).root_node.has_error
    used = re.findall(r" -([A-Z]\w+)", commands.partition("install-agent.ps1 -Player")[2])
    assert used and all(f"${name}" in script for name in used)


def test_agent_commands_in_docs_are_valid() -> None:
    """`pipeline agent bundle` and `inbox-agent doctor`, as in docs/how-to/template-vm.md."""
    (bundle,) = (shlex.split(block) for block in blocks("docs/how-to/template-vm.md", "sh"))
    assert bundle[:3] == ["pipeline", "agent", "bundle"]
    assert agent_commands.commands["bundle"].make_context("bundle", bundle[3:]).params["python"] == "3.12"
    (doctor,) = (block.split() for block in blocks("docs/how-to/template-vm.md", "bat"))
    assert doctor[1:4] == ["-m", "inbox_agent", "doctor"]
    assert doctor_parser().parse_args(doctor[4:]).folder == r"C:\game"


def test_conformance_commands_in_docs_work(tmp_path: Path) -> None:
    """The commands of docs/how-to/another-agent.md, for an agent of that name; those for all checks run one of them."""
    shutil.copy(ROOT / "tests" / "harness" / "minimal_agent.py", tmp_path / "my_agent.py")
    lines = "".join(blocks("docs/how-to/another-agent.md", "sh")).splitlines()
    for line in lines:
        words = [sys.executable if word == "python" else word for word in shlex.split(line)]
        if not {"--list", "--only"} & {*words}:
            words[3:3] = ["--only", "result-repeats-start-signal"]
        ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert len(lines) == 3
    assert (tmp_path / "kept/claim-precedes-game/share/inbox/1.host.json").exists()


def commands_with_placeholders() -> list[tuple[str, bool]]:
    """The command lines with placeholders in documents and helps, and whether they are for PowerShell alone."""
    found = [(agent_parser().epilog or "", False)]
    for document in DOCUMENTS:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL):
            if language not in ("toml", "json", "python"):
                found += [(line, language == "powershell") for line in block.splitlines()]
        in_text = re.findall(r"`((?:inbox-agent|pipeline|python) [^`\n]*)`", text_of(document))
        found += [(line, False) for line in in_text]
    for script in (*script_folder().glob("*.ps1"), *INSTALLER.glob("*.ps1")):
        examples = re.findall(r"^\.EXAMPLE\n(.*?)^(?:\.[A-Z]|#>)", script.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        found += [(line, True) for example in examples for line in example.splitlines()]
    placeholder = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")
    return [(line, is_powershell) for line, is_powershell in found if placeholder.search(line)]


def test_placeholders_in_commands_are_quoted() -> None:
    """PowerShell takes unquoted braces for a block of code and passes `genome`; cmd knows double quotes only."""
    commands = commands_with_placeholders()
    assert len(commands) >= 5
    for line, is_powershell in commands:
        quoted = re.sub(r"""'[^']*'|"[^"]*\"""" if is_powershell else r'"[^"]*"', "", line)
        assert "{" not in quoted, line


@pytest.mark.needs("testparm")
def test_samba_configuration_in_docs_is_valid(tmp_path: Path) -> None:
    """Samba's `testparm` accepts it."""
    (conf,) = blocks("docs/how-to/smb.md", "ini")
    (tmp_path / "smb.conf").write_text(conf)
    done = subprocess.run(["testparm", "-s", tmp_path / "smb.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Unknown parameter" not in done.stderr
    assert "[exchange]" in done.stdout


def test_documented_mutations_match_tests() -> None:
    """The table has each mutation with its rule and its function, in their order, and a seed that detected it."""
    table = text_of("docs/reliability.md").partition("## Mutation tests")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:3] for row in rows[2:]] == [[one.name, one.rule, f"`{one.function}`"] for one in MUTATIONS]
    assert all(re.fullmatch(r"\d+(, by an assertion)?", row[3]) for row in rows[2:])


@pytest.mark.parametrize(
    ("document", "programs"),
    [("README.md", 1), ("docs/how-to/your-game.md", 1), ("docs/how-to/optimisers.md", 4), ("docs/reference/api.md", 2)],
)
def test_python_blocks_of_documents_run(document: str, programs: int, tmp_path: Path) -> None:
    """The Python blocks run as they are, beside a game."""
    (tmp_path / "my-project").mkdir()
    (tmp_path / "my-project/my_game.py").write_text("def play(genome, trial):\n    return float(trial.seed)\n")
    found = blocks(document, "python")
    assert len(found) == programs
    for program in found:
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "look at the workers" not in ran.stdout


def test_programs_with_tables_and_progress_run(tmp_path: Path) -> None:
    """One after another, as they are, beside a game; the last one reads what the command before it has written."""
    document = "docs/how-to/tables-and-progress.md"
    (tmp_path / "my-project").mkdir()
    (tmp_path / "my-project/my_game.py").write_text("def play(genome, trial):\n    return float(trial.seed)\n")
    *programs, last = blocks(document, "python")
    (command,) = blocks(document, "sh")
    found = [["-W", "error", "-c", program] for program in programs]
    found += [["-m", *shlex.split(command)], ["-W", "error", "-c", last]]
    shown = []
    for arguments in found:
        ran = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, check=False)
        text = (ran.stdout + ran.stderr).decode(errors="replace").replace("\r\n", "\n")
        assert ran.returncode == 0, text
        shown.append(text)
    tqdm, rich, pandas, polars, written, read = shown
    assert "6/6" in tqdm and "100%" in rich
    assert "param_rate" in pandas and "('a.bin', " in polars and "True)" in polars
    assert written == "12 genomes in results.parquet\n"
    assert "generation" in read


def test_program_of_the_readme_resumes(tmp_path: Path) -> None:
    """Started again it prints the same, and plays nothing."""
    (tmp_path / "my-project").mkdir()
    (tmp_path / "my-project/my_game.py").write_text(
        "def play(genome, trial):\n    return float(genome.read_bytes()[0])\n"
    )
    (program,) = blocks("README.md", "python")
    command = [sys.executable, "-c", program]
    first, again = (subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True) for _ in range(2))

    assert first.stdout == again.stdout
    assert len(first.stdout.splitlines()) == 5
    for folder in (tmp_path / "my-project/results").iterdir():
        assert len((folder / "attempts.csv").read_text().splitlines()) == 1 + 10 * 3


def test_documented_reading_of_results_works(tmp_path: Path) -> None:
    """The names are those of the genomes, also where the table marks them."""
    program, _ = blocks("docs/reference/results.md", "python")
    names = ["größe.json", "=1+1", "'=1+1", " @x"]
    (tmp_path / "results/gen-0001").mkdir(parents=True)
    table = csv_text(("genome", "fitness"), ((name, -0.5) for name in names)).encode(ENCODING)
    (tmp_path / "results/gen-0001/results.csv").write_bytes(table)
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(ascii(fitness))"], cwd=tmp_path, capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == ascii(dict.fromkeys(names, "-0.5"))


def test_documented_reading_of_lines_works(tmp_path: Path) -> None:
    """Also if a kill left an incomplete line, in the middle of a letter; the last line of an attempt counts."""
    _, program = blocks("docs/reference/results.md", "python")
    (tmp_path / "results/gen-0001").mkdir(parents=True)
    attempt = "g0001-0001-t1-a1-abcdefghijkl"
    first, last = (encode_line(attempt, record, log=False, files=()) for record in ('{"x":"ü"}'.encode(), b'{"x":2}'))
    torn = first[: first.index(b"\xc3") + 1] + b"\n"
    (tmp_path / "results/gen-0001/results.jsonl").write_bytes(torn + b"\0\0\n" + first + last)
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(records)"], cwd=tmp_path, capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == f"{{'{attempt}': {{'x': 2}}}}"


def test_documented_errors_match_code() -> None:
    """The table has exactly the errors with their exit codes, as the README does; a kind of InputError says so."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+) \|$", text_of("docs/reference/api.md"), re.MULTILINE)
    classes = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)}
    del classes["PipelineError"]
    known = {name: kind for name, kind in classes.items() if issubclass(kind, errors.PipelineError)}
    assert {name: int(code) for name, code, _ in rows} == {name: kind.exit_code for name, kind in known.items()}
    for name, _, words in rows:
        assert words.endswith("; an `InputError`") == (errors.InputError in known[name].__bases__)
    readme = re.findall(r"^\| (\d+) \|", text_of("README.md"), re.MULTILINE)
    assert {code for _, code, _ in rows} <= set(readme)


def test_documented_loggers_match_code() -> None:
    """The table has each module that logs, with its levels."""
    used: dict[str, set[str]] = {}
    for package in ("hyperv_ops", "inbox_agent", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "getLogger(__name__)" in text:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                used[name] = set(re.findall(r"\blog\.(debug|info|warning|error)\(", text))
    used["pipeline.host.timers"] = {"error"}  # by APScheduler
    rows = re.findall(
        r"^\| `([\w.]+)` \| (?:host|agent|both) \| ([\w, ]+) \|", text_of("docs/reference/api.md"), re.MULTILINE
    )
    assert {name: set(levels.split(", ")) for name, levels in rows} == used


@pytest.mark.parametrize(
    "document",
    ["docs/tutorial.md", "docs/how-to/your-game.md", "docs/how-to/smb.md", "docs/how-to/template-vm.md"],
)
def test_documented_evaluator_example_runs(document: str, tmp_path: Path) -> None:
    """The calls of `play.py` in a document work with the evaluator that `init` writes."""
    init(tmp_path)
    calls = re.findall(r"python play\.py ([^`'\n]+)", text_of(document))
    tables = [tomllib.loads(block).get("evaluator", {}) for block in blocks(document, "toml")]
    calls += [" ".join(table["command"][2:]) for table in tables if "play.py" in table.get("command", ())]
    assert calls
    for call in calls:
        (tmp_path / "settings.json").write_text("{}")
        paths = {"genome": "genomes/gen-0001/weasel.txt", "result": "result.json", "settings": "settings.json"}
        arguments = call.format(seed=7, **paths)
        subprocess.run([sys.executable, "play.py", *shlex.split(arguments)], cwd=tmp_path, check=True)

        result = json.loads((tmp_path / "result.json").read_bytes())
        assert 0.5 < result["fitness"] < 1.5
        (tmp_path / "result.json").unlink()


def test_documented_seed_is_that_of_the_first_trial() -> None:
    """docs/how-to/your-game.md reproduces trial 1 of generation 1 with the run seed that `init` writes."""
    seed = trial_seed(Config().generation.seed, generation=1, trial=1)
    assert f"--seed {seed} --result" in text_of("docs/how-to/your-game.md")


@pytest.mark.parametrize("column", [*RESULT_COLUMNS, *ATTEMPT_COLUMNS])
def test_columns_of_results_are_documented(column: str) -> None:
    """Each column of both tables is on the page of the results."""
    assert f"`{column}`" in text_of("docs/reference/results.md")


def test_fields_of_archived_results_are_documented() -> None:
    """Each field of a line of `results.jsonl` is in the table."""
    line = json.loads(encode_line("g0001-0001-t1-a1-abcdefghijkl", b"{}", log=True, files=["replay.bin"]))

    documented = text_of("docs/reference/results.md").partition("## The lines of `results.jsonl`")[2]
    assert re.findall(r"^\| `(\w+)` \|", documented.partition("```")[0], re.MULTILINE) == [*line]


def test_every_command_is_documented_and_has_help() -> None:
    """Each command is in the documents and has a help text."""
    readme = text_of("README.md")
    for name, command in main.commands.commands.items():
        assert f"pipeline {name}" in readme
        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) > 3


def test_example_configuration_shows_defaults(tmp_path: Path) -> None:
    """`pipeline init` writes every documented key, and those it calls defaults are the defaults."""
    init(tmp_path)
    table = tomllib.loads((tmp_path / "pipeline.toml").read_text(encoding="utf-8"))
    config = Config()
    assert {"generation", "settings", "evaluator", "local"} <= set(table)
    for name, value in table["generation"].items():
        assert getattr(config.generation, name) == value
    assert table["local"]["queue_depth"] == config.local.queue_depth
    assert table["evaluator"]["time_limit_s"] == config.evaluator.time_limit_s


def test_glossary_has_terms_of_code() -> None:
    """Words that name types of the core are explained once, in ARCHITECTURE.md."""
    text = text_of("ARCHITECTURE.md")
    for word in ("genome", "trial", "attempt", "worker", "farm", "fact", "observation"):
        assert f"\n| {word} |" in text


def test_generated_reference_is_current() -> None:
    """`make reference` would change nothing, and every key of pipeline.toml has a description."""
    code = "import json; from docs.reference.__main__ import PAGES as p; print(json.dumps({n: p[n]() for n in p}))"
    written = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    pages = json.loads(written.stdout)
    assert {name: text_of(f"docs/reference/{name}") for name in pages} == pages
    assert not re.findall(r"^.*\|  \|$", text_of("docs/reference/configuration.md"), re.MULTILINE)


def test_tutorial_tables_are_valid_settings(tmp_path: Path) -> None:
    """Every TOML block of the tutorial and the guides is part of a `pipeline.toml`."""
    guides = ("your-game", "monitoring", "disk-space")
    for document in ("docs/tutorial.md", *(f"docs/how-to/{guide}.md" for guide in guides)):
        for number, block in enumerate(blocks(document, "toml")):
            (root := tmp_path / f"{Path(document).stem}-{number}").mkdir()
            (root / "pipeline.toml").write_text(block)
            load_config(root)
