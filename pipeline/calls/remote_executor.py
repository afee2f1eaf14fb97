"""An executor over a farm elsewhere: `with open_remote_executor(farm) as executor:`.

Owns: how a value comes back: a finite float as the fitness of its genome, any other one as its artifacts.
Not here: calls as genomes (`executor`), the farm (`pipeline.remote`).
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from pipeline.api import OpenFarm
from pipeline.calls.executor import NOT_KEPT, RAISE, CallFuture, FarmExecutor, pickled
from pipeline.calls.player import VALUE_FILES, Call, call_from_elsewhere
from pipeline.calls.values import read_value
from pipeline.errors import EvaluationFailed, PipelineError
from pipeline.host.genome_fitness import Fitness
from pipeline.remote import RemoteFarm

P = ParamSpec("P")
T = TypeVar("T")


class _Carried:
    """A value that is pickled already: some libraries change a value when it is pickled."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        """In a worker it is the value itself."""
        return pickle.loads, (self._data,)  # noqa: S301  of the program itself


class RemoteExecutor(FarmExecutor):
    """Created by `open_remote_executor`. Any thread may call."""

    def __init__(self, farm: RemoteFarm, failed: Any) -> None:
        super().__init__(cast(OpenFarm, farm), Path(), failed)  # it has what an executor uses of one
        self._remote = farm

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Plays `fn(*args, **kwargs)` on a worker of the farm; the future gets its value.

        A call that fails gives what `failed` says, or raises EvaluationFailed.

        Raises:
            InputError: the call cannot be pickled. RuntimeError: the executor was shut down.
        """
        self._refuse_after_shutdown()
        return self._submitted(pickled(Call(call_from_elsewhere, (fn, args, kwargs), {})))

    def shared(self, value: T) -> T:
        """Stands for an argument of many calls, as it is now: it is pickled once, and sent with each call.

        It has the type of the value, which calls get; outside of a call it can only be passed on.
        """
        return cast(T, _Carried(pickled(value)))

    def _submitted(self, call: bytes) -> Future[Any]:
        genome = self._remote.submit(call)
        return CallFuture(genome, self._failed, lambda fitness: self._value_elsewhere(genome.name, fitness))

    def _value_elsewhere(self, name: str, fitness: Fitness) -> Any:
        if fitness.value is None:
            raise EvaluationFailed(fitness.reason.removeprefix("trial 1: "))  # a call has no other
        if not (count := fitness.metrics.get(VALUE_FILES)):
            return fitness.value
        with tempfile.TemporaryDirectory(prefix="value-") as folder:
            try:
                if len(self._remote.download(name, folder)) < count:
                    raise EvaluationFailed(NOT_KEPT)
                return read_value(Path(folder))
            except EvaluationFailed:
                raise
            except (OSError, ValueError, PipelineError) as error:
                raise EvaluationFailed(f"its value cannot be read: {error}") from error


@contextmanager
def open_remote_executor(
    farm: RemoteFarm, *, failed: Any = RAISE, generation: int | None = None
) -> Iterator[RemoteExecutor]:
    """Opens a generation of a farm whose evaluator calls Python functions; its end waits until every call is settled.

    In the `pipeline.toml` of the farm: `[evaluator]` with `python = "pipeline.calls.player:play"` and
    `version = "calls-1"`, `[generation]` with `trials_per_genome = 1`. Its workers unpickle what is submitted: a
    token for it lets its owner run any program there.

    Args:
        farm: from `pipeline.remote.connect`.
        failed: the value of calls that fail. By default their futures raise EvaluationFailed.
        generation: a program that was killed goes on with the same number.

    Raises:
        InputError, ConflictError, RemoteError: as `RemoteFarm.open_generation`.
    """
    with farm.open_generation(generation):
        executor = RemoteExecutor(farm, failed)
        try:
            yield executor
        finally:
            executor.shutdown()
