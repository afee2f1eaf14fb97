"""Local workers: what their agents are started with."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from inbox_agent.settings import EvaluatorTable
from pipeline.config import Config, LocalTable, WorkerTable
from pipeline.core.requests import MachineAction
from pipeline.machines.local_workers import LocalWorkers, agents_of
from pipeline.paths import ProjectPaths
from tests.harness.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalWorkers]:
    """Two local workers of a host that also knows the password of a share."""
    monkeypatch.setenv("FARM_PASSWORD", "hunter2")
    monkeypatch.setenv("GAME_LEVEL", "3")
    remote = WorkerTable(name="vm-0", share=r"\\vm-0\exchange", account="player", secret="env:FARM_PASSWORD")
    config = Config(
        evaluator=EvaluatorTable(command=["python", "play.py"], memory_limit_mb=500),
        local=LocalTable(workers=2),
        worker=[remote],
    )
    workers = LocalWorkers(agents_of(config), ProjectPaths(tmp_path), tmp_path, on_exit=lambda: None)
    workers.prepare()
    for name in workers.names():
        workers.execute(MachineAction(name, None))
    yield workers
    workers.close()


def process_of(workers: LocalWorkers, name: str) -> psutil.Process:
    pid = workers.pid(name)
    assert pid is not None
    return psutil.Process(pid)


def test_agent_does_not_inherit_secrets_of_the_host(workers: LocalWorkers) -> None:
    """So no game can, whatever its environment allows; other variables are inherited."""

    def inherited() -> tuple[str | None, str | None]:
        environment = process_of(workers, "local-1").environ()
        return environment.get("GAME_LEVEL"), environment.get("FARM_PASSWORD")

    assert eventually(lambda: inherited() == ("3", None))  # once its program runs; before, it is a copy of this process


def test_agent_knows_its_number_and_how_many_there_are(workers: LocalWorkers) -> None:
    """For `{worker}` and the threads of numerical libraries."""
    words = " ".join(process_of(workers, "local-1").cmdline())

    assert "--worker 1 --workers 2" in words


def test_agent_gets_the_whole_evaluator_table(workers: LocalWorkers, tmp_path: Path) -> None:
    """In a file, because values of environment variables do not belong on a command line."""
    settings = orjson.loads(ProjectPaths(tmp_path).agent_settings("local-0").read_bytes())

    assert settings["evaluator"]["memory_limit_mb"] == 500
    assert workers.names() == ["local-0", "local-1"]
