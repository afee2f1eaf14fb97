"""The batch script of the examples on a real Slurm cluster: pilots join, are cancelled, killed, and leave in time."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.pilot_project import PilotProject, pilot_project
from tests.harness.slurm_cluster import SlurmCluster, slurm_cluster
from tests.harness.source_tree import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

SCRIPT = ROOT / "examples" / "slurm" / "pilots.sh"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path / "slurm") as cluster:
        yield cluster


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PilotProject]:
    with pilot_project(tmp_path / "farm") as project:
        yield project


def test_array_of_pilots_plays_a_generation(cluster: SlurmCluster, project: PilotProject) -> None:
    """One task is cancelled in its game, one is killed; the others and a second array play what is left."""
    agent = project.root / "inbox-agent"
    agent.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m inbox_agent "$@"\n')
    agent.chmod(0o755)
    project.add_genomes(project.gated(6))
    host = project.start()
    job = cluster.submit(project.root, SCRIPT, "--array=1-3", INBOX_AGENT=str(agent))
    names = [f"slurm-{job}-{number}" for number in (1, 2, 3)]
    project.wait_until(lambda: all(map(project.playing, names)))

    cluster.cancel(f"{job}_1")
    project.wait_until(lambda: not (project.workers / f"{names[0]}.toml").exists())
    kill(project, names[1])
    second = cluster.submit(project.root, SCRIPT, "--array=1", INBOX_AGENT=str(agent))
    project.wait_until(lambda: project.playing(f"slurm-{second}-1"))
    project.open_gate()
    code, text = project.wait_for_end(host)
    assert code == 0, text
    assert "verified" in project.pipeline("verify", "--gen", "1")

    cluster.cancel(job)
    cluster.cancel(second)
    project.wait_until(lambda: not cluster.jobs(), every_s=0.2)
    assert [path.name for path in project.workers.glob("*.toml")] == [f"{names[1]}.toml"]


def kill(project: PilotProject, name: str) -> None:
    """Kills a pilot as a node that is lost does: it says nothing to anyone."""
    for process in project.processes():
        if name in process.cmdline() and "inbox_agent" in process.cmdline():
            for each in (*process.children(recursive=True), process):
                try:
                    each.kill()
                except psutil.NoSuchProcess:
                    continue
