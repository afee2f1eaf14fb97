"""The version of an evaluator: a digest of what is played, equal wherever the same is played. Pure.

Owns: what the version depends on, and how two evaluators are compared in words.
Not here: which files an evaluator has, and reading them (inbox_agent.evaluator_files).
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from inbox_agent.protocol.layout import clean

VERSION_DIGITS = 16
_FORM = "evaluator 1"  #: changes whenever the encoding does, so that versions of different forms are never equal
_PATH_CHARS_MAX = 200


def evaluator_version(kind: str, target: Sequence[str], files: Mapping[str, str]) -> str:
    """16 hexadecimal digits that are equal for two evaluators only if kind, target and files are.

    Args:
        kind: `command` or `python`.
        target: the arguments of the command with their placeholders, or the one text `module:function`.
        files: path, with `/`, -> SHA-256 of the content in hexadecimal digits. Their order does not matter.
    """
    texts = [_FORM, kind, str(len(target)), *target, *(text for file in sorted(files.items()) for text in file)]
    digest = hashlib.sha256()
    for text in texts:
        # With their lengths, so that ["a b"] and ["a", "b"] differ. `surrogatepass`: a name on disk need not be UTF-8.
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()[:VERSION_DIGITS]


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences between two maps of path -> digest, one phrase each, sorted by path.

    Both maps must have digests of the same length: none or both of them from `shortened`.
    """
    return [
        f"{printable(path)} {_change(path, before, now)}"
        for path in sorted(before.keys() | now.keys())
        if before.get(path) != now.get(path)
    ]


def _change(path: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    if path not in now:
        return "is missing"
    return "differs" if path in before else "is new"


def in_one_line(phrases: Sequence[str], count_max: int) -> str:
    """At most `count_max` phrases, and how many more there are: `a.py differs, b.py is new, and 12 more`."""
    more = len(phrases) - count_max
    return ", ".join([*phrases[:count_max], *([f"and {more} more"] if more > 0 else [])])


def files_that_count(count: int) -> str:
    """How many files a version depends on: `2 files count`."""
    return f"{count or 'no'} file{'s' if count > 1 else ''} count{'s' if count < 2 else ''}"


def shortened(files: Mapping[str, str], bytes_max: int) -> dict[str, str]:
    """A map of path -> digest for a record: printable paths in their order, 16 digits of each digest.

    Args:
        files: as of `evaluator_version`.
        bytes_max: how much JSON it may become. Paths that do not fit are left out, the last ones first: the map is
            cut if it is shorter than `files`, and then the version says whether two evaluators are equal, not the map.
    """
    found: dict[str, str] = {}
    size = 1
    for path, digest in sorted(files.items()):
        entry = {printable(path): digest[:VERSION_DIGITS]}
        size += len(msgspec.json.encode(entry)) - 1  # a comma in place of its two braces
        if size > bytes_max:
            break
        found |= entry
    return found


def printable(path: str) -> str:
    """A path for messages and records: one line of valid characters, of bounded length."""
    return clean(path.encode("utf-8", "backslashreplace").decode(), _PATH_CHARS_MAX)
