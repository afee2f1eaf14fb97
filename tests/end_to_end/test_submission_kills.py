"""A host is killed before and after each of its writes to the store of submissions; nothing is lost or doubled."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.control.operations import GenerationState, SubmissionState
from tests.harness.farm_project import FarmProject
from tests.harness.opened_project import genomes, opened
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
BATCH = 12

#: A program that plays a generation, and is killed at a write; arguments: folder, write, whether after it.
#: It prints the names that were answered.
PROGRAM = """
import os, sys
from pathlib import Path
from pipeline.control import played_generation
from pipeline.storage.submission_store import SubmissionStore
from tests.end_to_end.test_submission_kills import BATCH, play

root, write, is_after = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "after"
played_generation.JOINED_MAX = 5
whole = getattr(SubmissionStore, write)

def killed(*args, **options):
    if is_after:
        whole(*args, **options)
    os._exit(9)

setattr(SubmissionStore, write, killed)
play(root, lambda names: print(*names, flush=True))
"""


def play(root: Path, answered: Callable[[list[str]], None]) -> None:
    """Opens a generation by its key, submits two batches, and closes it when they are settled."""
    with closing(opened(root)) as operations:
        number = operations.open_generation(key="mine").number
        if operations.generation(number).state is GenerationState.FINISHED:
            return  # the closed generation was finished before the kill
        for first in (0, BATCH):
            if operations.generation(number).state is GenerationState.OPEN:
                answers = operations.submit(number, genomes(BATCH, first))
                assert {answer.state for answer in answers} <= {SubmissionState.ACCEPTED, SubmissionState.KNOWN}
                answered([answer.name for answer in answers])
        assert eventually(lambda: operations.generation(number).completed == 2 * BATCH, PATIENCE_S)
        operations.close_generation(number)
        assert eventually(lambda: operations.generation(number).state is GenerationState.FINISHED, PATIENCE_S)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", ["open_generation", "add", "remove", "close_generation", "end_generation"])
def test_host_is_killed_at_a_write(project: FarmProject, write: str, when: str) -> None:
    """What was answered is counted; with the same calls once more, everything is counted once."""
    project.configure(workers=2)
    command = [sys.executable, "-c", PROGRAM, str(project.root), write, when]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert killed.returncode == 9, killed.stderr

    play(project.root, lambda _names: None)

    rows, summary = project.results(1), project.summary(1)
    assert set(killed.stdout.split()) <= set(rows) == {each.name for each in genomes(2 * BATCH)}
    assert (summary["completed"], summary["lost"], summary["duplicated"]) == (2 * BATCH, 0, 0)
    assert not (project.root / "results" / "gen-0002").exists()
    completed = [row for row in project.attempts(1) if row["outcome"] == "completed"]
    assert len(completed) == 2 * BATCH
    code, out = project.run("verify")
    assert code == 0, out
