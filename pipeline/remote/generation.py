"""An open generation on a server: sends what is submitted, collects results, goes on when the server was killed.

Owns: when everything is sent again and the generation is opened again, and what its states mean for the program.
Not here: the table of what is not settled (`submissions`), retries of one request (`server`).
Threads: one sends, one waits for results; the server may be killed between any two requests.
"""

import base64
import json
import threading
import uuid
from collections.abc import Callable, Sequence

from pipeline.control.operations import (
    GenerationState,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    GenomeStatus,
    SubmissionAnswer,
    SubmissionAnswers,
    SubmissionState,
)
from pipeline.errors import ConflictError, FarmClosed, GenomeError, InputError, NotFoundError, StalledError
from pipeline.remote.problems import said
from pipeline.remote.project import PAGE_GENOMES
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server
from pipeline.remote.servers import open_on
from pipeline.remote.submissions import Batch, Closing, RemoteSubmissions, Submission, Withdrawal, Work

#: For which a server keeps a request for results; then it is asked what the generation is doing.
POLL_WAIT_S = 5.0
_LOOKED_AFTER = 1  #: genomes that are asked for when no result has come for so long
_CONFLICTS_MAX = 3  #: in a row, while the generation is open
_PAUSE_S = 0.05  #: after a request for results that was answered at once without any
_FINISHED_PAUSE_MAX_S = 1.0  #: between two looks whether a closed generation is finished


class RemoteGeneration:
    """One generation that this program has opened, until its block ends."""

    def __init__(self, number: int, patience: Patience, connected: Callable[[threading.Event], Server]) -> None:
        """`connected` gives a connection to its server, whose waiting ends with the event."""
        self.number, self.submissions = number, RemoteSubmissions()
        self._patience = patience
        self._over = threading.Event()
        self._sender, self._poller = connected(self._over), connected(self._over)
        self._looking = threading.Lock()
        self._losses = 0  #: of both connections, when the generation was seen to be open last
        self._revivals = 0  #: how often it was opened again
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"remote-{name}", daemon=True)
            for name, work in (("sender", self._send), ("poller", self._poll))
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, tick: Callable[[], object] | None = None) -> None:
        """Closes the generation, and waits until it is finished. Raises why it cannot be."""
        self.submissions.close()
        self.submissions.wait(tick=tick)
        pause_s = _PAUSE_S
        while self._status(self._sender).state is not GenerationState.FINISHED:
            self.submissions.raise_error()
            self._over.wait(pause_s)
            pause_s = min(2 * pause_s, _FINISHED_PAUSE_MAX_S)
            if tick is not None:
                tick()
        self.end()

    def end(self, error: Exception | None = None) -> None:
        """Ends all requests; futures without a result get the error. Any thread may call, also more than once."""
        self.submissions.fail(error or FarmClosed(f"generation {self.number} is over"))
        self._over.set()
        for server in (self._sender, self._poller):
            server.abort()
        for thread in self._threads:
            thread.join()
        for server in (self._sender, self._poller):
            server.close()
        self.submissions.end()

    # ----------------------------------------------------------------------------------------------------- threads

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the program's next call raises it, and its futures do
            self.submissions.fail(error)

    def _send(self) -> None:
        conflicts = 0
        while (work := self.submissions.next_work()) is not None:
            revivals = self._revivals
            try:
                self._carry_out(work)
                conflicts = 0
            except ConflictError as error:
                is_open = self._look().state is GenerationState.OPEN
                conflicts = conflicts + 1 if revivals == self._revivals else 0
                if not is_open or conflicts > _CONFLICTS_MAX:
                    raise error
                self.submissions.send_again(work.submissions if isinstance(work, Batch) else ())

    def _carry_out(self, work: Work) -> None:
        match work:
            case Closing():
                self._sender.ask(GenerationStatus, "POST", *self._path, "close", patience=self._patience)
            case Withdrawal():
                self._withdraw(work)
            case Batch([Submission(encoded=b"") as large]):
                self.submissions.answer(large, self._put(large))
            case Batch(several):
                for submission, answer in zip(several, self._post(several), strict=True):
                    self.submissions.answer(submission, answer)

    def _post(self, batch: Sequence[Submission]) -> list[SubmissionAnswer]:
        body = b'{"genomes":[' + b",".join(one.encoded for one in batch) + b"]}"
        headers = [("Content-Type", "application/json")]
        path = (*self._path, "genomes")
        reply = self._sender.ask(SubmissionAnswers, "POST", *path, body=body, headers=headers, patience=self._patience)
        if [answer.name for answer in reply.answers] != [one.genome.name for one in batch]:
            raise self._sender.nonsense("the answers are not those of the genomes that were sent")
        return list(reply.answers)

    def _put(self, large: Submission) -> SubmissionAnswer:
        """Sends one genome as it is."""
        genome = large.genome
        digest = base64.b64encode(bytes.fromhex(genome.sha256)).decode()
        headers = [("Content-Type", "application/octet-stream"), ("Content-Digest", f"sha-256=:{digest}:")]
        if genome.params:
            headers.append(("Genome-Params", json.dumps(genome.params)))
        path = (*self._path, "genomes", genome.name)
        try:
            return self._sender.ask(
                SubmissionAnswer, "PUT", *path, body=genome.content, headers=headers, patience=self._patience
            )
        except ConflictError as error:
            if self._status(self._sender).state is not GenerationState.OPEN:
                raise
            reason = str(error)  # it has other bytes of that name
        except GenomeError as error:
            reason = str(error)
        if repr(genome.name) not in reason:  # the server has not read it to its end
            reason = f"genome {genome.name!r}: {reason}"
        return SubmissionAnswer(name=genome.name, state=SubmissionState.REFUSED, reason=reason)

    def _withdraw(self, withdrawal: Withdrawal) -> None:
        path, done = (*self._path, "genomes", withdrawal.submission.genome.name), False
        try:
            self._sender.ask(type(None), "DELETE", *path, patience=self._patience)
            done = True
        except NotFoundError:  # an answer was lost, or it has not reached the server: it is sent no more
            done = True
        except ConflictError:
            done = False
        finally:
            self.submissions.withdrawn(withdrawal, done=done)

    def _poll(self) -> None:
        after, is_finished = 0, False
        while not self.submissions.is_over:
            page = self._settled(after, 0.0 if is_finished else POLL_WAIT_S)
            for result in page.items:
                self.submissions.settled(result)
            after = after if page.next is None else page.next
            if not page.items:
                self._look_after(None if is_finished else _LOOKED_AFTER)
                if is_finished and self.submissions.has_unsettled:
                    raise FarmClosed(f"generation {self.number} ended without all genomes; {self._resume}")
                if is_finished:
                    self._over.wait()
            if not page.items or self._now_lost() != self._losses:
                is_finished = self._look().state is GenerationState.FINISHED
            if not page.items:
                self._over.wait(_PAUSE_S)

    def _look_after(self, count: int | None) -> None:
        """Looks whether genomes that wait longest cannot join; None: all of them."""
        for submission in self.submissions.oldest(count):
            name = submission.genome.name
            try:
                result = self._poller.ask(GenomeResult, "GET", *self._path, "genomes", name, patience=self._patience)
            except NotFoundError:
                reason = f"genome {name!r}: was withdrawn by another program"
            else:
                if result.status is not GenomeStatus.REFUSED:
                    continue
                reason = result.reason
            refusal = SubmissionAnswer(name=name, state=SubmissionState.REFUSED, reason=reason)
            self.submissions.answer(submission, refusal)

    def _settled(self, after: int, wait_s: float) -> GenomePage:
        query = {"after": after, "limit": PAGE_GENOMES, "wait_s": f"{wait_s:g}"}
        page = self._poller.ask(
            GenomePage, "GET", *self._path, "settled", query=query, patience=self._patience, wait_s=wait_s
        )
        is_next = page.next is not None and (page.next > after if page.items else page.next >= after)
        if page.generation != self.number or not is_next:
            raise self._poller.nonsense("the page of results is another one")
        return page

    # ------------------------------------------------------------------------------------------------------- states

    def _look(self) -> GenerationStatus:
        """The state of the generation. Raises why it cannot go on.

        If the server did not answer meanwhile it may have been started again: the generation is opened again and
        everything is sent again. A generation that stands still without that was stopped on purpose.
        """
        with self._looking:
            losses = self._now_lost()
            status = self._status(self._poller)
            was_away = losses != self._losses
            is_ours = self.submissions.is_closed
            match status.state:
                case GenerationState.STALLED:
                    raise StalledError(f"{said(status.reason)}\n{self._resume}")
                case GenerationState.CLOSED | GenerationState.FINISHED if is_ours:
                    self._losses = losses  # everything was stored before it was closed
                    return status
                case GenerationState.OPEN if not was_away:
                    return status
                case GenerationState.OPEN:
                    pass
                case GenerationState.STOPPED if not was_away:
                    raise FarmClosed(f"generation {self.number} was stopped on the server; {self._resume}")
                case _ if not was_away:
                    raise InputError(f"generation {self.number} was closed by another program; open another one")
                case _:
                    status = open_on(self._poller, self.number, uuid.uuid4().hex, self._patience)
            self._losses = losses
            self._revivals += 1
            self.submissions.send_again()
            return status

    def _status(self, server: Server) -> GenerationStatus:
        return server.ask(GenerationStatus, "GET", *self._path, patience=self._patience)

    def _now_lost(self) -> int:
        return self._sender.losses + self._poller.losses

    @property
    def _path(self) -> tuple[str, int]:
        return ("generations", self.number)

    @property
    def _resume(self) -> str:
        return f"go on with open_generation({self.number})"
