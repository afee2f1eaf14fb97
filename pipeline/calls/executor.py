"""An executor of the standard library over a farm: each call is a genome of one open generation.

Owns: what a call is as a genome, its name, and what its future gets.
Not here: how values travel (`values`), the worker's side (`player`).
"""

import copyreg
import hashlib
import io
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import cloudpickle

from inbox_agent.system.atomic_file import replace_file
from pipeline.api import Evaluator, OpenFarm, open_farm
from pipeline.calls.player import Call, load_shared
from pipeline.calls.pool import FarmPool
from pipeline.calls.values import read_value
from pipeline.errors import EvaluationFailed, InputError, disk_errors
from pipeline.host.genome_fitness import Fitness
from pipeline.host.no_farm import NoFarm
from pipeline.paths import ProjectPaths

P = ParamSpec("P")
T = TypeVar("T")
_PROTOCOL = 5  #: of pickle: the same call has the same bytes in every run
#: Compared instead of files: the functions are in the calls.
_EVALUATOR_VERSION = "calls-1"
RAISE: Final = object()
NOT_KEPT = "its value was not kept: it was pruned, or the budgets of artifacts in [limits] are used up"


class Shared:
    """A value that many calls take as an argument: it is written once, and read once in each worker process."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._path, self._sha256 = path, sha256

    def __reduce__(self) -> tuple[Callable[[str, str], Any], tuple[str, str]]:
        """In a worker it is the value itself."""
        return load_shared, (str(self._path), self._sha256)


class FarmExecutor(Executor):
    """Created by `open_executor`. Any thread may call; calls are played in any order, each exactly once."""

    def __init__(self, farm: OpenFarm, folder: Path, failed: Any) -> None:
        self.farm = farm  #: for its progress, workers and results
        self._folder, self._failed = folder, failed
        self.workers = len(farm.workers)  #: how many
        self._max_workers = self.workers  # what libraries ask an executor of the standard library for
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Plays `fn(*args, **kwargs)` on a worker; the future gets its value.

        A call that fails `failures_max` times gives what `failed` says, or raises EvaluationFailed. With `resume` the
        n-th call is answered from the ledger if an earlier run of the program has made it.

        Raises:
            InputError: the call cannot be pickled. GenomeError: the run that is resumed has made another call.
            RuntimeError: the executor was shut down.
        """
        self._refuse_after_shutdown()
        return self._submitted(pickled(Call(fn, args, kwargs)))

    def starmap(self, fn: Callable[..., T], arguments: Iterable[Iterable[Any]]) -> list[T]:
        """The values of `fn(*a)` for each of the arguments, in their order. If one fails the others are cancelled."""
        futures = [self.submit(fn, *each) for each in arguments]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def pool(self) -> FarmPool:
        """What optimisers use of `multiprocessing.Pool`, for those that take no executor."""
        return FarmPool(self)

    def shared(self, value: T) -> T:
        """Stands for a large argument of many calls: `functools.partial(f, data=executor.shared(data))`.

        It has the type of the value, which calls get; outside of a call it can only be passed on.
        """
        data = pickled(value)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._folder / f"{sha256}.pickle"
        with disk_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                replace_file(path, data)
        return cast(T, Shared(path, sha256))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses further calls; the block of `open_executor` waits for those that were made."""
        self._is_shut_down = True

    def _refuse_after_shutdown(self) -> None:
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _submitted(self, call: bytes) -> Future[Any]:
        return CallFuture(self.farm.submit(call), self._failed, self._value)

    def _value(self, fitness: Fitness) -> Any:
        """The value of a call that was played. Raises EvaluationFailed: it has none."""
        if fitness.value is None:
            raise EvaluationFailed(fitness.reason.removeprefix("trial 1: "))  # a call has no other
        if fitness.files is None:
            raise EvaluationFailed(NOT_KEPT)
        try:
            return read_value(fitness.files)
        except (OSError, ValueError) as error:
            raise EvaluationFailed(f"its value cannot be read: {error}") from error

    def __reduce__(self) -> tuple[type[NoFarm], tuple[()]]:
        """In a call it is a stand-in: a library's toolbox that holds its executor can be pickled."""
        return NoFarm, ()


class CallFuture(Future[T]):
    """The future of a call: its value, made from the fitness of its genome."""

    def __init__(self, genome: Future[Fitness], failed: Any, value: Callable[[Fitness], T]) -> None:
        super().__init__()
        self._genome, self._failed, self._value_of = genome, failed, value
        genome.add_done_callback(self._finish)

    def cancel(self) -> bool:
        """Cancels the call unless a worker has room for it already."""
        return self._genome.cancel()

    def running(self) -> bool:
        """Whether it has begun, or waits for a worker that has room for it."""
        return self._genome.running()

    def _finish(self, genome: Future[Fitness]) -> None:
        if genome.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        self.set_running_or_notify_cancel()
        if (error := genome.exception()) is not None:  # not raised here: all that are open share one
            self.set_exception(error)
            return
        try:
            self.set_result(self._value(genome.result()))
        except EvaluationFailed as failed:
            self.set_exception(failed)

    def _value(self, fitness: Fitness) -> T:
        if fitness.value is None and self._failed is not RAISE:
            return self._failed  # type: ignore[no-any-return]
        return self._value_of(fitness)


@contextmanager
def open_executor(
    root: str | Path | None = None,
    *,
    workers: int | None = None,
    time_limit_s: float = 1800.0,
    failures_max: int = 2,
    failed: Any = RAISE,
    resume: bool = False,
) -> Iterator[FarmExecutor]:
    """Opens a farm whose local workers call Python functions, until the block ends and every call is settled.

    Args:
        root: the project folder. None: a temporary one, which is removed at the end.
        workers: how many local workers.
        time_limit_s: of a call; its process is killed then.
        failures_max: how often a call may fail or run out of time; the last try is on another worker, if there is one.
            What is lost with a worker does not count.
        failed: the value of calls that fail. By default their futures raise EvaluationFailed.
        resume: a program that was killed and is started again gets the values of the calls that it had made: the n-th
            call is compared with the n-th one of the earlier run.

    Raises:
        InputError, ProjectBusyError, HostError, LedgerError: as `open_farm`.
    """
    if resume and root is None:
        raise InputError(
            "open_executor: resume needs a root: a temporary folder is gone when the program is started again"
        )
    with ExitStack() as stack:
        place = Path(root or stack.enter_context(tempfile.TemporaryDirectory(prefix="farm-"))).resolve()
        evaluator = Evaluator(
            python="pipeline.calls.player:play",
            time_limit_s=time_limit_s,
            environment={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            version=_EVALUATOR_VERSION,
        )
        farm = stack.enter_context(
            open_farm(place, evaluator=evaluator, workers=workers, trials_per_genome=1, failures_max=failures_max)
        )
        stack.enter_context(farm.open_generation(1 if resume else None))
        executor = FarmExecutor(farm, ProjectPaths(place).shared_values, failed)
        stack.callback(executor.shutdown)
        yield executor


def pickled(value: Any) -> bytes:
    """A value as bytes that are the same in every run, if it is not pickled by value. Raises InputError."""
    file = io.BytesIO()
    try:
        _Pickler(file, protocol=_PROTOCOL).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        reason = f"a call cannot be pickled: {error}"
        raise InputError(f"{reason}; give functions of a module and plain arguments") from error
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, unless a library says itself how its objects are pickled, as DEAP does of the classes it makes."""

    def reducer_override(self, obj: Any) -> Any:
        return NotImplemented if type(obj) in copyreg.dispatch_table else super().reducer_override(obj)
