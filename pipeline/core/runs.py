"""Opens, extends, reopens and closes the run of a generation: the facts for each, and replay. No I/O of its own.

Genomes and the settings that a fitness depends on are fixed at the first run. New files are added, also while it runs;
missing ones stay, changed settings are refused. The bytes of a genome stay those that were read first: a file with
others is refused, or named by the caller. Its params stay those that were recorded first. A finished generation stays
finished.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsIndex

from msgspec.structs import replace

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    Entry,
    EvaluatorAccepted,
    Fact,
    GenomeAdded,
    GenomeReopened,
    HostStopped,
    RecoveryAction,
    RecoveryStarted,
    RunOpened,
    RunSettings,
    TrialReopened,
    WorkerFact,
)
from pipeline.core.farm import Farm
from pipeline.core.model import Attempt, Genome, GenomeFile, TrialState
from pipeline.core.params import Params
from pipeline.errors import InputError
from pipeline.paths import GENERATION_FORMS

GENERATION_MAX = 999_999_999  #: what an attempt's id has room for (share_layout.md)


def parse_generation(text: str) -> int:
    """The number in `7`, `gen-7`, `gen-0007` or `genomes/gen-0007`. Raises InputError."""
    match = GENERATION_FORMS.fullmatch(text.strip())
    if match is None or int(match[1]) < 1:
        raise InputError(f"--gen {text}: expected a number from 1, e.g. 7, gen-7 or genomes/gen-0007")
    return int(match[1])


def generation_number(given: object) -> int:
    """A generation's number that a program gives: any integer, also of numpy. Raises InputError."""
    number = given.__index__() if isinstance(given, SupportsIndex) else 0
    if not 1 <= number <= GENERATION_MAX:
        raise InputError(f"generation {given!r}: expected a number from 1 to {GENERATION_MAX}")
    return number


def replay(entries: Iterable[Entry], farm: Farm, generation: int) -> None:
    """Applies the ledger to a new farm: all of one generation, and of others what all of them depend on."""
    for entry in entries:
        fact = entry.fact
        if entry.generation == generation or isinstance(fact, WorkerFact):
            farm.evolve(fact, entry.at)
        elif isinstance(fact, AttemptIssued):
            worker = farm.worker(fact.worker)
            worker.publications = max(worker.publications, fact.publication)
        elif isinstance(fact, RecoveryStarted) and fact.action is RecoveryAction.RESTORE:
            farm.worker(fact.worker).reverting = True  # until an epoch begins, in any generation


def opening_facts(
    farm: Farm,
    generation: int,
    genomes: Sequence[GenomeFile],
    settings: RunSettings,
    *,
    fresh: bool,
    follow_folder: bool = False,
) -> list[Fact]:
    """The facts that open a generation, or continue it with the new files of its folder.

    With `follow_folder` a generation is continued with the genomes that it has: new files may be in the making, and
    join later. A genome whose file has other bytes now is no error then: it keeps those of the first run.

    Raises:
        InputError: a setting differs from the first run, or a genome's bytes.
    """
    if farm.generation == generation and not fresh:
        settings = _with_version_of(farm, settings)
    nothing_counted = not has_fitness(farm)
    no_genome_missing = {genome.name for genome in farm.genomes} <= {file.name for file in genomes}
    if nothing_counted and no_genome_missing and farm.settings != settings:
        fresh = True  # no fitness yet: changed settings restart the run without --fresh
    if farm.generation == generation and not fresh:
        assert farm.settings is not None
        _refuse_other_settings(farm, farm.settings, settings)
        if follow_folder:
            return []
        _refuse_other_bytes(farm, genomes)
        return joining_facts(farm, genomes)
    opened, recorded = RunOpened(generation=generation, run=1, settings=settings), dict[str, Params]()
    if farm.generation == generation:
        opened, recorded = replace(opened, run=farm.run + 1), {genome.name: genome.params for genome in farm.genomes}
    return [opened, *_added(with_params(genomes, recorded), after=0)]


def with_params(files: Iterable[GenomeFile], params: Mapping[str, Params]) -> list[GenomeFile]:
    """The same files, those that are named with these params."""
    return [dataclasses.replace(file, params=params[file.name]) if file.name in params else file for file in files]


def joining_facts(farm: Farm, files: Iterable[GenomeFile]) -> list[Fact]:
    """The facts that add files to the open generation; those of genomes that it has already add none."""
    names = {genome.name for genome in farm.genomes}
    return _added([file for file in files if file.name not in names], after=len(farm.genomes))


def changed_files(farm: Farm, files: Iterable[GenomeFile]) -> list[GenomeFile]:
    """The files with other bytes than the genomes of the same name in the open generation."""
    digests = {genome.name: genome.sha256 for genome in farm.genomes}
    return [file for file in files if digests.get(file.name, file.sha256) != file.sha256]


def has_fitness(farm: Farm) -> bool:
    """Whether any trial of the open generation has a fitness."""
    return any(trial.fitness is not None for genome in farm.genomes for trial in genome.trials)


def is_begun(farm: Farm) -> bool:
    """Whether the open generation depends on its evaluator: a trial has a fitness, or a game was seen to begin."""
    held = (attempt for worker in farm.workers.values() for attempt in worker.wanted.values())
    return has_fitness(farm) or any(attempt.claimed_at is not None for attempt in held)


def evaluator_differs(farm: Farm, settings: RunSettings) -> bool:
    """Whether the open generation was begun with another evaluator than that of these settings, both being known."""
    return (
        bool(farm.evaluator_version and settings.evaluator_version)
        and farm.evaluator_version != settings.evaluator_version
        and not farm.allows_any_evaluator
    )


def accepting_facts(farm: Farm, settings: RunSettings) -> list[Fact]:
    """The facts of `--accept-evaluator`: the open generation goes on with the evaluator of these settings."""
    return [
        *withdrawals(farm, "another evaluator was accepted", farm.workers),
        EvaluatorAccepted(version=settings.evaluator_version),
    ]


def _with_version_of(farm: Farm, settings: RunSettings) -> RunSettings:
    """These settings with the version that the generation was begun with: a change of it has a rule of its own."""
    if farm.settings is None or not has_fitness(farm):
        return settings
    return replace(settings, evaluator_version=farm.settings.evaluator_version)


def withdrawals(farm: Farm, reason: str, workers: Iterable[str] | None = None) -> list[Fact]:
    """The facts that withdraw all open attempts of these workers; None: of all, also those no longer configured."""
    every = {**farm.retired, **farm.workers}
    chosen = every.values() if workers is None else [every[name] for name in workers]
    return [_withdrawn(attempt, reason) for worker in chosen for attempt in worker.wanted.values()]


def closing_facts(farm: Farm, local: Iterable[str], reason: str) -> list[Fact]:
    """The facts of a graceful end; what local workers hold is withdrawn, because they end with the host."""
    return [*withdrawals(farm, "host ended", local), HostStopped(reason=reason)]


def reopening_facts(farm: Farm) -> list[Fact]:
    """The facts of `--retry-failed`: every trial that is settled without a fitness is reopened."""
    return [
        TrialReopened(genome=genome.number, trial=trial.number)
        for genome in farm.genomes
        for trial in genome.trials
        if trial.state is TrialState.SETTLED and trial.fitness is None
    ]


def refuse_to_replace(farm: Farm, generation: int, names: Iterable[str], settings: RunSettings) -> None:
    """Refuses what `--only` cannot do with these genomes.

    Raises:
        InputError: they are not genomes of the open generation, others are open, or a setting was changed.
    """
    first = f"`pipeline run --gen {generation}` without --only plays them first"
    if farm.generation != generation or farm.settings is None:
        raise InputError(f"generation {generation} was never run; {first}")
    known = {genome.name for genome in farm.genomes}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"generation {generation} has not played {', '.join(unknown)}; `pipeline run --gen {generation}` without "
            "--only plays files that were added, if they can be genomes"
        )
    others = [genome.name for genome in farm.genomes if _is_open(genome) and genome.name not in names]
    if others:
        raise InputError(f"{len(others)} other genomes of generation {generation} are open, e.g. {others[0]}; {first}")
    _refuse_other_settings(farm, farm.settings, _with_version_of(farm, settings))


def replacing_facts(farm: Farm, names: Iterable[str], files: Iterable[GenomeFile]) -> list[Fact]:
    """The facts of `--only`: these genomes are played again, with the bytes of these files if they have one.

    A genome that is open is continued if its bytes are the same: the command was stopped and is given again.
    """
    by_name, facts = {file.name: file for file in files}, list[Fact]()
    for genome in farm.genomes:
        bytes_now: Genome | GenomeFile = by_name.get(genome.name, genome)
        if genome.name not in names or (_is_open(genome) and bytes_now.sha256 == genome.sha256):
            continue
        held = [attempt for trial in genome.trials if (attempt := trial.open_attempt) is not None]
        facts += [_withdrawn(attempt, "its genome was reopened") for attempt in held]
        facts.append(GenomeReopened(genome=genome.number, size_bytes=bytes_now.size_bytes, sha256=bytes_now.sha256))
    return facts


def _is_open(genome: Genome) -> bool:
    return any(trial.state is not TrialState.SETTLED for trial in genome.trials)


def _withdrawn(attempt: Attempt, reason: str) -> AttemptEnded:
    return AttemptEnded(attempt=attempt.id, outcome=Outcome.WITHDRAWN, reason=reason, by_host=True)


def _added(files: Sequence[GenomeFile], *, after: int) -> list[Fact]:
    return [
        GenomeAdded(
            genome=number,
            name=file.name,
            suffix=file.suffix,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            params=dict(file.params),
        )
        for number, file in enumerate(files, after + 1)
    ]


def _refuse_other_settings(farm: Farm, fixed: RunSettings, settings: RunSettings) -> None:
    changed = [
        f"{name} was {getattr(fixed, name)!r}, is now {getattr(settings, name)!r}"
        for name in RunSettings.__struct_fields__
        if getattr(fixed, name) != getattr(settings, name)
    ]
    if changed:
        raise InputError(_begun_with_other(farm, "settings", changed))


def _refuse_other_bytes(farm: Farm, genomes: Sequence[GenomeFile]) -> None:
    digests = {genome.name: genome.sha256 for genome in farm.genomes}
    changed = [
        f"{file.name} was {digests[file.name][:12]}…, is now {file.sha256[:12]}…"
        for file in changed_files(farm, genomes)
    ]
    if changed:
        raise InputError(_begun_with_other(farm, "bytes", changed))


def _begun_with_other(farm: Farm, what: str, changed: Sequence[str]) -> str:
    fix = "put them back, or begin it anew with --fresh"
    return f"generation {farm.generation} was begun with other {what}: {'; '.join(changed)}; {fix}"
