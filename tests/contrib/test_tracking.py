"""The programs of docs/how-to/tracking.md with the real trackers, which write to this disk."""

import json
import os
import re
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.contrib, pytest.mark.timeout(300)]
PAGE = (ROOT / "docs/how-to/tracking.md").read_text(encoding="utf-8")
PROGRAM_LINES_MAX = 8
GAME = """
def play(genome, trial):
    return {"fitness": float(genome.read_bytes()[0]), "metrics": {"score": 3.5}}
"""
#: Of each program: the genomes are their own fitness.
EXPECTED = {"best": 2.0, "mean": 1.5, "median": 1.5, "worst": 1.0, "genomes": 2.0, "failed": 0.0, "metrics/score": 3.5}


def run(heading: str, folder: Path) -> None:
    """Runs the program below a heading of the page, beside a game; nothing is sent anywhere."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0], re.S)
    assert len([line for line in program.splitlines() if line]) <= PROGRAM_LINES_MAX
    (folder / "my-project").mkdir()
    (folder / "my-project/my_game.py").write_text(GAME)
    environment = os.environ | {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def of_expected(found: dict[str, float]) -> dict[str, float]:
    return {name: found[name] for name in EXPECTED}


def test_mlflow_has_the_numbers(tmp_path: Path) -> None:
    run("MLflow", tmp_path)

    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        rows = store.execute("SELECT key, value, step FROM metrics").fetchall()
    assert of_expected({key: value for key, value, _step in rows}) == EXPECTED
    assert {step for *_, step in rows} == {1}


def test_weights_and_biases_has_the_numbers(tmp_path: Path) -> None:
    run("Weights & Biases", tmp_path)

    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    kind = import_module("wandb.proto.wandb_internal_pb2").Record
    records = map(kind.FromString, _wandb_records(log.read_bytes()))
    (history,) = (record.history for record in records if record.HasField("history"))
    found = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
    assert of_expected(found) == EXPECTED
    assert history.step.num == 1


def test_tensorboard_has_the_numbers(tmp_path: Path) -> None:
    run("TensorBoard", tmp_path)

    (log,) = (tmp_path / "board").iterdir()
    kind = import_module("tensorboardX.proto.event_pb2").Event
    events = [kind.FromString(data) for data in _tensorboard_records(log.read_bytes())]
    values = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert of_expected({tag: value for _step, tag, value in values}) == EXPECTED
    assert {step for step, *_ in values} == {1}


def _wandb_records(log: bytes) -> Iterator[bytes]:
    """The records of a log in the format of LevelDB that is shorter than one block: checksum, length, kind, data."""
    at = 7  # the header
    while at < len(log):
        _checksum, length, _kind = struct.unpack_from("<IHB", log, at)
        yield log[at + 7 : at + 7 + length]
        at += 7 + length


def _tensorboard_records(log: bytes) -> Iterator[bytes]:
    """The records of a file in the format TFRecord: length, its checksum, data, checksum."""
    at = 0
    while at < len(log):
        (length,) = struct.unpack_from("<Q", log, at)
        yield log[at + 12 : at + 12 + length]
        at += 12 + length + 4
