"""The PowerShell scripts are checked by their syntax trees, because PowerShell is not available here.

The cmdlets that they may call are in `tests/data/cmdlets.toml`, which was taken from Microsoft's reference. Each check
is a function from a script to complaints; scripts with an inserted violation show that each check finds it.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from hyperv_ops.hyperv.script_call import LOAD_COMMON, script_folder, script_text
from pipeline.bundle.bundle import INSTALLER
from tests.harness.source_tree import ROOT

pytestmark = pytest.mark.source

FOLDER = script_folder()
TABLE = tomllib.loads((ROOT / "tests" / "data" / "cmdlets.toml").read_text(encoding="utf-8"))
# The only script that turns a text into a script, and not for users: it only has to parse.
BOOTSTRAP = "bootstrap.ps1"
# Functions that scripts load.
LIBRARY = "Common.ps1"
PLACES = {path.name: path for folder in (FOLDER, INSTALLER) for path in folder.glob("*.ps1")}
SCRIPTS = sorted(PLACES.keys() - {BOOTSTRAP, LIBRARY})
# They are copied into a guest one by one, so they have nothing to load.
ALONE = {
    "Complete-FarmTemplate.ps1",
    "Initialize-FarmTemplate.ps1",
    "Test-FarmTemplate.ps1",
    "install-agent.ps1",
    "uninstall-agent.ps1",
}
# The documentation of the first is in no public repository; the second is not Microsoft's.
NOT_LOOKED_UP = {"powercfg.exe", "python.exe"}
COMMON = {"ErrorAction", "ErrorVariable"}  # about_CommonParameters
OPENING = (
    "Set-StrictMode -Version 3.0",
    "$ErrorActionPreference = 'Stop'",
    "$ProgressPreference = 'SilentlyContinue'",
)
# Modules whose commands are functions. They see the global $ErrorActionPreference, not that of the script that calls
# them (PowerShell issue 4568): a script that was started at a prompt would go on after their errors.
FUNCTIONS = {
    "Defender",
    "NetAdapter",
    "NetConnection",
    "NetSecurity",
    "NetTCPIP",
    "ScheduledTasks",
    "SmbShare",
}
REACHES_FUNCTIONS = "$PSDefaultParameterValues = @{ '*:ErrorAction' = 'Stop' }"
REASONS = {
    "BadBundle",
    "BadInput",
    "BadTemplate",
    "Exists",
    "GuestRefused",
    "NoCheckpoint",
    "NoGuestServices",
    "NoHyperV",
    "NoSpace",
    "NoSuchMachine",
    "NoSuchTemplate",
    "NoSwitch",
    "NotAllowed",
    "TimedOut",
}
# Everything that turns a string into code: types, members, cmdlets.
CODE_MAKERS = re.compile(
    r"^(scriptblock\]::|.*\.(Create|NewScriptBlock|InvokeScript|ExpandString|AddScript|AddCommand)$)", re.IGNORECASE
)
NET_CHANGES = re.compile(
    r"\[System\.(Diagnostics\.Process\]::Start|IO\.(File|Directory)\]::(Append|Create|Copy|Delete|Move|Replace|Set|Write))\w*\("
)
PATTERN_OPERATOR = re.compile(r"-[ci]?(match|notmatch|replace|split)", re.IGNORECASE)
LOOSE_END = re.compile(r"(?<!\\)\$(?=[)|]|\Z)")  #: `$` at the end of a pattern, a group or an alternative
CODE_CMDLETS = {"invoke-expression", "iex", "add-type", "invoke-history", "import-module", "start-process"}


class Script:
    """A script and its syntax tree."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self.root = Parser(Language(tree_sitter_powershell.language())).parse(source.encode()).root_node

    def nodes(self, *kinds: str, below: Node | None = None) -> Iterator[Node]:
        """All nodes of these kinds, in the order of the text."""
        waiting = [below or self.root]
        while waiting:
            node = waiting.pop()
            if node.type in kinds:
                yield node
            waiting.extend(reversed(node.children))

    def commands(self) -> Iterator[Node]:
        """The named calls of cmdlets, functions and programs."""
        return (node for node in self.nodes("command") if child(node, "command_name") is not None)

    def functions(self) -> dict[str, Node]:
        """The functions that it defines, by name."""
        return {text(name): node for node in self.nodes("function_statement") if (name := child(node, "function_name"))}

    def parameters(self) -> list[str]:
        """The names in its `param()`."""
        block = child(self.root, "param_block")
        found = self.nodes("script_parameter", below=block) if block else iter(())
        return [text(variable)[1:] for node in found if (variable := child(node, "variable"))]


@cache
def written(name: str) -> Script:
    """A script as its file has it."""
    return Script(name, PLACES[name].read_text("utf-8"))


@cache
def script(name: str) -> Script:
    """A script, followed by the functions that it loads and calls, as if it defined them."""
    found, library = written(name), written(LIBRARY).functions()
    if LOAD_COMMON not in found.source:
        return found
    while missing := {called(node) for node in found.commands()} & library.keys() - found.functions().keys():
        found = Script(name, "\n".join((found.source, *(text(library[one]) for one in sorted(missing)), "")))
    return found


def text(node: Node) -> str:
    return (node.text or b"").decode()


def child(node: Node, kind: str) -> Node | None:
    return next((one for one in node.children if one.type == kind), None)


def ancestors(node: Node) -> Iterator[Node]:
    above = node.parent
    while above is not None:
        yield above
        above = above.parent


def called(command: Node) -> str:
    """The name as it is written: `Hyper-V\\Stop-VM`."""
    name = child(command, "command_name")
    return text(name) if name else ""


def bare(command: Node) -> str:
    return called(command).rpartition("\\")[2]


def arguments(command: Node) -> list[Node]:
    elements = child(command, "command_elements")
    return [node for node in elements.children if node.type != "command_argument_sep"] if elements else []


def switches(command: Node) -> list[str]:
    """The parameters of a call, without their values."""
    return [text(node)[1:] for node in arguments(command) if node.type == "command_parameter"]


def one_line(node: Node) -> str:
    """A call on one line, for complaints and exemptions."""
    return " ".join(text(node).replace("`\n", " ").split())


def line(node: Node) -> str:
    return f"line {node.start_point[0] + 1}: "


# ---------------------------------------------------------------------------------------------------------- the checks


def check_it_parses(script: Script) -> list[str]:
    bad = list(script.nodes("ERROR"))
    waiting = [script.root]
    while waiting:
        node = waiting.pop()
        bad += [node] if node.is_missing else []
        waiting.extend(node.children)
    return [f"{line(node)}{node.type} {one_line(node)[:60]!r}" for node in bad]


def check_it_opens_as_all_do(script: Script) -> list[str]:
    if script.root.type != "program" or child(script.root, "param_block") is None:
        return ["no param()"]
    if not re.search(r"^\[CmdletBinding\(", script.source, re.MULTILINE):
        return ["no CmdletBinding"]
    body = child(script.root, "statement_list")
    first = [one_line(node) for node in (body.children if body else []) if node.type != "comment"]
    return [] if first[: len(OPENING)] == list(OPENING) else [f"opens with {first[: len(OPENING)]}"]


def check_errors_of_functions_stop_it(script: Script) -> list[str]:
    called_of = {TABLE[bare(node)]["module"] for node in script.commands() if bare(node) in TABLE} & FUNCTIONS
    body = child(script.root, "statement_list")
    first = [one_line(node) for node in (body.children if body else []) if node.type != "comment"]
    if not called_of or REACHES_FUNCTIONS in first[: len(OPENING) + 1]:
        return []
    return [f"errors of {', '.join(sorted(called_of))} do not stop it"]


def check_its_help_is_complete(script: Script) -> list[str]:
    comment = re.match(r"<#\n(.*?)\n#>\n", script.source, re.DOTALL)
    if comment is None:
        return ["no comment help at its beginning"]
    sections = re.findall(r"^\.([A-Z]+)(?: (\w+))?\n(?:\S| {4})", comment[1], re.MULTILINE)
    documented = [name for kind, name in sections if kind == "PARAMETER"]
    missing = [f"no .{kind}" for kind in ("SYNOPSIS", "DESCRIPTION", "EXAMPLE") if (kind, "") not in sections]
    return missing + ([] if documented == script.parameters() else [f"help for {documented}"])


def check_parameters_are_typed(script: Script) -> list[str]:
    block = child(script.root, "param_block")
    found = script.nodes("script_parameter", below=block) if block else iter(())
    return [
        f"{one_line(node)[:60]!r} has no type" for node in found if not list(script.nodes("type_literal", below=node))
    ]


def check_calls_stand_in_the_table(script: Script) -> list[str]:
    own = script.functions()
    complaints = []
    for node in script.commands():
        name = called(node)
        if name in own:
            continue
        entry = TABLE.get(bare(node))
        if entry is None:
            complaints.append(f"{line(node)}{name} does not stand in cmdlets.toml")
            continue
        # Names of modules that clash with others' are written out; those of PowerShell itself are not.
        plain = entry["module"].startswith("Microsoft.PowerShell.") or entry["module"] == "Windows"
        full = bare(node) if plain else f"{entry['module']}\\{bare(node)}"
        # A program in the current folder is called by its full path: PowerShell does not look there otherwise.
        complaints += [f"{line(node)}{name} is called {full}"] if name.removeprefix(".\\") != full else []
        unknown = set(switches(node)) - set(entry["parameters"]) - COMMON
        complaints += [f"{line(node)}{name} -{one} does not stand in cmdlets.toml" for one in sorted(unknown)]
        splat = [text(one) for one in arguments(node) if text(one).startswith("@") and not text(one).startswith("@(")]
        complaints += [f"{line(node)}{name} {one}: parameters that are not visible" for one in splat if one[1] != "{"]
    return complaints


def check_nothing_prompts(script: Script) -> list[str]:
    complaints = []
    for node in script.commands():
        needed = TABLE.get(bare(node), {}).get("silenced_by", ())
        missing = [one for one in needed if not re.search(rf"{re.escape(one)}(?![\w:])", one_line(node))]
        complaints += [f"{line(node)}{called(node)} without {one}" for one in missing]
    return complaints


def changes(command: Node) -> bool:
    """Whether a call of a cmdlet or of .NET changes something."""
    if command.type == "invokation_expression":
        return NET_CHANGES.match(text(command)) is not None
    entry = TABLE.get(bare(command), {})
    return entry.get("changes", False) and not any(word in text(command) for word in entry.get("reads", ()))


def check_changes_ask_first(script: Script) -> list[str]:
    functions = script.functions()

    def asked(node: Node, trail: tuple[str, ...] = ()) -> bool:
        for above in ancestors(node):
            if above.type == "if_statement":
                condition, inside = child(above, "pipeline"), child(above, "statement_block")
                if (
                    condition is not None
                    and inside is not None
                    and inside.start_byte <= node.start_byte < inside.end_byte
                    and re.search(r"(?<!-not )\$PSCmdlet\.ShouldProcess\(", text(condition))
                    and " -or " not in one_line(condition)
                ):
                    return True
            if above.type == "function_statement":
                name = next(name for name, one in functions.items() if one == above)
                calls = [one for one in script.commands() if called(one) == name]
                return name not in trail and bool(calls) and all(asked(one, (*trail, name)) for one in calls)
        return False

    found = [node for node in (*script.commands(), *script.nodes("invokation_expression")) if changes(node)]
    complaints = [f"{line(node)}{one_line(node)[:60]!r} without ShouldProcess" for node in found if not asked(node)]
    declared = bool(re.search(r"^\[CmdletBinding\(SupportsShouldProcess\)\]$", script.source, re.MULTILINE))
    if declared != bool(found):
        complaints.append("SupportsShouldProcess is declared" if declared else "SupportsShouldProcess is missing")
    return complaints


def check_no_string_becomes_code(script: Script) -> list[str]:
    blocks = {
        text(variable)
        for node in script.nodes("script_parameter")
        if (variable := child(node, "variable")) and "[scriptblock]" in text(node)
    }
    complaints = []
    for node in script.nodes("command"):
        if child(node, "command_invokation_operator") is not None and one_line(node) != LOAD_COMMON:
            target = child(node, "command_name_expr")
            if target is None or text(target) not in blocks:
                complaints.append(f"{line(node)}{one_line(node)[:60]!r} calls what is no block of this script")
        if bare(node).lower() in CODE_CMDLETS:
            complaints.append(f"{line(node)}{called(node)}")
        given = arguments(node)
        for parameter, value in pairwise(given):
            if text(parameter).lower() == "-scriptblock" and not text(value).startswith("{"):
                complaints.append(f"{line(node)}-ScriptBlock {text(value)[:40]!r} is not written there")
    for node in script.nodes("invokation_expression", "member_access"):
        member = child(node, "member_name")
        name = text(node).partition("(")[0] if member is None else f"{text(node.children[0])}.{text(member)}"
        if CODE_MAKERS.match(name.removeprefix("[")) or "ExecutionContext" in name:
            complaints.append(f"{line(node)}{one_line(node)[:60]!r}")
    return complaints


def check_errors_have_known_ids(script: Script) -> list[str]:
    complaints = []
    for node in script.commands():
        if called(node) == "Stop-Because":
            reason = text(arguments(node)[0]).strip("'")
            complaints += [] if reason in REASONS else [f"{line(node)}{reason} is no reason that the callers know"]
    return complaints


def check_one_json_comes_out(script: Script) -> list[str]:
    writers = [node for node in script.commands() if bare(node) == "ConvertTo-Json"]
    wrong = [
        f"{line(node)}{one_line(node)[:60]!r}"
        for node in writers
        if not one_line(node).startswith("ConvertTo-Json -Compress -Depth 4 -InputObject ")
    ]
    return wrong if writers else ["writes no JSON"]


def check_patterns_match_no_line_break_at_the_end(script: Script) -> list[str]:
    """`$` also matches before a line break at the end of a value, `\\z` does not."""
    used = [node for node in script.nodes("attribute") if "validatepattern" in text(node).lower()]
    operators = [node for node in script.nodes("comparison_operator") if PATTERN_OPERATOR.fullmatch(text(node))]
    used += [right for node in operators if (right := node.next_named_sibling)]
    literals = [literal for node in used if (literal := next(script.nodes("string_literal", below=node), None))]
    loose = [node for node in literals if LOOSE_END.search(text(node)[1:-1])]
    return [f"{line(node)}{text(node)} has $ in place of \\z" for node in loose]


def check_expand_archive_has_no_confirm(script: Script) -> list[str]:
    """Expand-Archive prompts if -Confirm is given, even as `-Confirm:$false`, as an abbreviation or by a default."""
    complaints = []
    for node in script.commands():
        if bare(node).lower() == "expand-archive":
            confirms = [one for one in switches(node) if "confirm".startswith(one.lower()) or one.lower() == "cf"]
            splats = [one for one in arguments(node) if text(one).startswith("@")]
            complaints += [f"{line(node)}{one_line(node)[:60]!r}"] if confirms or splats else []
    defaults = [node for node in script.nodes("assignment_expression") if "PSDefaultParameterValues" in text(node)]
    return complaints + [
        f"{line(node)}{one_line(node)[:60]!r}" for node in defaults if ":confirm" in text(node).lower()
    ]


def check_the_agent_is_never_started_directly(script: Script) -> list[str]:
    """Only for Restart-FarmVMAgent."""
    did = [bare(node) for node in script.commands() if changes(node)]
    types = {text(node) for node in script.nodes("type_literal")}
    strange = types & {"[System.Diagnostics.Process]", "[System.Diagnostics.ProcessStartInfo]", "[wmiclass]"}
    complaints = [f"{one} could start a program" for one in sorted(strange)]
    if did != ["Stop-ScheduledTask", "Start-ScheduledTask"]:
        complaints.append(f"does {did} instead of ending and starting the task")
    programs = [called(node) for node in script.commands() if called(node).lower().endswith(".exe")]
    return complaints + [f"starts {program}" for program in programs]


CHECKS: tuple[Callable[[Script], list[str]], ...] = (
    check_it_parses,
    check_it_opens_as_all_do,
    check_errors_of_functions_stop_it,
    check_its_help_is_complete,
    check_parameters_are_typed,
    check_calls_stand_in_the_table,
    check_nothing_prompts,
    check_changes_ask_first,
    check_no_string_becomes_code,
    check_errors_have_known_ids,
    check_one_json_comes_out,
    check_patterns_match_no_line_break_at_the_end,
    check_expand_archive_has_no_confirm,
)


# ----------------------------------------------------------------------------------------------------------- the tests


def test_all_scripts_are_found() -> None:
    """One for each verb of Hyper-V, four for the template, two of the agent's bundle; the bootstrap is exempt."""
    assert len(SCRIPTS) == 20
    assert (FOLDER / BOOTSTRAP).exists()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_passes_all_checks(name: str, check: Callable[[Script], list[str]]) -> None:
    """Each script passes each check."""
    assert check(script(name)) == []


def test_bootstrap_parses() -> None:
    """The bootstrap is exempt from everything else."""
    assert check_it_parses(script(BOOTSTRAP)) == []


def test_bootstrap_has_no_loose_pattern_and_no_confirm() -> None:
    """These two faults would also be faults in the bootstrap."""
    assert check_patterns_match_no_line_break_at_the_end(script(BOOTSTRAP)) == []
    assert check_expand_archive_has_no_confirm(script(BOOTSTRAP)) == []


def test_agent_is_restarted_by_scheduled_task() -> None:
    """Restart-FarmVMAgent stops and starts a scheduled task, and starts nothing in another way."""
    assert check_the_agent_is_never_started_directly(script("Restart-FarmVMAgent.ps1")) == []


def test_every_cmdlet_entry_is_used() -> None:
    """Every cmdlet of the table is called, with every parameter of its entry."""
    used: dict[str, set[str]] = {}
    for name in SCRIPTS:
        for node in script(name).commands():
            used.setdefault(bare(node), set()).update(switches(node))
    assert {name: sorted(entry["parameters"]) for name, entry in TABLE.items()} == {
        name: sorted(used.get(name, {"never called"}) - COMMON) for name in TABLE
    }


@pytest.mark.parametrize("name", TABLE)
def test_every_cmdlet_entry_names_its_source(name: str) -> None:
    """Each entry has its source in Microsoft's reference."""
    entry = TABLE[name]
    assert set(entry) - {"reads"} == {"module", "parameters", "changes", "silenced_by", "source"}
    if name not in NOT_LOOKED_UP:
        assert re.fullmatch(rf"MicrosoftDocs/\S+ \S+/{re.escape(name.removesuffix('.exe'))}\.md", entry["source"])
    else:
        assert entry["source"] == "not looked up"


def test_functions_are_defined_once() -> None:
    """A function that two scripts of the host need is in Common.ps1, and only such a function is."""
    host = [name for name in SCRIPTS if name not in ALONE]
    defined = [function for name in (*host, LIBRARY) for function in written(name).functions()]
    assert sorted(defined) == sorted(set(defined))
    users = {
        function: [name for name in host if function in script(name).functions()]
        for function in written(LIBRARY).functions()
    }
    assert {function: found for function, found in users.items() if len(found) < 2} == {}


def test_repeated_functions_of_lone_scripts_are_identical() -> None:
    """A script that is copied alone repeats functions of others; the copies must be identical."""
    seen: dict[str, dict[str, str]] = {}
    for name in (*sorted(ALONE), LIBRARY):
        for function, node in written(name).functions().items():
            seen.setdefault(function, {}).setdefault(text(node), name)
    assert [found for found in seen.values() if len(found) > 1] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_common_functions_are_loaded_where_called(name: str) -> None:
    """In the line below the opening, by every script of the host that calls one, and by no other script."""
    found = written(name)
    calls = {called(node) for node in found.commands()} & written(LIBRARY).functions().keys() - found.functions().keys()
    body = child(found.root, "statement_list")
    first = [one_line(node) for node in (body.children if body else []) if node.type != "comment"]
    opening = [*OPENING, *([REACHES_FUNCTIONS] if REACHES_FUNCTIONS in first else []), LOAD_COMMON]
    assert found.source.count(LOAD_COMMON) == (len(calls) > 0)
    if calls:
        assert name not in ALONE
        assert first[: len(opening)] == opening


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in ALONE])
def test_script_is_sent_with_common_functions(name: str) -> None:
    """In place of the line that would load them: a script that is text has no folder. Nothing else is changed."""
    before, _, after = written(name).source.partition(LOAD_COMMON)
    library = written(LIBRARY).source
    assert script_text(name.removesuffix(".ps1")) == (before + library + after if after else before)
    assert check_it_parses(Script(name, script_text(name.removesuffix(".ps1")))) == []


def test_common_file_only_defines_functions() -> None:
    """It is text in the middle of other scripts: a parameter block or a setting of its own would change them."""
    found = written(LIBRARY)
    body = child(found.root, "statement_list")
    assert {node.type for node in (body.children if body else [])} <= {"function_statement", "comment"}
    assert child(found.root, "param_block") is None
    assert LOAD_COMMON not in found.source
    assert check_it_parses(found) == []


# ----------------------------------------------------------------------------------------------- inserted violations

GOOD = """<#
.SYNOPSIS
Stops.

.DESCRIPTION
Stops it.

.PARAMETER Name
The machine.

.EXAMPLE
.\\Stop-It.ps1 -Name vm-1
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Name
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Wait-It([scriptblock] $Look) { & $Look }
if ($PSCmdlet.ShouldProcess($Name, 'stop')) {
    Hyper-V\\Stop-VM -VM $Name -TurnOff -Force -AsJob -Confirm:$false
}
ConvertTo-Json -Compress -Depth 4 -InputObject @()
"""
STOP = "Hyper-V\\Stop-VM -VM $Name -TurnOff -Force -AsJob -Confirm:$false"
VIOLATIONS = [
    (check_it_parses, "if ($PSCmdlet", "if $PSCmdlet"),
    (check_it_parses, "'stop')) {", "'stop') {"),
    (check_it_opens_as_all_do, "Set-StrictMode -Version 3.0\n", ""),
    (check_it_opens_as_all_do, "$ErrorActionPreference = 'Stop'", "$ErrorActionPreference = 'Continue'"),
    (check_it_opens_as_all_do, "[CmdletBinding(SupportsShouldProcess)]\n", ""),
    (check_it_opens_as_all_do, "param(\n    [string] $Name\n)\n", ""),
    (check_errors_of_functions_stop_it, STOP, "SmbShare\\Get-SmbShare"),
    (check_its_help_is_complete, ".PARAMETER Name\nThe machine.\n", ""),
    (check_its_help_is_complete, "[string] $Name", "[string] $Name, [int] $Other"),
    (check_its_help_is_complete, ".EXAMPLE", ".EXAMPLES"),
    (check_its_help_is_complete, "<#\n.SYNOPSIS", "<#\n.NOTES"),
    (check_parameters_are_typed, "[string] $Name", "$Name"),
    (check_calls_stand_in_the_table, "Hyper-V\\Stop-VM", "Hyper-V\\Halt-VM"),
    (check_calls_stand_in_the_table, "Hyper-V\\Stop-VM", "Stop-VM"),
    (check_calls_stand_in_the_table, "Hyper-V\\Stop-VM", "spps"),
    (check_calls_stand_in_the_table, "-TurnOff", "-Hibernate"),
    (check_calls_stand_in_the_table, "-TurnOff", "@more"),
    (check_calls_stand_in_the_table, "ConvertTo-Json", "% { 1 }; ConvertTo-Json"),
    (check_nothing_prompts, " -Confirm:$false", ""),
    (check_nothing_prompts, " -Confirm:$false", " -Confirm"),
    (check_nothing_prompts, " -Confirm:$false", " -Confirm:$true"),
    (check_nothing_prompts, " -Force", ""),
    (check_changes_ask_first, "if ($PSCmdlet.ShouldProcess($Name, 'stop'))", "if ($Name)"),
    (check_changes_ask_first, "if ($PSCmdlet", "if (-not $PSCmdlet"),
    (check_changes_ask_first, "if ($PSCmdlet", "if ($true -or $PSCmdlet"),
    (check_changes_ask_first, "{ & $Look }", f"{{ {STOP} }}"),
    (check_changes_ask_first, "    " + STOP, f"}} else {{ {STOP}"),
    (check_changes_ask_first, "{ & $Look }", "{ [System.IO.File]::Delete('C:\\disk.vhdx') }"),
    (check_changes_ask_first, "{ & $Look }", "{ [System.Diagnostics.Process]::Start('C:\\game.exe') }"),
    (check_changes_ask_first, "(SupportsShouldProcess)", "()"),
    (check_changes_ask_first, STOP, "Get-Date"),
    (check_no_string_becomes_code, STOP, "Invoke-Expression $Name"),
    (check_no_string_becomes_code, STOP, "iex $Name"),
    (check_no_string_becomes_code, STOP, "& $Name"),
    (check_no_string_becomes_code, STOP, '& "$Name" stop'),
    (check_no_string_becomes_code, STOP, '. "$Name"'),
    (check_no_string_becomes_code, STOP, "& 'cmd.exe'"),
    (check_no_string_becomes_code, STOP, "[ScriptBlock]::Create($Name)"),
    (check_no_string_becomes_code, STOP, "[powershell]::Create().AddScript($Name).Invoke()"),
    (check_no_string_becomes_code, STOP, "$ExecutionContext.InvokeCommand.InvokeScript($Name)"),
    (check_no_string_becomes_code, STOP, "$ExecutionContext.InvokeCommand.NewScriptBlock($Name)"),
    (check_no_string_becomes_code, STOP, "Invoke-Command -VMName $Name -ScriptBlock $Name"),
    (check_no_string_becomes_code, STOP, "Invoke-Command -VMName $Name -ScriptBlock ([scriptblock]::Create($Name))"),
    (check_no_string_becomes_code, STOP, "Add-Type -TypeDefinition $Name"),
    (check_no_string_becomes_code, STOP, "Start-Process -Verb RunAs -FilePath $Name"),
    (check_errors_have_known_ids, STOP, "Stop-Because 'Whatever' 'no'"),
    (check_one_json_comes_out, "-InputObject @()", "@()"),
    (check_one_json_comes_out, "ConvertTo-Json -Compress -Depth 4 -InputObject @()", ""),
    (check_patterns_match_no_line_break_at_the_end, "[string]", "[ValidatePattern('^vm-[0-9]+$')] [string]"),
    (check_patterns_match_no_line_break_at_the_end, "[string]", '[ValidatePattern("^vm-[0-9]+$")] [string]'),
    (check_patterns_match_no_line_break_at_the_end, "[string]", "[validatepattern('^(vm$|pc)')] [string]"),
    (check_patterns_match_no_line_break_at_the_end, STOP, "$Name -match '^vm$'"),
    (check_patterns_match_no_line_break_at_the_end, STOP, "$Name -cnotmatch '^(vm$)'"),
    (check_patterns_match_no_line_break_at_the_end, STOP, "$Name -replace 'x\\z', 'y' -ireplace 'y$', 'z'"),
    (check_patterns_match_no_line_break_at_the_end, STOP, "$Name -split 'x$'"),
    (check_expand_archive_has_no_confirm, STOP, "Expand-Archive -LiteralPath $Name -Confirm:$false"),
    (check_expand_archive_has_no_confirm, STOP, "Expand-Archive -LiteralPath $Name -Confirm"),
    (check_expand_archive_has_no_confirm, STOP, "expand-archive -LiteralPath $Name -conf:$false"),
    (check_expand_archive_has_no_confirm, STOP, "Expand-Archive -LiteralPath $Name -cf"),
    (check_expand_archive_has_no_confirm, STOP, "Expand-Archive @more"),
    (check_expand_archive_has_no_confirm, STOP, "$PSDefaultParameterValues = @{ '*:Confirm' = $false }"),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_valid_script_passes(check: Callable[[Script], list[str]]) -> None:
    """The script into which violations are inserted passes without one."""
    assert check(Script("good", GOOD)) == []


@pytest.mark.parametrize("pattern", [r"'^vm\z'", r"'\$'", "'^[$a-z]'", "'x', '$1'"])
def test_anchored_patterns_pass(pattern: str) -> None:
    """An escaped `$`, and one in a character class or in a replacement, are no anchors."""
    script = Script("violation", GOOD.replace(STOP, f"$Name -replace {pattern}"))
    assert check_patterns_match_no_line_break_at_the_end(script) == []


@pytest.mark.parametrize(("check", "old", "new"), VIOLATIONS)
def test_script_violation_is_detected(check: Callable[[Script], list[str]], old: str, new: str) -> None:
    """Each check finds its violation."""
    assert old in GOOD
    assert check(Script("violation", GOOD.replace(old, new))) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ScheduledTasks\\Start-ScheduledTask -TaskName $Task -TaskPath '\\'", "pythonw.exe -m inbox_agent"),
        ("Start-Sleep -Seconds 1", "[System.Diagnostics.Process]::Start('pythonw.exe') | Out-Null"),
        ("Start-Sleep -Seconds 1", "CimCmdlets\\Invoke-CimMethod -ClassName Win32_Process -MethodName Create"),
        ("Start-Sleep -Seconds 1", "inbox-agent.exe --share C:\\exchange"),
        ("ScheduledTasks\\Stop-ScheduledTask -TaskName $Task -TaskPath '\\'\n", "\n"),
    ],
)
def test_direct_agent_start_is_detected(old: str, new: str) -> None:
    """A program, a process or another CIM method instead of the task is found."""
    source = script("Restart-FarmVMAgent.ps1").source
    assert old in source
    assert check_the_agent_is_never_started_directly(Script("violation", source.replace(old, new, 1))) != []
