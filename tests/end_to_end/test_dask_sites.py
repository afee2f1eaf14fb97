"""A generation on three Dask workers with networks of their own, while each part is cut off or killed in turn."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.dask_cluster import DaskClusterProcesses, Networks
from tests.harness.farm_project import FarmProject, games

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240), pytest.mark.needs("ip", root=True)]

SITES = ("alice", "bob", "carol")
GENOMES = games(600, 0.5)
AHEAD = 30  #: genomes that are never used up while a fault is waited for, however slow this computer is


@pytest.fixture
def networks() -> Iterator[Networks]:
    networks = Networks(*SITES)
    yield networks
    networks.close()


@pytest.fixture
def cluster(tmp_path: Path, networks: Networks) -> Iterator[DaskClusterProcesses]:
    cluster = DaskClusterProcesses(tmp_path / "cluster", networks.host)
    cluster.start_scheduler()
    for name in SITES:
        cluster.start_worker(name, before=networks.inside(name), nanny=name == "alice")
    yield cluster
    cluster.close()


def configure(project: FarmProject, place: str, folder: Path) -> None:
    """Workers that are given up late: each of the faults may cost a game on each site."""
    sites = f"[sites]\ncluster = 'dask://{place}'\nsites_min = {len(SITES)}\nfolder = '{folder}'\n"
    project.configure(
        workers=0,
        extra=sites,
        attempts_max=40,
        failures_max=40,
        losses_max=50,
        losses_per_trial_max=100,
        silence_limit_s=6.0,
        claim_limit_s=5.0,
        grace_s=2.0,
        back_off_s=0.2,
    )


class Run:
    """A host that plays the first generation, as its log shows it."""

    def __init__(self, project: FarmProject) -> None:
        self._project, self._given = project, 0
        self._give()
        self._host = project.start()
        self._unknown: Counter[str] = Counter()  #: how often a site was seen to be unknown

    def play_on(self, *sites: str) -> None:
        """Waits until a worker on each of these sites has completed another game."""
        before = self._completed()
        self._wait(lambda: all(self._completed()[site] > before[site] for site in sites))

    def wait_until_unknown(self, site: str) -> None:
        """Waits until the host has told that it does not reach a site, once more."""
        self._wait(lambda: self._warnings(site) > self._unknown[site])
        self._unknown[site] = self._warnings(site)

    def kill(self) -> None:
        self._host.kill()
        self._host.wait()

    def _give(self) -> None:
        """Adds genomes to the open generation while few are left."""
        if self._given - self._project.archived() < AHEAD:
            names = [*GENOMES][self._given : self._given + AHEAD]
            self._project.add_genomes({name: GENOMES[name] for name in names})
            self._given += len(names)

    def _wait(self, condition: Callable[[], bool]) -> None:
        def is_over() -> bool:
            self._give()
            return condition() or self._host.poll() is not None

        self._project.wait_until(is_over, 60, every_s=0.05)
        assert self._host.poll() is None, self._project.wait_for_end(self._host)

    def _completed(self) -> Counter[str]:
        lines = list(self._log())
        site_of = {line["attempt"]: line["worker"][:-2] for line in lines if line.get("fact") == "attempt_issued"}
        ended = [line["attempt"] for line in lines if line.get("outcome") == "completed"]
        return Counter(site_of[attempt] for attempt in ended)

    def _warnings(self, site: str) -> int:
        texts = [line["text"] for line in self._log() if line.get("level") == "warning"]
        return sum(text.startswith(f"site {site}: ") and text.endswith("are unknown") for text in texts)

    def _log(self) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            for line in (self._project.root / "state/log/pipeline.jsonl").read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)


def test_every_genome_is_counted_once_whatever_is_killed(
    project: FarmProject, networks: Networks, cluster: DaskClusterProcesses, tmp_path: Path
) -> None:
    """A partition, a killed worker process, a killed scheduler and a killed host; the run goes on after each."""
    configure(project, cluster.place, tmp_path / "sites")
    run = Run(project)

    run.play_on(*SITES)
    networks.cut_off("bob")
    run.wait_until_unknown("bob")
    run.play_on("alice", "carol")
    networks.reconnect("bob")
    run.play_on("bob")
    cluster.workers["alice"].kill_worker()
    run.wait_until_unknown("alice")
    run.play_on(*SITES)
    cluster.kill_scheduler()
    run.wait_until_unknown("carol")
    cluster.start_scheduler()
    run.play_on(*SITES)
    run.kill()
    code, output = project.run(within_s=90)

    assert code == 0, output
    project.assert_counted_once()
    assert {row["worker"] for row in project.attempts()} == {f"{name}-0" for name in SITES}
    assert project.run("verify")[0] == 0
