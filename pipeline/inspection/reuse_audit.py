"""Audits results of an earlier generation that count again, without the code that chose them. Pure.

A trial with such a result must be the same game as the one that was played: same bytes, suffix, number, seed, version
of the evaluator and settings; its fitness must be the one that was accepted there.
Owns: what is wrong with one of them, and the seed of a trial.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from inbox_agent.protocol.layout import Outcome, Setting
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    EvaluatorAccepted,
    EvaluatorFixed,
    GenomeAdded,
    GenomeReopened,
    RunOpened,
    Settlement,
    TrialSettled,
)


@dataclass(frozen=True, slots=True)
class Game:
    """What a game is for its evaluator."""

    genome: str  #: the digest of its bytes
    suffix: str
    trial: int
    seed: int
    evaluator: str  #: the version
    played_by: str  #: the command or the callable
    time_limit_s: float
    settings: dict[str, Setting]


@dataclass(frozen=True, slots=True)
class AcceptedGame:
    """A game of an earlier generation with what was accepted of it."""

    generation: int
    game: Game
    fitness: float | None
    metrics: dict[str, float]


def seed_of(opened: RunOpened, trial: int) -> int:
    """The seed of a trial, computed independently of `core` (`seed` in share_layout.md)."""
    generation = 0 if opened.settings.seeds == "fixed" else opened.generation
    digest = hashlib.sha256(f"{opened.settings.seed}/{generation}/{trial}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def game_of(opened: RunOpened, genome: GenomeAdded, trial: int, evaluator: str) -> Game:
    """The game of a trial, played by a version of the evaluator."""
    return Game(
        genome.sha256,
        genome.suffix,
        trial,
        seed_of(opened, trial),
        evaluator,
        opened.settings.evaluator,
        opened.settings.time_limit_s,
        opened.settings.settings,
    )


def reuse_problem(opened: RunOpened, game: Game, settled: TrialSettled, source: AcceptedGame | None) -> str:
    """What is wrong with a settlement by an earlier result; empty if nothing.

    `game` is that of the trial, with the version of the evaluator that was in force; `source` is what the ledger has of
    the attempt that it names.
    """
    reused, attempt = settled.reused, settled.attempt
    assert reused is not None
    if opened.settings.reuse != "same-seeds" or settled.settlement is not Settlement.COMPLETED:
        return f"is {settled.settlement} by {attempt} of generation {reused.generation}, which may not count again"
    if source is None:
        return f"decided by {attempt} of generation {reused.generation}, which never completed"
    if source.generation != reused.generation or source.generation >= opened.generation:
        return f"decided by {attempt} of generation {source.generation}, recorded is {reused.generation}"
    wrong = [
        f"{field.name} {getattr(source.game, field.name)!r} instead of {getattr(game, field.name)!r}"
        for field in dataclasses.fields(Game)
        if getattr(source.game, field.name) != getattr(game, field.name)
    ]
    if wrong:
        return f"decided by {attempt}, which is another game: {'; '.join(wrong)}"
    if (source.fitness, source.metrics, source.game.evaluator) != (settled.fitness, reused.metrics, reused.evaluator):
        return f"decided by {attempt}, which had the fitness {source.fitness}, counted was {settled.fitness}"
    return ""


def accepted_games(entries: Iterable[Entry], attempts: Collection[str]) -> dict[str, AcceptedGame]:
    """The completed ones of these attempts, from all facts of the ledger."""
    opened: dict[int, RunOpened] = {}
    versions: dict[int, str] = {}
    genomes: dict[tuple[int, int], GenomeAdded] = {}
    issued: dict[str, Game] = {}
    accepted: dict[str, AcceptedGame] = {}
    for _seq, _at, generation, _run, fact in entries:
        match fact:
            case RunOpened():
                opened[generation], versions[generation] = fact, fact.settings.evaluator_version
            case EvaluatorFixed() | EvaluatorAccepted():
                versions[generation] = fact.version
            case GenomeAdded():
                genomes[generation, fact.genome] = fact
            case GenomeReopened() if (added := genomes.get((generation, fact.genome))) is not None:
                genomes[generation, fact.genome] = replace(added, sha256=fact.sha256)
            case AttemptIssued() if fact.attempt in attempts and (generation, fact.genome) in genomes:
                added = genomes[generation, fact.genome]
                issued[fact.attempt] = game_of(opened[generation], added, fact.trial, versions[generation])
            case AttemptEnded(outcome=Outcome.COMPLETED) if (game := issued.get(fact.attempt)) is not None:
                played = dataclasses.replace(game, evaluator=fact.evaluator or game.evaluator)
                accepted[fact.attempt] = AcceptedGame(generation, played, fact.fitness, fact.metrics)
    return accepted
