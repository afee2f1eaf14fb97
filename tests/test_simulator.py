"""The simulator: a seed is a history, histories keep the promise, planted bugs are seen, every operation may fail.

Long runs: `make prove SEEDS=100000`, which can be stopped and taken up again.
"""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.facts import Rung
from pipeline.edges.archive import Archive
from pipeline.edges.couriers import Couriers
from pipeline.loop import Loop
from tests.simulator import crash_points
from tests.simulator.couriers import DistantCouriers
from tests.simulator.crash_points import AGENT, HOST, Case, cases, points, small_world
from tests.simulator.digests import digest
from tests.simulator.figures import CHUNK, Figures, Journal, run_chunk
from tests.simulator.history import History, play
from tests.simulator.host import MemoryArchive
from tests.simulator.planted import BUGS, Bug, hunt, plant
from tests.simulator.world import World, calm_options

pytestmark = pytest.mark.source

SEEDS = range(1, 41)
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_the_promise(seed: int) -> None:
    """Faults at will, then none: every trial is settled once, with the fitness of its own genome and seed."""
    history = play(seed)
    assert history.breaches == [], f"seed {seed}: {history.world.options}"
    assert history.host.finished


#: Seeds that broke a promise once, with what was wrong. They prove less as the simulator changes, and cost nothing.
REGRESSIONS = {
    109: "two agents that began at once on a foreign share both saw nobody",
    191: "a newcomer on a foreign share watched for longer than its host waited",
    372: "a genome that took its machine down took the start signal with it, and was never charged",
    549: "a short look declared an empty mount point readable",
    3343: "a trial played alone charged its genome for a start signal that nobody had claimed",
    9352: "a worker was restarted after its quarantine although it had been heard of seconds ago",
    31453: "a genome became poison while another game of it was being declared overdue",
    64737: "two shares were swapped at first contact, and nobody took them over again",
    67844: "a newcomer whose announcement took long acted as soon as it had been made",
    81246: "an agent whose beats failed on a foreign share tried again only a whole poll later",
    147977: "a worker whose share could be read for the first time was restarted before its agent could answer",
    91145: "a worker was tried on probation with the genome that kills it, until it was out and nobody was left",
    139418: "a look that was under way when a share was restored brought its worker work for a share that was nobody's",
    38574: "a worker whose looks take long was restarted again, since the one that showed it well had been under way",
    1351: "a new epoch's silence was counted from before its host.json had arrived",
    32531: "on probation only the first rung was climbed, which cannot help a machine that hangs",
}


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_history_that_broke_the_promise_once_keeps_it(seed: int) -> None:
    """Each of these found a bug in the product."""
    assert as_it_was(seed).breaches == []


def as_it_was(seed: int) -> History:
    """The history of a seed without the kinds of fault that came later: they would make another one of it."""
    return play(seed, replace(World(seed).options, held=0.0))


def test_an_order_that_is_lost_restarts_nobody() -> None:
    """Blows fell fast on one worker, and three of its nine orders never came to its machine."""
    history = play(98887)
    assert history.world.fired["lost order"]
    assert history.breaches == []


def test_every_host_has_a_budget_of_restarts_of_its_own() -> None:
    """Blows fell so fast on one worker that two hosts restarted it eight times in 37 s, each well within its limits."""
    history = as_it_was(87233)
    assert history.host.starts == 2
    assert history.breaches == []


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same operations, faults and facts, so that a failure can be looked at again."""
    first, second = play(7), play(7)
    assert first.host.ledger.rows == second.host.ledger.rows
    assert first.world.fired == second.world.fired
    assert first.world.operations == second.world.operations


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Nothing depends on the order in which a set gives its elements, which each process draws anew."""
    told = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", _HISTORIES]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        told.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(told) == 1


_HISTORIES = """
import logging
from tests.simulator.digests import digest
from tests.simulator.history import play
logging.disable(logging.CRITICAL)
for seed in range(1, 41):
    history = play(seed)
    print(seed, history.world.operations, digest(history))
"""


def test_the_digests_command_prints_the_hash_of_each_history() -> None:
    """One line per seed and one over all lines, in the same order with any number of processes."""
    lines = [f"{seed} {digest(play(seed))}" for seed in (5, 6, 7)]
    whole = "".join(f"{line}\n" for line in lines)
    for jobs in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulator.digests", "--seed", "5", "--count", "3", "--jobs", jobs]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == f"{whole}all {hashlib.sha256(whole.encode()).hexdigest()}\n"
    assert len({line.split()[1] for line in lines}) == 3


def test_a_world_without_faults_costs_one_attempt_per_trial() -> None:
    """What is not broken is not repaired."""
    history = play(3, calm_options(World(3).options))

    assert history.world.fired.total() == 0
    assert len(history.host.witness.issued) == history.trials
    assert all(machine.restarts == 0 for machine in history.machines)


def test_the_worlds_are_wild_enough() -> None:
    """A seed that meets no trouble proves little: on average there are workers, trials, operations and faults."""
    worlds = [World(seed).options for seed in range(1, 1001)]
    assert sum(options.workers for options in worlds) / len(worlds) >= 4
    trials = sum(options.generations * options.genomes * options.trials for options in worlds)
    assert trials / len(worlds) >= 20

    figures = Figures()
    for first in (1, 1 + CHUNK):
        figures.add(Figures(**run_chunk(first)[1]))
    assert figures.operations / figures.seeds >= 500
    assert figures.faults.total() / figures.seeds >= 5
    assert {"start", Rung.RESTART_AGENT, Rung.REBOOT, Rung.POWER_CYCLE} <= figures.obeyed.keys()


def test_a_long_proof_is_taken_up_again(tmp_path: Path) -> None:
    """What was proved of this code is not played again; what was proved of other code does not count."""
    path, firsts = tmp_path / "journal.jsonl", [1, 51]
    _, figures = run_chunk(1)
    Journal(path, "this code").note(1, json.loads(json.dumps(figures)))

    again = Journal(path, "this code")
    assert again.open_of(firsts) == [51]
    assert sum(part.seeds for part in again.of(firsts)) == CHUNK
    assert Journal(path, "other code").open_of(firsts) == firsts


# ----------------------------------------------------------------------------------------------------- crash points


@pytest.mark.parametrize(
    "case",
    [case for case in cases() if case.how in ("killed", "unknown") and case.who in (HOST, AGENT)],
    ids=lambda case: f"{case.who}-{case.how}-{'local' if case.local else 'apart'}",
)
def test_every_single_operation_may_fail(case: Case) -> None:
    """The k-th operation is the last one, or is reported as failed, for k = 1, 2, 3 … until none is left."""
    found = {k: history.breaches for k, history in enumerate(points(case), 1) if history.breaches}
    assert found == {}


def test_the_loop_ends_only_when_nothing_failed() -> None:
    """Its last history passed untouched, and had as many operations as there were crash points before it."""
    case = next(case for case in cases() if (case.who, case.how) == (AGENT, "killed"))
    histories = list(points(case))

    assert len(histories) > 20
    assert all(history.world.struck for history in histories[:-1])
    assert histories[-1].world.steps[AGENT] < len(histories)
    assert play(crash_points.WORLD_SEED, small_world(local=False)).breaches == []


# ----------------------------------------------------------------------------------------------------- planted bugs


@pytest.mark.parametrize("name", ["act before record", "claim is not flushed", "an answer is taken in twice"])
def test_a_planted_bug_is_seen(name: str) -> None:
    """Without faults the patched code keeps the promise; some seed breaks it. The others: `make prove`."""
    bug = next(bug for bug in BUGS if bug.name == name)

    found = hunt(bug, seeds_max=100)

    assert found.fault_free, found.breach
    assert found.seed is not None


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_changes_the_shipped_source(bug: Bug, tmp_path: Path) -> None:
    """Its place is there, once, and what stands there afterwards is still Python."""
    path = tmp_path / bug.file
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / bug.file).read_text())

    plant(bug, tmp_path)

    compile(path.read_text(), bug.file, "exec")
    assert path.read_text() != (ROOT / bug.file).read_text()


def test_there_are_bugs_enough() -> None:
    """At least twenty, eight of them where things are done and not decided, and no two of one name."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20
    assert sum(bug.in_shell for bug in BUGS) >= 8


def test_a_bug_whose_place_has_moved_is_not_planted(tmp_path: Path) -> None:
    """A patch that patches nothing would prove nothing."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "loop.py").write_text("")

    with pytest.raises(ValueError, match="occurs 0 times"):
        plant(next(bug for bug in BUGS if bug.file == "pipeline/loop.py"), tmp_path)


@pytest.mark.parametrize(
    ("pretended", "shipped", "verbs"),
    [
        (MemoryArchive, Archive, {"keep", "set_aside"}),
        (DistantCouriers, Couriers, {"is_away", "send", "arrivals", "overdue"}),
    ],
    ids=["archive", "couriers"],
)
def test_what_is_pretended_has_the_verbs_of_what_is_shipped(pretended: type, shipped: type, verbs: set[str]) -> None:
    """What the loop calls on the one exists on the other, with the same arguments."""
    called = set(re.findall(r"self\.(?:_couriers|archive)\.(\w+)\(", inspect.getsource(Loop)))
    assert verbs == called & vars(shipped).keys()
    for name in verbs:
        ours, theirs = getattr(pretended, name), getattr(shipped, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
