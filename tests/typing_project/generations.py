"""Genomes that are submitted one at a time."""

import asyncio
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from pathlib import Path
from typing import assert_type

from pipeline import Fitness, OpenFarm


def submit(farm: OpenFarm, genomes: list[bytes]) -> list[float | None]:
    with farm.open_generation() as number:
        assert_type(number, int)
        futures = [farm.submit(genome, params={"rate": 0.5, "elite": False}) for genome in genomes]
        assert_type(futures, list[Future[Fitness]])
        for future in as_completed(futures):
            assert_type(future.result(), Fitness)
        done, _waiting = wait(futures, return_when=FIRST_COMPLETED)
        return [future.result().value for future in done]


async def submit_in_a_coroutine(farm: OpenFarm) -> str:
    with farm.open_generation(7):
        fitness = await asyncio.wrap_future(farm.submit(Path("a.bin"), name="a.bin"))
        assert_type(fitness, Fitness)
        return fitness.status


def callbacks_get_the_future(farm: OpenFarm) -> None:
    def go_on(done: Future[Fitness]) -> None:
        farm.submit(b"next").add_done_callback(go_on)
        print(done.result().reason)

    farm.submit(b"first").add_done_callback(go_on)


def refused(farm: OpenFarm) -> None:
    farm.submit("a.bin")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    farm.submit(b"a", "a.bin")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    farm.submit(b"a", params={"x": [1]})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    farm.open_generation("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    value: float = farm.submit(b"a").result().value  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(value)
