"""Sites that appear in a cluster while a farm is open: which are reported, and what is said of the others."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.machines.sites import site_search, site_server
from pipeline.machines.sites.messages import RunAgent, decode_request
from pipeline.machines.sites.site_search import FoundSite
from tests.harness.searched_cluster import SearchedCluster
from tests.harness.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchedCluster]:
    monkeypatch.setattr(site_search, "SEARCH_INTERVAL_S", 0.01)
    cluster = SearchedCluster(tmp_path)
    cluster.search.start()
    yield cluster
    cluster.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_site_is_reported_when_it_is_connected(cluster: SearchedCluster) -> None:
    """Not before, so that nothing waits for it; and until the host uses it."""
    bob = cluster.add("bob")
    bob.link.problem = "no connection"
    cluster.look_again()
    assert cluster.appeared() == []

    bob.link.problem = ""

    assert eventually(lambda: cluster.appeared() == ["bob"])
    assert cluster.appeared() == ["bob"]
    cluster.use()
    used = bob.site
    cluster.look_again()
    assert bob.site is used  # not connected once more


def test_site_with_the_name_of_another_worker_is_not_used(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once. When that worker has left, the site is used."""
    cluster.taken = ["Bob-0"]
    cluster.add("bob")
    cluster.look_again()
    assert warnings(caplog) == [
        "site bob: it is not used: there is a worker Bob-0 already; give the Dask worker another name"
    ]

    cluster.taken = []

    assert eventually(lambda: cluster.appeared() == ["bob"])


def test_name_that_is_taken_while_a_site_is_connected_is_not_used_twice(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker with a description may join at any time."""
    cluster.add("bob")
    assert eventually(lambda: cluster.appeared() == ["bob"])

    cluster.taken = ["bob-0"]

    assert cluster.appeared() == []
    cluster.look_again()
    assert warnings(caplog) == [
        "site bob: it is not used: there is a worker bob-0 already; give the Dask worker another name"
    ]


def test_site_with_another_version_is_used_when_it_is_corrected(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it is named once, however often it is asked."""
    monkeypatch.setattr("pipeline.machines.sites.remote_site.RETRY_MAX_S", 0.01)
    with monkeypatch.context() as other_version:
        other_version.setattr(site_server, "agent_version", lambda: "0.0.1")
        bob = cluster.add("bob")
        assert eventually(lambda: len(bob.link.messages) > 3 or cluster.appeared())
        assert cluster.appeared() == []
    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith("site bob: genome-pipeline 0.0.1 is installed there, the host has ")
    assert warnings(caplog)[0].endswith("; install the same version; it is not used yet")

    assert eventually(lambda: cluster.appeared() == ["bob"])


def test_member_without_a_name_is_named_once(cluster: SearchedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """It would be another site after each restart."""
    problem = "its Dask worker has no name of its own; start it with --name"
    cluster.members["tcp://10.0.0.1:7"] = FoundSite("tcp://10.0.0.1:7", cluster.add("bob").limit, problem)  # type: ignore[arg-type]
    assert eventually(lambda: cluster.appeared() == ["bob"])
    cluster.look_again()

    assert warnings(caplog) == [f"site tcp://10.0.0.1:7: it is not used: {problem}"]


@pytest.mark.parametrize(("limit", "value"), [("SITES_MAX", 1), ("SITE_WORKERS_MAX", 3)])
def test_sites_beyond_the_limit_are_not_used(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """That is said once, however many they are, and nothing ends."""
    cluster.add("bob", "bob-0", "bob-1")
    assert eventually(lambda: cluster.appeared() == ["bob"])
    cluster.use()
    monkeypatch.setattr(site_search, limit, value)
    for name in ("carol", "dave"):
        cluster.add(name, f"{name}-0", f"{name}-1")

    cluster.look_again()

    assert len(warnings(caplog)) == 1
    assert warnings(caplog)[0].startswith("site carol: it is not used: a farm has at most 256 sites with 10000 workers")


def test_site_that_vanishes_before_it_is_connected_is_forgotten(cluster: SearchedCluster) -> None:
    """When it is back, it is looked at anew."""
    bob = cluster.add("bob")
    bob.link.problem = "no connection"
    cluster.look_again()
    member = cluster.members.pop("bob")
    first = bob.site
    cluster.look_again()
    bob.link.problem, cluster.members["bob"] = "", member

    assert eventually(lambda: cluster.appeared() == ["bob"])
    assert bob.site is not first


def test_cluster_that_does_not_answer_is_asked_again(
    cluster: SearchedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; sites that are used do not need it."""
    cluster.problem = "no answer in 5 s"
    cluster.add("bob")
    cluster.look_again()
    assert warnings(caplog) == ["sites that appear are not noticed now: the cluster: no answer in 5 s"]

    cluster.problem = ""

    assert eventually(lambda: cluster.appeared() == ["bob"])


def test_search_goes_on_after_a_defect(cluster: SearchedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, with where it is."""
    cluster.problem = KeyError("nthreads")
    cluster.add("bob")
    cluster.look_again()
    assert warnings(caplog) == ["sites that appear are not noticed now: a defect of this program"]
    assert "KeyError: 'nthreads'" in caplog.text

    cluster.problem = ""

    assert eventually(lambda: cluster.appeared() == ["bob"])


def test_search_that_ends_while_a_site_is_opened_leaves_no_thread_and_no_agent(cluster: SearchedCluster) -> None:
    """The site has done what it was asked, and its answer comes too late."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def late(answer: bytes) -> bytes:
        is_asked.set()
        may_answer.wait()
        return answer

    bob = cluster.add("bob")
    bob.link.altered = late
    assert eventually(lambda: cluster.appeared() or is_asked.is_set())
    cluster.end_search()
    may_answer.set()

    assert eventually(lambda: not {"site-search", "site-bob"} & {thread.name for thread in threading.enumerate()})
    assert not any(isinstance(decode_request(message), RunAgent) for message in bob.link.messages)
