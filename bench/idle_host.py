"""What an idle host costs: with sixteen local workers, four of them in a long game; with a thousand shares by path."""

from functools import partial
from pathlib import Path

from bench.apart import apart
from bench.farm import open_farm, warm_farm
from bench.games import genomes
from bench.heartbeats import heartbeats
from bench.idle_window import idle_figures
from bench.rounds import Measured, figure, note, once
from bench.table import Row
from bench.targets import IDLE_LOCAL_PERCENT, IDLE_PATH_PERCENT, IDLE_PATH_THREADS
from inbox_agent.protocol.local_files import LocalFiles
from pipeline import Progress

WORKERS, GAMES, SHARES = 16, 4, 1_000
GAME_SETTLE_S, LONG_GAME_S = 2.0, 100.0
SETTLE_S, WINDOW_S = 15.0, 30.0  # a heartbeat is sent every 15 s
UNCLAIMED = "[limits]\nclaim_limit_s = 1000\n"  # attempts stay where they are


def rows(place: Path, *, quick: bool) -> list[Row]:
    """The host's share of one core, its threads and its memory."""
    seconds = 5.0 if quick else 15.0
    local = once("idle host, local workers", partial(apart, local_workers, place, seconds=seconds))
    idle = once("idle host, shares by path", partial(apart, shares_by_path, place, shares=SHARES, held=0))
    held = once("idle host, attempts held", partial(apart, shares_by_path, place, shares=SHARES, held=2))
    return [
        Row(
            what=f"CPU of an idle host, {WORKERS} local workers",
            figure=figure(local, "percent"),
            unit="% of a core",
            target=IDLE_LOCAL_PERCENT,
            note=note(local),
        ),
        *_of_shares(f"{SHARES:,} shares by path", idle),
        *_of_shares(f"{SHARES:,} shares by path that hold two attempts each", held),
    ]


def _of_shares(what: str, measured: Measured) -> list[Row]:
    said = note(measured)
    return [
        Row(
            what=f"CPU of an idle host, {what}",
            figure=figure(measured, "percent"),
            unit="% of a core",
            target=IDLE_PATH_PERCENT,
            note=said,
        ),
        Row(what=f"threads, {what}", figure=figure(measured, "threads"), target=IDLE_PATH_THREADS, note=said),
        Row(what=f"memory, {what}", figure=figure(measured, "mb"), unit="MB", note=said),
    ]


def local_workers(folder: str, seconds: float) -> dict[str, float]:
    """While a few games are played that are not over before the window is."""

    def ready(progress: Progress) -> bool:
        return sum(row.state == "playing" for row in progress.workers) == GAMES

    with warm_farm(folder, WORKERS) as farm:
        farm.begin(genomes(f"nap {LONG_GAME_S:g}", GAMES))
        return idle_figures(farm, ready, settle_s=GAME_SETTLE_S, window_s=seconds)


def shares_by_path(folder: str, shares: int, held: int) -> dict[str, float]:
    """While agents only send heartbeats and each share holds so many attempts; none: only one share holds one."""
    root = Path(folder)
    paths = [root / "shares" / f"share-{number:04d}" for number in range(shares)]
    for path in paths:
        path.mkdir(parents=True)
        LocalFiles(path).make_folders()
    tables = "\n".join(f"[[worker]]\nname = '{path.name}'\nshare = '{path}'" for path in paths)
    with (
        open_farm(root / "farm", f"{UNCLAIMED}{tables}\n") as farm,
        heartbeats(root / "shares.txt", paths),
    ):
        farm.begin(genomes("noop 0", max(1, held * shares)))
        return idle_figures(farm, all_alive, settle_s=SETTLE_S, window_s=WINDOW_S)


def all_alive(progress: Progress) -> bool:
    """Whether every agent was heard, and all attempts are issued."""
    return not progress.pending and all(row.state == "idle" for row in progress.workers)
