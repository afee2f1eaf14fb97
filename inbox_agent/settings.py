"""Strict TOML settings: an unknown key is an error that names the nearest valid one.

Owns: how a settings file is read; the `[evaluator]` table, which host and agent share.
Not here: other settings; callers pass their record types. The texts of errors (`settings_errors`).
"""

import difflib
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from inbox_agent.evaluation.file_search import refuse_pattern
from inbox_agent.protocol.layout import Token, clean
from inbox_agent.settings_errors import BACKSLASH, spoilt_paths, toml_problem, unknown_key, wrong_type
from inbox_agent.system.text_encoding import ENCODINGS, decode_text

T = TypeVar("T", bound=Struct)


_LINE_CHARS_MAX = 500
_NAME_CHARS_MAX = 100  # of a wrong name in an error, so that its line has room for what is expected
PLACEHOLDERS = ("genome", "result", "seed", "trial", "settings", "scratch", "worker")


# Texts with a form: the checks below report it in words, `pipeline schema` tells editors. Their regular expressions
# differ in what a letter is, so it is said by what it is not.
_LETTER = r"[^\x00-/:-@\[-^`{-\x7f]"
_VariableName = Annotated[str, Meta(extra_json_schema={"pattern": r"^[^=\x00]+$"})]
_VariableValue = Annotated[str, Meta(extra_json_schema={"pattern": r"^[^\x00]*$"})]
_FunctionName = Annotated[str, Meta(extra_json_schema={"pattern": f"^[A-Za-z_]({_LETTER}|\\.)*:[A-Za-z_]{_LETTER}*$"})]
_Version = Annotated[str, Meta(extra_json_schema={"pattern": r"^[0-9a-zA-Z_.:-]{1,64}$"})]


class SettingsError(ValueError):
    """Invalid settings; the message is one line: what, where and what to do."""


class EnvironmentTable(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`[evaluator.environment]`: the environment variables of a game. What it does not name is not passed on, except
    for what programs usually need: paths, language, display, Python, graphics card.
    """

    allow: list[_VariableName] = []  #: further variables that games inherit; `*` stands for any characters
    set: dict[_VariableName, _VariableValue] = {}  #: variables with fixed values

    def __post_init__(self) -> None:
        for name in (*self.allow, *self.set):
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"environment: {name!r} is no name of a variable")
        for name, value in self.set.items():
            if "\0" in value:
                raise ValueError(f"environment: the value of {name} has a zero character")


class EvaluatorTable(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`[evaluator]`: what evaluates a genome, one of `command` and `python`."""

    #: a program, started for every evaluation, with the placeholders `{genome}`, `{result}`, `{seed}`, `{trial}`,
    #: `{settings}`, `{scratch}` and `{worker}`
    command: Annotated[list[str], Meta(min_length=1)] | None = None
    python: _FunctionName | None = None  #: `module:function`, called in a process that is kept between evaluations
    time_limit_s: Annotated[float, Meta(gt=0, le=7 * 86400)] = 1800.0  #: then an evaluation is killed
    #: a game is killed if its `progress:` line has not changed for so long; its trial timed out. Unset: never
    stall_limit_s: Annotated[float, Meta(gt=0, le=7 * 86400)] | None = None
    load_limit_s: Annotated[float, Meta(gt=0, le=86400)] = 300.0  #: with `python`: for the import of its module
    #: of a game with all its processes; a game that needs more is killed and fails
    memory_limit_mb: Annotated[int, Meta(ge=16, le=2**24)] | None = None
    #: with `python`: a process is replaced after so many games; unset: kept while its games complete and clean up
    games_per_process: Annotated[int, Meta(ge=1)] | None = None
    result_is_final: bool = False  #: with `command`: a game ends as soon as its result file is complete
    #: the files whose content is compared between host and workers, as patterns like `bots/**/*.lua`; unset: those that
    #: `command` names, and all `*.py`
    files: Annotated[list[str], Meta(min_length=1)] | None = None
    #: a name that you change with your evaluator, compared instead of its files: 1 to 64 of 0-9 a-z A-Z _ . : -
    version: _Version | None = None
    environment: EnvironmentTable = EnvironmentTable()

    def __post_init__(self) -> None:
        if self.command is not None and self.python is not None:
            raise ValueError("give one of `command` and `python`, not both")
        if self.python is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.python):
            raise ValueError(f"python = {self.python!r}: expected module:function, e.g. my_game:play")
        for word in re.findall(r"\{(\w+)\}", " ".join(self.command or ())):
            near = difflib.get_close_matches(word, PLACEHOLDERS, n=1)
            if word not in PLACEHOLDERS and near:
                raise ValueError(f"command: unknown placeholder {{{word}}}; the nearest is {{{near[0]}}}")
        self._refuse_unusable_version()

    def _refuse_unusable_version(self) -> None:
        if self.files is not None and self.version is not None:
            raise ValueError("give one of `files` and `version`, not both: no file counts when there is a version")
        for pattern in self.files or ():
            try:
                refuse_pattern(pattern)
            except ValueError as error:
                raise ValueError(f"files: {error}") from None
        if self.version is not None:
            try:
                msgspec.convert(self.version, Token)
            except msgspec.ValidationError:
                given = self.version if len(self.version) <= _NAME_CHARS_MAX else f"{self.version[:_NAME_CHARS_MAX]}…"
                raise ValueError(f"version = {given!r}: expected 1 to 64 of 0-9 a-z A-Z _ . : -") from None

    @property
    def is_playable(self) -> bool:
        """Whether an evaluator is set; a host without local workers only needs the time limit."""
        return self.command is not None or self.python is not None

    def __str__(self) -> str:
        return self.python or " ".join(self.command or ("(whatever the workers' agents are set up to play)",))


def read_settings(path: Path, kind: type[T]) -> T:
    """The settings in a TOML file, or in a JSON file named `*.json`, as a `kind`.

    Raises:
        SettingsError: no such file, not TOML or JSON, an unknown key, a value of the wrong type or out of range.
    """
    return convert(read_table(path), kind, str(path))


def read_table(path: Path) -> dict[str, Any]:
    """The plain content of a TOML file, or of a JSON file named `*.json`. Raises SettingsError."""
    form, parse = ("JSON", json.loads) if path.suffix == ".json" else ("TOML", tomllib.loads)
    text = ""
    try:
        text = decode_text(path.read_bytes())
        table = parse(io.StringIO(text, newline=None).read())  # any ends of lines
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not text in {ENCODINGS}, save it as UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        problem = clean(toml_problem(text, str(error)), _LINE_CHARS_MAX)
        raise SettingsError(f"{path}: not valid TOML: {problem}") from error
    except RecursionError:
        raise SettingsError(f"{path}: not valid {form}: it is nested too deep") from None
    except ValueError as error:  # invalid text of that form, an integer of too many digits
        raise SettingsError(f"{path}: not valid {form}: {clean(str(error), _LINE_CHARS_MAX)}") from error
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: expected an object")
    return table


def convert(table: dict[str, Any], kind: type[T], source: str) -> T:
    """A plain mapping as a `kind`; `source` is named in errors. Raises SettingsError.

    A field of type `dict[str, Table]` is written as `[field]`, one table that is stored under an empty name, or as
    several `[field.NAME]`. These take the keys that they lack from `[field]`.
    """
    _refuse_unknown_keys(table, kind, source, "", kind)
    for key in spoilt_paths({name: value for name, value in table.items() if name != "settings"}):
        found = "a control character in it, which came from a backslash"
        raise SettingsError(f"{source}: `{key}` has {found}; {BACKSLASH}")
    table = {**table, **_convert_named_tables(table, kind, source)}
    try:
        return msgspec.convert(table, kind)
    except (msgspec.ValidationError, ValueError) as error:
        reason = wrong_type(str(error), table) or str(error).replace("`$.", "`")
        raise SettingsError(f"{source}: {clean(reason, _LINE_CHARS_MAX)}") from error


def _convert_named_tables(table: dict[str, Any], kind: type[Struct], source: str) -> dict[str, dict[str, Struct]]:
    """The fields of `kind` that are tables by name, each converted alone so that errors have the table's name."""
    found: dict[str, dict[str, Struct]] = {}
    for key, inner in named_tables(kind).items():
        written = table.get(key)
        if not isinstance(written, dict):
            continue
        defaults = {name: value for name, value in written.items() if not isinstance(value, dict)}
        named = {name: value for name, value in written.items() if isinstance(value, dict)}
        _refuse_unknown_keys(defaults, inner, source, key, kind)
        if clash := sorted(named.keys() & _fields(inner)):
            reason = f"`{clash[0]}` is a key of [{key}]; give it a value, or choose another name for the table"
            raise SettingsError(f"{source}: [{key}.{clash[0]}]: {reason}")
        found[key] = {}
        for name, own in (named or {"": {}}).items():
            path = f"{key}.{clean(name, 64)}" if name else key
            _refuse_unknown_keys(own, inner, source, path, kind)
            try:
                found[key][name] = msgspec.convert({**defaults, **own}, inner)
            except (msgspec.ValidationError, ValueError) as error:
                at = re.search(r"at `\$\.(\w+)", str(error))
                where = key if at is not None and at[1] not in own else path
                text = str(error).replace(f"[{key}]", f"[{path}]")
                reason = wrong_type(text, {**defaults, **own}).replace("`", f"`{where}.", 1)
                reason = clean(reason or text.replace("`$.", f"`{where}."), _LINE_CHARS_MAX)
                raise SettingsError(f"{source}: {reason}") from error
    return found


def _refuse_unknown_keys(
    table: dict[str, Any], kind: type[Struct], source: str, where: str, root: type[Struct]
) -> None:
    fields, named = _fields(kind), named_tables(kind)
    for key, value in table.items():
        if key not in fields:
            homes = [name for name, type_ in _fields(root).items() for t in _structs_in(type_) if key in _fields(t)]
            place = f" in [{where}]" if where else ""
            instead = unknown_key(key, fields, homes)
            raise SettingsError(f"{source}: unknown key `{clean(key, 64)}`{place}; {instead}")
        for inner in () if key in named else _structs_in(fields[key]):
            path = f"{where}.{key}" if where else key
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    _refuse_unknown_keys(item, inner, source, path, root)


def _fields(kind: type[Struct]) -> dict[str, Any]:
    """The keys of a table, with their types."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def named_tables(kind: type[Struct]) -> dict[str, type[Struct]]:
    """The keys of a table that are written `[key]` or `[key.NAME]`, with the type of these tables."""
    return {key: inner for key, type_ in _fields(kind).items() if (inner := _named_table_in(type_)) is not None}


def _named_table_in(annotation: Any) -> type[Struct] | None:
    if get_origin(annotation) is dict:
        return next(iter(_structs_in(get_args(annotation)[1])), None)
    return next((found for inner in get_args(annotation) if (found := _named_table_in(inner)) is not None), None)


def _structs_in(annotation: Any) -> list[type[Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _structs_in(inner)]
