"""Functions that are called on workers: a call has the types of its function."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, as_completed
from functools import partial
from pathlib import Path
from typing import assert_type

from pipeline import FarmExecutor, OpenFarm, current_trial, open_executor


def play(level: int, name: str = "", *, speed: float = 1.0) -> tuple[float, list[str]]:
    trial = current_trial()
    assert_type(trial.seed, int)
    assert_type(trial.scratch, Path)
    trial.progress(f"{name}, level {level}")
    return level * speed, [name]


def loss(weights: list[float], data: dict[str, list[float]]) -> float:
    return sum(weights) + sum(data["x"])


def submit() -> None:
    with open_executor("my-run", workers=2, time_limit_s=60, resume=True) as executor:
        assert_type(executor, FarmExecutor)
        assert_type(executor.farm, OpenFarm)
        future = executor.submit(play, 3, "a", speed=2)
        assert_type(future, Future[tuple[float, list[str]]])
        for done in as_completed([future]):
            assert_type(done.result(), tuple[float, list[str]])


def arguments_are_those_of_the_function(executor: FarmExecutor) -> None:
    executor.submit(play, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    executor.submit(play)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    executor.submit(play, 3, sped=2.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    executor.submit(play(3))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


def maps_keep_the_type_of_values(executor: FarmExecutor) -> None:
    assert_type(executor.map(play, range(3), ["a", "b", "c"]), Iterator[tuple[float, list[str]]])
    assert_type(executor.starmap(play, [(1, "a"), (2, "b")]), list[tuple[float, list[str]]])
    executor.starmap(play, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def shared_value_stands_for_itself(executor: FarmExecutor, data: dict[str, list[float]]) -> None:
    common = executor.shared(data)
    assert_type(executor.submit(loss, [1.0], common), Future[float])
    assert_type(list(executor.map(partial(loss, data=common), [[1.0], [2.0]])), list[float])
    number = executor.shared(3)
    executor.submit(loss, [1.0], number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def is_an_executor_of_the_standard_library(executor: FarmExecutor) -> Executor:
    return executor
