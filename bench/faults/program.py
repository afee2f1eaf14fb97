"""`python -m bench.faults.program SYSTEM`: the optimiser's program. It plays the generation and writes what it got."""

import json
import os
import sys
from pathlib import Path

from bench.faults.answer import Answer
from bench.faults.systems import SYSTEMS


def main(system: str) -> None:
    """Writes `answer.json`. If the system never returns, or takes this process down, there is none."""
    folder = Path(os.environ["FAULTS_FOLDER"])
    (folder / "calls").unlink(missing_ok=True)
    os.environ["FAULTS_PROGRAM"] = str(os.getpid())
    answer, error, message = Answer(), "", ""
    try:
        SYSTEMS[system](answer, folder)
    except Exception as raised:
        error, message = type(raised).__name__, str(raised)
    got = {
        "fitnesses": len(answer.fitness),
        "failed": sorted(answer.failed),
        "error": error,
        "message": message,
        "seconds": round(answer.seconds, 1),
    }
    (folder / "answer.json").write_text(json.dumps(got))


if __name__ == "__main__":
    main(sys.argv[1])
