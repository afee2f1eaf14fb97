"""The Pester files of `tests/powershell` are checked by their syntax trees, because PowerShell is not available here.

They have to run in Windows PowerShell 5.1 and in PowerShell 7, and their stand-ins have to agree with `cmdlets.toml`.
Each check is a function from a file to complaints; inserted violations show that each can fail.
"""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tree_sitter import Node

from hyperv_ops.hyperv.script_call import LOAD_COMMON
from tests.harness.source_tree import ROOT
from tests.powershell.__main__ import main, passes
from tests.repository.test_powershell_scripts import (
    BOOTSTRAP,
    COMMON,
    SCRIPTS,
    TABLE,
    Script,
    ancestors,
    bare,
    check_it_parses,
    child,
    line,
    one_line,
    script,
    switches,
    text,
)

pytestmark = pytest.mark.source

FOLDER = ROOT / "tests" / "powershell"
SUITES = ("host", "guest")
FILES = sorted(path for ext in ("ps1", "psm1", "psd1") for path in FOLDER.rglob(f"*.{ext}"))
SOURCES = sorted(FOLDER.rglob("*.cs"))
STAND_INS = [(suite, path) for suite in SUITES for path in sorted((FOLDER / suite / "Modules").glob("*/*.psm1"))]
SHOULD_PROCESS = {"Confirm", "WhatIf"}
# Features of PowerShell 7 that Windows PowerShell 5.1 lacks.
COMMANDS = {"Get-Error", "Get-Uptime", "Join-String", "Remove-Alias", "Start-ThreadJob", "Test-Json"}
PARAMETERS = {
    "ConvertFrom-Json": {"AsHashtable", "DateKind", "Depth", "NoEnumerate"},
    "ConvertTo-Json": {"AsArray", "EnumsAsStrings", "EscapeHandling"},
    "ForEach-Object": {"AsJob", "Parallel", "ThrottleLimit", "TimeoutSeconds"},
    "Get-Content": {"AsByteStream"},
    "Get-Process": {"IncludeParent"},
    "Get-Random": {"Shuffle"},
    "New-Item": {"Options"},
    "Select-Object": {"CaseInsensitive"},
    "Set-Content": {"AsByteStream"},
    "Split-Path": {"Extension", "LeafBase"},
    "Where-Object": {"AsJob"},
}
VARIABLES = {"$IsCoreCLR", "$IsLinux", "$IsMacOS", "$IsWindows", "$PSStyle"}
MEMBERS = re.compile(
    r"\.Kill\(\$true\)|\.ArgumentList\.Add\(|::(ProcessPath|GetRelativePath|ToHexString|Shared|HashData|IsWindows)\b",
    re.IGNORECASE,
)
# Features of C# 6 and later: Add-Type of Windows PowerShell compiles C# 5.
NEW_CSHARP = (
    *(r"\$\"", r"\?\.", r"\?\?=", r"\bnameof\(", r"\bout var\b", r"\busing var\b", r"\bis not\b", r"\bnew\(\)"),
    r"\w!\s*[;,).]",  # null-forgiving
    r"\[\^?\d*\.\.",  # a range
    r"^\s*(public|private|internal|static)[^={(]*\s=>",  # an expression-bodied member
)
PROVIDED = {  # by Pester and by PowerShell, if `cmdlets.toml` has no entry
    *("AfterAll", "BeforeAll", "BeforeDiscovery", "BeforeEach", "Context", "Describe", "Invoke-Pester", "It"),
    *("New-PesterConfiguration", "New-PesterContainer", "Should"),
    *("Add-Type", "Compare-Object", "ConvertTo-Json", "Export-ModuleMember", "ForEach-Object", "Get-ChildItem"),
    *("Get-Command", "Get-Item", "Get-Location", "Get-Module", "Get-Process", "Import-Module", "Out-Null"),
    *("Pop-Location", "Push-Location", "Remove-Item", "Resolve-Path", "Select-Object", "Set-Item", "Set-StrictMode"),
    *("Sort-Object", "Split-Path", "Start-Sleep", "Start-ThreadJob", "Where-Object", "Write-Error", "Write-Warning"),
}


@cache
def read(path: Path) -> Script:
    return Script(path.name, path.read_text(encoding="utf-8-sig"))


def functions(script: Script) -> set[str]:
    """The functions that a file defines, without `global:`."""
    return {name.rpartition(":")[2] for name in script.functions()}


@cache
def used(suite: str) -> dict[str, set[str]]:
    """The cmdlets, with parameters, that the scripts with a test file in a suite call."""
    found: dict[str, set[str]] = {}
    for name in (*SCRIPTS, BOOTSTRAP):
        if (FOLDER / suite / f"{Path(name).stem}.Tests.ps1").exists():
            for node in script(name).commands():
                found.setdefault(bare(node), set()).update(switches(node))
    return found


def declared(function: Node) -> set[str]:
    """The parameters of a function by name, with -Confirm and -WhatIf where it declares them."""
    script = Script("", text(function))
    found = {text(name)[1:] for node in script.nodes("script_parameter") if (name := child(node, "variable"))}
    return found | (SHOULD_PROCESS if "SupportsShouldProcess" in one_line(function) else set())


# ---------------------------------------------------------------------------------------------------------- the checks


def check_encoding(data: bytes) -> list[str]:
    """Windows PowerShell reads a file without a byte order mark in the code page of the computer."""
    return [] if data.isascii() or data.startswith(b"\xef\xbb\xbf") else ["is not ASCII and has no byte order mark"]


def is_guarded(node: Node, name: str) -> bool:
    """Whether an enclosing `if` checks the version of PowerShell or this command."""
    above = (child(one, "pipeline") for one in ancestors(node) if one.type == "if_statement")
    conditions = [one_line(one) for one in above if one is not None]
    return any("$PSVersionTable.PSVersion" in one or f"Get-Command -Name {name} " in one for one in conditions)


def check_windows_powershell(script: Script) -> list[str]:
    """Only features of Windows PowerShell 5.1, except behind a guard. The grammar refuses `?:`, `??` and `?.`."""
    found: list[tuple[Node, str]] = [(node, "&&") for node in script.nodes("pipeline_chain_tail")]
    for node in script.commands():
        found += [(node, bare(node))] if bare(node) in COMMANDS else []
        new = PARAMETERS.get(bare(node), set()) & set(switches(node))
        found += [(node, f"{bare(node)} -{one}") for one in sorted(new)]
    found += [(node, text(node)) for node in script.nodes("variable") if text(node) in VARIABLES]
    members = script.nodes("invokation_expression", "member_access")
    found += [(node, one.group()) for node in members if (one := MEMBERS.search(one_line(node)))]
    return [f"{line(node)}{name}" for node, name in found if not is_guarded(node, name)]


def check_csharp(source: str) -> list[str]:
    code = re.sub(r"//.*", "", source)
    return [one.group().strip() for pattern in NEW_CSHARP for one in re.finditer(pattern, code, re.MULTILINE)]


def check_stand_in(script: Script, module: str, suite: str) -> list[str]:
    """A stand-in of a cmdlet of `cmdlets.toml` is in the module of its entry, with the parameters that scripts use."""
    complaints = []
    for name, node in script.functions().items():
        entry = TABLE.get(name)
        if entry is None or entry["module"] == "Windows":
            continue
        own = {"FakeComputer", "PowerShellDirect"}  # of PowerShell itself, not of a module of Windows
        if module not in own and entry["module"] != module:
            complaints.append(f"{name} is in {module}, and in cmdlets.toml in {entry['module']}")
        missing = (set(entry["parameters"]) & used(suite).get(name, set())) - declared(node) - COMMON
        complaints += [f"{name} has no -{one}" for one in sorted(missing)]
    return complaints


def check_commands_exist(script: Script, known: set[str]) -> list[str]:
    """Every command is a function of these files, a cmdlet of `cmdlets.toml`, or provided. `1..3 | f` counts as one."""
    called = [node for node in script.commands() if not re.fullmatch(r"\d+\.\.\d+", bare(node))]
    known = known | functions(script) | set(TABLE) | PROVIDED
    return [f"{line(node)}{bare(node)} does not exist" for node in called if bare(node) not in known]


# ----------------------------------------------------------------------------------------------------------- the tests


def test_all_test_files_are_found() -> None:
    assert len(FILES) > 50
    assert len(SOURCES) == 3
    assert len(STAND_INS) == 17


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_test_file_is_valid_in_both_powershells(path: Path) -> None:
    """It parses, can be read in any code page, and uses only features of Windows PowerShell 5.1."""
    assert check_encoding(path.read_bytes()) == []
    script = read(path)
    assert check_it_parses(script) == []
    assert check_windows_powershell(script) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_csharp_compiles_as_csharp_5(path: Path) -> None:
    assert check_csharp(path.read_text(encoding="ascii")) == []


@pytest.mark.parametrize("name", [*SCRIPTS, BOOTSTRAP])
def test_every_script_has_a_test_file(name: str) -> None:
    file = f"{Path(name).stem}.Tests.ps1"
    assert [suite for suite in SUITES if (FOLDER / suite / file).exists()], file


@pytest.mark.parametrize(("suite", "path"), STAND_INS, ids=lambda one: one if isinstance(one, str) else one.stem)
def test_fake_has_parameters_of_cmdlet(suite: str, path: Path) -> None:
    assert check_stand_in(read(path), path.stem, suite) == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_command_exists(suite: str) -> None:
    """Commands of a suite are found in its modules, in its Support.ps1 or beside run.ps1."""
    shared = [path for path in FILES if path.parent == FOLDER]
    own = [path for path in FILES if suite in path.relative_to(FOLDER).parts]
    support = [path for path in own if path.name == "Support.ps1" or path.suffix == ".psm1"]
    known = set().union(*(functions(read(path)) for path in (*shared, *support)))
    complaints = [f"{path.name} {one}" for path in (*shared, *own) for one in check_commands_exist(read(path), known)]
    assert complaints == []


@pytest.mark.parametrize("suite", SUITES)
def test_cases_complete_a_script_as_it_is_sent(suite: str) -> None:
    """Where a case runs a script from its text, Common.ps1 takes the place of the line that the pipeline replaces."""
    support = (FOLDER / suite / "Support.ps1").read_text(encoding="ascii")
    assert f".Replace('{LOAD_COMMON}', $common)" in support


def test_documented_sections_of_cases_exist() -> None:
    """Documents.Tests.ps1 runs blocks of docs/how-to/template-vm.md, which it finds by their headings."""
    source = (FOLDER / "host" / "Documents.Tests.ps1").read_text(encoding="ascii")
    headings = re.findall(r"Get-Block '([^']+)'", source)
    page = (ROOT / "docs" / "how-to" / "template-vm.md").read_text(encoding="utf-8")
    assert len(headings) == 6
    assert [heading for heading in headings if f"\n## {heading}\n" not in page] == []


def test_missing_powershell_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make test-powershell` succeeds with one line where the tests cannot run."""
    monkeypatch.setenv("PATH", "")
    assert main() == 0
    assert re.fullmatch(r"test-powershell: skipped, because .+\n", capsys.readouterr().out)


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
@pytest.mark.parametrize(
    ("body", "passed"),
    [
        ("echo '3 passed, 0 failed, 1 skipped'", True),
        ("echo '3 passed, 0 failed, 1 skipped'; exit 1", False),
        ("echo '2 passed, 1 failed, 0 skipped'", False),
        ("true", False),
    ],
)
def test_powershell_passes_only_with_test_counts(tmp_path: Path, body: str, passed: bool) -> None:
    """Exit code 0 alone is not enough: Wine's powershell.exe returns it and runs nothing."""
    program = tmp_path / "pwsh"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    assert passes(str(program)) is passed


# ----------------------------------------------------------------------------------------------- inserted violations

GOOD = "$list = Get-ChildItem -Path C:\\farm-tests | ForEach-Object { $_.FullName }"
VIOLATIONS: list[tuple[Callable[[Script], list[str]], str]] = [
    *((check_it_parses, code) for code in ("$a = $b ? 1 : 2", "$a = $b ?? 1", "$a ??= 1", "${a}?.Length", "if $a { }")),
    *((check_windows_powershell, code) for code in ("Get-Item a && Get-Item b", "Get-Item a || Get-Item b")),
    *((check_windows_powershell, name) for name in sorted(COMMANDS)),
    *((check_windows_powershell, f"1 | {name} -{one}") for name, found in PARAMETERS.items() for one in sorted(found)),
    *((check_windows_powershell, f"if ({name}) {{ 1 }}") for name in sorted(VARIABLES)),
    (check_windows_powershell, "if (Get-Command -Name Get-Item) { Start-ThreadJob -ScriptBlock { 1 } }"),
    (check_windows_powershell, "$process.Kill($true)"),
    (check_windows_powershell, "$start.ArgumentList.Add('a b')"),
    (check_windows_powershell, "[System.Environment]::ProcessPath"),
    (check_windows_powershell, "[System.Convert]::ToHexString($bytes)"),
    (lambda script: check_commands_exist(script, {"Reset-Host"}), "Reset-Hots"),
    (lambda script: check_stand_in(script, "Hyper-V", "host"), "function Stop-VM { param([string] $VM) }"),
    (lambda script: check_stand_in(script, "NetTCPIP", "host"), "function Get-VMHost { }"),
]
GUARDED = [
    "if (Get-Command -Name Start-ThreadJob -ErrorAction SilentlyContinue) { Start-ThreadJob -ScriptBlock { 1 } }",
    "if ($PSVersionTable.PSVersion.Major -ge 6 -and -not $IsWindows) { exit 2 }",
    "if ($PSVersionTable.PSVersion.Major -ge 6) { $process.Kill($true) } else { $process.Kill() }",
]


@pytest.mark.parametrize("code", [GOOD, *GUARDED])
def test_valid_code_passes(code: str) -> None:
    script = Script("good", code)
    assert check_it_parses(script) == check_windows_powershell(script) == check_commands_exist(script, set()) == []


@pytest.mark.parametrize(("check", "code"), VIOLATIONS)
def test_violation_in_test_file_is_detected(check: Callable[[Script], list[str]], code: str) -> None:
    assert check(Script("violation", f"{GOOD}\n{code}\n")) != []


@pytest.mark.parametrize(
    "code",
    [
        'string a = $"{b}";',
        "int a = b?.Length ?? 0;",
        "string a = nameof(Main);",
        "int.TryParse(a, out var b);",
        "string a = Environment.ProcessPath!;",
        "string[] a = args[1..];",
        "public string Name => name;",
        "Dictionary<string, int> a = new();",
        "if (a is not null) { }",
    ],
)
def test_csharp_violation_is_detected(code: str) -> None:
    assert check_csharp(code) != []


def test_non_ascii_character_is_detected() -> None:
    assert check_encoding("$a = '\u00e4'".encode()) != []
    assert check_encoding("$a = '\u00e4'".encode("utf-8-sig")) == []
