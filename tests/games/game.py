"""An evaluator whose genomes are the games: Python lines that see `genome`, `trial` and the words below.

`play` is called by the Python evaluator; as a command the file does the same and writes the result file.
"""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

SLEEPER = "import time; time.sleep(600)"
DOUBLE_FORK = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True)"


def play(genome, trial):
    body = textwrap.indent(textwrap.dedent(Path(genome).read_text("utf-8")), "    ")
    scope = dict(globals())
    exec(f"def game(genome, trial):\n{body}", scope)
    return scope["game"](genome, trial)


def spawn(code, note, **options):
    """Starts another Python and leaves its process id in a file; the code may add that of its own child."""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, **options)
    Path(note).write_text(str(child.pid))
    return child


def hang():
    while True:
        time.sleep(60)


def main(genome, result, seed, trial, settings, scratch):
    from inbox_agent.trial import Trial

    settings = json.loads(Path(settings).read_text("utf-8"))
    told = Trial(number=int(trial), seed=int(seed), settings=settings, time_limit_s=0.0, scratch=Path(scratch))
    answer = play(genome, told)
    Path(result).write_text(json.dumps(answer if isinstance(answer, dict) else {"fitness": answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
