"""Text of the peer, made safe to show: no control, bidirectional or invisible character reaches a terminal. Pure."""

import re

#: Characters that control a terminal, are invisible or change the direction of others. By their numbers, so that sides
#: with different versions of Unicode agree; there are more that `str.isprintable` does not take.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0001\U000e0020-\U000e007f]"
)


def has_hidden(name: str) -> bool:
    """Whether a name has a character that no name of a metric may have."""
    return _HIDDEN.search(name) is not None


def clean(text: str, chars_max: int) -> str:
    """`text` from the peer as one printable line of bounded length, safe for terminals and logs."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * chars_max])
    line = " ".join(line.split())
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def escaped(text: str) -> str:
    """`text` with the escapes of JSON in place of characters that are neither printable nor blanks nor line feeds.

    JSON stays the same JSON, and names of genomes stay as they are: those have no such character.
    """
    if text.replace("\n", "").isprintable():  # the common case
        return text
    return "".join(c if c == "\n" or c.isprintable() or _is_blank(c) else _escape(c) for c in text)


def _is_blank(character: str) -> bool:
    return character.isspace() and not has_hidden(character)


def _escape(character: str) -> str:
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[start : start + 4]}" for start in range(0, len(digits), 4))
