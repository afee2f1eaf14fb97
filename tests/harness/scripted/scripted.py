"""An evaluator whose genomes are lines of Python that may use `genome`, `trial` and the names below.

`play` is the function for the Python evaluator; run as a command, the file does the same and writes the result file.
"""

import json
import math  # noqa: F401, for the games
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SLEEPER = "import time; time.sleep(600)"
#: Starts a process in its own session and ends, so that the process is an orphan; writes its id to a file.
ORPHAN = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True)
open('orphan', 'w').write(str(child.pid))
child.returncode = 0  # prevents a wait for it
"""
#: Starts a process that hides: an orphan in its own session, with an empty environment; it writes its id to a file.
DAEMON = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import os; open('daemon', 'w').write(str(os.getpid()));" {SLEEPER!r}
        os.execve(sys.executable, [sys.executable, '-c', code], {{}})
"""


def play(genome: str | Path, trial: Any) -> Any:
    """Runs the genome as the body of a function."""
    body = textwrap.indent(textwrap.dedent(Path(genome).read_text("utf-8")), "    ")
    scope = dict(globals())
    exec(f"def game(genome, trial):\n{body}", scope)
    return scope["game"](genome, trial)


def spawn(
    code: str, note: str, env: Mapping[str, str] = os.environ, start_new_session: bool = False
) -> "subprocess.Popen[bytes]":
    """Starts another Python and writes its process id to a file."""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, env=env, start_new_session=start_new_session
    )
    Path(note).write_text(str(child.pid), encoding="utf-8")
    return child


def hang() -> None:
    """Never returns."""
    while True:
        time.sleep(60)


def main(genome: str, result: str, seed: str, trial: str, settings: str, scratch: str, worker: str = "0") -> None:
    """The command; the arguments have the order of the placeholders."""
    from inbox_agent.evaluation.trial import EvaluatorTrial

    job = EvaluatorTrial(
        number=int(trial),
        seed=int(seed),
        worker=int(worker),
        settings=json.loads(Path(settings).read_text("utf-8")),
        time_limit_s=0.0,
        scratch=Path(scratch),
    )
    answer = play(genome, job)
    Path(result).write_text(json.dumps(answer if isinstance(answer, dict) else {"fitness": answer}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
