"""No-op evaluations per second, and the CPU time of all processes for each: the farm and other task farms in turn."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import dask_tasks, farm, floor, pebble_tasks, pool_tasks, ray_tasks
from bench.apart import apart
from bench.rounds import ROUNDS, Measured, figure, in_turn, note
from bench.table import Row
from bench.targets import NO_OP_CPU_US, NO_OP_RATE, Target

OTHERS = {
    "dask.distributed": dask_tasks.measure,
    "Ray": ray_tasks.measure,
    "multiprocessing.Pool": pool_tasks.measure,
    "pebble": pebble_tasks.measure,
}
WHOLE = "from the call to the last result: genomes are read, copied and recorded, or tasks submitted"


def rows(place: Path, medium: str, *, quick: bool) -> list[Row]:
    """The rows of one medium, `disk` or `tmpfs`."""
    count = 2_000 if quick else 20_000
    programs = {f"farm on {medium}": farm.measure, **OTHERS, "floor": floor.measure}
    measured = in_turn({name: partial(apart, each, place, count=count) for name, each in programs.items()}, ROUNDS)
    ours = measured[f"farm on {medium}"]
    return list(_rows(medium, ours, {name: measured[name] for name in OTHERS}, measured["floor"]))


def _rows(medium: str, ours: Measured, others: dict[str, Measured], bound: Measured) -> Iterator[Row]:
    what = f"no-op evaluations, {medium}"
    yield Row(what=what, figure=figure(ours, "rate"), unit="/s", note=note(ours))
    for name, theirs in others.items():
        yield _ratio(what, "rate", ours, theirs, name, NO_OP_RATE.get(name))
    yield _ratio(what, "rate", ours, bound, "floor", None, floor.REMARK)
    for name, theirs in others.items():
        yield _ratio(f"{what}, whole call", "whole_rate", ours, theirs, name, None, WHOLE)
    cpu = f"CPU of all processes per evaluation, {medium}"
    yield Row(what=cpu, figure=figure(ours, "all_us"), unit="us", target=NO_OP_CPU_US, note=note(ours))
    yield Row(what=f"{cpu}: of the host", figure=figure(ours, "host_us"), unit="us", note=note(ours))
    for name, theirs in others.items():
        yield Row(what=f"{cpu}: {name}", figure=figure(theirs, "all_us"), unit="us", note=note(theirs))


def _ratio(
    what: str, name: str, ours: Measured, theirs: Measured, against: str, target: Target | None, remark: str = ""
) -> Row:
    return Row(
        what=what,
        figure=figure(ours, name),
        unit="/s",
        reference=figure(theirs, name),
        against=against,
        target=target,
        note=note(ours, theirs),
        remark=remark,
    )
