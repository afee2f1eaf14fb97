"""Settings files: how they are read, and one-line errors with file, key and fix."""

from pathlib import Path

import pytest
from msgspec import Struct

from inbox_agent.settings import EvaluatorTable, SettingsError, convert, read_settings


class Inner(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A table."""

    depth: int = 2


class Outer(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A file with tables, lists of tables, and optional ones."""

    evaluator: EvaluatorTable = EvaluatorTable()
    worker: list[Inner] = []
    spare: Inner | None = None
    free: dict[str, int] = {}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def complaint(path: Path, text: str | bytes) -> str:
    """The error for a file with that text."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as error:
        read_settings(path, Outer)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_settings_file_is_read_with_defaults(path: Path) -> None:
    """TOML becomes records, with defaults for missing keys."""
    path.write_text(
        '[evaluator]\ncommand = ["play", "{genome}"]\n[[worker]]\n[[worker]]\ndepth = 5\n[free]\nx = 1\n',
        encoding="utf-8",
    )

    settings = read_settings(path, Outer)

    assert settings.evaluator == EvaluatorTable(command=["play", "{genome}"], time_limit_s=1800)
    assert settings.worker == [Inner(depth=2), Inner(depth=5)]
    assert settings.free == {"x": 1}


def test_empty_settings_file_gives_defaults(path: Path) -> None:
    """Every key may be missing."""
    path.write_text("", encoding="utf-8")

    assert read_settings(path, Outer) == Outer()


def test_byte_order_mark_and_crlf_are_accepted(path: Path) -> None:
    """A byte order mark and CRLF are no mistakes."""
    path.write_bytes(b'\xef\xbb\xbf[evaluator]\r\npython = "play:play"\r\n')

    assert read_settings(path, Outer).evaluator.python == "play:play"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=ascii)
@pytest.mark.parametrize("name", ["agent.toml", "agent.json"])
def test_settings_in_other_encodings_are_read(tmp_path: Path, name: str, encoding: str, end: str) -> None:
    """As `>` and `Out-File` of PowerShell write them."""
    texts = {
        "agent.toml": "# für die Farm\n[evaluator]\npython = 'play:play'\n",
        "agent.json": '{\n"evaluator": {"python": "play:play"}\n}\n',
    }
    path = tmp_path / name
    path.write_bytes(texts[name].replace("\n", end).encode(encoding))

    assert read_settings(path, Outer).evaluator.python == "play:play"


@pytest.mark.parametrize("data", ["# für".encode("latin-1"), b"\xff\xfe\x00\xd8", b"\xff\xfea"], ids=repr)
def test_text_in_no_known_encoding_is_one_line(path: Path, data: bytes) -> None:
    """The line says what to do."""
    assert complaint(path, data).startswith("not text in UTF-8, UTF-16 or UTF-32, save it as UTF-8: ")


def test_missing_settings_file_is_named(path: Path) -> None:
    """The line names the file."""
    with pytest.raises(SettingsError, match=r"agent\.toml: cannot be read: No such file"):
        read_settings(path, Outer)


def test_unreadable_settings_file_is_named(tmp_path: Path) -> None:
    """The line has the error of the system."""
    with pytest.raises(SettingsError, match="cannot be read: "):
        read_settings(tmp_path, Outer)


@pytest.mark.parametrize("text", ["x = ", "[evaluator", 'a = "\x01"', "a = 1\na = 2"])
def test_invalid_toml_is_reported_with_place(path: Path, text: str) -> None:
    """The line has the position of the syntax error."""
    assert complaint(path, text).startswith("not valid TOML: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluater = 1", "unknown key `evaluater`; the nearest valid key is `evaluator`"),
        (
            "[evaluator]\ntimelimit = 3",
            "unknown key `timelimit` in [evaluator]; the nearest valid key is `time_limit_s`",
        ),
        ("[[worker]]\n[[worker]]\ndept = 1", "unknown key `dept` in [worker]; the nearest valid key is `depth`"),
        ("[spare]\nDepth = 1", "unknown key `Depth` in [spare]; the nearest valid key is `depth`"),
        ("[evaluator]\nlimit = 3", "unknown key `limit` in [evaluator]; the nearest valid key is `"),
        ("xyz = 1", "unknown key `xyz`; valid are `evaluator`, `free`, `spare`, `worker`"),
        ('"" = 1', "unknown key ``; valid are `evaluator`, `free`, `spare`, `worker`"),
        ("[spare]\nfoo = 1", "unknown key `foo` in [spare]; valid are `depth`"),
        ("[spare]\ntime_limit_s = 1", "unknown key `time_limit_s` in [spare]; it stands under [evaluator]"),
        ("time_limit_s = 1", "unknown key `time_limit_s`; it stands under [evaluator]"),
    ],
)
def test_unknown_key_suggests_only_near_keys(path: Path, text: str, expected: str) -> None:
    """The line names the table and a similar key, or the table that has this key, or all keys that are valid there."""
    assert complaint(path, text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[evaluator]\ntime_limit_s = 'long'", "Expected `float`, got `str` - at `evaluator.time_limit_s`"),
        ("[evaluator]\ntime_limit_s = '9'", "`evaluator.time_limit_s` must be a number; write 9, without quotes"),
        ("[evaluator]\ntime_limit_s = '0,5'", "`evaluator.time_limit_s` must be a number; write 0.5, without quotes"),
        ("[evaluator]\ntime_limit_s = 0", "Expected `float` > 0.0 - at `evaluator.time_limit_s`"),
        ("[evaluator]\ntime_limit_s = nan", "Expected `float` > 0.0 - at `evaluator.time_limit_s`"),
        ("[evaluator]\ntime_limit_s = inf", "Expected `float` <= 604800.0 - at `evaluator.time_limit_s`"),
        ("[evaluator]\ncommand = 'play'", '`evaluator.command` must be a list; write ["play"]'),
        (
            """[evaluator]\ncommand = 'python "my play.py" {genome} -x'""",
            '`evaluator.command` must be a list; write ["python", "my play.py", "{genome}", "-x"]',
        ),
        (
            r"""[evaluator]\ncommand = 'C:\my\play.exe "D:\a b" {genome}'""".replace(r"\n", "\n"),
            r"""`evaluator.command` must be a list; write ["C:\\my\\play.exe", "D:\\a b", "{genome}"]""",
        ),
        ("""[evaluator]\ncommand = "play it's" """, """`evaluator.command` must be a list; write ["play", "it's"]"""),
        ("[evaluator]\ncommand = [1]", '`evaluator.command[0]` must be a text; write "1", in quotes'),
        (
            "[evaluator]\npython = ['play:play']",
            '`evaluator.python` must be one text, not a list; write "play:play", without brackets',
        ),
        ("[evaluator]\npython = ['play.py', '{genome}']", "`evaluator.python` must be one text, not a list"),
        (
            "[evaluator]\nresult_is_final = 'True'",
            "`evaluator.result_is_final` must be true or false; write true, without quotes",
        ),
        (
            "[evaluator]\nresult_is_final = 0",
            "`evaluator.result_is_final` must be true or false; write false, without quotes",
        ),
        ("[evaluator]\nresult_is_final = 'maybe'", "`evaluator.result_is_final` must be true or false"),
        ("[[worker]]\ndepth = '3'", "`worker[0].depth` must be a number; write 3, without quotes"),
        ("[spare]\ndepth = '2.5'", "Expected `int`, got `str` - at `spare.depth`"),
        ("[spare]\ndepth = 2.5", "`spare.depth` must be a whole number, and it is 2.5"),
        ("[evaluator]\ncommand = []", "Expected `array` of length >= 1 - at `evaluator.command`"),
        ("evaluator = 1", "Expected `object`, got `int` - at `evaluator`"),
        (
            "[worker]\ndepth = 1",
            "`worker` must be a list of tables; write [[worker]], with two brackets on each side",
        ),
        (
            "[[evaluator]]\npython = 'play:play'",
            "`evaluator` must be one table; write [evaluator], with one bracket on each side",
        ),
        ("[[worker]]\ndepth = 1\n[[worker]]\ndepth = true", "Expected `int`, got `bool` - at `worker[1].depth`"),
        ("free = {a = 'b'}", "Expected `int`, got `str` - at `free[...]`"),
    ],
)
def test_wrong_value_is_reported_with_its_key(path: Path, text: str, expected: str) -> None:
    """The error has the expected type, the value and the key."""
    assert complaint(path, text) == expected


_QUOTES = "a text is not closed; put the same quote at its end as at its beginning"
_PATH = r"""in "…" a backslash begins an escape sequence; write a path in '…', like 'D:\exchange'"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[evaluator]\npython = "play:play\n[free]\nx = 1', f"line 2: {_QUOTES}"),
        ("[evaluator]\npython = 'play:play\n[free]\nx = 1", f"line 2: {_QUOTES}"),
        ("[evaluator]\ncommand = ['play', '{genome}]\n[free]\nx = 'it is'", f"line 2: {_QUOTES}"),
        ("# it's\n[evaluator]\npython = 'play:play", f"line 3: {_QUOTES}"),
        (r'files = "D:\exchange"', f"line 1: {_PATH}"),
        (r'files = "C:\Users\me"', f"line 1: {_PATH}"),
        (r'files = "\\vm-0\exchange"', f"line 1: {_PATH}"),
        ("a = True", "line 1: write true or false, in small letters"),
        ("a = yes", "line 1: write true or false, in small letters"),
        ("a = None", "line 1: to leave a value unset, leave its key out"),
        ("a = 0,5", "line 1: write a number with a point and without commas, like 0.5 or 1000"),
        ("a = .5", "line 1: write digits on both sides of the point, like 0.5"),
        ("a = 5.", "line 1: write digits on both sides of the point, like 0.5"),
        ("a = 05", "line 1: write a number without zeros before it"),
        ("a = 5 s", "line 1: write the number alone, without its unit"),
        ("a = “x”", """line 1: write straight quotes, "…" or '…'"""),
        ("a = play:play", "line 1: put quotes around a text, like 'text'"),
        (r"a = D:\exchange", "line 1: put quotes around a text, like 'text'"),
        ("a = ['x' 'y']", "line 1: a comma between two values, or the `]` after the last one, is missing"),
        ("my key = 3", "line 1: no `=` after the key; write key = value, and no blank in a key"),
        ("[free\nx = 1", "line 1: a bracket of the table's name is missing"),
        ("[free]\nx = 1\nx = 2", "line 3: the key `x` is there twice; keep one"),
        ("[free]\nx = 1\n[free]\ny = 2", "line 3: the table [free] is there twice; put all its keys under one"),
        (
            "[worker]\ndepth = 1\n[[worker]]\ndepth = 2",
            "line 3: [worker] and [[worker]] are both there; write [[worker]] each time",
        ),
        ("a = ", "Invalid value (at end of document)"),
    ],
)
def test_common_slip_in_toml_is_reported_with_what_to_write(path: Path, text: str, expected: str) -> None:
    """The line of the file is named, never its content, which may be a password."""
    assert complaint(path, text) == f"not valid TOML: {expected}"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (r"""python = "C:\temp" """, "evaluator.python"),
        (r"""python = "\\vm-0\temp" """, "evaluator.python"),
        (r"""command = ["play", "C:\my\new.json"]""".replace(r"\my", r"\\my"), "evaluator.command[1]"),
    ],
)
def test_backslash_that_became_a_control_character_is_reported(path: Path, value: str, key: str) -> None:
    r"""`"C:\temp"` is valid TOML, with a tab in it."""
    assert complaint(path, f"[evaluator]\n{value}").startswith(f"`{key}` has a control character in it")


def test_command_and_python_together_are_refused(path: Path) -> None:
    """A command and a Python function exclude each other."""
    text = '[evaluator]\ncommand = ["play"]\npython = "play:play"'

    assert complaint(path, text).startswith("give one of `command` and `python`, not both")


@pytest.mark.parametrize("target", ["play:play", "games.tetris:Player", "_a1:_b2"])
def test_python_target_is_module_and_function(target: str) -> None:
    """`module:function`, dots in the module only."""
    assert convert({"python": target}, EvaluatorTable, "arguments").python == target


@pytest.mark.parametrize("target", ["", "play", "play:", ":play", "1play:play", "play:a.b", "play:play()", "play:a\n"])
def test_invalid_python_target_is_refused(target: str) -> None:
    """The error comes before an agent imports it."""
    with pytest.raises(SettingsError, match="expected module:function"):
        convert({"python": target}, EvaluatorTable, "arguments")


@pytest.mark.parametrize(
    ("table", "playable", "words"),
    [
        (EvaluatorTable(command=["play", "{genome}"]), True, "play {genome}"),
        (EvaluatorTable(python="play:play"), True, "play:play"),
        (EvaluatorTable(), False, "(whatever the workers' agents are set up to play)"),
    ],
)
def test_evaluator_table_describes_itself(table: EvaluatorTable, playable: bool, words: str) -> None:
    """A host without local workers needs no evaluator, and its description says so."""
    assert (table.is_playable, str(table)) == (playable, words)


def test_evaluator_has_files_or_version() -> None:
    """Patterns, or a name."""
    assert convert({"files": ["play.py", "./bots/**/*.lua"]}, EvaluatorTable, "arguments").files is not None
    assert convert({"version": "2026-11:a_B.c"}, EvaluatorTable, "arguments").version == "2026-11:a_B.c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('files = ["*.py"]\nversion = "1"', "give one of `files` and `version`, not both: no file counts when"),
        ("files = []", "Expected `array` of length >= 1 - at `evaluator.files`"),
        ('files = ["*.py", ""]', "files: '' names no file"),
        ('files = ["./"]', "files: './' names no file"),
        ('files = ["/game/*.py"]', "files: '/game/*.py': write a path that is relative to the folder of the evaluator"),
        ('files = ["C:/game/*.py"]', "files: 'C:/game/*.py': write a path that is relative to the folder"),
        ('files = ["bots/../../*.py"]', "files: 'bots/../../*.py': a pattern cannot leave the folder of the evaluator"),
        (r"files = ['bots\*.lua']", r"files: 'bots\\*.lua': write / between folders, on Windows too"),
        ('files = ["bots/**.lua"]', "files: 'bots/**.lua': ** stands alone between slashes, as in bots/**/*.lua"),
        ('version = ""', "version = '': expected 1 to 64 of 0-9 a-z A-Z _ . : -"),
        ('version = "two words"', "version = 'two words': expected 1 to 64 of 0-9 a-z A-Z _ . : -"),
        (f'version = "{"1" * 65}"', f"version = '{'1' * 65}': expected 1 to 64 of"),
        (f'version = "{"1" * 1_000_000}"', f"version = '{'1' * 100}…': expected 1 to 64 of"),
        ("version = 2", '`evaluator.version` must be a text; write "2", in quotes'),
    ],
)
def test_unusable_files_and_version_are_refused(path: Path, text: str, expected: str) -> None:
    """The error says what to write, before anything is read."""
    assert complaint(path, f"[evaluator]\n{text}").startswith(expected)
