"""Which workers on sites a project has, for commands that look on while no host runs."""

from contextlib import closing
from pathlib import Path

import pytest

from pipeline.control.worker_control import WorkerControl
from pipeline.core.facts import WorkerJoined, WorkerLeft
from pipeline.errors import ConflictError, NotFoundError
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger
from pipeline.storage.site_workers import read_site_workers
from tests.harness.command_line import pipeline


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose ledger has workers of several kinds, some of which have left."""
    (tmp_path / "pipeline.toml").write_text(
        '[evaluator]\npython = "game:play"\n[local]\nworkers = 0\n[sites]\ncluster = "dask://there:1"\n'
    )
    with closing(Ledger(ProjectPaths(tmp_path).state)) as ledger:
        for worker in ("alice-0", "bob-0", "carol-0"):
            ledger.append([WorkerJoined(worker=worker, site=worker[:-2])], 1.0, 0, 0)
        ledger.append([WorkerJoined(worker="p1")], 2.0, 1, 1)
        ledger.append(
            [WorkerLeft(worker="bob-0", reason="gone"), WorkerLeft(worker="carol-0", reason="gone")], 3.0, 1, 1
        )
        ledger.append([WorkerJoined(worker="carol-0", site="carol")], 4.0, 2, 1)
    return tmp_path


def test_facts_tell_which_workers_are_on_sites(project: Path) -> None:
    """Whichever generation they belong to."""
    assert read_site_workers(ProjectPaths(project)) == {"alice-0": "alice", "carol-0": "carol"}


def test_project_that_was_never_run_has_none(tmp_path: Path) -> None:
    assert read_site_workers(ProjectPaths(tmp_path)) == {}


def test_workers_on_sites_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their sites, so that one that is drained is found again; those that have left are not there."""
    WorkerControl(project).drain("alice-0")

    _code, text, _ = pipeline(capsys, "worker", "list", "--root", project)

    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows == [["alice-0", "site", "alice", "yes"], ["carol-0", "site", "carol"]]


def test_agent_of_a_worker_on_a_site_is_restarted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its computer is not."""
    _code, text, _ = pipeline(capsys, "worker", "restart", "alice-0", "--root", project)

    assert text.startswith("the agent of alice-0 will be restarted")


def test_worker_on_a_site_is_not_removed(project: Path) -> None:
    """It ends with its Dask worker."""
    with pytest.raises(ConflictError, match="alice-0 belongs to site alice: drain it, and end the Dask worker alice"):
        WorkerControl(project).remove("alice-0")


def test_workers_on_sites_are_drained_and_restarted_like_others(project: Path) -> None:
    """Those that have left are not there; a name that is taken cannot be added."""
    workers = WorkerControl(project)
    workers.drain("alice-0")
    workers.restart("carol-0")

    assert workers.drained() == {"alice-0"}
    with pytest.raises(NotFoundError, match="bob-0: no worker of that name; there are alice-0, carol-0"):
        workers.drain("bob-0")
    with pytest.raises(ConflictError, match="there is a worker Alice-0 already"):
        workers.add("Alice-0", {"share": "elsewhere"})
