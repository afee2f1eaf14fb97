"""The verdict on one simulated history, from outside: facts as committed, games as played, genomes as written.

In the words of Jepsen's queue checker: lost (never settled), duplicated (settled twice), unexpected (a fitness that no
game of that genome gave), recovered (settled although something went wrong on the way).
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.farm import Farm
from pipeline.core.roster import trial_seed
from pipeline.generation import replay
from tests.simulator.host import LIMITS, MemoryLedger, genomes_of
from tests.simulator.machine import Machine, fitness_of
from tests.simulator.world import World

ATTEMPTS_PER_TRIAL_MAX = 3 * LIMITS.losses_per_trial_max
RESTARTS_PER_MINUTE_MAX = 8


@dataclass
class Verdict:
    """What the checkers found."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0
    broken: list[str] = field(default_factory=list)  #: other promises

    @property
    def kept(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.broken)

    def __str__(self) -> str:
        problems = [
            f"{kind}: {', '.join(found[:5])}" for kind, found in vars(self).items() if kind != "recovered" and found
        ]
        return "; ".join(problems) or "kept"


def check(world: World, ledger: MemoryLedger, machines: list[Machine], *, at_end: bool) -> Verdict:
    """Checks everything that must hold at any moment, and at the end also that nothing is missing."""
    verdict = Verdict()
    genomes = list(genomes_of(world).items())
    facts: list[dict[str, Any]] = [json.loads(body) for *_, body in ledger.rows]
    issued = {fact["attempt"]: fact for fact in facts if fact["fact"] == "AttemptIssued"}
    settled: Counter[tuple[int, int]] = Counter()
    for fact in facts:
        if fact["fact"] == "TrialSettled":
            settled[fact["genome"], fact["trial"]] += 1
            _check_fitness(world, genomes, issued, fact, verdict)
        elif fact["fact"] == "TrialReopened":
            settled[fact["genome"], fact["trial"]] -= 1
    verdict.duplicated += [f"{key}" for key, count in settled.items() if count > 1]
    attempts = Counter((fact["genome"], fact["trial"]) for fact in issued.values())
    verdict.recovered = sum(attempts[key] > 1 for key in settled)
    verdict.broken += [f"{key} took {n} attempts" for key, n in attempts.items() if n > ATTEMPTS_PER_TRIAL_MAX]
    if ledger.unarchived:
        verdict.broken.append("a result was recorded before it was archived")
    for machine in machines:
        if machine.overlaps:
            verdict.broken.append(f"{machine.name} played two attempts at once")
        if machine.restarts > 3 + RESTARTS_PER_MINUTE_MAX * world.now / 60:
            verdict.broken.append(f"{machine.name} was restarted {machine.restarts} times")
    if at_end:
        trials = {(g, t) for g in range(1, len(genomes) + 1) for t in range(1, world.options.trials + 1)}
        verdict.lost += [f"{key}" for key in sorted(trials - settled.keys())]
        _check_replay(ledger, [machine.name for machine in machines], verdict)
        _check_blame(genomes, facts, verdict)
    return verdict


def _check_fitness(
    world: World, genomes: list[tuple[str, bytes]], issued: dict[str, Any], fact: dict[str, Any], verdict: Verdict
) -> None:
    _name, data = genomes[fact["genome"] - 1]
    fitness = fact.get("fitness")
    if fact["settlement"] == "completed":
        expected = fitness_of(data, trial_seed(world.seed, 1, fact["trial"]))
        attempt = issued.get(fact.get("attempt", ""))
        fits = attempt is not None and (attempt["genome"], attempt["trial"]) == (fact["genome"], fact["trial"])
        if fitness != expected or not fits:
            verdict.unexpected.append(f"genome {fact['genome']} trial {fact['trial']}: {fitness}")
    elif fitness is not None:
        verdict.unexpected.append(f"a fitness for a {fact['settlement']} trial")


def _check_blame(genomes: list[tuple[str, bytes]], facts: list[dict[str, Any]], verdict: Verdict) -> None:
    """An innocent genome is never settled by the evaluator's word, and never found to be poison alone."""
    for fact in facts:
        if fact["fact"] == "TrialSettled" and fact["settlement"] == "timed_out":
            orders = json.loads(genomes[fact["genome"] - 1][1])
            if orders["do"] != "hang":
                verdict.broken.append(f"genome {fact['genome']} ({orders['do']}) was settled as timed out")


def _check_replay(ledger: MemoryLedger, workers: list[str], verdict: Verdict) -> None:
    """The ledger can be replayed, and says itself that it is finished."""
    farm = Farm(ledger.farm_id, workers)
    replay(ledger.entries(), farm, generation=1)
    if not farm.finished:
        verdict.broken.append("the replayed ledger is not finished")
