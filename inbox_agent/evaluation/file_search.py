"""Finds the files of a folder that match patterns: the same ones on every system, within a bounded search.

Owns: what patterns mean, and what wildcards leave out.
Not here: what the files are for, and reading them (inbox_agent.evaluator_files).
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import PurePosixPath
from typing import Protocol

from inbox_agent.system.file_kind import is_link

#: Folders that no wildcard enters: of a project, which the searched folder is or contains, and of tools.
_OF_A_PROJECT = frozenset({"genomes", "results", "state"})
_OF_TOOLS = frozenset({"__pycache__", "node_modules"})
#: What marks further ones: virtual environments, of Python or of conda, and the state folder of an agent.
_MARKS = ("pyvenv.cfg", "conda-meta", "agent.lock")
_PROJECT_MARK = os.path.join("state", "host.lock")
_ANY_DEPTH = "**"
_WILDCARDS = re.compile(r"[*?[]")

_States = frozenset[tuple[int, int]]  #: number of a pattern, and of its part that the next name must match


class TooManyNames(Exception):
    """The search looked at more names than it may."""


class _Entry(Protocol):
    """A name in a folder, as `os.scandir` finds it."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def is_dir(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _NamedEntry:
    """A name that was looked up without a listing."""

    name: str
    path: str

    def is_dir(self) -> bool:
        return os.path.isdir(self.path)


def refuse_pattern(pattern: str) -> None:
    """Checks a pattern of `find_files`. Raises ValueError, which says what to write."""
    if not pattern or "\0" in pattern or not PurePosixPath(pattern).parts:
        raise ValueError(f"{pattern!r} names no file")
    if "\\" in pattern:
        raise ValueError(f"{pattern!r}: write / between folders, on Windows too")
    if pattern.startswith("/") or re.match(r"[A-Za-z]:", pattern):
        raise ValueError(f"{pattern!r}: write a path that is relative to the folder of the evaluator")
    parts = PurePosixPath(pattern).parts
    if ".." in parts:
        raise ValueError(f"{pattern!r}: a pattern cannot leave the folder of the evaluator; take the .. out")
    if any(_ANY_DEPTH in part and part != _ANY_DEPTH for part in parts):
        raise ValueError(f"{pattern!r}: ** stands alone between slashes, as in bots/**/*.lua")


def find_files(folder: str, patterns: Sequence[str], *, names_max: int) -> Iterator[tuple[str, int]]:
    """Each match: the path of what is no folder, relative and with `/`, and the number of its pattern; in no order.

    `*`, `?` and `[…]` match within a name, `**` any number of folders, and case counts on every system. No wildcard
    matches a hidden name, or enters a folder that is hidden, linked, a virtual environment, an agent's state folder,
    `__pycache__` or `node_modules`, or `genomes`, `results` or `state` directly in `folder` or in a project below it; a
    pattern that writes out the name does.

    Args:
        patterns: accepted by `refuse_pattern`.
        names_max: how many names may be looked at.

    Raises:
        TooManyNames
        OSError: a folder cannot be listed; `filename` is its path.
    """
    search = _Search(patterns)
    left = [("", search.start())]
    looked_at = 0
    while left:
        below, states = left.pop()
        for entry in search.entries(os.path.join(folder, below), states):
            looked_at += 1
            if looked_at > names_max:
                raise TooManyNames
            matched, named, wild = search.step(states, entry.name)
            if not (matched or named or wild):
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                entered = named | wild if wild and not _is_left_out(entry, is_top=not below) else named
                if entered:
                    left.append((path, search.closed(entered)))
            else:
                yield from ((path, number) for number in matched)


class _Search:
    """Follows all patterns at once, so that each folder is listed once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._parts = [_parts(pattern) for pattern in patterns]
        wildcards = {part for parts in self._parts for part in parts if _WILDCARDS.search(part)}
        self._matchers = {part: re.compile(translate(part)) for part in wildcards}

    def start(self) -> _States:
        return self.closed((number, 0) for number in range(len(self._parts)))

    def closed(self, states: Iterable[tuple[int, int]]) -> _States:
        """The states, with those that follow because `**` also stands for no folder."""
        found = set(states)
        return frozenset(found | {(n, part + 1) for n, part in found if self._parts[n][part] == _ANY_DEPTH})

    def entries(self, path: str, states: _States) -> Iterator[_Entry]:
        """The names in a folder that may match."""
        heads = {self._parts[number][part] for number, part in states}
        if heads.isdisjoint(self._matchers):
            # Without a listing: a pattern that names its folders is cheap in any folder.
            named = (_NamedEntry(head, os.path.join(path, head)) for head in heads)
            yield from (entry for entry in named if os.path.lexists(entry.path))
        else:
            with os.scandir(path) as listing:
                yield from listing

    def step(self, states: _States, name: str) -> tuple[list[int], _States, _States]:
        """The patterns that a name ends, and the states in its folder: by its own name, and by wildcards."""
        matched: list[int] = []
        named: list[tuple[int, int]] = []
        wild: list[tuple[int, int]] = []
        for number, part in states:
            head, is_last = self._parts[number][part], part == len(self._parts[number]) - 1
            if head == _ANY_DEPTH:
                wild.append((number, part))
            elif head in self._matchers:
                if not self._matchers[head].match(name) or (name[:1] == "." and head[:1] != "."):
                    continue
                matched += [number] if is_last else []
                wild += [] if is_last else [(number, part + 1)]
            elif head == name:
                matched += [number] if is_last else []
                named += [] if is_last else [(number, part + 1)]
        return matched, frozenset(named), frozenset(wild)


def _parts(pattern: str) -> list[str]:
    """The names of a pattern; consecutive `**` are one, and a last one means the files below."""
    parts: list[str] = []
    for part in PurePosixPath(pattern).parts:
        if part != _ANY_DEPTH or parts[-1:] != [_ANY_DEPTH]:
            parts.append(part)
    return [*parts, "*"] if parts[-1] == _ANY_DEPTH else parts


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: an error only if it is read as a file
        return False


def _is_left_out(entry: _Entry, *, is_top: bool) -> bool:
    """Whether no wildcard enters a folder."""
    return (
        entry.name.startswith(".")
        or entry.name in _OF_TOOLS
        or (entry.name in _OF_A_PROJECT and (is_top or _is_project(os.path.dirname(entry.path))))
        or is_link(os.lstat(entry.path))
        or any(os.path.lexists(os.path.join(entry.path, mark)) for mark in _MARKS)
    )


def _is_project(path: str) -> bool:
    return os.path.lexists(os.path.join(path, _PROJECT_MARK))
