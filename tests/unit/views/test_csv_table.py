"""CSV for spreadsheets: no text is computed, each can be had back, and numbers stay numbers."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.views.csv_table import ENCODING, MARK, csv_text, spreadsheet_cell

#: What is before a formula and does not keep a spreadsheet from computing it.
INVISIBLE = [
    "",
    " ",
    "\xa0",
    "\u2003",
    "\u3000",
    "\u2028",
    "\x85",
    "\n",
    "\0",
    "\u200b",
    "\u200d",
    "\u2060",
    "\u200f",
    "\ufeff",
    " \u200b\xa0",
]
CHARACTERS = [*"=+-@\t\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"]


@pytest.mark.parametrize("first", CHARACTERS, ids=ascii)
@pytest.mark.parametrize("before", INVISIBLE, ids=ascii)
def test_formulas_are_marked(before: str, first: str) -> None:
    """Also behind blanks and invisible characters."""
    text = f"{before}{first}1+1"
    assert spreadsheet_cell(text) == MARK + text


@pytest.mark.parametrize("value", [-0.5, -3, 1e-9, 0, None, True])
def test_values_that_are_no_texts_stay(value: object) -> None:
    assert spreadsheet_cell(value) is value


@pytest.mark.parametrize("text", ["", " ", "a", "a=b", " a-b", "g-1.json", "größe", "漢字", "1-2", "#1", "(-1)", "𝐱=1"])
def test_other_texts_stay(text: str) -> None:
    assert spreadsheet_cell(text) == text


def test_text_that_starts_with_the_mark_is_marked() -> None:
    """Otherwise it would be the same cell as the text without it."""
    assert [spreadsheet_cell(text) for text in ("=x", "'=x", "''=x", "'x")] == ["'=x", "''=x", "'''=x", "''x"]


@given(st.text(st.sampled_from(["'", " ", "\ufeff", *CHARACTERS, "x"]) | st.characters(codec="utf-8"), max_size=8))
def test_text_can_be_had_back(text: str) -> None:
    """By taking one mark away; so two texts are never the same cell."""
    cell = spreadsheet_cell(text)
    assert cell.removeprefix(MARK) == text
    shown = cell.lstrip("".join(c for c in cell if c.isspace() or unicodedata.category(c) in ("Cc", "Cf")))
    assert shown[:1] not in CHARACTERS


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])), min_size=1))
def test_table_is_read_as_documented(texts: list[str]) -> None:
    """With `csv.DictReader` and the encoding of the files: each text that the name of a genome may be."""
    data = csv_text(("genome", "fitness"), ((text, -0.5) for text in texts)).encode(ENCODING)
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert [row["genome"].removeprefix("'") for row in rows] == texts
    assert {row["fitness"] for row in rows} == {"-0.5"}
