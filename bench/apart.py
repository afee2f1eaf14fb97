"""Runs one function in its own process and folder, so that one measurement does not affect the next.

Arguments and result travel as JSON. What the process prints is shown only if it fails.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.samples import NotMeasured

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT_S = 900.0


def apart(function: Callable[..., Any], place: Path, *, quietly: bool = False, **arguments: Any) -> Any:
    """The result of `function(folder, **arguments)`. Without a `folder` it gets an empty one, removed afterwards.

    Raises:
        NotMeasured: a package is not installed, the function found no figure, or the process failed.
    """
    notes = Path(tempfile.mkdtemp(dir=place))
    folder = notes / "w"
    folder.mkdir()
    target = f"{function.__module__}:{function.__name__}"
    (notes / "arguments.json").write_text(json.dumps({"folder": str(folder), **arguments}))
    try:
        return _run(target, notes, quietly)
    finally:
        shutil.rmtree(notes, ignore_errors=True)
        if hasattr(os, "sync"):
            os.sync()  # otherwise the next measurement waits for the writes of this one


def _run(target: str, notes: Path, quietly: bool) -> Any:
    command = [sys.executable, "-m", "bench.apart", target, str(notes)]
    with open(notes / "output.txt", "wb") as output:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        try:
            subprocess.run(command, cwd=ROOT, timeout=TIME_LIMIT_S, check=False, **streams)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"not finished within {TIME_LIMIT_S:g} s") from None
    try:
        answer = json.loads((notes / "answer.json").read_text())
    except FileNotFoundError:
        if not quietly:
            printed = (notes / "output.txt").read_text(errors="replace").strip()
            print(f"{target} failed:\n{printed[-2000:]}", file=sys.stderr)
        raise NotMeasured("failed") from None
    if "reason" in answer:
        raise NotMeasured(answer["reason"])
    return answer["value"]


def _serve(target: str, notes: Path) -> None:
    module, _, name = target.partition(":")
    arguments = json.loads((notes / "arguments.json").read_text())
    function = getattr(importlib.import_module(module), name)
    try:
        answer = {"value": function(**arguments)}
    except ModuleNotFoundError as error:
        answer = {"reason": f"{error.name} is not installed"}
    except NotMeasured as error:
        answer = {"reason": str(error)}
    (notes / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
