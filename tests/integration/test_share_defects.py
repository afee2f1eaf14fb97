"""Exceptions that nothing foresaw, at every operation on one share: they cost that worker, and not the run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.protocol.local_files import LocalFiles
from pipeline import Evaluator, open_farm
from pipeline.host import wiring
from tests.harness.farm_project import GAMES

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
GAME = Evaluator(python="game:play", folder=GAMES)
VERBS = [name for name in vars(ShareFiles) if not name.startswith("_")]
DEFECTS = (
    AttributeError("a defect"),
    IndexError("a defect"),
    KeyError("a defect"),
    RecursionError("a defect"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a defect"),
    MemoryError("a defect"),
    ConnectionResetError("a defect"),
    TimeoutError("a defect"),
    ValueError("a defect with \udce4"),
)


class DefectiveFiles(LocalFiles):
    """Files of a share; some operations raise what the protocol does not have."""

    def __init__(self, root: Path, seed: int, share: float, failures_max: int) -> None:
        super().__init__(root)
        self.failures = 0
        rng = random.Random(seed)
        for verb in VERBS:
            setattr(self, verb, self._failing(getattr(self, verb), verb, rng, share, failures_max))

    def _failing(
        self, call: Callable[..., Any], verb: str, rng: random.Random, share: float, failures_max: int
    ) -> Callable[..., Any]:
        # An OSError of `fetch` is one of the host's own disk.
        choices = [error for error in DEFECTS if verb != "fetch" or not isinstance(error, OSError)]

        def fail_sometimes(*args: Any, **options: Any) -> Any:
            if self.failures < failures_max and rng.random() < share:
                self.failures += 1
                raise rng.choice(choices)
            return call(*args, **options)

        return fail_sometimes


@pytest.mark.parametrize(("seed", "share"), [(1, 1.0), (2, 0.5), (3, 0.2), (4, 0.2)])
def test_defects_of_one_share_leave_run_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seed: int, share: float
) -> None:
    """Every genome gets its fitness; the log has the exceptions with their tracebacks."""
    made: list[DefectiveFiles] = []

    def files(root: Path) -> LocalFiles:
        if root.name != "local-1":
            return LocalFiles(root)
        made.append(DefectiveFiles(root, seed, share, 10**9))
        return made[0]

    monkeypatch.setattr(wiring, "LocalFiles", files)
    with open_farm(tmp_path, evaluator=GAME, workers=2, trials_per_genome=1) as farm:
        scores = farm.evaluate({f"g{n}": b'{"n": %d, "seconds": 0.05}' % n for n in range(20)})

    assert {score.status for score in scores.values()} == {"completed"}
    assert made[0].failures
    assert "Traceback" in caplog.text
    log = (tmp_path / "state" / "log" / "pipeline.jsonl").read_text()
    assert '"traceback":"Traceback' in log


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_worker_plays_after_defects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The only worker's share is read again after the normal pause."""
    made: list[DefectiveFiles] = []

    def files(root: Path) -> LocalFiles:
        made.append(DefectiveFiles(root, seed, 0.7, 5))
        return made[0]

    monkeypatch.setattr(wiring, "LocalFiles", files)
    with open_farm(tmp_path, evaluator=GAME, workers=1, trials_per_genome=1) as farm:
        scores = farm.evaluate({f"g{n}": b'{"n": %d}' % n for n in range(5)})

    assert {score.status for score in scores.values()} == {"completed"}
    assert made[0].failures == 5
