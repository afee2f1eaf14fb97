"""Evaluations over real SMB shares: a private Samba on loopback, agents beside its disk, the host over the network.

The floor is the same three compounds in a loop, without any farm; the baseline is a straightforward program with
`smbclient`. Round trips are counted by a proxy between client and server, not by our own counters.
"""

import contextlib
import csv
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from bench.apart import ROOT, apart
from bench.farm import Interval
from bench.games import genome, genomes
from bench.rounds import ROUNDS, figure, in_turn, note
from bench.table import Row, limit
from inbox_agent.protocol.layout import encode
from inbox_agent.protocol.local_files import LocalFiles
from pipeline import OpenFarm, Progress, open_farm
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.fakes.smb_proxy import Proxy
from tests.harness import records
from tests.harness.samba import ACCOUNT, PASSWORD, Samba, give_to_account
from tests.programs.system_programs import SAMBA, missing

RECORD, RESULT = b"s" * 520, b"r" * 480
LATENCY_MS, ROUND_TRIPS = 20.0, 3.0
IDLE_PERCENT = 10.0
SETTLE_S, WINDOW_S = 25.0, 30.0


def rows(place: Path, *, quick: bool) -> list[Row]:
    """Rates over one share and eight, latency, round trips, and what idle shares cost."""
    if lacking := missing(*SAMBA, root=True):
        return [Row(what="evaluations over SMB", note=f"needs {lacking}")]
    count, shares = (150, 64) if quick else (600, 256)
    rounds = 1 if quick else ROUNDS
    found: list[Row] = []
    for number in (1, 8):
        measured = in_turn(
            {
                f"farm over {number} shares": lambda n=number: apart(farm_rate, place, count=count, shares=n),
                "three compounds": lambda n=number: apart(bare_rate, place, count=count, shares=n),
                "smbclient": lambda n=number: apart(plain_rate, place, count=count, shares=n),
            },
            rounds,
        )
        ours, floor, plain = measured.values()
        what = f"no-op evaluations over SMB, {number} share{'s' if number > 1 else ''}"
        for other, name, least in ((floor, "three compounds", 0.5), (plain, "smbclient", 3.0)):
            rate, reference = figure(ours, "rate"), figure(other, "rate")
            said = note(ours, other)
            found += [Row(what=what, figure=rate, unit="/s", reference=reference, against=name, least=least, note=said)]
    counted = in_turn({"round trips": lambda: apart(round_trips, place, count=count)}, 1)["round trips"]
    what = "messages per evaluation"
    for name in ("publish", "read", "clean", "listing", "notify", "smbclient"):
        found += [Row(what=f"{what}: {name}", figure=figure(counted, name), note=note(counted) or "for information")]
    found += [limit(f"{what}: publish, read, clean", figure(counted, "three"), "", ROUND_TRIPS + 0.2, note(counted))]
    late = in_turn({"latency over SMB": lambda: apart(latency, place, count=count // 10)}, 1)["latency over SMB"]
    said = note(late) or "for information"
    found += [limit("game ends -> on record, over SMB", figure(late, "end_ms"), "ms", LATENCY_MS, note(late))]
    found += [Row(what="on record -> game begins, over SMB", figure=figure(late, "begin_ms"), unit="ms", note=said)]
    idle = in_turn({"idle shares": lambda: apart(idle_shares, place, shares=shares)}, 1)["idle shares"]
    of_all, said = f"{shares} shares over SMB", note(idle) or "for information"
    found += [limit(f"CPU of an idle host, {of_all}", figure(idle, "percent"), "% of a core", IDLE_PERCENT, said)]
    found += [Row(what=f"threads, {of_all}", figure=figure(idle, "threads"), note=said)]
    found += [Row(what=f"memory, {of_all}", figure=figure(idle, "mb"), unit="MB", note=said)]
    return found


# --------------------------------------------------------------------------------------------- the measured programs


def farm_rate(folder: str, count: int, shares: int) -> dict[str, float]:
    """The farm, from its first result to its last."""
    interval = Interval()
    with served(folder, shares) as server, agents(server), host(folder, server) as farm:
        farm.evaluate(genomes("noop 0", 4 * shares))
        farm.evaluate(genomes("noop 0", count), on_progress=interval.note)
    return interval.figures(count)


def bare_rate(folder: str, count: int, shares: int) -> dict[str, float]:
    """Publish, read, clean: each one compound, a thread for each share, no agent on the other side."""
    payload = genome("noop 0", 0)

    def play(server: Samba, name: str, numbers: Sequence[int]) -> None:
        session = SmbSession(access(server, name))
        files = SmbFiles(session)
        for number in numbers:
            files.deliver(f"inbox/{number}.genome", payload, f"inbox/{number}.start.json", RECORD)
            files.read_all([(f"inbox/{number}.start.json", 65536)])
            files.remove([f"inbox/{number}.start.json", f"inbox/{number}.genome"])
        session.drop()

    return _rate(folder, count, shares, play)


def plain_rate(folder: str, count: int, shares: int) -> dict[str, float]:
    """The baseline: open, write, rename, listdir, open, read, remove."""

    def play(server: Samba, name: str, numbers: Sequence[int]) -> None:
        plain(server.port, name, numbers, {})

    return _rate(folder, count, shares, play)


def plain(port: int, name: str, numbers: Sequence[int], cache: dict[str, object]) -> None:
    """The baseline on one share."""
    import smbclient

    payload, base = genome("noop 0", 0), rf"\\127.0.0.1\{name}"
    how = {"username": ACCOUNT, "password": PASSWORD, "port": port, "connection_cache": cache}
    for number in numbers:
        with smbclient.open_file(rf"{base}\inbox\{number}.genome", mode="wb", **how) as file:
            file.write(payload)
        with smbclient.open_file(rf"{base}\inbox\tmp\{number}.json", mode="wb", **how) as file:
            file.write(RECORD)
        smbclient.rename(rf"{base}\inbox\tmp\{number}.json", rf"{base}\inbox\{number}.start.json", **how)
        smbclient.listdir(rf"{base}\outbox", **how)
        with smbclient.open_file(rf"{base}\inbox\{number}.start.json", mode="rb", share_access="rwd", **how) as file:
            file.read()
        smbclient.remove(rf"{base}\inbox\{number}.start.json", **how)
        smbclient.remove(rf"{base}\inbox\{number}.genome", **how)


def _rate(folder: str, count: int, shares: int, play: Callable[[Samba, str, Sequence[int]], None]) -> dict[str, float]:
    with served(folder, shares) as server:
        threads = [
            threading.Thread(target=play, args=(server, name, range(number, count, shares)))
            for number, name in enumerate(server.shares)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"rate": count / (time.monotonic() - began)}


# ----------------------------------------------------------------------------------------------------------- figures


def round_trips(folder: str, count: int) -> dict[str, float]:
    """Messages from the client for each evaluation, by kind; not encrypted, so that the proxy can tell them apart."""
    with served(folder, 1, encrypt="off") as server, agents(server):
        proxy = Proxy(server.port)
        with host(folder, server, port=proxy.port, encryption=False) as farm:
            farm.evaluate(genomes("noop 0", 8))
            before = proxy.kinds.copy()
            farm.evaluate(genomes("noop 0", count))
            kinds = proxy.kinds - before
        plain_before = proxy.asked
        plain(proxy.port, "share-0", range(20), {})
        by_smbclient = (proxy.asked - plain_before) / 20
        proxy.close()
    each = {name: kinds[name] / count for name in ("publish", "read", "listing", "notify")}
    clean = kinds["other"] / count
    return {**each, "clean": clean, "three": each["publish"] + each["read"] + clean, "smbclient": by_smbclient}


def latency(folder: str, count: int) -> dict[str, float]:
    """Median times with one game at a time: attempt on record -> game begins, game ends -> its result on record."""
    offset_s = time.time() - time.monotonic()
    begin_ms, end_ms = [], []
    with served(folder, 1) as server, agents(server), host(folder, server) as farm:
        for _ in range(count):
            farm.evaluate(genomes("nap 0.01", 1))
            (game,) = _table(farm.results / "results.csv")
            attempt = _table(farm.results / "attempts.csv")[-1]
            begin_ms.append(1000 * (float(game["begin"]) + offset_s - _unix(attempt["issued"])))
            end_ms.append(1000 * (_unix(attempt["ended"]) - float(game["end"]) - offset_s))
    return {"begin_ms": statistics.median(begin_ms), "end_ms": statistics.median(end_ms)}


class _WindowOver(Exception):
    """The window is over."""


def idle_shares(folder: str, shares: int) -> dict[str, float]:
    """CPU time, threads and memory of an idle host with `shares` shares, whose agents send a heartbeat every 15 s."""
    import psutil

    me = psutil.Process()
    marks: list[tuple[float, float]] = []
    threads: list[int] = []
    began = time.monotonic()

    def watch(_progress: Progress) -> None:
        now = time.monotonic()
        if now - began > SETTLE_S:
            marks.append((now, sum(me.cpu_times()[:2])))
            threads.append(me.num_threads())
        if now - began > SETTLE_S + WINDOW_S:
            raise _WindowOver

    with served(folder, shares) as server:
        heartbeats = subprocess.Popen([sys.executable, "-m", "bench.smb", *map(str, server.shares.values())], cwd=ROOT)
        try:
            with host(folder, server) as farm, contextlib.suppress(_WindowOver):
                farm.evaluate(genomes("noop 0", 1), on_progress=watch)  # no agent claims it
        finally:
            heartbeats.kill()
            heartbeats.wait()
    wall_s, cpu_s = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    return {"percent": 100 * cpu_s / wall_s, "threads": max(threads), "mb": me.memory_info().rss / 2**20}


# ------------------------------------------------------------------------------------------------------------ set-up


@contextlib.contextmanager
def served(folder: str, shares: int, encrypt: str = "desired") -> Iterator[Samba]:
    """A server with `shares` shares."""
    server = Samba(Path(folder) / "samba", *(f"share-{number}" for number in range(shares)), encrypt=encrypt)
    for path in server.shares.values():
        LocalFiles(path).make_folders()
        give_to_account(path)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def agents(server: Samba) -> Iterator[None]:
    """An agent beside each share."""
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "inbox_agent", "--share", str(path)),
                *("--state", str(server.root / f"agent-{name}"), "--python", "bench.games:play", "--folder", str(ROOT)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, path in server.shares.items()
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextlib.contextmanager
def host(folder: str, server: Samba, port: int = 0, *, encryption: bool = True) -> Iterator[OpenFarm]:
    """A farm with nothing but these shares."""
    os.environ["BENCH_SECRET"] = PASSWORD
    root = Path(folder) / "farm"
    root.mkdir()
    tables = [
        f"[[worker]]\nname = '{name}'\nshare = '{server.unc(name)}'\nport = {port or server.port}\n"
        f"account = '{ACCOUNT}'\nsecret = 'env:BENCH_SECRET'\nencryption = {str(encryption).lower()}\n"
        for name in server.shares
    ]
    limits = "[limits]\nclaim_limit_s = 1000\n"
    (root / "pipeline.toml").write_text("[generation]\ntrials_per_genome = 1\n" + limits + "\n".join(tables))
    with open_farm(root) as farm:
        yield farm


def access(server: Samba, name: str) -> SmbAccess:
    """How a share of the server is reached."""
    return SmbAccess(server="127.0.0.1", share=name, port=server.port, account=ACCOUNT, password=lambda: PASSWORD)


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as table:
        return list(csv.DictReader(table))


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _beat(paths: Sequence[str]) -> None:
    """Writes the heartbeats of idle agents in turn: one for each share every 15 s."""
    shares = [LocalFiles(Path(path)) for path in paths]
    for counter in range(1, 1000):
        began = time.monotonic()
        for number, share in enumerate(shares):
            owner = Path(paths[number]) / "inbox/1.host.json"
            identity = {"farm": None, "worker": None, "epoch": None}
            if owner.exists():
                import orjson

                identity = {key: orjson.loads(owner.read_bytes())[key] for key in identity}
            share.replace("status/agent.json", encode(records.beat(counter=counter, **identity)))
            pause_s = began + 15 * (number + 1) / len(shares) - time.monotonic()
            threading.Event().wait(max(0.0, pause_s if counter > 1 else 0.0))


if __name__ == "__main__":
    _beat(sys.argv[1:])
