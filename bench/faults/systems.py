"""The generation as each system plays it: used as its documentation shows, with its own time limit if it has one.

What has a limit only for the caller's wait, while the game goes on in its worker, gets none. Where a documented way
keeps finished evaluations for the next run of the program, it is used: our ledger, `joblib.Memory`, Optuna's storage.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults.answer import Answer
from bench.faults.game import GENOMES, TIME_LIMIT_S, WORKERS, evaluate, evaluate_next

NUMBERS = range(GENOMES)
RAY_STORE_BYTES = 128 * 1024**2
PATH_CHARS_MAX = 40  # Ray puts sockets below its folder, and a socket's path is at most 107 bytes long


def genome_pipeline(answer: Answer, folder: Path) -> None:
    """A farm of local workers. The generation's number is given, so that a second run goes on with it."""
    from pipeline import Evaluator, open_farm

    play = Evaluator(
        python="game:play", folder=Path(__file__).parent, time_limit_s=TIME_LIMIT_S, inherited=["FAULTS_*"]
    )
    genomes = {f"{number}.txt": str(number).encode() for number in NUMBERS}
    with open_farm(folder / "farm", evaluator=play, workers=WORKERS, trials_per_genome=1) as farm, answer.timed():
        for name, fitness in farm.evaluate(genomes, generation=1).items():
            number = int(name.removesuffix(".txt"))
            if fitness.value is None:
                answer.failed.append(number)
            else:
                answer.fitness[number] = fitness.value


def pebble(answer: Answer, _folder: Path) -> None:
    """A limit for each task, and an iterator that goes on after an error."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=WORKERS) as pool, answer.timed():
        found = pool.map(evaluate, NUMBERS, timeout=TIME_LIMIT_S).result()
        for number in NUMBERS:
            try:
                answer.fitness[number] = next(found)
            except Exception:  # what the game raised, TimeoutError or ProcessExpired
                answer.failed.append(number)


def ray(answer: Answer, folder: Path) -> None:
    """Tasks have no limit; the caller's wait has one, and a forced cancellation ends the task's process."""
    import ray

    own = (
        {"_temp_dir": f"{folder}/ray"} if len(str(folder)) <= 40 else {}
    )  # its sockets have paths of 107 bytes at most
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=RAY_STORE_BYTES, **own)
    task = ray.remote(evaluate)
    ready = ray.remote(_ready)
    ray.get([ready.remote() for _ in range(WORKERS)])  # the first process of a worker takes seconds to start
    with answer.timed():
        submitted = [task.remote(number) for number in NUMBERS]
        for number, reference in enumerate(submitted):
            try:
                answer.fitness[number] = ray.get(reference, timeout=TIME_LIMIT_S)
            except Exception as error:
                answer.failed.append(number)
                if isinstance(error, ray.exceptions.GetTimeoutError):
                    ray.cancel(reference, force=True)
    ray.shutdown()


def dask(answer: Answer, folder: Path) -> None:
    """A local cluster of processes with one thread each. A task has no limit, and none that runs can be cancelled."""
    from distributed import Client, LocalCluster, as_completed

    own = {"dashboard_address": None, "local_directory": str(folder)}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, **own) as cluster,
        Client(cluster) as client,
        answer.timed(),
    ):
        futures = {future: number for number, future in enumerate(client.map(evaluate, NUMBERS, pure=False))}
        for future in as_completed(futures):
            _take(answer, futures[future], future)


def process_pool_executor(answer: Answer, _folder: Path) -> None:
    """Futures of the standard library."""
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(WORKERS) as executor, answer.timed():
        futures = {executor.submit(evaluate, number): number for number in NUMBERS}
        for future in as_completed(futures):
            _take(answer, futures[future], future)


def joblib(answer: Answer, folder: Path) -> None:
    """A generator, which gives what was finished before an error; its cache on disk serves the next run."""
    from joblib import Memory, Parallel, delayed

    cached = Memory(folder / "cache", verbose=0).cache(evaluate)
    with answer.timed():
        found = Parallel(n_jobs=WORKERS, timeout=TIME_LIMIT_S, return_as="generator")(
            delayed(cached)(number) for number in NUMBERS
        )
        for number, fitness in enumerate(found):
            answer.fitness[number] = fitness


def nevergrad(answer: Answer, _folder: Path) -> None:
    """An optimiser over an executor. It asks for an evaluation without saying which genome of ours it is."""
    from concurrent.futures import ProcessPoolExecutor

    import nevergrad

    optimizer = nevergrad.optimizers.TwoPointsDE(parametrization=2, budget=GENOMES, num_workers=WORKERS)
    with ProcessPoolExecutor(WORKERS) as executor, answer.timed():
        try:
            optimizer.minimize(evaluate_next, executor=executor, batch_mode=False)
        finally:
            answer.fitness.update(dict.fromkeys(range(optimizer.num_tell), 0.0))


def optuna(answer: Answer, folder: Path) -> None:
    """Threads of this process. The storage keeps finished trials; a second run plays what is missing of 40."""
    import optuna
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    study = optuna.create_study(
        study_name="faults", storage=f"sqlite:///{folder}/study.db", load_if_exists=True, direction="maximize"
    )
    enough = MaxTrialsCallback(GENOMES, states=(TrialState.COMPLETE,))
    with answer.timed():
        try:
            study.optimize(_objective, n_trials=GENOMES, n_jobs=WORKERS, catch=(Exception,), callbacks=[enough])
        finally:
            finished = study.get_trials(states=(TrialState.COMPLETE,))
            answer.fitness.update({trial.number: trial.value for trial in finished})
            answer.failed += [trial.number for trial in study.get_trials(states=(TrialState.FAIL,))]


def neat_python(answer: Answer, _folder: Path) -> None:
    """Its evaluator over a pool of processes, with its limit. Fitness is an attribute of each genome."""
    import neat

    genomes = [(number, neat.DefaultGenome(number)) for number in NUMBERS]
    with neat.ParallelEvaluator(WORKERS, _genome_fitness, timeout=TIME_LIMIT_S) as evaluator, answer.timed():
        try:
            evaluator.evaluate(genomes, None)
        finally:
            answer.fitness.update({key: genome.fitness for key, genome in genomes if genome.fitness is not None})


def deap(answer: Answer, _folder: Path) -> None:
    """The `map` of a toolbox is that of a pool of the standard library."""
    import multiprocessing

    from deap import base

    toolbox = base.Toolbox()
    with multiprocessing.Pool(WORKERS) as pool, answer.timed():
        toolbox.register("map", pool.map)
        toolbox.register("evaluate", evaluate)
        answer.fitness.update(zip(NUMBERS, toolbox.map(toolbox.evaluate, NUMBERS), strict=True))


def _take(answer: Answer, number: int, future: Any) -> None:
    try:
        answer.fitness[number] = future.result()
    except Exception:
        answer.failed.append(number)


def _objective(trial: Any) -> float:
    trial.suggest_float("x", -1, 1)
    return evaluate(trial.number)


def _genome_fitness(genome: Any, _config: object) -> float:
    return evaluate(genome.key)


def _ready() -> None:
    """A task that ends at once."""


SYSTEMS: dict[str, Callable[[Answer, Path], None]] = {
    "genome-pipeline": genome_pipeline,
    "pebble": pebble,
    "ray": ray,
    "dask": dask,
    "joblib": joblib,
    "concurrent-futures": process_pool_executor,
    "nevergrad": nevergrad,
    "optuna": optuna,
    "neat-python": neat_python,
    "deap": deap,
}
