"""The host's side of one site: opens it, has requests executed there, and learns what has changed.

Owns: when a site is *unknown*: from a call without an answer until it was opened again. Then each of its shares answers
at once that it is unknown, and the state of its agents is unknown; nothing else follows from it.
Threads: one of its own watches the site; those of the executor call `execute`, one for each share at a time.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from inbox_agent.protocol.layout import clean
from pipeline.core.limits import Limits
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.requests import MachineAction, ScanRequest, ShareAction, ShareRequest
from pipeline.errors import HostError
from pipeline.machines.local_workers import LOCAL_ACTIONS
from pipeline.machines.sites.artifact_transfer import ArtifactTransfer
from pipeline.machines.sites.interface import Bells, SitesHost
from pipeline.machines.sites.losses import Losses
from pipeline.machines.sites.messages import (
    CHUNK_BYTES,
    Answer,
    AnswerError,
    AwaitChanges,
    Chunk,
    CloseSite,
    Execute,
    Executed,
    FetchChunk,
    Lacks,
    NotOpen,
    OpenSite,
    Refused,
    Request,
    RunAgent,
    SiteChanges,
    SiteDone,
    SiteOpened,
    StoreChunk,
    checked_response,
    decode_answer,
    encode,
    unknown_scan,
)
from pipeline.machines.sites.site_link import CONNECTION_ENDED, SiteLink, SiteRefused, SiteUnavailable
from pipeline.shares.share_client import ShareResponse

log = logging.getLogger(__name__)

#: For a request to a share, or a part of a file; less if the silence limit of agents is short, since a site that is
#: unknown must not look like an agent that is silent.
CALL_LIMIT_S = 6.0
_SILENCE_FRACTION = 1 / 3
OPEN_LIMIT_S = 20.0  #: for a site to be opened: agents that were left behind are ended first
AGENT_LIMIT_S = 20.0  #: for an action on an agent
CLOSE_LIMIT_S = 15.0
RETRY_MIN_S, RETRY_MAX_S = 0.25, 5.0  #: before a site that is unknown is called again; doubled each time
_ALONG_BYTES_MAX = CHUNK_BYTES  #: genomes that travel with the request; larger ones go before it, in parts
_TRIES_MAX = 3  #: of one request, while the site lacks contents
_NOT_OPEN = "it was not reached yet"
_ACTION_UNDER_WAY = "an action on its agent is under way"

A = TypeVar("A", bound=Answer)


class RemoteSite:
    """One site and its workers."""

    def __init__(self, name: str, settings: OpenSite, link: SiteLink, host: SitesHost) -> None:
        self.name, self.workers = name, settings.workers
        self._settings, self._link, self._host = settings, link, host
        self._limit_s = settings.silence_limit_s
        self._lock = threading.Lock()
        self._uploading = threading.Lock()
        self._problem = _NOT_OPEN  #: why it is unknown; empty: it is open
        self._held: set[str] = set()  #: contents that it has
        self._machines: Mapping[str, MachineStatus] = {}
        self._changes = -1
        self._restores: dict[str, int] | None = None  #: None: it was not watched yet
        self._reverted: set[str] = set()
        self._busy: set[str] = set()  #: workers with an action on their agent under way
        self._bells: Bells | None = None
        self._closed = threading.Event()
        self._openings = 0
        self._losses = Losses()
        self.refusal = ""  #: why it can never be opened as things are
        self.is_used = True  #: whether its workers are part of the farm
        self._transfers = {
            worker: ArtifactTransfer(worker, host.incoming(worker), host.room, self._fetch_part(worker))
            for worker in self.workers
        }

    @property
    def notifies(self) -> bool:
        """Whether it is watched now."""
        return not self._problem

    @property
    def problem(self) -> str:
        """Why it is unknown; empty: it is open."""
        return self._problem

    @property
    def is_untried(self) -> bool:
        """Whether no attempt to open it has ended yet."""
        return self._problem == _NOT_OPEN

    def listen(self, bells: Bells) -> None:
        """Opens the site and watches it from now on."""
        self._bells = bells
        threading.Thread(target=self._run, name=f"site-{self.name}", daemon=True).start()

    def execute(self, request: ShareRequest) -> ShareResponse:
        """Executes a request on the share of one of its workers. Returns every error in the response."""
        if problem := self._problem:
            return _unknown(request, f"site {self.name}: {problem}")
        opening = self._openings
        try:
            return self._execute(request)
        except (SiteUnavailable, AnswerError) as error:
            self._lose(error, opening)
            return _unknown(request, f"site {self.name}: {error}")
        except HostError as error:
            return ShareResponse(worker=request.worker, fatal=str(error))

    def status(self) -> dict[str, MachineStatus]:
        """The last known state of its agents."""
        with self._lock:
            found = {worker: self._status(worker, reverted=worker in self._reverted) for worker in self.workers}
            if not self._problem:
                self._reverted.clear()
            return found

    def act(self, action: MachineAction) -> None:
        """Performs an action on an agent, in a thread of its own; ignored while the site is unknown."""
        with self._lock:
            if self._problem or action.worker in self._busy or self._closed.is_set():
                return
            self._busy.add(action.worker)
        threading.Thread(target=self._act, args=(action,), name=f"agent-{action.worker}", daemon=True).start()

    def close(self) -> None:
        """Ends its agents, if it can be reached; those of a site that was not used may play for an earlier host."""
        plays = any(machine.state is not MachineState.OFF for machine in self._machines.values())
        is_open = not self._problem and (self.is_used or not plays)
        self._closed.set()
        if is_open:
            try:
                self._ask(CloseSite(farm=self._settings.farm), CLOSE_LIMIT_S, SiteDone)
            except (SiteUnavailable, AnswerError) as error:
                log.warning("site %s: its agents may still run: %s", self.name, error)

    # ------------------------------------------------------------------------------------------------------ requests

    def _execute(self, request: ShareRequest) -> ShareResponse:
        wanted = self._contents(request) if isinstance(request, ShareAction) else {}
        for _ in range(_TRIES_MAX):
            along = self._upload({sha256: wanted[sha256] for sha256 in wanted.keys() - self._held})
            scan, action = (request, None) if isinstance(request, ScanRequest) else (None, request)
            message = Execute(farm=self._settings.farm, scan=scan, action=action, contents=along)
            match answer := self._answer(message, self._limit_s):
                case Executed(response=response):
                    self._held.update(along)
                    return self._with_artifacts(request, checked_response(request, response))
                case Lacks(digests=digests) if digests <= wanted.keys():
                    self._held -= digests
                case _:
                    raise _no_answer(answer)
        raise SiteUnavailable("it does not keep the genomes that it is sent")

    def _contents(self, action: ShareAction) -> dict[str, bytes | Path]:
        """The contents that an action refers to, by digest. Raises HostError: a snapshot is damaged."""
        found = {start.genome_sha256: start.genome_name for start in action.publish}
        contents = {sha256: self._host.genome(sha256, name) for sha256, name in found.items()}
        if action.deploy is not None:
            sha256 = action.deploy.record.archive_sha256
            contents[sha256] = self._host.archive(sha256)
        return contents

    def _upload(self, contents: Mapping[str, bytes | Path]) -> dict[str, bytes]:
        """Sends the large ones; returns the small ones, which travel with the request."""
        along: dict[str, bytes] = {}
        for sha256, content in contents.items():
            if isinstance(content, bytes) and sum(map(len, along.values())) + len(content) <= _ALONG_BYTES_MAX:
                along[sha256] = content
                continue
            with self._uploading:  # the parts of one content come in their order
                if sha256 not in self._held:
                    self._upload_parts(sha256, content)
                    self._held.add(sha256)
        return along

    def _upload_parts(self, sha256: str, content: bytes | Path) -> None:
        try:
            data = content if isinstance(content, bytes) else content.read_bytes()
        except OSError as error:
            raise HostError(f"{error.filename}: {error.strerror}") from error
        for offset in range(0, len(data), CHUNK_BYTES):
            part = data[offset : offset + CHUNK_BYTES]
            message = StoreChunk(
                farm=self._settings.farm, sha256=sha256, offset=offset, total_bytes=len(data), data=part
            )
            self._ask(message, self._limit_s, SiteDone)

    def _with_artifacts(self, request: ShareRequest, response: ShareResponse) -> ShareResponse:
        if isinstance(request, ScanRequest) and response.scan is not None and response.scan.results:
            transfer = self._transfers[request.worker]
            results = transfer.bring(request.generation, response.scan.results)
            response.scan = replace(response.scan, results=results)
        return response

    def _fetch_part(self, worker: str) -> Callable[[str, str, int], bytes]:
        def fetch(attempt: str, name: str, offset: int) -> bytes:
            message = FetchChunk(farm=self._settings.farm, worker=worker, attempt=attempt, name=name, offset=offset)
            return self._ask(message, self._limit_s, Chunk).data

        return fetch

    def _ask(self, message: Request, timeout_s: float, kind: type[A]) -> A:
        """The answer to a message. Raises as `_answer`; AnswerError: it is of another kind."""
        answer = self._answer(message, timeout_s)
        if not isinstance(answer, kind):
            raise _no_answer(answer)
        return answer

    def _answer(self, message: Request, timeout_s: float) -> Answer:
        """The answer to a message.

        Raises:
            SiteUnavailable: there is none. SiteRefused: it was not done.
            AnswerError: it cannot be read.
        """
        match answer := decode_answer(self._link.call(encode(message), timeout_s)):
            case Refused(reason=reason, is_final=is_final):
                raise SiteRefused(clean(reason, 300), is_final=is_final)
            case NotOpen():
                raise SiteUnavailable("its process was restarted")
        return answer

    # ---------------------------------------------------------------------------------------------------- watching it

    def _run(self) -> None:
        pause_s = RETRY_MIN_S
        while not self._closed.is_set():
            try:
                if self._problem:
                    self._open()
                self._watch(self._limit_s / 2)
                pause_s = RETRY_MIN_S
            except (SiteUnavailable, AnswerError) as error:
                self.refusal = str(error) if isinstance(error, SiteRefused) and error.is_final else ""
                self._lose(error, self._openings)
                self._closed.wait(RETRY_MAX_S if self.refusal else pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)

    def _open(self) -> None:
        opened = self._ask(self._settings, OPEN_LIMIT_S, SiteOpened)
        self._held.clear()  # it may be another process, whose disk was emptied
        with self._lock:
            self._openings += 1
            self._changes = -1  # so that the first answer comes at once
        self._watch(0.0)
        with self._lock:
            self._problem = self.refusal = ""
            is_back = self._losses.end()
        place = f"{clean(opened.host_name, 100)}, {clean(opened.folder, 200)}"
        log.info("site %s: open, on %s, with Python %s", self.name, place, clean(opened.python, 20))
        if is_back:
            log.warning("site %s: it answers again", self.name)
        self._ring_all()

    def _watch(self, timeout_s: float) -> None:
        opening = self._openings
        message = AwaitChanges(farm=self._settings.farm, after=self._changes, timeout_s=timeout_s)
        watched = self._ask(message, timeout_s + self._limit_s, SiteChanges)
        if {*watched.machines} != {*self.workers} or not watched.results <= {*self.workers}:
            raise AnswerError("it has answered about workers that are not its own")
        with self._lock:
            if opening != self._openings or watched.changes < self._changes:
                return  # a later answer came first: two threads watch while an action is under way
            before, self._machines = self._machines, watched.machines
            self._changes = watched.changes
            self._note_restores(watched.restores)
            has_changed = self._reverted or any(
                worker not in before or before[worker].state is not seen.state
                for worker, seen in watched.machines.items()
            )
        assert self._bells is not None
        for worker in watched.results:
            self._bells.notify(worker)
        if has_changed:
            self._bells.request_sweep()

    def _note_restores(self, restores: Mapping[str, int]) -> None:
        known = self._restores
        if known is not None:  # what was restored before this host began is not its concern
            self._reverted |= {
                worker for worker in self.workers if restores.get(worker, 0) not in (0, known.get(worker, 0))
            }
        self._restores = dict(restores)

    def _lose(self, error: SiteUnavailable | AnswerError, opening: int) -> None:
        """The site is unknown since a call failed; `opening` is how often it had been opened when that call began."""
        problem = str(error)
        with self._lock:
            if self._closed.is_set() or opening != self._openings:
                return  # it was opened again since this call began
            # A call that has failed first has ended the others.
            has_failed = self._problem not in ("", _NOT_OPEN)
            is_new = problem != self._problem and not (has_failed and problem == CONNECTION_ENDED)
            self._problem = problem if is_new else self._problem
            is_to_be_said = self._losses.note(error)
        if is_to_be_said:
            what_follows = "its workers are unknown" if self.is_used else "it is not used yet"
            log.warning("site %s: %s; %s", self.name, problem, what_follows)
        self._link.reset()
        if is_new:
            self._ring_all()

    def _ring_all(self) -> None:
        if self._bells is not None:
            for worker in self.workers:
                self._bells.notify(worker)
            self._bells.request_sweep()

    # --------------------------------------------------------------------------------------------------------- agents

    def _status(self, worker: str, *, reverted: bool) -> MachineStatus:
        seen = self._machines.get(worker)
        if self._problem or seen is None:
            note = f"site {self.name}: {self._problem or _NOT_OPEN}"
            return MachineStatus(MachineState.UNKNOWN, LOCAL_ACTIONS, note)
        if worker in self._busy:  # it would seem to have ended until its start is seen
            return MachineStatus(MachineState.UNKNOWN, LOCAL_ACTIONS, _ACTION_UNDER_WAY, reverted=reverted, busy=True)
        return MachineStatus(seen.state, LOCAL_ACTIONS, clean(seen.note, 300), reverted=reverted)

    def _act(self, action: MachineAction) -> None:
        worker, what = action.worker, action.recovery or "start"
        try:
            self._ask(
                RunAgent(farm=self._settings.farm, worker=worker, recovery=action.recovery), AGENT_LIMIT_S, SiteDone
            )
            self._watch(0.0)  # what was seen before is out of date
            log.info("%s: %s", worker, what)
        except (SiteUnavailable, AnswerError) as error:
            log.warning("%s: %s: site %s: %s", worker, what, self.name, error)
        with self._lock:
            self._busy.discard(worker)
        assert self._bells is not None
        self._bells.request_sweep()


def call_limit_s(limits: Limits) -> float:
    """How long a call may take."""
    return min(CALL_LIMIT_S, limits.silence_limit_s * _SILENCE_FRACTION)


def _no_answer(answer: Answer) -> AnswerError:
    return AnswerError(f"it has answered {type(answer).__name__}, which is no answer to that")


def _unknown(request: ShareRequest, problem: str) -> ShareResponse:
    """The response to a request that may have been executed, or not."""
    response = ShareResponse(worker=request.worker, scan=unknown_scan(request, problem))
    if isinstance(request, ShareAction):
        response.error = clean(problem, 300)
        response.sent = {start.attempt: False for start in request.publish}
    return response
