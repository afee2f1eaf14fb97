"""A farm that plays on the workers of a Dask cluster, each with one agent, for end-to-end tests."""

import json
from pathlib import Path

from pipeline.core.facts import AttemptClaimed, AttemptIssued, Fact
from tests.harness.dask_cluster import DaskClusterProcesses
from tests.harness.edited_project import EditedProject


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

    def begun_on(self, site: str) -> int:
        """How many games the host has seen begin on a site."""
        issued = {fact.attempt: fact.worker for fact in self._facts() if isinstance(fact, AttemptIssued)}
        claimed = [fact.attempt for fact in self._facts() if isinstance(fact, AttemptClaimed)]
        return [issued[attempt] for attempt in claimed].count(f"{site}-0")

    def warnings(self) -> list[str]:
        """What the host has warned of."""
        lines = (self.root / "state/log/pipeline.jsonl").read_text().splitlines(keepends=True)
        known = [json.loads(line) for line in lines if line.endswith("\n")]
        return [line["text"] for line in known if line.get("level") == "warning"]
