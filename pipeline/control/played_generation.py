"""One generation that is played for programs elsewhere, from its opening until it is finished, stopped or stalled.

Owns: which submitted genomes are known, stored, joined or refused. An answered genome is stored first and joins later;
its stored copy is removed when the ledger has it, so a kill at any moment loses and doubles nothing.
Threads: any may call; `_note_facts` is called in the host's thread.
"""

import hashlib
import logging
import threading
from collections import ChainMap
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from pipeline.control.operations import (
    GenerationState,
    GenomeResult,
    GenomeStatus,
    SubmissionAnswer,
    SubmissionState,
    SubmittedGenome,
)
from pipeline.core.facts import Fact, GenomeAdded
from pipeline.core.params import genome_params
from pipeline.errors import ConflictError, GenomeError, HostError, NotFoundError, PipelineError, QueueFullError
from pipeline.host.host import Ending, Host
from pipeline.host.host_thread import HostThread
from pipeline.host.submissions import Submissions
from pipeline.storage.submission_store import StoredSubmission, SubmissionStore
from pipeline.storage.submitted_genomes import genome_content

log = logging.getLogger(__name__)

_Checked = StoredSubmission | SubmissionAnswer  #: a genome to be stored, or why it is refused
Outcome = list[SubmissionAnswer] | QueueFullError  #: of one request; if too many wait nothing of it is stored

WAITING_MAX = 20_000  #: genomes that are stored and have not joined
WAITING_BYTES_MAX = 256 * 2**20
JOINED_MAX = 200  #: stored copies of genomes that have joined are removed together


@dataclass(slots=True)
class _NewGenomes:
    """Genomes that are stored in one commit."""

    by_name: dict[str, StoredSubmission] = field(default_factory=dict)
    size_bytes: int = 0


class PlayedGeneration:
    """A generation that was opened, or opened again, and is played in the host's thread."""

    def __init__(
        self,
        number: int,
        host: HostThread,
        store: SubmissionStore,
        genome_bytes_max: int,
        on_change: Callable[[], None],
    ) -> None:
        """Opens it and begins to play.

        Args:
            on_change: is called in any thread when there are new facts, and when playing has ended.

        Raises:
            InputError: it cannot be run with these settings; nothing was begun.
            HostError, LedgerError: the disk failed.
        """
        self.number = number
        self._host, self._store, self._genome_bytes_max, self._on_change = host, store, genome_bytes_max, on_change
        self._lock = threading.Lock()
        self._takes_genomes = True
        self._ended: tuple[GenerationState, str] | None = None
        self._known, self._submissions = host.call(self._begin)  # name -> digest of all that have joined or wait
        self._waiting: dict[str, tuple[Future[str], int]] = {}  #: by name, with the number of bytes
        self._waiting_bytes = 0
        self._joined: list[str] = []  #: genomes whose stored copies are to be removed
        self._refused: dict[str, str] = {}
        self._playing = host.start_playing(on_facts=self._note_facts)
        self._playing.add_done_callback(self._note_end)
        self._take_up(store.of(number))

    def _begin(self, host: Host) -> tuple[dict[str, str], Submissions[str]]:
        before = host.farm.generation
        try:
            submissions = host.begin_submissions(self.number, lambda genome: genome.name)
        except PipelineError:
            host.load(before)
            raise
        return {genome.name: genome.sha256 for genome in host.farm.genomes}, submissions

    def _take_up(self, stored: Sequence[StoredSubmission]) -> None:
        """Submits what was stored by a host that was killed or stopped; what had joined before is only removed."""
        with self._lock:
            self._store.remove(self.number, [each.name for each in stored if each.name in self._known])
            for each in stored:
                if each.refused:
                    self._refused[each.name] = each.refused
                elif each.name not in self._known:
                    self._known[each.name] = each.sha256
                    self._submit(each)

    # ----------------------------------------------------------------------------------------------------- any thread

    @property
    def state(self) -> tuple[GenerationState, str]:
        """What it is doing, and why it cannot go on."""
        with self._lock:
            if self._ended is not None:
                return self._ended
            return (GenerationState.OPEN if self._takes_genomes else GenerationState.CLOSED), ""

    @property
    def is_played(self) -> bool:
        """Whether it is being played."""
        return self.state[0] in (GenerationState.OPEN, GenerationState.CLOSED)

    @property
    def failure(self) -> BaseException | None:
        """Why the host cannot be used any more: playing has raised this error."""
        return self._playing.exception() if self._ended is not None else None

    @property
    def waiting(self) -> int:
        """How many genomes are stored and have not joined."""
        return len(self._waiting)

    def waiting_genome(self, name: str) -> GenomeResult | None:
        """A genome that waits, or cannot join; None: there is none of that name."""
        with self._lock:
            if (reason := self._refused.get(name)) is not None:
                return GenomeResult(name=name, status=GenomeStatus.REFUSED, reason=reason)
            return GenomeResult(name=name, status=GenomeStatus.WAITING) if name in self._waiting else None

    def submit(self, requests: Sequence[Sequence[SubmittedGenome]]) -> list[Outcome]:
        """Stores the genomes of several requests in one commit, and answers each request.

        Raises:
            ConflictError: it takes no genomes. HostError: they cannot be stored. Nothing was stored.
        """
        checked = [[self._checked(genome) for genome in genomes] for genomes in requests]
        with self._lock:
            self._refuse_if_closed()
            new = _NewGenomes()
            outcomes = [self._outcome(request, new) for request in checked]
            if new.by_name:
                self._store.add(self.number, list(new.by_name.values()))
            for each in new.by_name.values():
                self._known[each.name] = each.sha256
                self._submit(each)
            return outcomes

    def cancel(self, name: str) -> None:
        """Withdraws a genome that waits. Raises NotFoundError; ConflictError: it has joined."""
        with self._lock:
            if name not in self._known or name in self._refused:
                raise NotFoundError(f"generation {self.number}: no genome {name!r} waits, and none has joined")
            if (waiting := self._waiting.get(name)) is None or not waiting[0].cancel():
                raise ConflictError(f"genome {name!r}: has joined the generation, and cannot be withdrawn")
            self._store.remove(self.number, [name])
            self._forget(name)
            del self._known[name]

    def close(self) -> None:
        """Takes no more genomes. Raises HostError: that cannot be noted."""
        with self._lock:
            if self._ended is None:
                self._store.close_generation(self.number)
                self._takes_genomes = False
                self._submissions.close()

    def stop(self) -> None:
        """Stops playing and waits until it has ended. Raises HostError: that cannot be noted."""
        self._host.abandon(self._playing)
        self._note_end(self._playing)  # the callback may not have been called yet
        with self._lock:
            self._store.end_generation(self.number)

    def wait_for_end(self, timeout_s: float) -> None:
        """Returns when playing has ended, or after that time."""
        if wait([self._playing], timeout_s).done:
            self._note_end(self._playing)  # the callback may not have been called yet

    # --------------------------------------------------------------------------------------------------------- inside

    def _refuse_if_closed(self) -> None:
        if self._ended is not None:
            state, reason = self._ended
            why = f"{state}{f' ({reason})' if reason else ''}; open it again"
            raise ConflictError(f"generation {self.number}: takes no genomes, it is {why}")
        if not self._takes_genomes:
            raise ConflictError(f"generation {self.number}: takes no genomes any more, it was closed; open another one")

    def _checked(self, genome: SubmittedGenome) -> _Checked:
        """A genome as it is stored, or why it is refused whatever the generation has."""
        try:
            return self._stored(genome)
        except GenomeError as error:
            return SubmissionAnswer(name=genome.name, state=SubmissionState.REFUSED, reason=str(error))

    def _stored(self, genome: SubmittedGenome) -> StoredSubmission:
        content = genome_content(genome.name, genome.content)
        if not 0 < len(content) <= self._genome_bytes_max:
            allowed = f"1 to {self._genome_bytes_max} are allowed (`genome_bytes_max` in [generation])"
            raise GenomeError(f"genome {genome.name!r}: it has {len(content)} bytes; {allowed}")
        sha256 = hashlib.sha256(content).hexdigest()
        if genome.sha256 and genome.sha256 != sha256:
            raise GenomeError(f"genome {genome.name!r}: its bytes do not have the given digest; submit it again")
        return StoredSubmission(genome.name, sha256, content, genome_params(genome.name, genome.params))

    def _outcome(self, request: Sequence[_Checked], new: _NewGenomes) -> Outcome:
        """The answers to one request. Its new genomes are added to `new`, or none of them if there is no room."""
        added = dict[str, StoredSubmission]()
        all_new = ChainMap(added, new.by_name)
        answers = [each if isinstance(each, SubmissionAnswer) else self._answer(each, all_new) for each in request]
        count = len(new.by_name) + len(added)
        size_bytes = new.size_bytes + sum(len(each.content) for each in added.values())
        if len(self._waiting) + count > WAITING_MAX or self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            reason = f"{len(self._waiting)} genomes wait for a worker"
            return QueueFullError(f"generation {self.number}: {reason}; submit again when some of them have joined")
        new.by_name.update(added)
        new.size_bytes = size_bytes
        return answers

    def _answer(self, each: StoredSubmission, new: MutableMapping[str, StoredSubmission]) -> SubmissionAnswer:
        """The answer to one genome; it is added to `new` if it is to be stored."""
        known = new[each.name].sha256 if each.name in new else self._known.get(each.name)
        reason = self._refused.get(each.name)
        if reason is None and known is None:
            new[each.name] = each
            return SubmissionAnswer(name=each.name, state=SubmissionState.ACCEPTED)
        if reason is None and known == each.sha256:
            return SubmissionAnswer(name=each.name, state=SubmissionState.KNOWN)
        other = f"genome {each.name!r}: the generation has it with other bytes; choose another name"
        return SubmissionAnswer(name=each.name, state=SubmissionState.REFUSED, reason=reason or other)

    def _submit(self, each: StoredSubmission) -> None:
        """Lets a stored genome join when there is room."""
        future = self._submissions.submit(each.name, each.content, each.params)
        self._waiting[each.name] = future, len(each.content)
        self._waiting_bytes += len(each.content)
        future.add_done_callback(lambda done: self._note_refusal(each.name, done))

    def _forget(self, name: str) -> None:
        _future, size = self._waiting.pop(name, (None, 0))
        self._waiting_bytes -= size

    def _note_facts(self, facts: list[Fact]) -> None:
        """Forgets genomes that the ledger has now. Their stored copies are removed later, if need be by the next host,
        because each change of the store waits for the disk.
        """
        joined = [fact.name for fact in facts if isinstance(fact, GenomeAdded)]
        if joined:
            with self._lock:
                self._joined += joined
                for name in joined:
                    self._forget(name)
                if len(self._joined) >= JOINED_MAX:
                    self._remove_joined()
        if facts:
            self._on_change()

    def _remove_joined(self) -> None:
        self._store.remove(self.number, self._joined)
        self._joined = []

    def _note_refusal(self, name: str, done: "Future[str]") -> None:
        if done.cancelled() or not isinstance(error := done.exception(), GenomeError):
            return
        log.warning("%s", error)
        with self._lock:
            self._store.refuse(self.number, name, str(error))
            self._refused[name] = str(error)
            self._forget(name)
        self._on_change()

    def _note_end(self, playing: "Future[Ending]") -> None:
        with self._lock:
            if self._ended is not None:
                return
            self._ended = _how_ended(playing)
            self._waiting.clear()
            self._waiting_bytes = 0
            try:
                self._remove_joined()
                if self._ended[0] is GenerationState.FINISHED:
                    self._store.end_generation(self.number)
            except HostError as error:  # the next host removes them
                log.warning("%s", error)
        self._submissions.fail(ConflictError(f"generation {self.number} is {self._ended[0]}; open it again"))
        self._on_change()


def _how_ended(playing: "Future[Ending]") -> tuple[GenerationState, str]:
    if (error := playing.exception()) is not None:
        return GenerationState.STALLED, str(error)
    ending = playing.result()
    if ending.diagnosis:
        return GenerationState.STALLED, ending.diagnosis
    return (GenerationState.FINISHED if ending.finished else GenerationState.STOPPED), ""
