"""Evaluations over real SMB shares: a private Samba on loopback, agents beside its disk, the host over the network.

The floor is the same three compounds in a loop, without any farm; the baseline is a straightforward program with
`smbclient`. Round trips are counted by a proxy between client and server, not by our own counters.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from bench.apart import ROOT, apart
from bench.farm import Farm, measured, open_farm
from bench.games import genome, genomes
from bench.heartbeats import heartbeats
from bench.idle_host import SETTLE_S, UNCLAIMED, WINDOW_S, all_alive
from bench.idle_window import idle_figures
from bench.rounds import ROUNDS, Measured, figure, in_turn, note, once
from bench.samples import per_second
from bench.table import Row
from bench.targets import IDLE_SMB_PERCENT, SMB_HOST_CPU_MS, SMB_ON_RECORD_MS, SMB_RATE, SMB_ROUND_TRIPS
from inbox_agent.protocol.local_files import LocalFiles
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbAccess, SmbSession
from tests.fakes.smb_proxy import Proxy
from tests.harness.samba import ACCOUNT, PASSWORD, Samba, give_to_account
from tests.programs.system_programs import SAMBA, missing

RECORD = b"s" * 520
SHARES = 256


def rows(place: Path, *, quick: bool) -> list[Row]:
    """Rates over one share and eight, latency, round trips, and what idle shares cost."""
    if lacking := missing(*SAMBA, root=True):
        return [Row(what="evaluations over SMB", note=f"needs {lacking}")]
    count, shares = (150, SHARES // 4) if quick else (600, SHARES)
    rounds = 1 if quick else ROUNDS
    counted = once("round trips", partial(apart, round_trips, place, count=count))
    late = once("latency over SMB", partial(apart, latency, place, count=count // 10))
    idle = once("idle shares", partial(apart, idle_shares, place, shares=shares))
    return [
        *(row for number in SMB_RATE for row in _rates(place, count, number, rounds)),
        *_messages(counted),
        Row(
            what="game ends -> on record, over SMB",
            figure=figure(late, "end_ms"),
            unit="ms",
            target=SMB_ON_RECORD_MS,
            note=note(late),
            remark="one game at a time",
        ),
        Row(what="on record -> game begins, over SMB", figure=figure(late, "begin_ms"), unit="ms", note=note(late)),
        *_idle(shares, idle),
    ]


def _rates(place: Path, count: int, shares: int, rounds: int) -> Iterator[Row]:
    programs = {f"farm over {shares} shares": farm_rate, "three compounds": bare_rate, "smbclient": plain_rate}
    measured = in_turn(
        {name: partial(apart, program, place, count=count, shares=shares) for name, program in programs.items()}, rounds
    )
    ours, floor, plain = measured.values()
    of_all = f"{shares} share{'s' if shares > 1 else ''}"
    for other, name, target in ((floor, "three compounds", None), (plain, "smbclient", SMB_RATE[shares])):
        yield Row(
            what=f"no-op evaluations over SMB, {of_all}",
            figure=figure(ours, "rate"),
            unit="/s",
            reference=figure(other, "rate"),
            against=name,
            target=target,
            note=note(ours, other),
        )
    yield Row(
        what=f"host CPU per evaluation over SMB, {of_all}",
        figure=figure(ours, "host_ms"),
        unit="ms",
        target=SMB_HOST_CPU_MS,
        note=note(ours),
    )


def _messages(counted: Measured) -> Iterator[Row]:
    for name in ("publish", "read", "clean", "listing", "notify", "smbclient"):
        yield Row(what=f"messages per evaluation: {name}", figure=figure(counted, name), note=note(counted))
    what = "messages per evaluation: publish, read, clean"
    yield Row(what=what, figure=figure(counted, "three"), target=SMB_ROUND_TRIPS, note=note(counted))


def _idle(shares: int, idle: Measured) -> Iterator[Row]:
    of_all = f"{shares} shares over SMB"
    yield Row(
        what=f"CPU of an idle host, {of_all}",
        figure=figure(idle, "percent"),
        unit="% of a core",
        target=IDLE_SMB_PERCENT if shares == SHARES else None,
        note=note(idle),
    )
    yield Row(what=f"threads, {of_all}", figure=figure(idle, "threads"), note=note(idle))
    yield Row(what=f"memory, {of_all}", figure=figure(idle, "mb"), unit="MB", note=note(idle))


# --------------------------------------------------------------------------------------------- the measured programs


def farm_rate(folder: str, count: int, shares: int) -> dict[str, float]:
    """The farm, from its first result to its last."""
    with served(folder, shares) as server, agents(server), host(folder, server) as farm:
        farm.begin(genomes("noop 0", 4 * shares))
        farm.play()
        figures = measured(farm, count)
        return {"rate": figures["rate"], "host_ms": figures["host_us"] / 1000}


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
        return {"rate": per_second(count, time.monotonic() - began)}


# ----------------------------------------------------------------------------------------------------------- figures


def round_trips(folder: str, count: int) -> dict[str, float]:
    """Messages from the client for each evaluation, by kind; not encrypted, so that the proxy can tell them apart."""
    with served(folder, 1, encrypt="off") as server, agents(server):
        proxy = Proxy(server.port)
        with host(folder, server, port=proxy.port, encryption=False) as farm:
            farm.begin(genomes("noop 0", 8))
            farm.play()
            before = proxy.kinds.copy()
            farm.begin(genomes("noop 0", count))
            farm.play()
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
            farm.begin(genomes("nap 0.01", 1))
            farm.play()
            (game,), (attempt,) = farm.rows(), farm.rows("attempts.csv")
            begin_ms.append(1000 * (float(game["begin"]) + offset_s - _unix(attempt["issued"])))
            end_ms.append(1000 * (_unix(attempt["ended"]) - float(game["end"]) - offset_s))
    return {"begin_ms": statistics.median(begin_ms), "end_ms": statistics.median(end_ms)}


def idle_shares(folder: str, shares: int) -> dict[str, float]:
    """While agents only send heartbeats, and one share holds one attempt."""
    with (
        served(folder, shares) as server,
        host(folder, server) as farm,
        heartbeats(Path(folder) / "shares.txt", list(server.shares.values())),
    ):
        farm.begin(genomes("noop 0", 1))
        return idle_figures(farm, all_alive, settle_s=SETTLE_S, window_s=WINDOW_S)


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
def host(folder: str, server: Samba, port: int = 0, *, encryption: bool = True) -> Iterator[Farm]:
    """A farm with nothing but these shares."""
    os.environ["BENCH_SECRET"] = PASSWORD
    tables = [
        f"[[worker]]\nname = '{name}'\nshare = '{server.unc(name)}'\nport = {port or server.port}\n"
        f"account = '{ACCOUNT}'\nsecret = 'env:BENCH_SECRET'\nencryption = {str(encryption).lower()}\n"
        for name in server.shares
    ]
    with open_farm(Path(folder) / "farm", UNCLAIMED + "\n".join(tables)) as farm:
        yield farm


def access(server: Samba, name: str) -> SmbAccess:
    """How a share of the server is reached."""
    return SmbAccess(server="127.0.0.1", share=name, port=server.port, account=ACCOUNT, password=lambda: PASSWORD)


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
