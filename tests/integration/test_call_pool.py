"""The pool of an executor behaves as that of multiprocessing does."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

from pipeline import EvaluationFailed, open_executor
from pipeline.calls.executor import FarmExecutor
from pipeline.calls.pool import FarmPool
from tests.harness import called_functions as called
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmExecutor]:
    with open_executor(tmp_path_factory.mktemp("farm"), workers=2) as opened:
        yield opened


@pytest.fixture
def pool(executor: FarmExecutor) -> FarmPool:
    return executor.pool()


def test_values_are_those_of_multiprocessing(pool: FarmPool) -> None:
    """Every method, with the arguments that both take."""
    with ThreadPool(1) as other:
        expected, found = every_method(other), every_method(pool)
    assert found == expected


def every_method(pool: Any) -> list[Any]:
    return [
        pool.apply(called.add, (1, 2), {"more": 3}),
        pool.apply(called.add, [4]),
        pool.apply_async(called.add, (1,)).get(30),
        pool.map(called.square, range(5), 2),
        pool.map(called.square, []),
        pool.map_async(called.square, iter([2, 3]), chunksize=1).get(timeout=30),
        pool.starmap(called.add, [(1, 2), (3,)], chunksize=1),
        pool.starmap_async(called.add, [(5, 6)]).get(),
        list(pool.imap(called.square, range(5), 2)),
        sorted(pool.imap_unordered(called.square, range(5))),
    ]


def test_error_of_a_call_is_raised_by_its_result(pool: FarmPool) -> None:
    bad = pool.starmap_async(called.call, [(partial(called.square, 2),), (partial(called.fail, "odd"),)])

    with pytest.raises(EvaluationFailed, match="ValueError: odd"):
        bad.get()
    assert bad.ready() and not bad.successful()


def test_iteration_goes_on_after_an_error(pool: FarmPool) -> None:
    values = pool.imap(called.call, [partial(called.fail, "odd"), partial(called.square, 3)])

    with pytest.raises(EvaluationFailed, match="odd"):
        next(values)
    assert list(values) == [9]


def test_result_that_is_not_there_in_time_is_a_timeout(pool: FarmPool, tmp_path: Path) -> None:
    """The error is that of multiprocessing, and the call goes on."""
    result = pool.apply_async(called.wait_for, (str(tmp_path / "gate"),))

    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.05)
    result.wait(0.01)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    (tmp_path / "gate").touch()
    assert result.get() == str(tmp_path / "gate")
    assert result.successful()


def test_callbacks_have_returned_when_results_are_ready(pool: FarmPool) -> None:
    """One for the value or values, another for the error."""
    told = list[Any]()
    errors = list[BaseException]()
    gate = threading.Event()

    def tell(value: Any) -> None:
        gate.wait(30)
        told.append(value)

    one = pool.apply_async(called.square, (3,), callback=tell, error_callback=errors.append)
    gate.set()
    assert (one.get(), told) == (9, [9])
    pool.map_async(called.square, range(3), callback=tell, error_callback=errors.append).wait()
    pool.starmap_async(called.square, [], callback=tell).wait()
    assert told == [9, [0, 1, 4], []]
    pool.apply_async(called.fail, ("odd",), callback=tell, error_callback=errors.append).wait()
    assert len(told) == 3
    assert "ValueError: odd" in str(errors[0])


def test_closed_pool_is_joined(executor: FarmExecutor) -> None:
    """It refuses calls and waits for those that it has; the executor goes on."""
    pool = executor.pool()
    results = [pool.apply_async(called.square, (x,)) for x in range(4)]
    with pytest.raises(ValueError, match="close it before join"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="the pool was closed"):
        pool.map(called.square, [1])
    pool.join()
    assert all(result.ready() for result in results)
    assert executor.submit(called.square, 3).result() == 9


def test_end_of_the_block_terminates_the_pool(executor: FarmExecutor, tmp_path: Path) -> None:
    """What has not begun is cancelled, the rest is played to its end."""
    errors = list[BaseException]()
    with executor.pool() as pool:
        begun = pool.apply_async(called.begin_and_wait_for, (str(tmp_path / "begun"), str(tmp_path / "gate")))
        assert eventually((tmp_path / "begun").exists, 30)
        waiting = pool.map_async(called.square, range(20), error_callback=errors.append)
    (tmp_path / "gate").touch()
    pool.join()

    with pytest.raises(CancelledError):
        waiting.get()
    assert not waiting.successful()
    assert isinstance(errors[0], CancelledError)
    assert begun.get() == str(tmp_path / "gate")


def test_pool_in_an_argument_is_left_out(pool: FarmPool) -> None:
    """DEAP's toolbox holds the `map` of its pool."""
    assert pool.apply(called.sum_of_kit, ({"pool": pool, "map": pool.map, "table": [1, 2]}, 3)) == 6
