"""What is wrong with a settings file, and what to write instead. Pure.

Owns: the texts for common slips in TOML, for values of a wrong type, and for unknown keys.
Not here: reading and converting settings (`settings`).
"""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

_WORD_CHARS_MIN = 3  # of a key that is looked for inside of others
_NOT_CLOSED = "a text is not closed; put the same quote at its end as at its beginning"
BACKSLASH = r"""in "…" a backslash begins an escape sequence; write a path in '…', like 'D:\exchange'"""
_SPOILT_PATH = re.compile(r"([A-Za-z]:|\\)\S*[\b\t\n\f\r]\S")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")
_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+))\s*=\s*(.*)""")
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `(\w+)` - at `\$([^`]*)`")
_BOOLEANS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
#: What a value looks like at its beginning -> what to write; the first that fits.
_VALUES = (
    (re.compile(r"(true|false|yes|no|on|off)\b", re.IGNORECASE), "write true or false, in small letters"),
    (re.compile(r"(none|null|nil)\b", re.IGNORECASE), "to leave a value unset, leave its key out"),
    (re.compile(r"[+-]?\d+,\d"), "write a number with a point and without commas, like 0.5 or 1000"),
    (re.compile(r"[+-]?(\.\d|\d+\.(\D|$))"), "write digits on both sides of the point, like 0.5"),
    (re.compile(r"[+-]?0\d"), "write a number without zeros before it"),
    (re.compile(r"[+-]?[\d.]+\s*[a-z%]", re.IGNORECASE), "write the number alone, without its unit"),
    (re.compile("[“”„‘’«»‚]"), """write straight quotes, "…" or '…'"""),
    (re.compile(r"[^\W\d]|[/\\~]"), "put quotes around a text, like 'text'"),
)


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """The most similar of these names, or one that contains it; empty if none is near."""
    folded = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    if not near and len(name) >= _WORD_CHARS_MIN:
        near = [known for known in folded if name.lower() in known or known in name.lower()][:1]
    return [folded[known] for known in near]


def unknown_key(key: str, names: Iterable[str], homes: Iterable[str]) -> str:
    """What to write instead of an unknown key: `names` are valid in its place, and `homes` the tables that have it."""
    names, homes = list(names), list(homes)
    if len(homes) == 1:
        return f"it stands under [{homes[0]}]"
    if near := near_names(key, names):
        return f"the nearest valid key is `{near[0]}`"
    return f"valid are {', '.join(f'`{name}`' for name in sorted(names))}"


def wrong_type(message: str, table: dict[str, Any]) -> str:
    """What to write instead of a value of a wrong type, by the validator's message; empty for any other message."""
    found = _WRONG_TYPE.fullmatch(message)
    if found is None or "[...]" in found[3]:
        return ""
    expected, got, path = found[1].removesuffix(" | null"), found[2], found[3].removeprefix(".")
    text = _instead(expected, got, path.rpartition(".")[2], _value_at(table, path))
    return f"`{path}` {text}" if text else ""


def spoilt_paths(table: Any, place: str = "") -> Iterator[str]:
    r"""The keys whose values are Windows paths with a control character: `"C:\temp"` in double quotes has a tab."""
    if isinstance(table, str):
        if _SPOILT_PATH.match(table):
            yield place
    elif isinstance(table, dict):
        for key, value in table.items():
            yield from spoilt_paths(value, f"{place}.{key}" if place else str(key))
    elif isinstance(table, list):
        for number, value in enumerate(table):
            yield from spoilt_paths(value, f"{place}[{number}]")


def _instead(expected: str, got: str, key: str, value: Any) -> str:
    match expected, got:
        case "array", "str":
            return f"must be a list; write {_text(_split(value))}"
        case "array", "object":
            return f"must be a list of tables; write [[{key}]], with two brackets on each side"
        case "object", "array":
            return f"must be one table; write [{key}], with one bracket on each side"
        case "str", "array":
            one = len(value) == 1 and isinstance(value[0], str)
            return "must be one text, not a list" + (f"; write {_text(value[0])}, without brackets" if one else "")
        case "str", "int" | "float" | "bool":
            return f'must be a text; write "{str(value).lower()}", in quotes'
        case "int" | "float", "str":
            number = value.strip().replace(",", ".")
            pattern = r"[+-]?\d+" if expected == "int" else r"[+-]?\d+(\.\d+)?"
            return f"must be a number; write {number}, without quotes" if re.fullmatch(pattern, number) else ""
        case "int", "float":
            return f"must be a whole number, and it is {value:g}"
        case "bool", "str" | "int":
            word = _BOOLEANS.get(str(value).strip().lower(), {"0": "false", "1": "true"}.get(str(value)))
            return "must be true or false" + (f"; write {word}, without quotes" if word else "")
    return ""


def _value_at(table: Any, path: str) -> Any:
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        table = table[int(number)] if number else table[name]
    return table


def _split(command: str) -> list[str]:
    """The words of a command line. A backslash is part of a Windows path, never an escape."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        return list(lexer)
    except ValueError:  # a quote that is not closed
        return command.split()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # as TOML and JSON write it


# ------------------------------------------------------------------------------------------------------------- TOML


def toml_problem(text: str, message: str) -> str:
    """What is wrong with a text that is not TOML, with its line; `message` is the parser's."""
    lines = text.splitlines()
    at = _AT_LINE.search(message)
    number = int(at[1]) if at else max((n for n, line in enumerate(lines, 1) if line.strip()), default=0)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    unclosed = next(_unclosed_strings(lines), 0)
    if unclosed and not _is_about_escapes(message):
        return f"line {unclosed}: {_NOT_CLOSED}"
    if known := _known_problem(lines, line, message):
        return f"line {number}: {known}"
    return message


def _is_about_escapes(message: str) -> bool:
    return "Unescaped" in message or "hex value" in message


def _known_problem(lines: list[str], line: str, message: str) -> str:
    if _is_about_escapes(message):
        return BACKSLASH
    if "at the end of a" in message:
        return "a bracket of the table's name is missing"
    if "Unclosed array" in message:
        return "a comma between two values, or the `]` after the last one, is missing"
    header, pair = _HEADER.match(line), _KEY.match(line)
    if "twice" in message or "overwrite" in message:
        if header is not None:
            return _repeated_table(lines, header[2])
        key = next(filter(None, pair.groups()[:3]), "") if pair else ""
        return f"the key `{key}` is there twice; keep one" if key else "a key is there twice; keep one"
    value = pair[4] if pair else ""
    if pair is None and "Expected '='" in message and header is None:
        return "no `=` after the key; write key = value, and no blank in a key"
    if "Invalid value" in message or "after a statement" in message:
        return next((instead for pattern, instead in _VALUES if pattern.match(value)), "")
    return ""


def _repeated_table(lines: list[str], name: str) -> str:
    brackets = {found[1] for line in lines if (found := _HEADER.match(line)) and found[2] == name}
    if len(brackets) > 1:
        return f"[{name}] and [[{name}]] are both there; write [[{name}]] each time"
    return f"the table [{name}] is there twice; put all its keys under one"


def _unclosed_strings(lines: list[str]) -> Iterator[int]:
    """The numbers of the lines that end inside of a text; none if there are texts of several lines."""
    if any(quotes in line for line in lines for quotes in ('"""', "'''")):
        return
    for number, line in enumerate(lines, 1):
        quote, escaped = "", False
        for char in line:
            if escaped:
                escaped = False
            elif quote:
                escaped = char == "\\" and quote == '"'
                quote = "" if char == quote else quote
            elif char == "#":
                break
            elif char in "\"'":
                quote = char
        if quote:
            yield number
