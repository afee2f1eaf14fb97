"""A farm that plays on the workers of a Dask cluster, each with one agent, for end-to-end tests."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline.core.facts import AttemptClaimed, AttemptIssued, Fact
from tests.harness.dask_cluster import DaskClusterProcesses
from tests.harness.edited_project import EditedProject
from tests.harness.waiting import PATIENCE

GROWTH_S = (
    90.0 * PATIENCE
)  #: for processes to start and to import Dask, and an agent to load the game, on two busy cores


class SiteFarm(EditedProject):
    """A project whose sites are the workers of a cluster."""

    def __init__(self, root: Path, cluster: DaskClusterProcesses) -> None:
        super().__init__(root)
        self.cluster = cluster
        sites = f"[sites]\ncluster = 'dask://{cluster.place}'\nfolder = '{root.parent / 'sites'}'\n"
        self.configure(workers=0, extra=sites, attempts_max=10, losses_per_trial_max=20)

    def facts(self, kind: type[Fact]) -> list[Fact]:
        """The facts of one kind."""
        return [fact for fact in self._facts() if isinstance(fact, kind)]

    def wait_until_begun(self, *sites: str, games: int = 1) -> None:
        """Waits until the host has seen so many games begin on each of these sites."""
        enough = Counter({f"{site}-0": games for site in sites})
        self.wait_for(lambda: self._begun() >= enough)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Waits for what needs new processes."""
        self.wait_until(condition, GROWTH_S, every_s=0.2)

    def _begun(self) -> Counter[str]:
        """Worker -> how many of its games the host has seen begin."""
        facts = self._facts()
        issued = {fact.attempt: fact.worker for fact in facts if isinstance(fact, AttemptIssued)}
        return Counter(issued[fact.attempt] for fact in facts if isinstance(fact, AttemptClaimed))

    def warnings(self, of: str) -> list[str]:
        """What the host has warned of in lines that begin so."""
        lines = (self.root / "state/log/pipeline.jsonl").read_text().splitlines(keepends=True)
        known = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line["text"] for line in known if line.get("level") == "warning" and line["text"].startswith(of)]
