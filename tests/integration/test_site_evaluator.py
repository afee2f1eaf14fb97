"""The deployment to the workers on sites: whom it names, and when the files are packed again."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.core.deployment import Deployments
from pipeline.host.evaluator_packing import SiteEvaluator
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore


class SiteProject:
    """A project that is played on sites."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, DeploymentStore(ProjectPaths(root))
        (root / "pipeline.toml").write_text('[evaluator]\npython = "game:play"\n[sites]\ncluster = "dask://there:1"\n')
        (root / "game.py").write_text("EDITION = 1\n")

    def started(self, *workers: str) -> SiteEvaluator:
        """The evaluator of a host that has found these workers on sites."""
        return SiteEvaluator(self.root, load_config(self.root, check=False), self.root, workers)

    def named(self) -> list[tuple[str, ...] | None]:
        """The workers of each deployment."""
        return [each.workers for each in self.store.read().known]


@pytest.fixture
def project(tmp_path: Path) -> SiteProject:
    return SiteProject(tmp_path)


def test_workers_that_join_are_named_in_the_deployment_of_the_others(project: SiteProject) -> None:
    """Nothing is packed for them, and nothing by the next generation."""
    evaluator = project.started("alice-0")
    evaluator.deploy()
    known = evaluator.admit(["bob-0", "bob-1"], project.store.read())
    evaluator.deploy()

    assert project.named() == [("alice-0", "bob-0", "bob-1")]
    assert known == project.store.read()


def test_workers_that_join_get_what_the_open_generation_is_played_with(project: SiteProject) -> None:
    """The files may have been edited, and other evaluators deployed, since it was begun."""
    evaluator = project.started("alice-0")
    evaluator.deploy()
    known = project.store.read()
    (project.root / "game.py").write_text("EDITION = 2\n")
    admitted = evaluator.admit(["bob-0"], known)

    assert [each.evaluator for each in admitted.known] == [each.evaluator for each in known.known]
    assert admitted.newest("bob-0") == admitted.newest("alice-0")
    evaluator.deploy()
    assert project.named() == [("alice-0", "bob-0"), ("alice-0", "bob-0")]


def test_next_host_packs_nothing_for_other_sites(project: SiteProject) -> None:
    """Those that are there are named beside those that are away; with none of them it is a deployment of its own."""
    project.started("alice-0", "bob-0").deploy()
    project.started("bob-0", "carol-0").deploy()
    assert project.named() == [("alice-0", "bob-0", "carol-0")]

    project.started("dave-0").deploy()

    assert project.named() == [("alice-0", "bob-0", "carol-0"), ("dave-0",)]


def test_workers_may_join_before_anything_was_deployed(project: SiteProject) -> None:
    """The first generation names them all."""
    evaluator = project.started("alice-0")

    assert evaluator.admit(["bob-0"], Deployments()) == Deployments()
    evaluator.deploy()

    assert project.named() == [("alice-0", "bob-0")]
