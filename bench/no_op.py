"""No-op evaluations per second, against the lower bound and other task farms; host CPU for each."""

from pathlib import Path

from bench import dask_tasks, farm, floor, pool_tasks, ray_tasks
from bench.apart import apart
from bench.rounds import ROUNDS, Figures, figure, in_turn, note
from bench.table import Row, limit

DEEPER = 8
#: Compared program -> the required ratio, and a more ambitious one; None: for information.
ON_DISK = {"floor": (0.5, None), "dask.distributed": (2.5, 5.0), "Ray": (1.0, 2.0), "Pool": (None, None)}
ON_TMPFS = {"floor": (None, None), "dask.distributed": (4.0, None), "Ray": (None, None), "Pool": (None, None)}
CPU_MS = {"disk": 0.8, "tmpfs": 0.5}


def rows(place: Path, medium: str, *, quick: bool) -> list[Row]:
    """The rows of one medium, `disk` or `tmpfs`."""
    count = 400 if quick else 2000
    measured = in_turn(
        {
            f"farm on {medium}": lambda: apart(farm.measure, place, count=count),
            f"farm on {medium}, queue depth {DEEPER}": lambda: apart(
                farm.measure, place, count=count, queue_depth=DEEPER
            ),
            "floor": lambda: apart(floor.measure, place, count=count),
            "dask.distributed": lambda: apart(dask_tasks.measure, place, count=count),
            "Ray": lambda: apart(ray_tasks.measure, place, count=count),
            "Pool": lambda: apart(pool_tasks.measure, place, count=count),
        },
        ROUNDS,
    )
    default, deeper, *_ = measured
    targets = ON_DISK if medium == "disk" else ON_TMPFS
    found = []
    for depth, ours in (("", measured[default]), (f", queue depth {DEEPER}", measured[deeper])):
        what = f"no-op evaluations, {medium}{depth}"
        for name, (least, ambitious) in targets.items():
            found.append(_against(what, name, ours, measured[name], least))
            if ambitious is not None:
                found.append(_against(f"{what} (stretch target)", name, ours, measured[name], ambitious))
    for depth, ours in (("", measured[default]), (f", queue depth {DEEPER}", measured[deeper])):
        what = f"host CPU per evaluation, {medium}{depth}"
        found.append(limit(what, figure(ours, "cpu_ms"), "ms", CPU_MS[medium], note(ours)))
    return found


def _against(what: str, name: str, ours: Figures | str, theirs: Figures | str, least: float | None) -> Row:
    return Row(
        what=what,
        figure=figure(ours, "rate"),
        unit="/s",
        reference=figure(theirs, "rate"),
        against=name,
        least=least,
        note=note(ours, theirs),
    )
