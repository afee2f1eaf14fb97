"""The JSON Schema of settings files, for editors: from the types of the tables and the comments of their fields.

Owns: what a schema can say. Not here: what the reader refuses beyond that (`pipeline.config`, `inbox_agent.settings`).
"""

import ast
import inspect
import io
import json
import textwrap
import tokenize
from typing import Any, get_args

import msgspec

from inbox_agent.arguments import AgentFile
from inbox_agent.settings import EvaluatorTable, named_tables
from pipeline.config import SET_ELSEWHERE, Config, HooksTable, WorkerTable
from pipeline.config.generation_table import GenerationTable
from pipeline.config.machine_tables import HyperVTable, QemuTable
from pipeline.core.limits import Limits
from pipeline.paths import CONFIG_FILE

#: The newest one that TOML editors read.
_DRAFT = "http://json-schema.org/draft-07/schema#"
#: A spare machine is at rest.
_SPARE = {
    "if": {"properties": {"spare": {"minimum": 1}}, "required": ["spare"]},
    "then": {"properties": {"idle_action": {"enum": ["save", "shutdown"]}}, "required": ["idle_action"]},
}
#: Rules about several keys of a table.
_RULES: dict[type, dict[str, Any]] = {
    Config: {"not": {"required": ["hyperv", "qemu"]}},
    GenerationTable: {
        "if": {"properties": {"reuse": {"const": "same-seeds"}}, "required": ["reuse"]},
        "then": {
            "properties": {"seeds": {"const": "fixed"}, "allow_mixed_evaluators": {"const": False}},
            "required": ["seeds"],
        },
    },
    EvaluatorTable: {"allOf": [{"not": {"required": pair}} for pair in (["command", "python"], ["files", "version"])]},
    HyperVTable: _SPARE,
    QemuTable: _SPARE,
    HooksTable: {"dependencies": {"silent_after_s": ["command"]}},
    WorkerTable: {"anyOf": [{"required": ["share"]}, {"required": ["machine"]}]},
}


def config_schema() -> str:
    """The schema of `pipeline.toml`, as JSON text in ASCII."""
    return _as_text(CONFIG_FILE, Config)


def agent_schema() -> str:
    """The schema of the file that `inbox-agent --config` takes, `agent.toml`."""
    return _as_text("agent.toml", AgentFile)


def _as_text(title: str, kind: type[msgspec.Struct]) -> str:
    return json.dumps({"$schema": _DRAFT, "title": title, **_table(kind)}, indent=2) + "\n"


def _table(kind: type[msgspec.Struct], *, has_rules: bool = True) -> dict[str, Any]:
    """The schema of a table, with those of the tables in it: editors ignore what stands beside a reference."""
    _, tables = msgspec.json.schema_components([kind])
    generated, comments, named = tables[kind.__name__], field_comments(kind), named_tables(kind)
    properties = {}
    for field in msgspec.structs.fields(kind):
        shown = _without_null(generated["properties"][field.name])
        if (inner := named.get(field.name)) is not None:
            # `[key]`, and `[key.NAME]` with the same keys; its rules may be met by keys of `[key]`
            shown = {**_table(inner), "additionalProperties": _table(inner, has_rules=False)}
        elif (inner := struct_in(field.type)) is not None:
            shown = {"type": "array", "items": _table(inner)} if shown.get("type") == "array" else _table(inner)
        if kind is Limits and field.name in SET_ELSEWHERE:
            shown = {"const": field.default}  # its own table sets it
        if comment := comments.get(field.name):
            shown = {"description": comment, **shown}
        properties[field.name] = shown
    return {
        "description": " ".join(table_meaning(kind).split()),
        "type": "object",
        "properties": properties,
        "required": generated["required"],
        "additionalProperties": False,
        **(_RULES.get(kind, {}) if has_rules else {}),
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null, which TOML has not: the key is left out instead."""
    if schema.get("default", 0) is not None:
        return schema
    (kind,) = (each for each in schema["anyOf"] if each.get("type") != "null")
    return dict(kind)


def table_meaning(kind: type[msgspec.Struct]) -> str:
    """What a table is for: its docstring without the table's name."""
    meaning = inspect.getdoc(kind) or ""
    return meaning.partition(": ")[2] if meaning.startswith("`") else meaning


def struct_in(kind: object) -> type[msgspec.Struct] | None:
    """The table in a field's type, also if it is optional or one of a list; None: the field is a plain value."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for inner in get_args(kind) if (found := struct_in(inner))), None)


def field_comments(kind: type) -> dict[str, str]:
    """The `#:` comments of a class's fields: at the end of a field's line, or on the lines above it."""
    source = textwrap.dedent(inspect.getsource(kind))
    comments = {
        token.start[0]: token.string.removeprefix("#:").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            line = node.lineno - 1
            while line in comments and line not in _last_lines(body):
                above.insert(0, comments[line])
                line -= 1
            same_line = [comments[node.end_lineno]] if node.end_lineno in comments else []
            found[node.target.id] = " ".join(above + same_line)
    return found


def _last_lines(body: ast.ClassDef) -> set[int | None]:
    """The lines that end a statement: their comments belong to it."""
    return {node.end_lineno for node in body.body}
