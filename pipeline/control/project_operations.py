"""The operations on one project, for whichever way programs elsewhere are connected.

Owns: that one generation is played at a time, and what a host that starts goes on with.
Not here: what is read (`project_reading`), the submissions of one generation (`played_generation`).
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from inbox_agent.identity import agent_version
from pipeline.config import load_config
from pipeline.control.operations import (
    ArtifactList,
    EventPage,
    GenerationPage,
    GenerationState,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    GenomeStatus,
    ProjectStatus,
    SubmissionAnswer,
    SubmittedGenome,
    WorkerStatus,
)
from pipeline.control.played_generation import PlayedGeneration
from pipeline.control.project_reading import ProjectReading
from pipeline.control.worker_control import WorkerControl
from pipeline.core.runs import generation_number
from pipeline.errors import ConflictError, HostError, InputError, NotFoundError, PipelineError
from pipeline.host.generation_numbers import next_generation
from pipeline.host.host import Host
from pipeline.host.host_thread import HostThread
from pipeline.paths import ProjectPaths
from pipeline.storage.submission_store import SubmissionStore

KEY_CHARS_MAX = 200
_END_LIMIT_S = 10.0  #: for a generation to end whose trials are all settled: its tables are written


class ProjectOperations:
    """What programs elsewhere can do with the project in a folder. Any thread may call.

    Without `open_project` it only reads, and every change raises `ConflictError`.
    """

    def __init__(self, root: Path) -> None:
        """Opens it to be read.

        Raises:
            InputError: this is no project, or it cannot be read.
            LedgerError: the ledger is damaged, or of another version.
        """
        self.root = root
        self._reading, self._workers = ProjectReading(root), WorkerControl(root)
        self._changing = threading.RLock()  # held while a generation is opened or ended
        self._host: HostThread | None = None
        self._store: SubmissionStore | None = None
        self._played: PlayedGeneration | None = None
        self._genome_bytes_max = 0

    @property
    def is_controlled(self) -> bool:
        """Whether it can be changed here."""
        return self._host is not None

    @property
    def failure(self) -> BaseException | None:
        """Why nothing can be played any more: this host's disk or ledger failed. Close it and open the project anew."""
        return self._played.failure if self._played is not None else None

    def close(self) -> None:
        """Stops playing and closes the project; what was answered is kept, and the next host goes on with it.

        Raises:
            PipelineError: what closing the host raised.
        """
        host, self._host = self._host, None
        try:
            if host is not None:
                host.close()
        finally:
            if self._store is not None:
                self._store.close()
            self._reading.close()

    def open_project(self) -> None:
        """Takes the project for this process, starts its local workers, and goes on with what was being played.

        Raises:
            InputError: the configuration, or the generation that was being played, cannot be used.
            ProjectBusyError: another process has this project open.
            HostError, LedgerError: the disk failed.
        """
        config = load_config(self.root)
        self._genome_bytes_max = config.generation.genome_bytes_max
        self._store = SubmissionStore(ProjectPaths(self.root).submissions)
        self._host = HostThread(lambda: Host(self.root, config, self.root))
        if (before := self._store.played()) is not None:
            self._played = played = self._play(before.number)
            if not before.takes_genomes:
                played.close()

    # ----------------------------------------------------------------------------------------------------------- read

    def wait_for_fact(self, known: int, wait_s: float) -> int:
        """The number of the last fact as soon as it is another one than `known`, or after `wait_s`."""
        return self._reading.wait_for_fact(known, wait_s)

    def project(self) -> ProjectStatus:
        """The project and its workers."""
        played = self._played
        here = played.number if played is not None and played.is_played else None
        return ProjectStatus(
            name=self.root.resolve().name,
            version=agent_version(),
            is_controlled=self.is_controlled,
            open_generation=here if self.is_controlled else self._reading.playing(),
            latest_generation=self._reading.latest(),
            workers=self._reading.workers(),
        )

    def generations(self, *, after: int = 0, limit: int = 100) -> GenerationPage:
        """The generations that were begun, by number."""
        page = self._reading.generations(after=after, limit=limit)
        return replace(page, items=[self._with_state(status) for status in page.items])

    def generation(self, number: int) -> GenerationStatus:
        """One generation."""
        return self._with_state(self._reading.generation(number))

    def genomes(self, number: int, *, after: int = 0, limit: int = 100) -> GenomePage:
        """The genomes that have joined a generation."""
        return self._reading.genomes(number, after=after, limit=limit)

    def genome(self, number: int, name: str) -> GenomeResult:
        """One genome, also one that waits."""
        return self._waiting(name, number) or self._reading.genome(number, name)

    def settled(self, number: int, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> GenomePage:
        """The genomes that were settled after a fact."""
        played = self._played

        def is_over() -> bool:
            return played is not None and played.number == number and not played.is_played

        return self._reading.settled(number, after=after, limit=limit, wait_s=wait_s, is_over=is_over)

    def events(self, *, after: int = 0, limit: int = 100, wait_s: float = 0.0) -> EventPage:
        """What happened after a fact."""
        return self._reading.events(after=after, limit=limit, wait_s=wait_s)

    def artifacts(self, number: int, name: str) -> ArtifactList:
        """The artifacts of a genome that are kept."""
        return self._reading.artifacts(number, name)

    def artifact(self, number: int, name: str, attempt: str, file: str, *, bytes_max: int) -> bytes:
        """The bytes of an artifact of a genome."""
        return self._reading.artifact(number, name, attempt, file, bytes_max=bytes_max)

    def explain(self, what: str, number: int | None = None) -> str:
        """Why a genome, also one that waits, an attempt or a worker is where it is."""
        if (waiting := self._waiting(what, number)) is None:
            return self._reading.explain(what, number)
        if waiting.status is GenomeStatus.REFUSED:
            return f"{what} cannot join its generation: {waiting.reason}"
        return f"{what} is stored and waits: it joins its generation when a worker has room"

    # --------------------------------------------------------------------------------------------------------- change

    def open_generation(self, number: int | None = None, *, key: str = "") -> GenerationStatus:
        """Opens a generation or resumes it; None: the next one. The same key opens the same generation again.

        Raises:
            ConflictError: another generation is being played, or nothing can be changed here.
            InputError: number or settings cannot be used; nothing was begun.
            HostError, LedgerError: the disk failed.
        """
        if number is not None:
            number = generation_number(number)
        if len(key) > KEY_CHARS_MAX:
            raise InputError(f"the idempotency key has {len(key)} characters, allowed are {KEY_CHARS_MAX}")
        with self._change() as (host, store):
            known = store.opened_by(key) if key else None
            if known is not None and number not in (None, known):
                raise ConflictError(f"the idempotency key has opened generation {known}; use another key for {number}")
            chosen = known or number or host.call(next_generation)
            played = self._played
            if played is not None and played.is_played and played.number == chosen:
                status = self.generation(chosen)
                if status.state in (GenerationState.OPEN, GenerationState.CLOSED):  # it may have ended meanwhile
                    return status
            if known is not None and self._has_ended(known):
                return self.generation(known)  # the answer to a request that is repeated late
            self._refuse_if_playing()
            store.open_generation(chosen, key)  # first: a host that is killed here goes on with it
            try:
                self._played = self._play(chosen)
            except InputError:
                store.end_generation(chosen)
                raise
            return self.generation(chosen)

    def submit(self, number: int, genomes: Sequence[SubmittedGenome]) -> list[SubmissionAnswer]:
        """Stores genomes on this host's disk and answers each.

        Raises:
            ConflictError: the generation is not open. QueueFullError: too many genomes wait. Nothing was stored.
            HostError: they cannot be stored; none of them is.
        """
        (outcome,) = self.submit_together(number, [genomes])
        if isinstance(outcome, PipelineError):
            raise outcome
        return outcome

    def submit_together(
        self, number: int, requests: Sequence[Sequence[SubmittedGenome]]
    ) -> Sequence[list[SubmissionAnswer] | PipelineError]:
        """Stores the genomes of several requests in one commit, and has an outcome for each request.

        Raises:
            ConflictError: the generation is not open. HostError: they cannot be stored. Nothing was stored.
        """
        return self._played_generation(number).submit(requests)

    def cancel(self, number: int, name: str) -> None:
        """Withdraws a genome that waits. Raises NotFoundError; ConflictError: it has joined."""
        self._played_generation(number).cancel(name)

    def close_generation(self, number: int) -> GenerationStatus:
        """Takes no more genomes. Raises ConflictError: the generation is not played here."""
        with self._change():
            played = self._played
            if played is not None and played.number == number:
                played.close()
            elif self.generation(number).state is not GenerationState.FINISHED:
                raise self._not_open(number)
            return self.generation(number)

    def stop_generation(self, number: int) -> GenerationStatus:
        """Stops playing; what is counted is kept."""
        with self._change() as (_host, store):
            status = self.generation(number)  # raises if there is none
            played = self._played
            if played is not None and played.number == number:
                played.stop()
                return self.generation(number)
            store.end_generation(number)
            return status

    def reopen_failed(self, number: int) -> GenerationStatus:
        """Plays the failed genomes of a finished generation once more.

        Raises:
            ConflictError: another one is played, or this one is. InputError: it cannot be played again.
        """
        with self._change() as (host, store):
            self.generation(number)  # raises if there is none
            self._refuse_if_playing()
            before = host.call(lambda host: host.farm.generation)
            try:
                host.call(lambda host: host.begin(number, retry_failed=True))
            except InputError:
                host.call(lambda host: host.load(before))
                raise
            store.close_generation(number)
            self._played = self._play(number)
            self._played.close()
            return self.generation(number)

    def drain_worker(self, name: str) -> WorkerStatus:
        """Gives a worker no more attempts; it finishes its game."""
        with self._change():
            self._workers.drain(name)
        return self._reading.worker(name)

    def return_worker(self, name: str) -> WorkerStatus:
        """Gives a drained worker attempts again."""
        with self._change():
            self._workers.give_back(name)
        return self._reading.worker(name)

    def restart_worker(self, name: str) -> WorkerStatus:
        """Restarts a worker's machine, or its agent on this computer or a site. Raises ConflictError: neither."""
        with self._change():
            self._workers.restart(name)
        return self._reading.worker(name)

    # --------------------------------------------------------------------------------------------------------- inside

    def _play(self, number: int) -> PlayedGeneration:
        assert self._host is not None
        assert self._store is not None
        return PlayedGeneration(number, self._host, self._store, self._genome_bytes_max, self._reading.note_change)

    @contextmanager
    def _change(self) -> Iterator[tuple[HostThread, SubmissionStore]]:
        """Around a change; one at a time."""
        with self._changing:
            if self._host is None or self._store is None:
                raise ConflictError("this server only reads the project; start it with --control to change something")
            if (failure := self.failure) is not None:  # the host may have decided more than the ledger has
                raise HostError(f"{failure}; nothing is played any more, start the server again") from failure
            yield self._host, self._store

    def _waiting(self, name: str, number: int | None) -> GenomeResult | None:
        """A genome of the generation that is played here, if it waits or cannot join."""
        played = self._played
        return played.waiting_genome(name) if played is not None and number in (None, played.number) else None

    def _refuse_if_playing(self) -> None:
        """Refuses a change. One that was closed and has nothing left to play ends in a moment, for which this waits."""
        played = self._played
        if played is not None and played.state[0] is GenerationState.CLOSED:
            status = self.generation(played.number)
            if not status.waiting and status.settled == status.trials:
                played.wait_for_end(_END_LIMIT_S)
        if played is not None and played.is_played:
            raise ConflictError(f"generation {played.number} is being played; close or stop it first")

    def _played_generation(self, number: int) -> PlayedGeneration:
        played = self._played
        if not self.is_controlled or played is None or played.number != number:
            with self._change():
                self.generation(number)  # raises if there is none
                raise self._not_open(number)
        return played

    def _not_open(self, number: int) -> ConflictError:
        return ConflictError(f"generation {number} is not open; open it first")

    def _has_ended(self, number: int) -> bool:
        with contextlib.suppress(NotFoundError):
            return self._reading.generation(number).state is GenerationState.FINISHED
        return False

    def _with_state(self, status: GenerationStatus) -> GenerationStatus:
        """The status with what this process knows of a generation that it plays."""
        played = self._played
        if played is None or played.number != status.number:
            return status
        state, reason = played.state
        return replace(status, state=state, reason=reason, waiting=played.waiting)
