"""joblib on a farm, and through it scikit-learn: `register_joblib(executor)`.

Owns: joblib's backend. joblib is no dependency of this package: it is imported when a backend is registered.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.calls.executor import FarmExecutor
from pipeline.errors import MissingExtraError, PipelineError

#: joblib runs everything in the program itself if there is one job at a time, whatever its backend.
_JOBS_AT_ONCE_MIN = 2


def register_joblib(executor: FarmExecutor, name: str = "farm") -> None:
    """Registers a backend of joblib: `with joblib.parallel_config(name):` plays on the farm while the executor is open.

    Without `n_jobs`, and with a negative one, all workers are used. The values of the calls must be able to come back,
    as those of every call: scikit-learn's scores and searches can, fitted estimators cannot.

    Raises:
        MissingExtraError: joblib is not installed, or is older than 1.5.
    """
    try:
        from joblib import register_parallel_backend

        backend = _backend_class(executor)
    except (ImportError, AttributeError) as error:
        reason = 'register_joblib: joblib is not installed, or is too old; run: pip install "joblib>=1.5"'
        raise MissingExtraError(reason, name="joblib") from error
    register_parallel_backend(name, backend)


def _backend_class(executor: FarmExecutor) -> type[Any]:
    """joblib makes an instance for each block of `parallel_config`."""
    from joblib.parallel import ParallelBackendBase, SequentialBackend

    # joblib reads the program's next tasks and pickles them in callbacks, and those of the executor must not block.
    callbacks = ThreadPoolExecutor(1, "joblib-callbacks")

    class FarmBackend(ParallelBackendBase):  # type: ignore[misc]
        default_n_jobs = -1
        supports_retrieve_callback = True

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self._unfinished = set[Future[Any]]()

        def effective_n_jobs(self, n_jobs: int | None) -> int:
            if n_jobs == 0:
                raise ValueError("n_jobs must not be 0")
            at_once: int = max(executor.workers, _JOBS_AT_ONCE_MIN)
            return at_once if n_jobs is None or n_jobs < 0 else n_jobs

        def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None]) -> Future[Any]:
            try:
                future = executor.submit(func)
            except (PipelineError, RuntimeError) as error:  # joblib would wait for ever: it calls this in a callback
                future = Future()
                future.set_exception(error)
            self._unfinished.add(future)
            future.add_done_callback(self._unfinished.discard)
            future.add_done_callback(lambda done: callbacks.submit(callback, done))
            return future

        def retrieve_result_callback(self, out: Future[Any]) -> Any:
            return out.result()

        def abort_everything(self, ensure_ready: bool = True) -> None:
            for future in list(self._unfinished):
                future.cancel()

        def get_nested_backend(self) -> tuple[Any, None]:
            """In a call, joblib plays one after another: the other workers have calls of their own."""
            return SequentialBackend(nesting_level=self.nesting_level + 1), None

    return FarmBackend
