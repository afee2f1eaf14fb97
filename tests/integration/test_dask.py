"""Sites on a real Dask cluster: TLS, the evaluator's files, artifacts, what commands show, and what is refused.

Also a cluster that grows and shrinks while a generation is played on it.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed.security import Security

from pipeline import Evaluator, open_farm
from pipeline.cli import main
from pipeline.config import load_config
from pipeline.contrib.dask import DaskSites
from pipeline.core.facts import EpochRaised, GenomeCharged, RecoveryStarted, WorkerJoined, WorkerLeft
from pipeline.core.worker_requests import REJOINED, SITE_GONE
from pipeline.diagnosis.sites import check_sites
from pipeline.errors import ConfigError, HostError
from pipeline.machines.sites import first_sites
from pipeline.machines.sites.dask_cluster import DaskCluster
from pipeline.machines.sites.dask_sites import scheduler_address, worker_prefix
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.paths import ProjectPaths
from tests.harness.certificates import Authority, make_authority
from tests.harness.dask_cluster import DaskClusterProcesses, dask_cluster
from tests.harness.site_farm import SiteFarm
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

GAME = """

def play(genome, trial):
    (trial.scratch / "artifacts" / "seen.txt").write_text("edition {edition}")
    return float(genome.read_text()) + {edition}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


def options(authority: Authority) -> list[str]:
    """What a scheduler and its workers are started with."""
    files = authority.files("127.0.0.1")
    return [
        "--tls-ca-file",
        str(authority.certificate),
        "--tls-cert",
        str(files.certificate),
        "--tls-key",
        str(files.key),
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DaskClusterProcesses]:
    """Two workers with TLS, one of which was given no name."""
    with dask_cluster(tmp_path_factory.mktemp("cluster"), "alice", options=options(authority)) as cluster:
        yield cluster


def security(authority: Authority) -> Security:
    files = authority.files("127.0.0.1")
    return Security(  # type: ignore[no-untyped-call]
        tls_ca_file=str(authority.certificate),
        tls_client_cert=str(files.certificate),
        tls_client_key=str(files.key),
        require_encryption=True,
    )


def test_program_plays_on_sites(
    tmp_path: Path, cluster: DaskClusterProcesses, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    """Over TLS. An edited evaluator is brought to the site with the next generation."""
    root = tmp_path / "farm"
    root.mkdir()
    (root / "my_game.py").write_text(GAME.format(edition=1))
    sites = DaskSites(
        f"dask+tls://{cluster.place}", agents_per_site=2, folder=str(tmp_path / "sites"), security=security(authority)
    )
    with open_farm(root, evaluator=Evaluator(python="my_game:play"), sites=sites, trials_per_genome=1) as farm:
        assert [worker.name for worker in farm.workers] == ["alice-0", "alice-1"]
        scores = farm.evaluate({f"{n}.txt": str(n).encode() for n in range(4)})
        assert {name: score.value for name, score in scores.items()} == {f"{n}.txt": n + 1.0 for n in range(4)}
        (root / "my_game.py").write_text(GAME.format(edition=2))
        edited = farm.evaluate({"0.txt": b"0"})

    assert edited["0.txt"].value == 2.0
    assert edited["0.txt"].files is not None
    assert [path.read_text() for path in edited["0.txt"].files.rglob("seen.txt")] == ["edition 2"]
    assert main.run_commands(["status", "--gen", "1", "--root", str(root)]) == 0
    assert "alice-0" in capfd.readouterr().out
    assert main.run_commands(["verify", "--root", str(root)]) == 0


def test_scheduler_refuses_a_host_without_a_certificate(
    tmp_path: Path, cluster: DaskClusterProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 1.0)
    sites = DaskSites(f"dask://{cluster.place}")

    with (
        pytest.raises(
            HostError, match=f"no Dask scheduler at tcp://{cluster.place} in 1 s: .*or with TLS; start"
        ) as error,
        open_farm(tmp_path / "farm", evaluator=Evaluator(python="my_game:play"), sites=sites),
    ):
        pass
    assert "\n" not in str(error.value)


def test_doctor_names_what_is_wrong_with_sites(tmp_path: Path) -> None:
    """No scheduler, a worker without a name, too few sites that can be used, and what was measured of a good one."""
    configuration = (
        '[evaluator]\npython = "my_game:play"\n'
        '[sites]\ncluster = "dask://{place}"\nfolder = "{folder}"\nsites_min = 2\n'
    )
    (tmp_path / "my_game.py").write_text(GAME.format(edition=1))
    toml = tmp_path / "pipeline.toml"
    with dask_cluster(tmp_path / "cluster", "alice", "") as cluster:
        toml.write_text(configuration.format(place=cluster.place, folder=tmp_path / "sites"))
        found = doctor(tmp_path)
        while "Dask worker tcp://" not in found or "site alice" not in found:
            found = doctor(tmp_path)
        place = cluster.place
    gone = doctor(tmp_path)

    assert "site alice: on " in found
    assert "it has no name of its own; start it with `dask worker --name NAME`" in found
    assert "[sites]: 1 of 2 sites can be used; start more Dask workers, or lower `sites_min`" in found
    assert f"[sites]: no Dask scheduler at tcp://{place}: " in gone


def test_site_without_this_program_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its Dask worker does not count. Doctor and the run say what to install there."""
    monkeypatch.setattr(first_sites, "FIND_LIMIT_S", 5.0)
    (tmp_path / "no_program.py").write_text(NO_PROGRAM)
    (tmp_path / "my_game.py").write_text(GAME.format(edition=1))
    said = "site dora: genome-pipeline is not installed there; install genome-pipeline[dask] "
    with dask_cluster(tmp_path / "cluster") as cluster:
        configuration = f'[evaluator]\npython = "my_game:play"\n[sites]\ncluster = "dask://{cluster.place}"\n'
        (tmp_path / "pipeline.toml").write_text(configuration)
        cluster.start_worker("dora", options=["--preload", str(tmp_path / "no_program.py")])
        assert eventually(lambda: said in doctor(tmp_path))
        with (
            pytest.raises(HostError, match=f"0 of 1 sites can be used after 5 s: {re.escape(said)}"),
            open_farm(tmp_path),
        ):
            pass

    assert any(text.startswith(said) and text.endswith("it is not used yet") for text in caplog.messages)


@pytest.mark.skipif(sys.platform != "linux", reason="where the descriptors of a process can be counted")
def test_closed_cluster_keeps_no_descriptor() -> None:
    """`pipeline doctor` may be asked again and again by one process."""
    before = len(os.listdir("/proc/self/fd"))
    security = Security()  # type: ignore[no-untyped-call]
    clusters = [DaskCluster("tcp://127.0.0.1:1", security) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) > before
    for cluster in clusters:
        cluster.close()

    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
    with pytest.raises(SiteUnavailable, match="ended"):
        clusters[0].workers()
    clusters[0].forget("tcp://127.0.0.1:1")  # a site that is lost meanwhile has no connection either


def doctor(root: Path) -> str:
    return "\n".join(map(str, check_sites(load_config(root), ProjectPaths(root))))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("dask://scheduler:8786", "tcp://scheduler:8786"),
        ("dask+tls://10.0.0.1:8786", "tls://10.0.0.1:8786"),
        ("tcp://[::1]:8786", "tcp://[::1]:8786"),
    ],
)
def test_address_of_a_scheduler(url: str, address: str) -> None:
    """As Dask writes it."""
    assert scheduler_address(url) == address


@pytest.mark.parametrize(
    "url", ["scheduler:8786", "dask://scheduler", "http://scheduler:8786", "dask://s:1/x", "dask://s:x"]
)
def test_address_that_is_none_is_refused(url: str) -> None:
    """In one line that says what is expected."""
    with pytest.raises(ConfigError, match=r"expected dask://HOST:PORT of a Dask scheduler, or dask\+tls://HOST:PORT"):
        scheduler_address(url)


def test_workers_of_different_sites_have_different_names() -> None:
    """Dask allows any name."""
    names = ["0", "alice", "alice.b", "alice-b", "alice/b", "_x", "x", "tcp", "é", "x" * 80, "x" * 81]

    prefixes = [worker_prefix(name) for name in names]

    assert prefixes[:2] == ["dask-0", "alice"]
    assert len(set(prefixes)) == len(names)
    assert max(map(len, prefixes)) <= 58


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"agents_per_site": 0}, "agents_per_site=0: from 1 to 512"),
        ({"sites_min": 0}, "sites_min and queue_depth are at least 1"),
        ({"sites_min": 257}, "sites_min=257: a farm has at most 256 sites"),
        ({"folder": "here"}, "expected an absolute path"),
        ({"cluster": 7}, "expected a Dask client, or the address of a scheduler"),
    ],
)
def test_argument_that_cannot_be_used_is_named(arguments: dict[str, object], problem: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError, match=problem):
        DaskSites(**{"cluster": "dask://scheduler:8786", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evaluator", "problem"),
    [
        (Evaluator(python="my_game:play", version="3"), "has `version`, and so no files to bring to sites"),
        (None, r"\[evaluator\] does not say what the workers on sites play"),
    ],
)
def test_evaluator_that_cannot_be_sent_is_refused(tmp_path: Path, evaluator: Evaluator | None, problem: str) -> None:
    """Before the cluster is looked for."""
    with (
        pytest.raises(ConfigError, match=problem),
        open_farm(tmp_path, evaluator=evaluator, sites=DaskSites("dask://127.0.0.1:1")),
    ):
        pass


# ---------------------------------------------------------------------------------- a cluster that grows and shrinks

GROWTH_LIMIT_S = 480  #: several waits for processes, on two busy cores

NO_PROGRAM = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pipeline":
            raise ModuleNotFoundError("No module named 'pipeline'")


sys.meta_path.insert(0, Missing())
"""

NO_DISK = """
from pipeline.machines.sites.site_server import SiteServer


def refuse(self, request):
    raise OSError("its disk is full")


SiteServer._open = refuse
"""

OTHER_VERSION = """
from pipeline.machines.sites import site_server

site_server.agent_version = lambda: "0.0.1"
"""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[SiteFarm]:
    """A project that is played on the Dask worker `alice` when it begins."""
    with dask_cluster(tmp_path / "cluster", "alice") as cluster:
        farm = SiteFarm(tmp_path / "farm", cluster)
        yield farm
        farm.close()


@pytest.mark.timeout(GROWTH_LIMIT_S)
def test_dask_worker_that_is_added_plays_a_part_of_the_open_generation(farm: SiteFarm) -> None:
    """It gets the evaluator as the others do. When its process is killed, the next one of its name is the same site."""
    farm.add_genomes(farm.gated(6))
    host = farm.start()
    farm.wait_until_begun("alice")
    bob = farm.cluster.start_worker("bob", nanny=True)
    farm.wait_until_begun("bob")
    bob.kill_worker()
    farm.wait_until_begun("bob", games=2)
    farm.open_gate()
    code, text = farm.wait_for_end(host)

    assert code == 0, text
    farm.assert_counted_once()
    assert farm.facts(GenomeCharged) == []
    assert farm.played_by().keys() == {"alice-0", "bob-0"}
    joined = [WorkerJoined(worker="alice-0", site="alice"), WorkerJoined(worker="bob-0", site="bob")]
    assert farm.facts(WorkerJoined) == joined
    assert farm.facts(WorkerLeft) == []
    (deployment,) = json.loads((farm.root / "state/deployments/deployments.json").read_text())
    assert deployment["workers"] == ["alice-0", "bob-0"]
    for command in (["verify"], ["status", "--gen", "1"], ["worker", "drain", "bob-0"]):
        code, text = farm.run(*command)
        assert code == 0, text
    assert "bob-0" in farm.run("status", "--gen", "1")[1]


@pytest.mark.timeout(GROWTH_LIMIT_S)
def test_dask_worker_with_another_version_is_refused_and_the_farm_plays_on(farm: SiteFarm, tmp_path: Path) -> None:
    """It is said once, in words that say what to do; others that appear join meanwhile."""
    (tmp_path / "other_version.py").write_text(OTHER_VERSION)
    farm.add_genomes(farm.gated(6))
    host = farm.start()
    farm.wait_until_begun("alice")
    farm.cluster.start_worker("bob", options=["--preload", str(tmp_path / "other_version.py")])
    farm.wait_for(lambda: farm.warnings("site bob: "))
    farm.cluster.start_worker("carol")
    farm.wait_until_begun("carol")
    farm.open_gate()
    code, text = farm.wait_for_end(host)

    assert code == 0, text
    farm.assert_counted_once()
    (warning,) = farm.warnings("site bob: genome-pipeline 0.0.1 is installed there, the host has ")
    assert warning.endswith("; install the same version; it is not used yet")
    assert {row["worker"] for row in farm.attempts()} == {"alice-0", "carol-0"}
    assert farm.facts(RecoveryStarted) == []


@pytest.mark.timeout(GROWTH_LIMIT_S)
def test_dask_worker_that_is_asked_to_end_is_warned_of_once(farm: SiteFarm) -> None:
    """While it ends, and until the next one of its name has started, there are several problems."""
    bob = farm.cluster.start_worker("bob")
    farm.add_genomes(farm.gated(6))
    host = farm.start()
    farm.wait_until_begun("alice", "bob")
    bob.terminate()
    farm.wait_until_begun("bob", games=2)
    farm.open_gate()
    code, text = farm.wait_for_end(host)

    assert code == 0, text
    lost, back = farm.warnings("site bob: ")
    assert lost.endswith("; its workers are unknown")
    assert back == "site bob: it answers again"


@pytest.mark.timeout(GROWTH_LIMIT_S)
def test_site_that_is_away_when_a_host_starts_joins_when_it_is_back(farm: SiteFarm) -> None:
    """What it held is played by others; its share may be another one by then, so an epoch begins there."""
    bob = farm.cluster.start_worker("bob")
    farm.add_genomes(farm.gated(8))
    host = farm.start()
    farm.wait_until_begun("alice", "bob")
    bob.close()
    farm.kill(host)
    host = farm.start()
    farm.wait_for(lambda: farm.facts(WorkerLeft))
    assert "bob-0: " not in farm.run("status")[1]
    assert f": {SITE_GONE}; it gets no more work." in farm.run("explain", "bob-0")[1]
    farm.cluster.start_worker("bob")
    farm.wait_until_begun("bob", games=2)
    farm.open_gate()
    code, text = farm.wait_for_end(host)

    assert code == 0, text
    farm.assert_counted_once()
    assert farm.facts(WorkerLeft) == [WorkerLeft(worker="bob-0", reason=SITE_GONE)]
    assert EpochRaised(worker="bob-0", epoch=2, reason=REJOINED) in farm.facts(EpochRaised)
    assert farm.run("verify")[0] == 0


@pytest.mark.timeout(GROWTH_LIMIT_S)
def test_all_commands_say_which_workers_on_sites_are_unknown(farm: SiteFarm, tmp_path: Path) -> None:
    """One was killed while it played. Another one could not be opened yet, so it has no workers."""
    (tmp_path / "no_disk.py").write_text(NO_DISK)
    farm.cluster.start_worker("bob", options=["--preload", str(tmp_path / "no_disk.py")])
    carol = farm.cluster.start_worker("carol")
    farm.wait_for(lambda: all(f"site {name}: " in doctor(farm.root) for name in ("alice", "bob", "carol")))
    farm.add_genomes(farm.gated(4))
    host = farm.start()
    farm.wait_until_begun("alice", "carol")
    carol.close()
    status = ""

    def carol_is_unknown() -> bool:
        nonlocal status
        status = farm.run("status")[1]
        return "carol-0: unknown, epoch 1" in status

    farm.wait_for(carol_is_unknown)
    top, explained = farm.run("top", "--once")[1], farm.run("explain", "carol-0")[1]
    farm.open_gate()
    code, text = farm.wait_for_end(host)

    assert code == 0, text
    assert farm.warnings("site bob: its disk is full")
    assert "trial 1: was played on carol-0, which is unknown, as " in status
    assert "carol-0 is unknown: site carol: " in top
    assert explained.startswith("carol-0 is unknown: site carol: ")
    assert "bob-0" not in status + top
    status, listed = farm.run("status")[1], farm.run("worker", "list")[1]
    assert "carol-0: ready" not in status
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        [f"{name}-0", "site", name] for name in ("alice", "carol")
    ]
