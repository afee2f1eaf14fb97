"""The recipes of docs/how-to/optimiser-recipes.md, as code that examples execute."""

import re
from functools import cache
from typing import Any, Protocol

from pipeline.calls.executor import FarmExecutor
from tests.harness.source_tree import ROOT

PAGE = ROOT / "docs" / "how-to" / "optimiser-recipes.md"


class Recipe(Protocol):
    """A section's block of Python, bound to an executor: executes it with further names, and returns all names."""

    def __call__(self, **names: Any) -> dict[str, Any]: ...


def opening_program() -> str:
    """The program above the first section."""
    (program,) = re.findall(r"^```python\n(.*?)^```", _sections()[0], re.DOTALL | re.MULTILINE)
    return str(program)


@cache
def blocks() -> dict[str, str]:
    """The block of each section that has one, by the section's title."""
    found = dict[str, str]()
    for section in _sections()[1:]:
        title, text = section.split("\n", 1)
        for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            assert title not in found, f"{title}: a recipe is one block"
            found[title] = block
    return found


def recipe(title: str, executor: FarmExecutor) -> Recipe:
    """The recipe of a section, on an executor."""
    code = compile(blocks()[title], f"<recipe for {title}>", "exec")

    def execute(**names: Any) -> dict[str, Any]:
        everything = {"executor": executor, **names}
        exec(code, everything)
        return everything

    return execute


def _sections() -> list[str]:
    return PAGE.read_text(encoding="utf-8").split("\n## ")
