"""The Python API of a farm on another computer: what `pipeline.api` gives of a farm of this one, over HTTP.

Owns: what a caller sees. Not here: requests (`server`), which server plays (`servers`), genomes and futures of an open
generation (`generation`). Threads: any may call.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from inbox_agent.protocol.layout import Setting
from pipeline.control.operations import GenerationStatus, GenomeResult, ProjectStatus, SubmittedGenome
from pipeline.core.params import NO_PARAMS, Params, checked_params, genome_params
from pipeline.core.runs import generation_number
from pipeline.errors import FarmClosed, GenomeError, InputError, PipelineError, RemoteError
from pipeline.host.genome_fitness import Fitness
from pipeline.host.no_farm import NoFarm
from pipeline.remote.access import checked_token
from pipeline.remote.artifacts import download
from pipeline.remote.generation import RemoteGeneration
from pipeline.remote.pages import fitness_of, progress_of, table_of_results
from pipeline.remote.problems import said
from pipeline.remote.project import genomes_of
from pipeline.remote.retry import Patience
from pipeline.remote.server import Server
from pipeline.remote.server_url import server_url
from pipeline.remote.servers import Place, RemoteOpening, Servers
from pipeline.remote.submissions import RemoteFuture
from pipeline.storage.submitted_genomes import GenomeSource, genome_content
from pipeline.views.progress import Progress
from pipeline.views.table import Table

TIMEOUT_S = 300.0
_ONCE = Patience(tries_max=1)
_LEAVING_LIMIT_S = 10.0  #: for a block of another thread to end when the connection is closed
#: Windows delivers Ctrl-C to Python code only: a wait without an end would keep it.
_WAIT_S = 0.1 if sys.platform == "win32" else -1


@dataclass(frozen=True, slots=True)
class RemoteWorker:
    """A worker of the farm, as the server knows it."""

    name: str
    state: str
    pid: None = None  #: its process is on another computer


@dataclass(frozen=True, slots=True)
class _Played:
    """The generation that was opened last."""

    opened: RemoteOpening
    at: float  #: on the monotonic clock

    @property
    def number(self) -> int:
        return self.opened.status.number


class RemoteFarm:
    """A farm on other computers; created by `connect`. It has what `OpenFarm` has, except for files."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._playing, self._counting = threading.Lock(), threading.Lock()
        self._player: int | None = None  #: the thread that has a generation open
        self._open: RemoteGeneration | None = None
        self._submitted = 0  #: genomes, to the open generation
        self._played: _Played | None = None
        self._is_closed = False

    def __reduce__(self) -> tuple[type[NoFarm], tuple[()]]:
        """Pickled it is a stand-in, as an open farm is; the token is in no pickle."""
        return NoFarm, ()

    @property
    def generation(self) -> int:
        """The number of the generation that this connection opened last; 0 before the first."""
        return self._played.number if self._played is not None else 0

    @property
    def url(self) -> str:
        """The server of that generation."""
        return str(self._server.url)

    @property
    def results(self) -> NoReturn:
        """There is no such folder here: raises InputError."""
        raise InputError(f"results: the files are on {self.url}, in results/; use scores(), table() and the results")

    @property
    def workers(self) -> list[RemoteWorker]:
        """The workers of the server. Raises RemoteError."""
        return [RemoteWorker(said(worker.name), said(worker.state)) for worker in self._project().workers]

    def evaluate(
        self,
        genomes: Mapping[str, GenomeSource],
        *,
        params: Mapping[str, Mapping[str, Setting]] | None = None,
        generation: int | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> dict[str, Fitness]:
        """Evaluates genomes, given by file name, as one generation: the next one unless a number is given.

        As `OpenFarm.evaluate`, with one difference: a genome that only the server can refuse, e.g. because it is too
        large, is refused when the generation is open. The call then stops the generation and raises.

        Raises:
            InputError: genomes (GenomeError) or number cannot be used. ConflictError: another generation is played.
            StalledError: no worker can go on, or everything fails from the start.
            RemoteError: no server can be reached, or it refuses the token; what is counted is kept there.
            FarmClosed: the connection was closed, or the generation was stopped on the server.
        """
        number = None if generation is None else generation_number(generation)
        if on_progress is not None and not callable(on_progress):
            raise InputError(f"on_progress: expected a function, found {type(on_progress).__name__}")
        if not isinstance(genomes, Mapping):
            raise GenomeError(f"genomes: expected a mapping of names to bytes or paths, found {type(genomes).__name__}")
        recorded = checked_params(params, genomes)
        found = {name: genome_content(name, source) for name, source in genomes.items()}
        if not found and not self._has(number):
            return {}
        tick = None if on_progress is None else lambda: on_progress(self.progress())
        with self._opened_generation("evaluate", number, tick) as opened:
            for name, content in found.items():
                opened.submissions.submit(_submitted(name, content, recorded.get(name, NO_PARAMS)), tick)
            opened.submissions.wait(stored=True, tick=tick)
            opened.submissions.raise_refused()
        if tick is not None:
            tick()
        return self.scores()

    @contextmanager
    def open_generation(self, number: int | None = None) -> Iterator[int]:
        """Opens a generation for a block that submits its genomes one at a time: the next one unless a number is given.

        As `OpenFarm.open_generation`. If the block raises, playing stops if the token has the scope `control`;
        otherwise the generation is closed, and what was submitted is played. A program that was killed goes on with
        the same number: what it submits again is answered from the server's ledger.

        Raises:
            InputError, ConflictError, StalledError, RemoteError, FarmClosed: as `evaluate`; unfinished futures raise
                it, too.
        """
        chosen = None if number is None else generation_number(number)
        with self._opened_generation("open_generation", chosen) as opened:
            yield opened.number

    def submit(
        self, genome: GenomeSource, *, name: str | None = None, params: Mapping[str, Setting] | None = None
    ) -> RemoteFuture:
        """Submits a genome to the open generation; its future gets the result when it is settled.

        As `OpenFarm.submit`. It returns at once unless very much waits to be sent. What only the server can refuse,
        such as other bytes under a known name, is an error of the future. Cancelling a future asks the server.

        Raises:
            InputError: no generation is open. GenomeError: name, content or params cannot be used, or the name was used
                before.
            FarmClosed, StalledError, RemoteError: why the generation has ended.
        """
        if (opened := self._open) is None:
            self._raise_closed()
            raise InputError("submit: no generation is open; call it inside `with farm.open_generation():`")
        if name is None:
            with self._counting:
                self._submitted += 1
                name = f"{self._submitted:06d}"
        content = genome_content(name, genome)
        checked = NO_PARAMS if params is None else genome_params(name, params)
        return opened.submissions.submit(_submitted(name, content, checked))

    def progress(self) -> Progress:
        """The progress of the generation, as far as the server tells it: what is not known of it is 0."""
        played = self._started()
        status = self._server.ask(GenerationStatus, "GET", "generations", played.number, patience=self._patience)
        elapsed_s = time.monotonic() - played.at
        return progress_of(status, self._project().workers, elapsed_s, played.opened.status.settled)

    def scores(self) -> dict[str, Fitness]:
        """The result of every genome of the generation, by name. Their `files` are None: `download` fetches them."""
        return {result.name: fitness_of(result) for result in self._results()}

    def table(self) -> Table:
        """The genomes of the generation as the columns of `results.csv`; `seconds` are not known here."""
        return table_of_results(list(self._results()))

    def download(self, name: str, folder: str | Path) -> list[Path]:
        """Downloads the artifacts of a genome of the generation: of the last attempt that decided a trial and has any.

        Returns the files, in a folder that exists; they replace others of their names there.

        Raises:
            NotFoundError: no such genome has joined. RemoteError: no answer. HostError: they cannot be written.
        """
        return download(self._server, self._started().number, name, Path(folder), self._patience)

    # ------------------------------------------------------------------------------------------------------- inside

    @property
    def _server(self) -> Server:
        return self._played.opened.server if self._played is not None else self._servers.first

    @property
    def _patience(self) -> Patience:
        return self._servers.patience

    def _project(self) -> ProjectStatus:
        return self._server.ask(ProjectStatus, "GET", "project", patience=self._patience)

    def _has(self, number: int | None) -> bool:
        return number is not None and self._servers.has(number)

    def _started(self) -> _Played:
        if self._played is None:
            self._raise_closed()
            raise InputError("no generation was opened; evaluate genomes first")
        return self._played

    def _results(self) -> Iterator[GenomeResult]:
        """The genomes of the generation, as the server knows them."""
        return iter(()) if self._played is None else genomes_of(self._server, self._played.number, self._patience)

    @contextmanager
    def _opened_generation(
        self, what: str, number: int | None, tick: Callable[[], object] | None = None
    ) -> Iterator[RemoteGeneration]:
        with self._turn(what):
            self._raise_closed()
            opened = self._servers.opened(number)
            self._played = _Played(opened, time.monotonic())
            number, server = opened.status.number, opened.server
            generation = RemoteGeneration(
                number, self._patience, lambda closed: self._servers.connected(server.url, closed)
            )
            self._submitted, self._open = 0, generation
            try:
                if self._is_closed:  # meanwhile, by another thread
                    raise FarmClosed("the connection to the farm was closed; connect again")
                yield generation
                generation.finish(tick)
            except BaseException as error:
                self._open = None
                generation.end(FarmClosed(f"generation {number} was left; go on with open_generation({number})"))
                if not isinstance(error, RemoteError):
                    _stop(server, number)
                raise
            finally:
                self._open = None

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        """One generation is open at a time; other threads wait for their turn."""
        if (opened := self._open) is not None and opened.submissions.is_in_callback:
            raise InputError(f"{what}: a callback of a future cannot play a generation; let another thread do it")
        me = threading.get_ident()
        if me == self._player:
            raise InputError(f"{what}: this thread plays a generation already; leave its block or callback first")
        while not self._playing.acquire(timeout=_WAIT_S):
            pass
        self._player = me
        try:
            yield
        finally:
            self._player = None
            self._playing.release()

    def _raise_closed(self) -> None:
        if self._is_closed:
            raise FarmClosed("the connection to the farm is closed; connect again")

    def _close(self) -> None:
        self._is_closed = True
        if (opened := self._open) is not None:
            opened.end(FarmClosed(f"the farm was closed; go on with open_generation({opened.number})"))
        # A request to stop that is cut off could reach the server after the generation was opened again.
        if self._player not in (None, threading.get_ident()) and self._playing.acquire(timeout=_LEAVING_LIMIT_S):
            self._playing.release()
        self._servers.close()


@contextmanager
def connect(
    urls: str | Sequence[str],
    *,
    token: str | Mapping[str, str] = "",
    ca_file: str | Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[RemoteFarm]:
    """Connects to a farm that `pipeline serve --control` offers on another computer, until the block ends.

    Args:
        urls: `https://farm.example:8765`. `http` only for this computer, e.g. for a forwarded port. Of several, each is
            a farm of its own: a new generation is opened on the next one in turn that is healthy, and stays there.
        token: as `pipeline token` printed it, or where it is kept: `env:VARIABLE`, `file:PATH` or
            `keyring:SERVICE/NAME`. Of several servers, by URL: each has tokens of its own.
        ca_file: certificates in PEM form that are trusted instead of those of the system.
        timeout_s: how long a server may be away before the generation's calls raise RemoteError.

    Raises:
        InputError: a URL, the token (SecretError) or the file cannot be used. Nothing is sent yet.
    """
    if not timeout_s > 0:
        raise InputError(f"timeout_s {timeout_s!r}: expected a number of seconds above 0")
    places = [Place(server_url(url), _token_of(url, token)) for url in _urls(urls)]
    farm = RemoteFarm(Servers(places, Path(ca_file) if ca_file is not None else None, timeout_s))
    try:
        yield farm
    finally:
        farm._close()


def _urls(given: object) -> list[str]:
    urls = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if not urls:
        raise InputError("connect: give the URL of a server, such as https://farm.example:8765, or several")
    return list(dict.fromkeys(urls))


def _token_of(url: str, given: object) -> str:
    if not isinstance(given, Mapping):
        return checked_token(given, Path.cwd())
    if url not in given:
        raise InputError(f"token: there is none for {server_url(url)}; give one for each URL")
    return checked_token(given[url], Path.cwd())


def _submitted(name: str, content: bytes, params: Params) -> SubmittedGenome:
    return SubmittedGenome(name=name, content=content, sha256=sha256(content).hexdigest(), params=params)


def _stop(server: Server, number: int) -> None:
    """Stops a generation that was left, or closes it if the token does not allow that."""
    for verb in ("stop", "close"):
        with contextlib.suppress(PipelineError):
            server.ask(GenerationStatus, "POST", "generations", number, verb, patience=_ONCE)
            return
