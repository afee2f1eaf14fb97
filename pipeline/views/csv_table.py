"""Tables as CSV that spreadsheets and terminals show as it is. Pure.

Owns: which texts are marked, because a spreadsheet would compute them, and that none has characters that are not
printable: names of files, and texts from agents.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from inbox_agent.protocol.printable import escaped

ENCODING = "utf-8-sig"  #: of files: without the byte order mark, Excel takes them for the code page of Windows
MARK = "'"
_FORMULA = frozenset("=+-@\t\r＝＋－＠")  # the last four are the full-width forms of the first four


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a header."""
    return csv_lines([columns]) + csv_lines(rows)


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of a table, every cell as `spreadsheet_cell` gives it, with escapes for what is not printable."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(spreadsheet_cell, row) for row in rows)
    return escaped(out.getvalue())


def spreadsheet_cell(value: Any) -> Any:
    """The value; a text that starts with a formula's character, or with `MARK`, has `MARK` before it.

    Blanks and invisible characters before a formula do not count: spreadsheets skip them. Every cell that starts with
    `MARK` has it from here, so different texts are different cells, and `removeprefix(MARK)` gives the text.
    """
    if isinstance(value, str) and not value[:1].isalnum() and (value.startswith(MARK) or _is_formula(value)):
        return MARK + value
    return value


def _is_formula(text: str) -> bool:
    for character in text:
        if character in _FORMULA:
            return True
        if not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf"):
            return False
    return False
