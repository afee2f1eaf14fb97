"""The sites that a farm opens with: which count, how long it waits for them, and what it says."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import HostError
from pipeline.machines.sites import first_sites, site_server
from pipeline.machines.sites.messages import Refused, encode
from pipeline.machines.sites.site_search import FoundSite
from tests.harness.searched_cluster import SearchedCluster
from tests.harness.waiting import eventually

pytestmark = pytest.mark.processes

OTHER_VERSION = encode(Refused(reason="genome-pipeline 0.0.1 is installed there", is_final=True))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchedCluster]:
    monkeypatch.setattr(first_sites, "_LOOK_INTERVAL_S", 0.01)
    cluster = SearchedCluster(tmp_path, "bob")
    yield cluster
    cluster.close()


def opened(cluster: SearchedCluster, sites_min: int = 1, *taken: str) -> list[str]:
    """The sites that a farm opens with."""
    cluster.known = first_sites.first_sites(cluster.search, "tcp://there:1", sites_min, taken)
    return sorted(site.name for site in cluster.known)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_farm_opens_with_all_sites_that_are_there(cluster: SearchedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """Also with more than it needs; nothing is said."""
    for name in ("alice", "bob", "carol"):
        cluster.add(name)

    assert opened(cluster, 2) == ["alice", "bob", "carol"]
    assert all(site.notifies and site.is_used for site in cluster.known)
    assert warnings(caplog) == []


def test_site_that_refuses_does_not_count(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for it ends, and says why and what to do; at once there is a warning."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 2.0)
    monkeypatch.setattr(site_server, "agent_version", lambda: "0.0.1")
    cluster.add("bob")

    with pytest.raises(HostError) as error:
        opened(cluster)

    text = str(error.value)
    assert text.startswith("0 of 1 sites can be used after 2 s: site bob: genome-pipeline 0.0.1 is installed there, ")
    assert text.endswith("; install the same version; or start more Dask workers")
    refused, waits = warnings(caplog)
    assert refused.endswith("; install the same version; it is not used yet")
    assert waits == "waits up to 2 s for sites: 0 of 1 are there (sites_min = 1)"


def test_site_that_refuses_joins_once_it_is_corrected(
    cluster: SearchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that appears later."""
    monkeypatch.setattr("pipeline.machines.sites.remote_site.RETRY_MAX_S", 0.01)
    bob = cluster.add("bob")
    with monkeypatch.context() as other_version:
        other_version.setattr(bob.server, "answer", lambda _message: OTHER_VERSION)
        cluster.add("alice")
        assert opened(cluster) == ["alice"]

    assert eventually(lambda: cluster.appeared() == ["bob"])


def test_new_site_that_does_not_answer_joins_when_it_does(
    cluster: SearchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No share of it can hold a result."""
    monkeypatch.setattr("pipeline.machines.sites.remote_site.RETRY_MAX_S", 0.01)
    carol = cluster.add("carol")
    carol.link.problem = "no answer in 20 s"
    cluster.add("alice")
    assert opened(cluster) == ["alice"]

    carol.link.problem = ""

    assert eventually(lambda: cluster.appeared() == ["carol"])


def test_known_site_that_does_not_answer_is_part_of_the_farm_and_does_not_count(
    cluster: SearchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shares may hold results."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 2.0)
    cluster.add("bob").link.problem = "no answer in 20 s"
    with pytest.raises(HostError, match=r"0 of 1 sites can be used after 2 s: site bob: no answer in 20 s; or start"):
        opened(cluster)

    cluster.add("alice")

    assert opened(cluster) == ["alice", "bob"]


def test_farm_waits_for_sites_that_start(cluster: SearchedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """It says at once how many are there, and for how long it waits."""
    cluster.add("alice")
    cluster.before_look = lambda: warnings(caplog) and "bob" not in cluster.members and cluster.add("bob")

    assert opened(cluster, 2) == ["alice", "bob"]
    assert warnings(caplog) == ["waits up to 60 s for sites: 1 of 2 are there (sites_min = 2)"]


def test_too_few_sites_end_the_wait(cluster: SearchedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 2.0)
    cluster.add("alice")

    text = "1 of 2 sites can be used after 2 s; start more Dask workers, or lower `sites_min`"
    with pytest.raises(HostError, match=text):
        opened(cluster, 2)


def test_cluster_that_does_not_answer_ends_the_wait(cluster: SearchedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 2.0)
    cluster.problem = "no connection: nothing listens there"

    with pytest.raises(HostError) as error:
        opened(cluster)

    assert str(error.value) == (
        "no Dask scheduler at tcp://there:1 in 2 s: no connection: nothing listens there; start `dask scheduler` "
        "there, or correct `cluster`"
    )


def test_established_site_stays_when_names_differ_in_case_only(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """The clash is named at the start."""
    cluster.add("BOB", "BOB-0")
    cluster.add("bob")

    assert opened(cluster) == ["bob"]
    text = "site BOB: it is not used: there is a worker bob-0 already; give the Dask worker another name"
    assert warnings(caplog) == [text]


def test_dask_worker_without_a_name_is_named_at_the_start(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A short run ends before anything is looked for again."""
    alice = cluster.add("alice")
    cluster.members["tcp://10.0.0.1:7"] = FoundSite("tcp://10.0.0.1:7", lambda: alice.site, "it has no name")

    assert opened(cluster) == ["alice"]
    assert warnings(caplog) == ["site tcp://10.0.0.1:7: it is not used: it has no name"]
