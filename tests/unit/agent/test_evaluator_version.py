"""The version of an evaluator: what it depends on, and how two evaluators are compared in words."""

import json
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox_agent.evaluation.version import changed_files, evaluator_version, files_that_count, in_one_line, shortened

COMMAND = ["python", "play.py", "{genome}"]
FILES = {"play.py": sha256(b"play").hexdigest(), "bots/a.lua": sha256(b"a").hexdigest()}

#: Names on any disk: Linux has bytes that are no UTF-8, Windows lone surrogates.
names = st.text(st.characters(exclude_categories=[]), max_size=4)
evaluators = st.tuples(
    st.sampled_from(["command", "python"]), st.lists(names, max_size=4), st.dictionaries(names, names, max_size=4)
)


def version(**changes: object) -> str:
    """The version of the example, with changes."""
    return evaluator_version(**{"kind": "command", "target": COMMAND, "files": FILES} | changes)  # type: ignore[arg-type]


def test_version_is_that_of_other_releases() -> None:
    """Host and agents may have different ones, so the encoding never changes without a new form."""
    assert version() == "067d85944ab4f907"


def test_version_has_sixteen_hexadecimal_digits() -> None:
    """It is part of records, so its length is fixed."""
    assert re.fullmatch("[0-9a-f]{16}", version())
    assert re.fullmatch("[0-9a-f]{16}", evaluator_version("python", ["game:play"], {}))


def test_order_of_files_does_not_matter() -> None:
    """Systems list folders in different orders."""
    assert version(files=dict(reversed(FILES.items()))) == version()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "python"},
        {"target": [*COMMAND, "--fast"]},
        {"target": COMMAND[:-1]},
        {"target": [*COMMAND[:-2], "play.py {genome}"]},
        {"target": ["python", "{genome}", "play.py"]},
        {"files": {**FILES, "play.py": FILES["bots/a.lua"]}},
        {"files": {**FILES, "new.py": FILES["play.py"]}},
        {"files": {"play.py": FILES["play.py"]}},
        {"files": {"Play.py": FILES["play.py"], "bots/a.lua": FILES["bots/a.lua"]}},
        {"files": {"play.py": FILES["bots/a.lua"], "bots/a.lua": FILES["play.py"]}},
        {"target": [*COMMAND, "play.py", FILES["play.py"]], "files": {"bots/a.lua": FILES["bots/a.lua"]}},
    ],
)
def test_each_part_changes_version(change: dict[str, object]) -> None:
    """Kind, arguments and their bounds, paths, contents, and which content is whose."""
    assert version(**change) != version()


def test_name_that_is_no_utf8_has_version() -> None:
    """Linux allows any bytes; Python shows them as surrogates, each as another one."""
    found = {version(files={name.decode("utf-8", "surrogateescape"): "0"}) for name in (b"\xe9.py", b"\xe8.py")}

    assert len(found) == 2


def test_surrogate_pair_is_not_its_character() -> None:
    """An encoding as JSON would have equal text for both."""
    assert version(target=["\ud83d\ude00"]) != version(target=["\U0001f600"])


@given(evaluators, evaluators)
def test_versions_are_equal_only_if_evaluators_are(
    one: tuple[str, list[str], dict[str, str]], other: tuple[str, list[str], dict[str, str]]
) -> None:
    """For any texts."""
    assert (evaluator_version(*one) == evaluator_version(*other)) == (one == other)


def test_each_difference_is_named() -> None:
    """In the order of their paths; equal files are not named."""
    now = {"bots/b.lua": "2", "play.py": "3", "same.py": "4", "Zug.py": "5"}

    assert changed_files({"bots/a.lua": "1", "play.py": "2", "same.py": "4"}, now) == [
        "Zug.py is new",
        "bots/a.lua is missing",
        "bots/b.lua is new",
        "play.py differs",
    ]


def test_equal_maps_have_no_difference() -> None:
    """Also if their order differs."""
    assert changed_files(FILES, dict(reversed(FILES.items()))) == []


def test_strange_name_is_shown_as_one_line() -> None:
    """Terminals and records cannot have what a name on disk may have."""
    assert changed_files({}, {"a\nb\x1b[2J.py": "1", "bot\udce9.py": "2"}) == [
        "a b [2J.py is new",
        r"bot\udce9.py is new",
    ]


@pytest.mark.parametrize(
    ("count", "line"),
    [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, and 1 more"), (15, "0, 1, 2, and 12 more")],
)
def test_long_list_is_one_line(count: int, line: str) -> None:
    """The first phrases, and how many were left out."""
    assert in_one_line([str(number) for number in range(count)], 3) == line


@pytest.mark.parametrize(("count", "words"), [(0, "no file counts"), (1, "1 file counts"), (2, "2 files count")])
def test_number_of_files_is_said_in_words(count: int, words: str) -> None:
    """Both doctors and `check` say it in the same way."""
    assert files_that_count(count) == words


def test_map_for_record_has_short_digests() -> None:
    """Two of them still name what differs."""
    short = shortened(FILES, 10_000)

    assert short == {path: digest[:16] for path, digest in FILES.items()}
    assert list(short) == sorted(FILES)
    assert changed_files(short, shortened({**FILES, "play.py": "f" * 64}, 10_000)) == ["play.py differs"]


@given(st.dictionaries(names, st.just("0" * 64), max_size=5), st.integers(2, 200))
def test_map_for_record_has_bounded_size(files: dict[str, str], bytes_max: int) -> None:
    """Whatever the names are, it is valid JSON of that size."""
    data = json.dumps(shortened(files, bytes_max), ensure_ascii=False, separators=(",", ":")).encode()

    assert len(data) <= bytes_max


def test_map_that_does_not_fit_is_cut() -> None:
    """It is shorter than the files are, and has the first ones."""
    assert list(shortened(FILES, 60)) == ["bots/a.lua"]
    whole = len('{"bots/a.lua":"","play.py":""}') + 2 * 16
    assert list(shortened(FILES, whole)) == ["bots/a.lua", "play.py"]
    assert list(shortened(FILES, whole - 1)) == ["bots/a.lua"]
