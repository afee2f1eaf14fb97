"""The words of docstrings, comments, help texts and documents: terms of the field, and no persons for processes."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from tests.harness.source_tree import PACKAGES, ROOT
from tests.repository.architecture import MODULES, tree_of

pytestmark = pytest.mark.source

#: A refused word, and what to write.
REFUSED = {
    r"nobody|somebody|anybody|everybody|whoever": "name the process: the host, the agent, another program",
    r"mend(?:s|ed|ing)?": "fix, correct",
    r"hands off": "do not touch",
    r"couriers?|metronome|doorbells?|leash|rungs?": "executor, timers, folder watcher, process tree, recovery action",
    r"planted bugs?": "mutation tests",
    r"unwell": "recovering, quarantined, out",
    r"misfortune|contenders?|onlookers?": "fault, measured programs, readers",
}
#: Words that are refused in names.
REFUSED_NAMES = re.compile(
    r"(?:^|_)(?:told|unwell|rungs?|standstill|leash|couriers?|nobody|somebody|misfortune|untold)(?:_|$)", re.IGNORECASE
)
#: Programs that are not part of the wheel.
PROGRAMS = [
    path for folder in ("bench", "docs", "examples", "vm_image") for path in sorted((ROOT / folder).rglob("*.py"))
]
#: Other files of the packages with comments and messages.
TEXTS = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*"))
    if path.suffix in (".ps1", ".js", ".txt")
]
#: All tests but this one, which names the words.
TESTS = {
    path.relative_to(ROOT / "tests").as_posix(): path
    for path in sorted((ROOT / "tests").rglob("*.py"))
    if path != Path(__file__)
}
DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    if "build" not in path.parts
]


def prose_of(source: str) -> str:
    """The comments and strings of a Python file. A string of one word is a name on disk or of an interface."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(
        token.string
        for token in tokens
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and not token.string[1:-1].isidentifier())
    )


def refused_in(text: str) -> list[str]:
    """Each refused word, with its replacement."""
    return [
        f"{found}: {better}"
        for words, better in REFUSED.items()
        for found in re.findall(rf"(?<![\w/.-])(?:{words})(?![\w/-])", text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_modules_use_terms_of_the_field(module: str) -> None:
    """In comments, docstrings, help texts and messages."""
    assert refused_in(prose_of(MODULES[module].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_programs_use_terms_of_the_field(path: Path) -> None:
    """The same words in what is not shipped."""
    assert refused_in(prose_of(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_scripts_use_terms_of_the_field(path: Path) -> None:
    """The same words in PowerShell, JavaScript and plain text."""
    assert refused_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [*MODULES.values(), *PROGRAMS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_use_terms_of_the_field(path: Path) -> None:
    """Variables, parameters, attributes, functions and classes."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    assert [name for name in sorted(names) if REFUSED_NAMES.search(name)] == []


@pytest.mark.parametrize("test", TESTS)
def test_tests_use_terms_of_the_field(test: str) -> None:
    """The same words in the tests, their fakes and their harnesses."""
    assert refused_in(prose_of(TESTS[test].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_use_terms_of_the_field(document: Path) -> None:
    """The same words as the code."""
    assert refused_in(document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["# Nobody waits.", '"""Mends it."""', 'error("hands off")', "x = 'the planted bug'"])
def test_refused_words_are_found(text: str) -> None:
    """In comments, docstrings and messages, in any case."""
    assert refused_in(prose_of(text))


def test_parts_of_names_and_paths_are_no_words() -> None:
    """A name on disk or of an interface may contain one."""
    assert refused_in("# rung_limit_s, /home/nobody and mend-it") == []


def test_class_names_are_unique() -> None:
    """A name has one meaning in all three packages."""
    names = Counter(node.name for module in MODULES for node in tree_of(module).body if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("_")] == []
