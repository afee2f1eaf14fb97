"""The simulator: histories violate no invariant, are reproducible, detect mutations, and cover every operation.

Long runs: `make prove SEEDS=100000`, which can be stopped and resumed.
"""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import GenomeCharged, RecoveryAction, Settlement, TrialSettled, WorkerQuarantined
from pipeline.host.control_loop import ControlLoop
from pipeline.host.recorder import Recorder
from pipeline.shares.executor import ShareExecutor
from pipeline.storage.archive import Archive
from tests.fakes.ports import MemoryArchive
from tests.harness.source_tree import ROOT, find_function, imported_by
from tests.simulator import crash_points
from tests.simulator.crash_points import AGENT, Case, cases, points, small_world
from tests.simulator.digests import digest
from tests.simulator.executor import SimulatedExecutor
from tests.simulator.figures import CHUNK, Figures, ProofLog, run_chunk
from tests.simulator.genomes import genomes_of
from tests.simulator.history import History, play
from tests.simulator.host import SimulatedHost
from tests.simulator.machine import SimulatedMachine
from tests.simulator.mutations import MUTATIONS, Mutation, detect, mutated
from tests.simulator.world import World, failing_genomes_options, fault_free_options

pytestmark = pytest.mark.source

SEEDS = range(1, 41)


@pytest.mark.parametrize("seed", SEEDS)
def test_history_settles_every_trial_once(seed: int) -> None:
    """After a phase with faults and one without, with the fitness of its own genome and seed."""
    history = play(seed)
    assert history.violations == [], f"seed {seed}: {history.world.options}"
    assert history.host.finished


#: Seeds that violated an invariant once, with the defect. Their histories change with the simulator.
REGRESSIONS = {
    109: "two agents that started at once on a foreign disk did not see each other",
    191: "a new agent on a foreign disk watched for longer than the silence limit of its host",
    372: "a genome that crashed its machine destroyed the unflushed start signal, and was never charged",
    549: "a quick scan declared an empty mount point readable",
    3343: "a trial that ran alone charged its genome for a start signal that no agent had claimed",
    9352: "a worker was restarted after its quarantine although it had shown activity seconds ago",
    31453: "a genome became poison while another game of it was being declared overdue",
    64737: "two shares were swapped at first contact, and were not taken over again",
    67844: "a new agent acted at once after its announcement took seconds to write",
    81246: "an agent on a foreign disk repeated a failed heartbeat only at the next poll",
    111781: "a share that could not be read after a crash of the host's system charged another game's genome",
    147977: "a worker with a share that could be read for the first time was restarted before its agent could answer",
    91145: "a worker on probation got the genome that crashes it, until every worker was excluded",
    139418: "a scan in progress during a restore showed an old heartbeat, and its worker got an attempt",
    38574: "a worker with slow scans was restarted again, since the scan that showed its heartbeat was discarded",
    1351: "silence in a new epoch was counted from before its host.json was published",
    26172: "a genome that took the only worker down that was left was not found, since another one was excluded later",
    28639: "a file in the making when a host started was taken for one that had been read",
    300567: "a machine that had come back by itself while it was put to rest counted as awake, in the simulator",
    53128: "the simulator started a local agent after the host that had ordered it was killed; a genome was charged",
    77866: "the same; a worker got more than its queue holds",
    32531: "on probation only the first recovery action was taken, which does not help a machine that hangs",
    104736: "a worker got its failed trial again while the machines of the others were being put to rest",
    131343: "the same for a trial that may be lost once more",
    141877: "a machine that was waking was put to rest, counted as waking for ever, and no other one was woken",
    19438: "a share could not be read, because poison had taken its machine down; the checker took it for readable",
}


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_regression_seeds_pass(seed: int) -> None:
    """Each of these found a bug in the product."""
    assert play_without_later_faults(seed).violations == []


@pytest.mark.parametrize("seed", range(1, 11))
def test_genome_that_crashes_the_hosts_system_is_the_only_one_charged(seed: int) -> None:
    """Two crashes isolate it, three are charged to it, and one more may isolate another trial of it."""
    world, local = World(seed).options, {"local": True, "one_system": True, "remote": False, "hypervisor": False}
    history = play(seed, replace(fault_free_options(world), poison=1, **local))

    assert history.violations == []
    poison = {number for number, data in enumerate(genomes_of(history.world).values(), 1) if b"poison" in data}
    entries = list(history.host.ledger.entries())
    charged = {entry.fact.genome for entry in entries if isinstance(entry.fact, GenomeCharged)}
    completed = [entry for entry in entries if isinstance(entry.fact, TrialSettled) and entry.fact.fitness is not None]
    assert charged == poison
    assert len(completed) == world.generations * world.trials * (world.genomes - 1)
    assert history.world.fired["system crash"] <= world.generations * 6


def play_without_later_faults(seed: int) -> History:
    """Plays a seed without the kinds of fault that were added later, which would change its history."""
    return play(seed, replace(World(seed).options, held=0.0, rewind=0.0, rest=0.0))


def test_lost_recovery_action_restarts_no_other_machine() -> None:
    """One worker has many faults in a short time, and three recovery actions are lost."""
    history = play(639)
    assert history.world.fired["lost action"]
    assert history.violations == []


def test_restart_budget_is_per_host() -> None:
    """Two hosts restart one worker seven times, each within its own limits."""
    options = replace(fault_free_options(World(15).options), workers=2, genomes=12, trials=4, generations=1, local=True)
    options = replace(options, agent_kill=12.0, host_stop=1.0, fault_phase_s=90.0)
    history = play(15, options)
    assert history.host.starts == 2
    assert max(machine.restarts for machine in history.machines) == 7
    assert history.violations == []


def test_history_is_function_of_seed() -> None:
    """The same seed gives the same operations, faults and facts, so that a failure can be reproduced."""
    first, second = play(7), play(7)
    assert first.host.ledger.rows == second.host.ledger.rows
    assert first.world.fired == second.world.fired
    assert first.world.operations == second.world.operations


def test_history_is_equal_in_every_process() -> None:
    """Nothing depends on the iteration order of sets, which differs between processes."""
    outputs = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", _HISTORIES]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        outputs.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(outputs) == 1


_HISTORIES = """
import logging
from tests.simulator.digests import digest
from tests.simulator.history import play
logging.disable(logging.CRITICAL)
for seed in (*range(1, 41), 260):
    history = play(seed)
    print(seed, history.world.operations, digest(history))
"""


def test_digests_command_prints_hash_of_each_history() -> None:
    """One line per seed and one over all lines, in the same order with any number of processes."""
    lines = [f"{seed} {digest(play(seed))}" for seed in (5, 6, 7)]
    whole = "".join(f"{line}\n" for line in lines)
    for jobs in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulator.digests", "--seed", "5", "--count", "3", "--jobs", jobs]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == f"{whole}all {hashlib.sha256(whole.encode()).hexdigest()}\n"
    assert len({line.split()[1] for line in lines}) == 3


def test_world_without_faults_needs_one_attempt_per_trial() -> None:
    """No attempt is repeated, and no machine is restarted."""
    history = play(3, fault_free_options(World(3).options))

    assert history.world.fired.total() == 0
    assert len(history.host.checker.issued) == history.trials
    assert all(machine.restarts == 0 for machine in history.machines)


def test_each_generation_is_played_with_the_evaluator_that_was_deployed_for_it() -> None:
    """No machine has it before; without faults it is sent to each once, and no attempt is repeated."""
    options = replace(fault_free_options(World(3).options), deploy=True, generations=2)
    history = play(3, options)

    assert history.violations == []
    assert history.world.executed["deploy"] == 2 * options.workers
    assert len(history.host.checker.issued) == history.trials
    assert [machine.evaluator_version for machine in history.machines] == ["deployed-2"] * options.workers


@pytest.mark.parametrize("seed", range(1, 21))
def test_failing_genomes_cost_other_genomes_nothing(seed: int) -> None:
    """Genomes that fail or hang are tried twice; every trial of the others takes one attempt."""
    history = play(seed, failing_genomes_options(World(seed).options))

    assert history.violations == []
    broken = {number for number, data in enumerate(genomes_of(history.world).values(), 1) if b'"play"' not in data}
    tries = history.host.checker.attempts
    assert broken
    assert {tries[trial] for trial in tries if trial[1] not in broken} <= {1}
    failed = [trial for trial in tries if trial[1] in broken and tries[trial] == 2]
    assert {trial[1] for trial in failed} == broken


@pytest.mark.parametrize("seed", range(1, 11))
def test_broken_evaluator_stops_run(seed: int) -> None:
    """The run stops in the tick in which the third failure is seen; each worker may have one more then."""
    options = replace(fault_free_options(World(seed).options), genomes=12, failing=12, generations=1)
    world = World(seed, options)
    machines = {f"w{number}": SimulatedMachine(world, f"w{number}", share_is_local=True) for number in range(4)}
    host = SimulatedHost(world, machines)
    host.start()
    for machine in machines.values():
        machine.start_agent()

    assert world.run_until(lambda: bool(host.stuck_reason), 60.0)

    assert "genomes failed for the same reason" in host.stuck_reason
    assert "it failed" in host.stuck_reason
    assert host.farm is not None
    assert 3 <= host.farm.outcomes[Outcome.FAILED] <= 2 + len(machines)
    assert not host.farm.settled[Settlement.COMPLETED]
    assert world.violations == []


def test_queues_of_local_workers_grow_with_short_games() -> None:
    """Games of milliseconds, and hanging ones: no trial waits long behind those."""
    worlds = {seed: World(seed).options for seed in range(1, 101)}
    seeds = [seed for seed, options in worlds.items() if options.short_games and options.local and options.genomes > 12]
    histories = [play(seed) for seed in seeds]

    assert len(seeds) >= 5
    assert all(history.host.checker.queues.held_most > 10 for history in histories)
    assert any(history.host.farm and history.host.farm.outcomes[Outcome.TIMED_OUT] for history in histories)


def test_stragglers_of_slow_machines_are_copied() -> None:
    """Both kinds of end occur: the second copy completes first, or the straggler does. Each trial counts once."""
    counted = Counter[bool]()
    for seed in range(1, 61):
        options = replace(fault_free_options(World(seed).options), copies=True, slow_machines=0.5, short_games=False)
        history = play(seed, options)
        assert history.violations == []
        assert history.host.farm is not None
        ends = [attempt for attempt in history.host.farm.attempts.values() if attempt.trial.decided_by == attempt.id]
        copied = [attempt.left_published or attempt.number == 1 for attempt in ends if len(attempt.trial.attempts) > 1]
        counted.update(copied)
    assert counted[True] >= 1
    assert counted[False] >= 20


def test_guest_whose_heartbeat_falls_again_and_again_is_quarantined() -> None:
    """Until it stops; then its worker plays again."""
    options = replace(fault_free_options(World(3).options), rewind=20.0, genomes=12, trials=4)

    history = play(3, options)

    assert history.violations == []
    reasons = [fact.reason for fact in history.host.ledger.facts if isinstance(fact, WorkerQuarantined)]
    assert any("went back in time" in reason for reason in reasons), reasons


def test_worlds_have_enough_faults() -> None:
    """On average a seed has enough workers, trials, operations and faults."""
    worlds = [World(seed).options for seed in range(1, 1001)]
    assert sum(options.workers for options in worlds) / len(worlds) >= 4
    trials = sum(options.generations * options.genomes * options.trials for options in worlds)
    assert trials / len(worlds) >= 20

    figures = Figures()
    for first in (1, 1 + CHUNK):
        figures.add(Figures(**run_chunk(first)[1]))
    assert figures.operations / figures.seeds >= 500
    assert figures.faults.total() / figures.seeds >= 5
    assert {
        "start",
        RecoveryAction.RESTART_AGENT,
        RecoveryAction.REBOOT,
        RecoveryAction.POWER_CYCLE,
    } <= figures.executed.keys()


def test_long_proof_resumes(tmp_path: Path) -> None:
    """Chunks of this code are not played again; chunks of other code do not count."""
    path, firsts = tmp_path / "journal.jsonl", [1, 51]
    _, figures = run_chunk(1)
    ProofLog(path, "this code").note(1, json.loads(json.dumps(figures)))

    again = ProofLog(path, "this code")
    assert again.missing(firsts) == [51]
    assert sum(part.seeds for part in again.figures_of(firsts)) == CHUNK
    assert ProofLog(path, "other code").missing(firsts) == firsts


# ----------------------------------------------------------------------------------------------------- crash points


@pytest.mark.parametrize(
    "case",
    [case for case in cases() if case.late or case.deploy or case.failure in ("killed", "unknown")],
    ids=lambda case: f"{case.process}-{case.failure}-{'local' if case.local else 'apart'}",
)
def test_every_operation_may_fail(case: Case) -> None:
    """The process is killed at its k-th operation, or the operation is reported as failed, for k = 1, 2, 3 …"""
    found = {k: history.violations for k, history in enumerate(points(case), 1) if history.violations}
    assert found == {}


def test_crash_points_cover_every_operation() -> None:
    """The last history has no failure, and as many operations as there were crash points before it."""
    case = next(case for case in cases() if (case.process, case.failure) == (AGENT, "killed"))
    histories = list(points(case))

    assert len(histories) > 20
    assert all(history.world.fault_applied for history in histories[:-1])
    assert histories[-1].world.steps[AGENT] < len(histories)
    assert play(crash_points.WORLD_SEED, small_world(local=False)).violations == []


# ----------------------------------------------------------------------------------------------------- mutation tests


@pytest.mark.parametrize("name", ["actions before the record", "claim is not flushed", "result accepted twice"])
def test_mutation_is_detected(name: str) -> None:
    """Only with faults does the changed code violate an invariant. `make prove` runs the other mutations."""
    mutation = next(one for one in MUTATIONS if one.name == name)

    found = detect(mutation, seeds_max=100)

    assert found.fault_free, found.violation
    assert found.seed is not None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_changes_one_shipped_function(mutation: Mutation) -> None:
    """Its text occurs once; the changed file is valid Python, and differs in that function only."""
    path, after = mutated(mutation)

    before, function = path.read_text(encoding="utf-8"), find_function(mutation.function)
    compile(after, path.name, "exec")
    old, new = before.split("\n"), after.split("\n")
    assert old[: function.first] == new[: function.first]
    assert old[function.last :] == new[len(new) - (len(old) - function.last) :]
    assert old != new


def test_mutated_files_are_part_of_fingerprint() -> None:
    """The fingerprint covers the modules that a history imports."""
    files = set(imported_by(play.__module__).values())
    assert {mutated(one)[0] for one in MUTATIONS} <= files
    assert Path(inspect.getfile(World)) in files
    assert Path(inspect.getfile(Figures)) not in files


def test_there_are_enough_mutations() -> None:
    """At least twenty, eight of them in code that does I/O, with unique names."""
    assert len({one.name for one in MUTATIONS}) == len(MUTATIONS) >= 20
    assert sum(one.does_io for one in MUTATIONS) >= 8


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A shipped package, `pipeline`, of which every module has the same content."""
    source = "def g() -> int:\n    return 1\n\n\nclass A:\n    def f(self) -> int:\n        return 1\n"
    for name in ("pipeline/one", "pipeline/core/two"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return tmp_path / "pipeline"


def test_mutation_changes_only_its_function(package: Path) -> None:
    """The same text elsewhere in the file does not count."""
    (package / "one.py").unlink()
    path, after = mutated(Mutation("m", "r", "A.f", "return 1\n", "return 2\n"), package.parent)

    assert path == package / "core" / "two.py"
    assert after == path.read_text().replace("        return 1", "        return 2")


def test_mutation_with_missing_text_is_error(package: Path) -> None:
    """A mutation must change something."""
    with pytest.raises(ValueError, match=r"m: its text occurs 0 times in A\.f"):
        mutated(Mutation("m", "r", "A.f", "return 7\n", "", package="pipeline.core"), package.parent)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("A.f", "2 functions are named A.f; candidates: A.f (pipeline/core/two.py), A.f (pipeline/one.py)"),
        ("B.f", "0 functions are named B.f; candidates: A.f (pipeline/core/two.py), A.f (pipeline/one.py)"),
        ("h", "0 functions are named h; candidates: none"),
    ],
)
def test_mutation_of_ambiguous_function_is_error(package: Path, function: str, message: str) -> None:
    """Its message lists candidates; a package distinguishes functions of one name."""
    with pytest.raises(LookupError, match=re.escape(message)):
        mutated(Mutation("m", "r", function, "return 1\n", ""), package.parent)
    assert find_function("A.f", package.parent, "pipeline.core").path == package / "core" / "two.py"


@pytest.mark.parametrize(
    ("fake", "real", "methods"),
    [
        (MemoryArchive, Archive, {"store", "set_aside", "discard"}),
        (SimulatedExecutor, ShareExecutor, {"is_busy", "submit", "completed", "timed_out"}),
    ],
    ids=["archive", "executor"],
)
def test_fakes_have_methods_of_real_classes(fake: type, real: type, methods: set[str]) -> None:
    """The methods that the loop calls have the same parameters in both."""
    source = inspect.getsource(ControlLoop) + inspect.getsource(Recorder)
    called = set(re.findall(r"\b(?:executor|_archive)\.(\w+)\(", source))
    assert methods == called & vars(real).keys()
    for name in methods:
        of_fake, of_real = getattr(fake, name), getattr(real, name)
        assert list(inspect.signature(of_fake).parameters) == list(inspect.signature(of_real).parameters)
