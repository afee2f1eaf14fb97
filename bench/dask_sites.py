"""Sites of a Dask cluster on this computer: the rate of short games over several, and what a request costs.

Each site is a Dask worker of its own process, with one agent. Ideally, agents play without a pause.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.apart import ROOT, apart
from bench.farm import Farm, measured
from bench.games import genome, genomes
from bench.rounds import ROUNDS, figure, in_turn, note, once
from bench.table import Row
from bench.targets import SITE_REQUEST_MS, SITES_OF_IDEAL
from inbox_agent.protocol.layout import HostRecord, StartRecord
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EnvironmentTable
from pipeline.config import load_config
from pipeline.core.limits import Limits
from pipeline.core.requests import ScanRequest, ShareAction
from pipeline.host.host import Host
from pipeline.machines.sites.interface import SitesHost
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.share_client import ExecuteRequest, ShareClient

if TYPE_CHECKING:
    from distributed import Client

GAME_S = 0.1
SITES = (2, 4, 8)
REQUESTS = 200
WORKER = "dask-0-0"
_CONFIG = """
[generation]
trials_per_genome = 1
[evaluator]
python = "bench.games:play"
files = ["bench/__init__.py", "bench/games.py"]
[local]
workers = 0
"""


def rows(place: Path, *, quick: bool) -> list[Row]:
    """The rate of each number of sites, and the time of a request beside that to a share on this computer's disk."""
    each, rounds = (20, 1) if quick else (60, ROUNDS)
    rates = in_turn({f"{n} sites": partial(apart, rate, place, count=each * n, sites=n) for n in SITES}, rounds)
    cost = once("a request to a site", partial(apart, request, place))
    found = [
        Row(
            what=f"100 ms games over {n} Dask sites",
            figure=figure(ours, "rate"),
            unit="/s",
            reference=figure(ours, "ideal"),
            against="ideal",
            target=SITES_OF_IDEAL if n == SITES[0] else None,
            note=note(ours),
            remark="all sites, agents and the host share the processors of this computer",
        )
        for n, ours in zip(SITES, rates.values(), strict=True)
    ]
    for what in ("scan", "publish"):
        found.append(
            Row(
                what=f"a request to a Dask site: {what}",
                figure=figure(cost, f"{what}_ms"),
                unit="ms",
                reference=figure(cost, f"local_{what}_ms"),
                against="local share",
                note=note(cost),
            )
        )
        name = f"what the way to a Dask site adds: {what}"
        added = figure(cost, f"added_{what}_ms")
        found.append(Row(what=name, figure=added, unit="ms", target=SITE_REQUEST_MS, note=note(cost)))
    return found


def rate(folder: str, count: int, sites: int) -> dict[str, float]:
    """Games per second, from the first result to the last."""
    from pipeline.contrib.dask import DaskSites

    place = Path(folder)
    root = place / "farm"
    root.mkdir()
    (root / "pipeline.toml").write_text(_CONFIG)
    with _cluster(place, sites) as client:
        on_sites = DaskSites(client, sites_min=sites, folder=str(place / "sites"))
        with Host(root, load_config(root, check=False), ROOT, on_sites) as host:
            farm = Farm(host)
            while True:
                farm.begin(genomes("nap 0.02", 10 * sites))
                farm.play()
                if len({row["pid"] for row in farm.rows()}) == sites:
                    return {"rate": measured(farm, count, f"nap {GAME_S}")["rate"], "ideal": sites / GAME_S}


def request(folder: str) -> dict[str, float]:
    """Milliseconds of a scan and of a publication, to a site and to a share of this computer; no agent plays."""
    from pipeline.contrib.dask import DaskSites

    place, room = Path(folder), ArtifactRoom(Limits())
    (place / "local").mkdir()
    near = ShareClient(
        WORKER,
        "bench",
        LocalFiles(place / "local"),
        place / "incoming" / "near",
        lambda _sha256, name: _content(name),
        room,
    )
    host = SitesHost(
        farm_id="bench",
        limits=Limits(),
        environment=EnvironmentTable(),
        hidden_variables=(),
        taken_names=frozenset(),
        genome=lambda _sha256, name: _content(name),
        archive=Path,
        incoming=lambda worker: place / "incoming" / worker,
        room=room,
        bells=_Deaf(),
    )
    with _cluster(place, 1) as client:
        opened = DaskSites(client, folder=str(place / "sites")).open(host)
        try:
            far, local = _times(opened.sites()[0].execute), _times(near.execute)
        finally:
            opened.close()
    return {
        **far,
        **{f"local_{what}": value for what, value in local.items()},
        **{f"added_{what}": far[what] - local[what] for what in far},
    }


def _times(execute: ExecuteRequest) -> dict[str, float]:
    """The medians of an empty share."""
    execute(ShareAction(WORKER, host=HostRecord(farm="bench", worker=WORKER, epoch=1)))
    scans, publications = list[float](), list[float]()
    for number in range(1, REQUESTS + 1):
        start = _start(number)
        scans.append(_ms(lambda: execute(ScanRequest(worker=WORKER, full=True))))
        publications.append(_ms(partial(execute, ShareAction(WORKER, publish=(start,)))))
        execute(ShareAction(WORKER, remove=(start.attempt,)))
    return {"scan_ms": median(scans), "publish_ms": median(publications)}


def _ms(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun_s)


def _content(name: str) -> bytes:
    return genome("noop 0", int(name))


def _start(number: int) -> StartRecord:
    content = _content(str(number))
    return StartRecord(
        farm="bench",
        worker=WORKER,
        epoch=1,
        publication=number,
        attempt=f"g0001-0001-t1-a{number}-aaaaaaaaaaaa",
        trial=1,
        seed=1,
        time_limit_s=60.0,
        genome_name=str(number),
        genome_suffix="",
        genome_bytes=len(content),
        genome_sha256=hashlib.sha256(content).hexdigest(),
    )


class _Deaf:
    """Hears no bell."""

    def notify(self, worker: str) -> None:
        """A result has appeared."""

    def request_sweep(self) -> None:
        """A machine has changed."""


@contextmanager
def _cluster(place: Path, workers: int) -> "Iterator[Client]":
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(place / "scratch"),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
