"""Whole generations: genomes and params in, fitness and tables out."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import numpy
import pandas

from pipeline import Evaluator, Fitness, GenerationSummary, OpenFarm, Progress, Table, open_farm
from pipeline.contrib.dask import DaskSites

GAME = Evaluator(
    python="my_game:play", folder=Path("games"), time_limit_s=60, environment={"LEVEL": "3"}, inherited=("CUDA_*",)
)


def evaluate(genomes: dict[str, bytes]) -> float | None:
    with open_farm("my-project", evaluator=GAME, workers=4, trials_per_genome=3, seed=1) as farm:
        assert_type(farm, OpenFarm)
        scores = farm.evaluate(genomes)
        assert_type(scores, dict[str, Fitness])
        assert_type(scores["a.bin"].trials, list[float | None])
        assert_type(scores["a.bin"].metrics, Mapping[str, float])
        assert_type(scores["a.bin"].files, Path | None)
        assert_type(farm.results, Path)
        assert_type(farm.workers[0].pid, int | None)
        return scores["a.bin"].value


def evaluate_on_sites(genomes: dict[str, bytes]) -> None:
    sites = DaskSites("dask+tls://scheduler:8786", agents_per_site=8, sites_min=2)
    with open_farm("my-project", evaluator=GAME, sites=sites) as farm:
        assert_type(farm.evaluate(genomes), dict[str, Fitness])
    open_farm("my-project", sites="dask://scheduler:8786")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def genomes_are_bytes_or_paths(farm: OpenFarm) -> None:
    weights: dict[str, numpy.ndarray[tuple[int], numpy.dtype[numpy.float32]]] = {"a": numpy.zeros(3, numpy.float32)}
    paths: dict[str, Path] = {"a": Path("a.bin")}
    farm.evaluate(weights)
    farm.evaluate(paths, generation=1)
    farm.evaluate({"a": b"a", "b": bytearray(b"b"), "c": memoryview(b"c"), "d": Path("d.bin")})
    farm.evaluate({"a": "a.bin"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    farm.evaluate([b"a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    farm.evaluate({1: b"a"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    farm.evaluate({"a": b"a"}, generation="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def params_are_plain_values(farm: OpenFarm, genomes: dict[str, bytes]) -> None:
    rates: dict[str, dict[str, float]] = {name: {"rate": 0.5} for name in genomes}
    farm.evaluate(genomes, params=rates)
    farm.evaluate(genomes, params={"a": {"elite": True, "parent": "b", "layers": 3, "rate": 0.1}})
    farm.evaluate(genomes, params={"a": {"parents": ["b"]}})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    farm.evaluate(genomes, params={"rate": 0.1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def farms_have_settings() -> None:
    levels: dict[str, int] = {"level": 3}
    with open_farm(Path("my-project"), settings=levels), open_farm("another", settings={"map": "x", "fast": True}):
        pass
    open_farm("my-project", keep="summary")
    open_farm("my-project", keep="none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_farm("my-project", worker=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_farm("my-project", evaluator="my_game:play")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Evaluator("play.py")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def tables_are_columns(farm: OpenFarm) -> pandas.DataFrame:
    table = farm.table()
    assert_type(table, Table)
    names: list[str] = table["genome"]
    fitness: list[float | None] = [row["fitness"] for row in table.rows()]
    print(names, fitness)
    return pandas.DataFrame(table)


def show(now: Progress) -> None:
    assert_type(now.eta_s, float | None)
    print(now.settled, now.trials, [leader.fitness for leader in now.leaders])


def record(done: GenerationSummary) -> int:
    assert_type(done.best, float | None)
    assert_type(done.numbers(), dict[str, float])
    return len(done.metrics)


def wrong(name: str) -> None:
    print(name)


def callbacks_may_return_anything(genomes: dict[str, bytes]) -> None:
    seen = list[GenerationSummary]()
    with open_farm("my-project", on_generation=record) as farm:
        farm.evaluate(genomes, on_progress=show)
        farm.evaluate(genomes, on_progress=lambda now: now.settled)
        farm.evaluate(genomes, on_progress=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with open_farm("my-project", on_generation=seen.append):
        pass
    with open_farm("my-project", on_generation=show):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pass
