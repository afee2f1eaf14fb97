"""Runs the programs that make an image; the error of a failed one has the end of its output."""

import subprocess
from pathlib import Path

_LAST_LINES = 12


class BuildError(Exception):
    """The image cannot be built here, or a step failed; says why."""


def run(*words: str) -> None:
    """Raises BuildError."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines() or ["it printed nothing"]
        raise BuildError("\n  ".join([f"{words[0]} failed:", *lines[-_LAST_LINES:]]))


def inside(root: Path, *words: str) -> None:
    """Runs a program of the guest, on this computer's kernel. Raises BuildError."""
    run("chroot", str(root), *words)
