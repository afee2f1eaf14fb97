"""Every single operation fails once, as in SQLite's tests. `python -m tests.simulator.crash_points`.

A small world without randomness is played repeatedly: the host, or one agent, is killed at its k-th operation, or that
operation fails, for k = 1, 2, 3 … until a history ends before its k-th operation. With `--again J` the host is killed a
second time, J operations after its restart. Operations are those on shares, ledger, archive and machines; a process
that is killed between two of them has completed the first and not begun the second. An operation to which a failure
does not apply (a listing is never torn) is no crash point.
"""

import argparse
import logging
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from tests.simulator.history import History, play
from tests.simulator.world import Options, World, draw_options, fault_free_options

HOST, AGENT = "host", "agent:w0"
WORLD_SEED = 1

#: How one operation may fail. "unknown": it is executed and reported as failed; "torn": half of it is executed.
FAILURES = ("fail", "unknown", "torn", "full")
Prepare = Callable[[World, int], None]


@dataclass(frozen=True)
class Case:
    """One process and one failure of its k-th operation."""

    process: str
    failure: str
    prepare: Prepare
    local: bool = False
    late: bool = False  #: files of genomes arrive while the others are played
    deploy: bool = False  #: the workers get their evaluator first


def small_world(*, local: bool, late: bool = False, deploy: bool = False) -> Options:
    """Two workers, four genomes, two trials: enough for queues, retries and siblings."""
    drawn = fault_free_options(draw_options(random.Random(WORLD_SEED)))
    share = 0.7 if late else 0.0
    return replace(
        drawn, workers=2, genomes=4, trials=2, depth=2, local=local, fault_phase_s=60.0, late=share, deploy=deploy
    )


def cases(again: Iterable[int] = (3,)) -> Iterator[Case]:
    """Every failure of every kind of process."""

    def kill(process: str, *, power: bool = False) -> Prepare:
        def prepare(world: World, k: int) -> None:
            world.kill_at[process] = k
            world.kills_take_power = power

        return prepare

    def fail(process: str, failure: str) -> Prepare:
        return lambda world, k: world.fail_at.__setitem__(process, (k, failure))

    def kill_twice(second: int) -> Prepare:
        return lambda world, k: world.host_kills.extend([k, second])

    yield Case(HOST, "killed while files arrive", kill(HOST), late=True)
    yield Case(HOST, "fail while files arrive", fail(HOST, "fail"), late=True)
    for process in (HOST, AGENT):
        yield Case(process, "killed after a deployment", kill(process), deploy=True)
        for failure in sorted({*FAILURES} - ({"torn"} if process == AGENT else set())):
            yield Case(process, f"{failure} after a deployment", fail(process, failure), deploy=True)
    yield Case(AGENT, "killed with its power after a deployment", kill(AGENT, power=True), deploy=True)
    for local in (False, True):
        yield Case(HOST, "killed", kill(HOST), local)
        for second in again:
            yield Case(HOST, f"killed, and again {second} operations later", kill_twice(second), local)
        for failure in FAILURES:
            yield Case(HOST, failure, fail(HOST, failure), local)
        yield Case(AGENT, "killed", kill(AGENT), local)
        yield Case(AGENT, "killed with its machine's power", kill(AGENT, power=True), local)
        for failure in sorted({*FAILURES} - {"torn"}):  # the agent's share is on its own disk
            yield Case(AGENT, failure, fail(AGENT, failure), local)


def points(case: Case) -> Iterator[History]:
    """One history per crash point, until one ends before its k-th operation."""
    k = 0
    while True:
        k += 1
        world = small_world(local=case.local, late=case.late, deploy=case.deploy)
        history = play(WORLD_SEED, world, lambda world: case.prepare(world, k))  # noqa: B023
        yield history
        if history.world.steps[case.process] < k:
            return


def main() -> int:
    """Prints the number of crash points of each case; exit code 1 if an invariant was violated at one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.crash_points", description=__doc__)
    parser.add_argument("--again", type=int, nargs="*", default=[3], metavar="J", help="second kills (default: 3)")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    total = broken = 0
    print("| process | failure | agents | crash points | broken |\n|---|---|---|---|---|")
    for case in cases(args.again):
        found = list(points(case))
        violated = {k: history.violations[0] for k, history in enumerate(found, 1) if history.violations}
        count = sum(history.world.fault_applied for history in found)  # the last history had no failure
        total, broken = total + count, broken + len(violated)
        agents = "end with the host" if case.local else "stay"
        print(f"| {case.process} | {case.failure} | {agents} | {count} | {len(violated)} |")
        for k, violation in violated.items():
            print(f"    at operation {k}: {violation}", file=sys.stderr)
    print(f"\n{total:,} crash points, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
