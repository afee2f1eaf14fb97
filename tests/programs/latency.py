"""`python -m tests.programs.latency`: from the start signal in `inbox/` to the evaluator, in milliseconds.

One agent at a time, on this system's Python and on Windows CPython under Wine, without other load. Both read the same
clock. The time is measured from before the record is published until the evaluator's first line.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from inbox_agent.evaluation.environment import game_environment
from inbox_agent.protocol.layout import Kind, ResultRecord, decode, encode
from inbox_agent.protocol.local_files import LocalFiles
from tests.harness import records
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually
from tests.harness.wine import path_there, windows_python

GAMES = 40
GENOME = b"{}"
GAME = """
    import json, sys, time
    def play(genome, trial):
        return {"fitness": time.time()}
    if __name__ == "__main__":
        with open(sys.argv[1], "w") as out:
            json.dump({"fitness": time.time()}, out)
"""
EVALUATORS = {
    "warm": ["--python", "game:play"],
    "command": ["--", "python", "game.py", "{result}"],
}

#: A command line, its environment, and how it spells a path of this system.
Interpreter = tuple[list[str], Mapping[str, str], Callable[[Path], str]]


def main() -> None:
    python = windows_python()
    here: Interpreter = ([sys.executable], game_environment(os.environ, (), {}, threads=1, windows=False), str)
    there: Interpreter = (python.argv(), python.environment(), path_there)
    print(f"start signal to evaluator, {GAMES} games, milliseconds     median     95 %      worst")
    for system, (program, env, named) in {"this system": here, "Windows CPython": there}.items():
        for kind, evaluator in EVALUATORS.items():
            with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
                share, folder = Path(place) / "share", Path(place) / "games"
                share.mkdir()
                folder.mkdir()
                (folder / "game.py").write_text(textwrap.dedent(GAME))
                agent = subprocess.Popen(
                    [
                        *(*program, "-m", "inbox_agent", "--share", named(share), "--folder", named(folder)),
                        *("--state", named(Path(place) / "state"), *evaluator),
                    ],
                    cwd=ROOT,
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                stack.callback(agent.communicate)
                stack.callback(agent.kill)
                times = sorted(_play(LocalFiles(share), number) for number in range(1, GAMES + 2))[:-1]
                # The first one starts the evaluator and is the slowest; it is left out.
                high = times[int(0.95 * len(times))]
                label = f"{system}, {kind} evaluator"
                print(f"{label:51} {statistics.median(times):9.1f} {high:9.1f} {times[-1]:9.1f}", flush=True)


def _play(files: LocalFiles, number: int) -> float:
    """Sends one start signal and waits for its result. Returns the milliseconds until its evaluator started."""
    files.make_folders()
    if number == 1:
        files.publish("inbox/1.host.json", encode(records.host()))
    start = records.start(number, GENOME)
    payload, signal = f"inbox/{Kind.GENOME.of(start.attempt)}", f"inbox/{Kind.START.of(start.attempt)}"
    files.write(payload, GENOME)
    began = time.time()
    files.publish(signal, encode(start))
    result = f"outbox/{Kind.RESULT.of(start.attempt)}"
    assert eventually((files.root / result).exists, 60), "no result"
    record = decode(ResultRecord, files.read(result, 65536), result)
    assert record.fitness is not None, record.reason
    files.remove([signal, payload])
    return 1000 * (record.fitness - began)


if __name__ == "__main__":
    main()
