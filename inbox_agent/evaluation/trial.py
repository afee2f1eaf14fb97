"""The trial object that a Python evaluator receives. Independent of attempts, shares and processes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ARTIFACTS = "artifacts"  #: the folder in the scratch folder whose files are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorTrial:
    """The second argument of an evaluator function."""

    number: int  #: which of the genome's trials this is, counted from 1
    seed: int  #: the same for every genome of a generation
    worker: int = 0  #: which of the workers on this computer plays it, counted from 0; e.g. for a port or a display
    settings: Mapping[str, str | int | float | bool]
    time_limit_s: float  #: after this many seconds the process is killed
    scratch: Path  #: an empty folder, also the current one; files in its `artifacts` folder are kept

    def progress(self, text: str) -> None:
        """Reports progress in one line; the latest line is shown to people."""
        sys.stdout.write(f"progress: {' '.join(text.split())}\n")
        sys.stdout.flush()
