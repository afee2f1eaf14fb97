"""The values that calls of an executor have in common, in the state folder: which ones a call still refers to.

A call, which is the genome, has the digest of each shared value as text (`pipeline.calls.executor`), and a shared value
may have that of another one.
"""

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

from inbox_agent.system.file_kind import open_regular

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SUFFIX = ".pickle"


def unused_values(folder: Path, genomes: Iterable[str]) -> list[Path]:
    """The shared values to which none of these genome files refers, directly or by another shared value.

    A genome that cannot be read is in the way: nothing is unused then.
    """
    try:
        values = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == _SUFFIX}
    except (FileNotFoundError, NotADirectoryError):
        return []
    unused = {digest: path for digest, path in values.items() if _DIGEST.fullmatch(digest.encode())}
    left = list(genomes) if unused else []
    try:
        while left and unused:
            for digest in _digests_in(left.pop()) & unused.keys():
                left.append(os.fspath(unused.pop(digest)))
    except OSError:
        return []
    return list(unused.values())


def _digests_in(path: str) -> set[str]:
    with open(open_regular(path), "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return {found[0].decode() for found in _DIGEST.finditer(content)}
