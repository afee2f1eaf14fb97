"""Opens generations, resumes them, and opens single genomes of them once more.

Owns: the order in which files are read, requests are refused and facts are recorded; a refusal changes nothing.
Not here: which facts these are (`core.runs`), playing (`host`).
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from inbox_agent.system.boot import boot_id
from pipeline.config import Config
from pipeline.core import runs as rules
from pipeline.core.facts import Fact, HostStarted, RunOpened, RunSettings
from pipeline.core.farm import Farm
from pipeline.core.model import Genome, GenomeFile
from pipeline.core.params import Params
from pipeline.core.queues import room_for_trials
from pipeline.core.reuse import EarlierResults, earlier_results
from pipeline.errors import InputError
from pipeline.host.genome_folder import FileNotes, GenomeFolder
from pipeline.host.genome_intake import GenomeIntake, stamps
from pipeline.host.outputs import Outputs
from pipeline.host.project_evaluator import ProjectEvaluator
from pipeline.host.submissions import Result, Submissions
from pipeline.host.wiring import Parts
from pipeline.machines.connections import require_secrets
from pipeline.paths import ProjectPaths
from pipeline.storage.collector import without_collector
from pipeline.storage.read_files import ReadFiles
from pipeline.storage.snapshots import GenomeFiles
from pipeline.storage.submitted_genomes import put_genome


class JoiningGenomes(Protocol):
    """Where genomes come from that join the open generation while it is played."""

    @property
    def notes(self) -> FileNotes:
        """What is to be said of files at the end of the run."""

    def update(self, farm: Farm) -> list[Fact]:
        """Records the genomes that join now; returns their facts. Raises HostError."""

    def is_open(self, farm: Farm) -> bool:
        """Whether genomes may still join."""

    def wait_s(self, farm: Farm) -> float:
        """How long until `update` is to be called again; 0 if at once."""


@dataclass(frozen=True, slots=True)
class OpenedGeneration:
    """A generation that can be played."""

    outputs: Outputs
    joining: JoiningGenomes | None = None  #: None: its genomes are complete


class GenerationOpener:
    """Opens generations of one farm.

    Threads: all methods belong to the control loop's thread.
    """

    def __init__(
        self,
        config: Config,
        paths: ProjectPaths,
        parts: Parts,
        evaluator: ProjectEvaluator,
        load: Callable[[int], None],
        record: Callable[[list[Fact]], None],
    ) -> None:
        """`load` replays the ledger into the farm for a generation."""
        self._config, self._paths, self._parts, self._evaluator = config, paths, parts, evaluator
        self._load, self._record = load, record

    def open(
        self,
        generation: int,
        *,
        fresh: bool,
        retry_failed: bool,
        accept_evaluator: bool,
        follow_folder: bool,
        params: Mapping[str, Params],
        complete: Collection[str] | None = None,
    ) -> OpenedGeneration:
        """Opens a generation with the genomes of its folder and the params of some of them, or resumes it.

        If it is opened, only the files in `complete` are read, by default all; others join later.

        Raises:
            InputError: it cannot be run as asked; nothing has changed. GenomeError if a genome is the reason.
            HostError: the ledger, a snapshot or the results could not be written.
        """
        with without_collector():
            files = self._files(generation)
            # Before the farm is switched: the attempts of another generation are not withdrawn for refused genomes.
            resumes = self._parts.ledger.has(generation) and not fresh
            read_files = ReadFiles(self._paths.read_files, files.snapshots)
            following = {"follows": follow_folder, "resumes": resumes}
            intake = GenomeIntake(files, read_files, generation, **following, complete=complete)
            try:
                self._load(generation)
                settings = self._settings(generation, renewed=fresh or accept_evaluator)
                genomes = rules.with_params(self._whole(intake.genomes, complete), params)
                opening = rules.opening_facts(
                    self._farm, generation, genomes, settings, fresh=fresh, follow_folder=follow_folder
                )
                arrived = intake.before.keys() - {genome.name for genome in self._farm.genomes} - intake.refused.keys()
                has_work = bool(opening or arrived or not self._farm.finished)
                asked = {"retry_failed": retry_failed, "accept_evaluator": accept_evaluator}
                self._record_opening(generation, settings, opening, has_work=has_work, **asked)
            except InputError:
                self._parts.snapshots.discard_new()
                raise
            intake.remember()
            outputs = self._outputs(generation)
            self._parts.loop.is_open = follow_folder and has_work
            self._parts.loop.earlier = self._earlier(generation)
            if not follow_folder:
                return OpenedGeneration(outputs)
            folder = GenomeFolder(files, self._farm, intake.before, self._parts.loop.record)
            folder.note_changed(self._farm, intake.genomes)
            folder.note_refused(intake.refused)
            return OpenedGeneration(outputs, folder)

    def open_for_submissions(
        self, generation: int, result: Callable[[Genome], Result]
    ) -> tuple[OpenedGeneration, Submissions[Result]]:
        """Opens or resumes a generation to which genomes are submitted one at a time.

        `result` makes what the future of a settled genome gets.

        Raises:
            InputError: it cannot be run with these settings; nothing has changed.
            HostError: the ledger or the results could not be written.
        """
        with without_collector():
            self._load(generation)
            settings, farm, loop = self._settings(generation), self._farm, self._parts.loop
            opening = rules.opening_facts(farm, generation, [], settings, fresh=False, follow_folder=True)
            asked = {"has_work": True, "retry_failed": False, "accept_evaluator": False}
            self._record_opening(generation, settings, opening, **asked)
        files = self._files(generation)

        def take(name: str, content: bytes, params: Params) -> GenomeFile:
            put_genome(files.folder, name, content)
            return rules.with_params([files.take(name)], {name: params})[0]

        def room() -> int:
            return room_for_trials(farm, loop.observed, loop.queues)

        submissions = Submissions(farm, take, loop.record, room, result, self._parts.wakeups.wake)
        loop.is_open = True
        loop.earlier = self._earlier(generation)
        return OpenedGeneration(self._outputs(generation), submissions), submissions

    def open_again(self, generation: int, names: Sequence[str], *, accept_evaluator: bool) -> OpenedGeneration:
        """Opens genomes of a generation once more, with the bytes that their files have now; no other is played.

        Raises:
            InputError: they cannot be played again; nothing has changed. GenomeError if a file is the reason.
            HostError: the ledger or a snapshot could not be written.
        """
        self._load(generation)
        settings, files = self._settings(generation, renewed=accept_evaluator), self._files(generation)
        rules.refuse_to_replace(self._farm, generation, names, settings)
        require_secrets(self._config, self._paths.root)
        there = stamps(files)
        accepting = self._accepting_facts(settings, accepted=accept_evaluator)
        genomes = [files.take(name) for name in sorted({*names} & there.keys())]
        self._record([*self._starting_facts(), *accepting])
        self._record(rules.replacing_facts(self._farm, names, genomes))
        self._parts.loop.is_open = False
        self._parts.loop.earlier = self._earlier(generation)
        return OpenedGeneration(Outputs(self._paths.results(generation)))

    # -------------------------------------------------------------------------------------------------------- inside

    @property
    def _farm(self) -> Farm:
        return self._parts.loop.farm  # another one after `_load`

    def _whole(self, files: Sequence[GenomeFile], complete: Collection[str] | None) -> Sequence[GenomeFile]:
        """Without the files that may be in the making: a run that is begun anew would take them."""
        known = {genome.name for genome in self._farm.genomes}
        return [file for file in files if complete is None or file.name in complete or file.name in known]

    def _settings(self, generation: int, *, renewed: bool = False) -> RunSettings:
        """The version is the newest if `renewed`, or if nothing was counted yet; else that of the generation."""
        self._evaluator.deploy_to_sites()
        self._parts.loop.deployments = self._parts.deployments.read()
        is_begun = self._farm.generation == generation  # the farm may be that of the generation before
        keeps = is_begun and not renewed and rules.has_fitness(self._farm)
        return self._config.run_settings(self._evaluator.version(self._farm.evaluator_version if keeps else ""))

    def _earlier(self, generation: int) -> EarlierResults | None:
        """The results of the generation before, if they count again."""
        ledger = self._parts.ledger
        if self._config.generation.reuse == "none" or self._farm.finished:
            return None
        before = max((number for number in ledger.generations() if number < generation), default=0)
        return earlier_results(ledger.entries_of(before), before) if before else None

    def _files(self, generation: int) -> GenomeFiles:
        bytes_max = self._config.generation.genome_bytes_max
        return GenomeFiles(self._parts.snapshots, self._paths.genomes(generation), bytes_max)

    def _outputs(self, generation: int) -> Outputs:
        outputs = Outputs(self._paths.results(generation))
        if not self._farm.attempts:
            outputs.move_aside()  # a run that has issued no attempt has no results: these are of an earlier run
        return outputs

    def _starting_facts(self) -> list[Fact]:
        started = HostStarted(pid=os.getpid(), workers=len(self._farm.workers), boot_id=boot_id())
        # Attempts on workers that are no longer configured will never be played.
        return [started, *rules.withdrawals(self._farm, "no longer configured", self._farm.retired)]

    def _record_opening(
        self,
        generation: int,
        settings: RunSettings,
        opening: list[Fact],
        *,
        has_work: bool,
        retry_failed: bool,
        accept_evaluator: bool,
    ) -> None:
        """Records that a generation is opened or resumed. Raises InputError before anything of it is recorded."""
        known = self._farm.generation == generation
        if has_work or retry_failed:
            require_secrets(self._config, self._paths.root)
        is_new = any(isinstance(fact, RunOpened) for fact in opening)
        if is_new:
            self._parts.loop.record(rules.withdrawals(self._farm, "begun afresh"))
        # A new run has no failed trials yet.
        reopening = rules.reopening_facts(self._farm) if retry_failed and known and not is_new else []
        # A finished generation without new work is not resumed: same facts, same outputs.
        if has_work or reopening:
            accepting = [] if is_new else self._accepting_facts(settings, accepted=accept_evaluator)
            self._record([*self._starting_facts(), *accepting, *opening, *reopening])
            self._parts.loop.poll_all()

    def _accepting_facts(self, settings: RunSettings, *, accepted: bool) -> list[Fact]:
        """The facts that let a generation go on with another evaluator; none if it is the same.

        Raises:
            InputError: it is another one, and that was not accepted.
        """
        # Before any game has begun nothing is mixed or lost: the version of the first worker may have been a wrong one.
        accepted = accepted or not (settings.evaluator_version or rules.is_begun(self._farm))
        if accepted and self._farm.evaluator_version != settings.evaluator_version:
            return rules.accepting_facts(self._farm, settings)
        if rules.evaluator_differs(self._farm, settings):
            before, now = self._farm.evaluator_version, settings.evaluator_version
            changes = self._evaluator.changes_since(before) or "its files are not known any more"
            number = self._farm.generation
            raise InputError(
                f"generation {number} was begun with evaluator {before}, and it is {now} now: {changes}; put it back, "
                "begin it anew with --fresh, or go on with --accept-evaluator, which counts fitness of both"
            )
        return []
