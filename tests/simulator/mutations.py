"""Mutation tests of the simulator: each mutation breaks one rule in the shipped source, and some seed must show it.

`python -m tests.simulator.mutations` applies them one by one to a copy of the source, plays fault-free histories, which
must not violate an invariant, and then searches the first seed with a violation. A mutation that violates an invariant
without a fault does not count.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tests.harness.source_tree import PACKAGES, ROOT, find_function

SEEDS_MAX = 1000
FAULT_FREE_SEEDS = 5
ASSERTION = "an assertion of the program: "


@dataclass(frozen=True)
class Mutation:
    """A change that breaks one rule: a text that occurs once in a function, and its replacement."""

    name: str
    rule: str
    function: str  #: its qualified name, which only one function of the shipped packages has
    old: str
    new: str
    does_io: bool = False  #: whether the function does I/O; the others are rules
    package: str = ""  #: the package to search, where `function` alone is ambiguous
    first_seed: int = 1  #: the seed to begin with: above 1 if the violation needs a rare moment


@dataclass(frozen=True)
class Detection:
    """The result of playing a mutation."""

    fault_free: bool  #: whether no invariant is violated without faults
    seed: int | None  #: the first seed with a violation
    violation: str = ""


RECORD = """\
            if tx.facts:
                self._recorder.record(self.farm, tx.facts, observation.wall, tx.results)
"""
ACTING = """\
        pending = {worker for worker, turn in self._turns.items() if turn.action_pending}
        for worker in pending:
            self._turns[worker].action_pending = False
        self._reconcile(tx.touched | pending | (self.farm.workers.keys() if observation.sweep else set()))
"""

ARCHIVING = """\
        try:
            self._archive_results(farm.generation, facts, results)
        except OSError as error:
            what_to_do = "free some space" if is_disk_full(error) else "make it writable, close what has it open,"
            raise HostError(f"a result cannot be archived: {error}; {what_to_do} and run again") from error
"""
RECORDING = """\
        try:
            self._ledger.append(facts, at, farm.generation, farm.run)
        except LedgerError as error:
            raise HostError(str(error)) from error
"""

MUTATIONS = [
    Mutation(
        "actions before the record",
        "facts are recorded before they are acted on",
        "ControlLoop.tick",
        RECORD + ACTING,
        textwrap.indent(ACTING, "    ") + RECORD,
        does_io=True,
    ),
    Mutation(
        "record before archive",
        "a result is archived before it is counted",
        "Recorder.record",
        ARCHIVING + RECORDING,
        RECORDING + ARCHIVING,
        does_io=True,
    ),
    Mutation(
        "failed archive ignored",
        "a host that cannot archive a result stops",
        "Recorder.record",
        """\
            raise HostError(f"a result cannot be archived: {error}; {what_to_do} and run again") from error
""",
        "            pass\n",
        does_io=True,
    ),
    Mutation(
        "failed commit ignored",
        "a host that cannot record stops",
        "Recorder.record",
        "            raise HostError(str(error)) from error\n",
        "            pass\n",
        does_io=True,
    ),
    Mutation(
        "facts recorded after a failed commit",
        "after a failed commit a host records nothing more",
        "Recorder.commit",
        "        self.failed = True\n        yield\n",
        "        yield\n",
        does_io=True,
    ),
    Mutation(
        "wrong worker's result archived",
        "the result that is archived is the one that was accepted",
        "ControlLoop.tick",
        "                self._recorder.record(self.farm, tx.facts, observation.wall, tx.results)\n",
        "                shown = {s.attempt: (scan.worker, s) for scan in observation.scans for s in scan.results}\n"
        "                self._recorder.record(self.farm, tx.facts, observation.wall, shown)\n",
        does_io=True,
    ),
    Mutation(
        "machine restarted repeatedly",
        "a recovery action is ordered once, whatever its outcome",
        "ControlLoop._execute",
        "        seen.recovery_ordered = seen.machine_started = True\n",
        "        seen.machine_started = True\n",
        does_io=True,
    ),
    Mutation(
        "busy machine put to rest",
        "a machine is put to rest only if nothing is on its share",
        "_is_idle",
        "    holds = worker.wanted or worker.left_published or seen.starts or seen.claims or seen.answers\n",
        "    holds = ()\n",
    ),
    Mutation(
        "machine at rest not woken",
        "a trial that waits wakes a machine",
        "rest_and_wake",
        "            if waiting > 0 and room > 0:\n",
        "            if waiting > 1 and room > 0:\n",
    ),
    Mutation(
        "spare machine woken",
        "a spare machine is woken only in place of one whose worker cannot play",
        "rest_and_wake",
        "            if waiting > 0 and room > 0:\n",
        "            if waiting > 0:\n",
    ),
    Mutation(
        "machine at rest recovered",
        "the silence of a machine at rest is no reason for a recovery action",
        "check_worker",
        "    if tx.observed.workers[worker.name].at_rest:\n",
        "    if worker.state is WorkerState.OUT:\n",
    ),
    Mutation(
        "memory with a game resumed",
        "a machine that is found off while its worker has work boots at once",
        "check_rest",
        "        seen.at_rest = not (worker.wanted or worker.left_published)\n",
        "        seen.at_rest = True\n",
    ),
    Mutation(
        "unknown read as empty",
        "law 5: unknown is not empty",
        "Observed._take_scan",
        "        if scan.unknown:\n",
        "        if False:\n",
    ),
    Mutation(
        "uncertain attempts forgotten at a restart",
        "law 3: after a host restart the next listing decides",
        "Observed.__init__",
        "            self.workers[name].unconfirmed = set(worker.wanted)\n",
        "            pass\n",
    ),
    Mutation(
        "poll does not list the outbox",
        "an event is a hint; the poll finds what it missed",
        "ShareClient._scan_all",
        "        return self._scan_outbox(request, scan)\n",
        "        return scan\n",
        does_io=True,
    ),
    Mutation(
        "claim is not flushed",
        "the claim is durable before the evaluation starts",
        "Agent._claim",
        "layout.encode(claim), durable=durable)",
        "layout.encode(claim))",
        does_io=True,
    ),
    Mutation(
        "suspect's claim is not flushed",
        "law 5: the claim of an attempt that may crash the host's system is durable",
        "Agent._run",
        "durable=start.alone or not self._host_is_local",
        "durable=not self._host_is_local",
        does_io=True,
    ),
    Mutation(
        "restart of the host's system ignored",
        "law 5: what local workers held when the host's system ended is next played alone",
        "Attempt.is_from_before",
        '        return "" not in (self.boot_id, boot_id) and self.boot_id != boot_id\n',
        "        return False\n",
    ),
    Mutation(
        "suspects played side by side",
        "law 5: only a genome that was played alone on the host's system is charged when that ends",
        "is_system_reserved",
        "    return any(attempt.alone_on_system for attempt in held) or any(_suspects(farm))\n",
        "    return False\n",
    ),
    Mutation(
        "digest not checked",
        "law 3: a payload with a wrong digest has not arrived yet",
        "Agent._run",
        "        if digest != start.genome_sha256:\n",
        "        if False:\n",
        does_io=True,
    ),
    Mutation(
        "absence not confirmed",
        "law 4: gone is absent from a listing and from an open by name, and again later",
        "ShareScanner.scan",
        "        present = listed | self._still_present(held - listed)\n",
        "        present = listed\n",
        does_io=True,
    ),
    Mutation(
        "new agent does not watch first",
        "law 7: on a foreign disk a new agent watches for three heartbeats",
        "OtherAgents.watch",
        '                raise OtherAgentActive(f"another agent (run {heartbeat[0]}) beats on this share")\n',
        "                pass\n",
        does_io=True,
    ),
    Mutation(
        "claim forgotten at the agent's start",
        "law 7: a claimed, unfinished attempt is interrupted and never run again",
        "ShareScanner.scan",
        "        outbox = self._scan_outbox(listed | mine)\n",
        "        outbox = self._scan_outbox(listed | mine)\n"
        "        outbox = {a: kinds for a, kinds in outbox.items() if a in mine or kinds != {Kind.STARTED}}\n",
        does_io=True,
    ),
    Mutation(
        "claimed attempt reported as undelivered",
        "a claimed attempt is interrupted, also if its start signal was lost",
        "_next_report",
        "known = _is_ours(state, attempt) or attempt in state.damaged or attempt in state.undeliverable\n",
        "known = _is_ours(state, attempt) and attempt not in state.undeliverable\n",
    ),
    Mutation(
        "unconfirmed claim counted",
        "a genome is not charged for a claim whose write was not confirmed",
        "_next_report",
        "        unconfirmed = attempt in state.unconfirmed_claims  # no",
        "        unconfirmed = False  # no",
    ),
    Mutation(
        "attempt ids reused",
        "law 3: no two ledgers and no two attempts ever have the same id",
        "_issue",
        """\
    number = len(trial.attempts) + 1
    nonce = tx.observation.nonce + base36(len(tx.facts), 4)  # unlike any other of this tick
""",
        """\
    number = 1
    nonce = "0" * 12
""",
    ),
    Mutation(
        "silence stops on an unreadable share",
        "law 5: unknown is no sign of life",
        "Observed.is_silent",
        "        return self.silence_s(name) > self._limits.silence_limit_s\n",
        "        return self.workers[name].readable and self.silence_s(name) > 10 * self._limits.silence_limit_s\n",
    ),
    Mutation(
        "suspend counted as silence",
        "law 5: clocks advance by at most a quarter of the silence limit per tick",
        "Observed.update",
        "min(max(observation.now - self._now, 0.0), self._limits.silence_limit_s / 4)",
        "max(observation.now - self._now, 0.0)",
    ),
    Mutation(
        "echoes not checked",
        "law 6: what a result says about itself must match its attempt",
        "_result_problem",
        "    return echo_problem(result.record, tx.farm.echo(attempt))\n",
        '    return ""\n',
    ),
    Mutation(
        "result accepted twice",
        "law 6: a result that was collected before is not counted again",
        "_accept_result",
        "    if attempt.has_result or result.attempt in farm.noted:\n",
        "    if False:\n",
    ),
    Mutation(
        "queued attempt charged",
        "law 5: only the genome that was being evaluated is charged",
        "give_up_all",
        "        elif attempt.id in seen.claims:\n",
        "        else:\n            tx.give_up(attempt, Outcome.LOST, 'silent')\n            tx.charge(attempt)\n"
        "            continue\n        if attempt.id in seen.claims:\n",
    ),
    Mutation(
        "trial settled after one failure",
        "a trial settles after failures_max failures, and not before",
        "Transaction._settle_if_exhausted",
        "        if trial.blamed >= self.limits.failures_max:\n",
        "        if trial.blamed >= 1:\n",
    ),
    Mutation(
        "poison after one charge",
        "a genome is poison after attempts_max charges, and not before",
        "Transaction._is_poison",
        "        return len(genome.charges) >= self.limits.attempts_max and len(on_workers) >= enough\n",
        "        return len(genome.charges) >= 1\n",
    ),
    Mutation(
        "sibling not withdrawn",
        "law 6: a late completed result withdraws the attempt that followed it",
        "Transaction._settle_completed",
        "        if sibling is not None:\n",
        "        if False:\n",
    ),
    Mutation(
        "poison never recognised",
        "a genome that takes workers down is settled, and its workers are forgiven",
        "Transaction._is_poison",
        "        return len(genome.charges) >= self.limits.attempts_max and len(on_workers) >= enough\n",
        "        return False\n",
    ),
    Mutation(
        "unlimited failures",
        "a trial settles after failures_max failures",
        "Transaction._settle_if_exhausted",
        "        if trial.blamed >= self.limits.failures_max:\n",
        "        if trial.blamed >= 100 * self.limits.failures_max:\n",
    ),
    Mutation(
        "other trials of a failing genome assigned",
        "a trial that failed is settled before another one of its genome is assigned",
        "Trial.is_held_back",
        "        return bool(failed) and failed[0] is not self\n",
        "        return False\n",
    ),
    Mutation(
        "other trials of a failing genome stay queued",
        "when a trial fails, queued attempts at the others of its genome are withdrawn",
        "Transaction._withdraw_held_back",
        "            if seen.readable and not seen.may_be_playing(attempt.id):\n",
        "            if False:\n",
    ),
    Mutation(
        "retried by the worker that failed it",
        "the last try waits for a worker that has not failed the trial",
        "_waits_for_other_worker",
        "        last_choice |= trial.blamed_by\n",
        "        pass\n",
    ),
    Mutation(
        "lost again by the worker that lost it",
        "the last attempt waits for a worker that has not lost the trial",
        "_waits_for_other_worker",
        "        last_choice |= trial.lost_by\n",
        "        pass\n",
    ),
    Mutation(
        "stopped agent charged to the genome",
        "law 5: what a request to stop the agent has interrupted is charged to no genome",
        "Transaction.end_attempt",
        "(ended.outcome is Outcome.INTERRUPTED and not agent_stopped)",
        "ended.outcome is Outcome.INTERRUPTED",
    ),
    Mutation(
        "claims before it reports an earlier claim",
        "a claim of an earlier run is reported before the next one, also if its start signal is damaged",
        "_next_report",
        " or attempt in state.damaged",
        "",
    ),
    Mutation(
        "lossy worker gets work until the sweep",
        "a worker that lost losses_max attempts in a row gets nothing more",
        "_lost_too_many",
        "    return worker.losses >= (1 if worker.state is WorkerState.PROBATION else tx.limits.losses_max)\n",
        "    return False\n",
    ),
    Mutation(
        "plays any evaluator",
        "law 7: an agent plays only start signals that ask for the evaluator version it has loaded",
        "_next_run",
        "start.evaluator in (None, state.evaluator)",
        "True",
    ),
    Mutation(
        "looks at files only before a load",
        "files that were written while they were loaded are loaded again",
        "VersionedEvaluator._load",
        "not self._evaluator.reads_files_at_each_game and self._look() != before",
        "False",
    ),
    Mutation(
        "looks at files only before a game",
        "a game whose files were written while it was played reports no version",
        "VersionedEvaluator._version_played",
        "            if is_same:\n",
        "            if True:\n",
    ),
    Mutation(
        "retried in the same process",
        "a trial that failed is tried again in a process that has played nothing",
        "VersionedEvaluator.renew",
        "        if not self._evaluator.is_unused:\n",
        "        if False:\n",
    ),
    Mutation(
        "open generation gets the newest evaluator",
        "a generation keeps the evaluator that it was begun with",
        "Deployments.wanted_by",
        "            return self.of_version(farm.evaluator_version)\n",
        "            return self.newest(worker)\n",
    ),
    Mutation(
        "result reused for other bytes",
        "an earlier result counts again only for the same bytes",
        "_game",
        "genome.sha256",
        "genome.name",
    ),
    Mutation(
        "result reused for another seed",
        "an earlier result counts again only for the same trial with the same seed",
        "_game",
        "trial.number, trial.seed",
        "1, 1",
    ),
    Mutation(
        "reused after the first attempt",
        "a trial whose result is known is not issued",
        "decide",
        """\
        if earlier is not None:
            earlier.settle(tx)  # before anything of it is issued
        assign(tx, queues)
""",
        """\
        assign(tx, queues)
        if earlier is not None:
            earlier.settle(tx)
""",
    ),
    Mutation(
        "reused for a genome that was reopened",
        "a genome that the user reopens is played, although its result is known",
        "EarlierResults.settle",
        "genome.trials if not genome.reopened else ()",
        "genome.trials",
    ),
    Mutation(
        "endless quarantine",
        "a quarantined worker gets its probation",
        "_check_quarantined",
        "    if tx.observed.time - seen.quarantined_at > worker.back_off_s:\n",
        "    if False:\n",
    ),
    Mutation(
        "flood of results noted",
        "law 6: results under ids that were never issued are noted up to a number",
        "Observed.is_flooded",
        "        return worker.unexpected >= self._limits.unknown_results_max\n",
        "        return False\n",
    ),
    Mutation(
        "foreign share used",
        "law 7: the share of another farm or worker is not touched",
        "check_ownership",
        "    elif (scan.owner.farm, scan.owner.worker) != (tx.farm.farm_id, worker.name):\n",
        "    elif False:\n",
        first_seed=3801,
    ),
    Mutation(
        "reopened genome keeps its failures",
        "the trials of a reopened genome have all their tries again",
        "Farm._reopen",
        "        trial.blamed = trial.losses = 0\n",
        "        pass\n",
    ),
    Mutation(
        "run finished without a last look",
        "a file that is in the folder when the last trial settles is played",
        "decide",
        " and not observation.is_open:\n",
        ":\n",
    ),
    Mutation(
        "file taken at the first look",
        "a file that arrives is read when looks have shown it unchanged for a second",
        "FolderLooks.compare",
        "        complete = {name for name in todo if self._is_steady(name, at)}\n",
        "        complete = todo\n",
    ),
    Mutation(
        "new files forgotten at a restart",
        "a file that arrives while no host is there joins at the next start",
        "GenomeFolder.__init__",
        "        names = {genome.name for genome in farm.genomes}\n",
        "        names = before.keys()\n",
    ),
    Mutation(
        "deep queue behind a long game",
        "what waits behind a game that lasts is withdrawn, but for the configured queue",
        "_shorten",
        "    if len(worker.wanted) > 2 * depth:\n",
        "    if False:\n",
    ),
    Mutation(
        "deep queue on probation",
        "on probation a worker holds one attempt",
        "Queues.depth_of",
        "        if worker.state is WorkerState.PROBATION:\n",
        "        if False:\n",
    ),
    Mutation(
        "epochs without an end",
        "law 7: a share that goes back in time again and again has its worker quarantined",
        "_note_revert",
        "    if worker.reverts > tx.limits.reverts_max and not is_quarantined:\n",
        "    if False:\n",
    ),
    Mutation(
        "epochs during a quarantine",
        "law 7: after too many reverts no epoch begins before the probation",
        "_note_revert",
        "        return False\n",
        "        pass\n",
    ),
    Mutation(
        "drained worker gets work",
        "a drained worker gets no attempts",
        "assignable_workers",
        "if w.state in states and not w.drained)",
        "if w.state in states)",
    ),
    Mutation(
        "drain decided by an earlier scan",
        "a drained worker plays what it has begun",
        "return_queue",
        " or scan.requested_at < seen.drained_at:",
        ":",
        first_seed=19_601,
    ),
    Mutation(
        "drained worker recovered",
        "the machine of a drained worker is left to the user",
        "check_worker",
        "    if worker.drained:\n",
        "    if not worker:\n",
    ),
    Mutation(
        "removed worker keeps its attempts",
        "what a worker holds is withdrawn when it leaves",
        "carry_out_requests",
        'tx.withdraw_all(tx.farm.workers[name], f"{name} was removed")',
        "pass",
    ),
    Mutation(
        "straggler copied again and again",
        "a trial is played by two workers at most",
        "_may_be_copied",
        " or is_copied)",
        ")",
    ),
    Mutation(
        "suspected genome copied",
        "what may take a second worker down is not copied",
        "_may_be_copied",
        " or trial.genome.is_suspect",
        "",
    ),
    Mutation(
        "straggler stopped",
        "a game that is copied is played on",
        "Transaction.give_up_to_copy",
        ", left_published=True",
        "",
    ),
    Mutation(
        "straggler's worker gets more",
        "law 5: a worker with a start signal that stayed gets nothing more",
        "assignable_workers",
        "not w.left_published and ",
        "",
    ),
    Mutation(
        "copies while trials wait",
        "a second copy is played at once",
        "copy_stragglers",
        " or tx.farm.pending",
        "",
    ),
    Mutation(
        "retry waits for fast workers",
        "a retry may be played by a slow worker",
        "_takers",
        "takers if tx.farm.pending.retries else ",
        "",
    ),
    Mutation(
        "queue behind a straggler",
        "what waits behind a game moves to another worker before the game is copied",
        "_games_that_last",
        "len(worker.wanted) == 1",
        "worker.wanted",
    ),
    Mutation(
        "straggler outlives its trial",
        "a trial that settles ends what is played on of it",
        "Transaction._settle",
        "self.observed.is_open(worker)",
        "not self.observed.is_open(worker)",
        first_seed=1900,
    ),
]


def detect(mutation: Mutation, seeds_max: int = SEEDS_MAX) -> Detection:
    """Applies a mutation to a copy of the source and plays histories of it until one violates an invariant."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        for part in (*PACKAGES, "tests"):
            shutil.copytree(ROOT / part, Path(place) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        path, text = mutated(mutation, Path(place))
        path.write_text(text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "tests.simulator.mutations",
            "--play-here",
            str(seeds_max),
            "--first-seed",
            str(mutation.first_seed),
        ]
        environment = {**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{mutation.name}: {done.stderr[-2000:]}")
        return Detection(**json.loads(done.stdout))


def mutated(mutation: Mutation, root: Path = ROOT) -> tuple[Path, str]:
    """The file below `root` that a mutation changes, and its text afterwards.

    Raises:
        LookupError: not exactly one function has that name.
        ValueError: the text to replace does not occur in it exactly once.
    """
    function = find_function(mutation.function, root, mutation.package)
    lines = function.path.read_text(encoding="utf-8").split("\n")
    source = "\n".join(lines[function.first - 1 : function.last]) + "\n"
    if source.count(mutation.old) != 1:
        times = source.count(mutation.old)
        raise ValueError(f"{mutation.name}: its text occurs {times} times in {function.name} ({function.path})")
    after = source.replace(mutation.old, mutation.new)
    return function.path, "\n".join([*lines[: function.first - 1], after + "\n".join(lines[function.last :])])


def _play_here(first_seed: int, seeds_max: int) -> Detection:
    from tests.simulator.history import play
    from tests.simulator.world import World, fault_free_options

    def violation(seed: int, *, fault_free: bool) -> str:
        options = fault_free_options(World(seed).options) if fault_free else None
        try:
            return "; ".join(play(seed, options).violations[:1])
        except Exception as error:  # an assertion of the program: no run would finish
            return f"{ASSERTION}{type(error).__name__}: {error}"

    for seed in range(1, FAULT_FREE_SEEDS + 1):
        if found := violation(seed, fault_free=True):
            return Detection(fault_free=False, seed=None, violation=found)
    for seed in range(first_seed, first_seed + seeds_max):
        if found := violation(seed, fault_free=False):
            return Detection(fault_free=True, seed=seed, violation=found[:200])
    return Detection(fault_free=True, seed=None)


def detect_all(mutations: Sequence[Mutation], seeds_max: int) -> list[Detection]:
    """Plays every mutation, as many at once as there are processors."""
    with ThreadPool(os.cpu_count()) as pool:
        return pool.map(lambda mutation: detect(mutation, seeds_max), mutations)


def main() -> int:
    """Prints the table; exit code 1 if a mutation was not detected."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how many seeds to play of each")
    parser.add_argument("--only", action="append", help="a mutation's name; may be repeated")
    parser.add_argument("--play-here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--first-seed", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.play_here is not None:
        import logging

        logging.disable(logging.CRITICAL)
        print(json.dumps(vars(_play_here(args.first_seed, args.play_here))))
        return 0
    mutations = [one for one in MUTATIONS if args.only is None or one.name in args.only]
    detections = detect_all(mutations, args.seeds)
    print("| mutation | rule it breaks | where | first seed |\n|---|---|---|---|")
    for mutation, found in zip(mutations, detections, strict=True):
        seed = f"{found.seed or 'not found'}" if found.fault_free else "breaks without a fault"
        by_assertion = ", by an assertion" if found.violation.startswith(ASSERTION) else ""
        print(f"| {mutation.name} | {mutation.rule} | `{mutation.function}` | {seed}{by_assertion} |")
        print(f"    {found.violation}", file=sys.stderr)
    seen = sum(found.seed is not None for found in detections)
    io = sum(one.does_io and found.seed is not None for one, found in zip(mutations, detections, strict=True))
    print(f"\n{seen} of {len(mutations)} found, {io} of them in code that does I/O")
    return 0 if seen == len(mutations) else 1


if __name__ == "__main__":
    sys.exit(main())
