"""The page of `pipeline.toml`: every key with its type, range, default and the `#:` comment of its field."""

from collections.abc import Iterator

import msgspec
from msgspec import inspect as types

from docs.reference.fixed_limits import fixed_limits
from inbox_agent.protocol.layout import SETTINGS_BYTES_MAX, SETTINGS_MAX
from pipeline.cli.config_schema import field_comments, struct_in, table_meaning
from pipeline.config import Config

_OPENING = """\
# `pipeline.toml`

Written by `make reference` from the code. Every key may be left out; an unknown key is an error.
What a fitness depends on is fixed at the first run of a generation: `[settings]`; `command`, `python` and
`time_limit_s` of `[evaluator]`; and of `[generation]` all but `direction`, `attempts_max`, `failures_max` and
`genome_bytes_max`.

`pipeline schema` prints these keys as a JSON Schema; [with it](../how-to/editor-and-shell.md) an editor completes and
checks the file. Limits that no key changes are [at the end](#fixed-limits).
"""
_SETTINGS = f"""\
## `[settings]`

Any keys; every evaluation gets them, as JSON. At most {SETTINGS_MAX} keys of 1 to 64 characters. A value is a text of
at most 1,000 characters, an integer of at most 2⁵³, a number, `true` or `false`; together they have at most
{SETTINGS_BYTES_MAX // 1024} KiB.
"""


def configuration() -> str:
    """The page, in Markdown."""
    parts = [_OPENING]
    for field in msgspec.structs.fields(Config):
        kind = struct_in(field.type)
        if kind is None:
            parts.append(_SETTINGS)
            continue
        parts += _table(f"[[{field.name}]]" if field.name == "worker" else f"[{field.name}]", kind)
        for inner in msgspec.structs.fields(kind):
            if (table := struct_in(inner.type)) is not None:
                parts += _table(f"[{field.name}.{inner.name}]", table)
    return "\n".join(part.rstrip() + "\n" for part in (*parts, fixed_limits()))


def _table(title: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    first, _, rest = table_meaning(kind).partition("\n")
    yield f"## `{title}`\n\n{first[:1].upper()}{first[1:]}\n{rest}"
    yield "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *_rows(kind)]) + "\n"


def _rows(kind: type[msgspec.Struct]) -> Iterator[str]:
    meanings = field_comments(kind)
    shown = {field.name: field for field in types.type_info(kind).fields}  # type: ignore[attr-defined]
    for field in msgspec.structs.fields(kind):
        if struct_in(field.type) is not None:
            continue  # a table of its own
        cells = (f"`{field.name}`", _type(shown[field.name].type), _default(field), meanings[field.name])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(kind: types.Type) -> str:
    match kind:
        case types.Metadata(type=inner):  # the form of a text is for editors
            return _type(inner)
        case types.UnionType(types=members):
            return " or ".join(_type(member) for member in members if not isinstance(member, types.NoneType))
        case types.LiteralType(values=values):
            return ", ".join(f"`{value!s}`" for value in values)
        case types.IntType(ge=least, le=most) if least is not None and most is not None:
            return f"{least} to {most}"
        case types.IntType(ge=least) if least is not None:
            return f"from {least}"
        case types.FloatType(le=most, ge=least) if most is not None:
            return f"number, {'above 0' if least is None else f'{least:g}'} to {most:g}"
        case types.FloatType():
            return "number"
        case types.BoolType():
            return "`true`, `false`"
        case types.ListType():
            return "list of texts"
        case types.DictType():
            return "table of texts"
        case types.StrType():
            return "text"
    raise TypeError(kind)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
