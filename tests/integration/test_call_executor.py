"""The executor: functions of a program are called on workers, and each future gets its own value."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline import EvaluationFailed, GenomeError, InputError, PipelineError, current_trial, open_executor
from pipeline.calls.executor import FarmExecutor
from tests.harness import called_functions as called
from tests.harness.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmExecutor]:
    """One for all tests: each has its own calls."""
    with open_executor(tmp_path_factory.mktemp("farm"), workers=2) as opened:
        yield opened


def test_map_gives_values_in_order(executor: FarmExecutor) -> None:
    assert list(executor.map(called.square, range(20))) == [x * x for x in range(20)]
    assert list(executor.map(called.add, [1, 2], [10, 20])) == [11, 22]


def test_submit_takes_all_kinds_of_arguments(executor: FarmExecutor) -> None:
    assert executor.submit(called.add, 1, 2, more=3).result() == 6


def test_starmap_takes_tuples(executor: FarmExecutor) -> None:
    """As the pool of multiprocessing does; without tuples nothing is called."""
    assert executor.starmap(called.add, [(1, 2), (3, 4)]) == [3, 7]
    assert executor.starmap(called.add, []) == []


def test_failed_call_of_starmap_cancels_the_others(monkeypatch: pytest.MonkeyPatch, executor: FarmExecutor) -> None:
    """As one of `map` does: their values would not be read."""
    failed, waiting = Future[int](), Future[int]()
    failed.set_exception(EvaluationFailed("odd"))
    futures = iter([failed, waiting])
    monkeypatch.setattr(executor, "submit", lambda *_call: next(futures))

    with pytest.raises(EvaluationFailed, match="odd"):
        executor.starmap(called.add, [(1, 2), (3, 4)])
    assert waiting.cancelled()


def test_values_come_back_with_their_types(executor: FarmExecutor) -> None:
    value = executor.submit(called.stats, [1.0, 2.0]).result()

    assert (value["mean"], value["pair"], value[3]) == (1.5, (1, "two"), None)
    assert np.array_equal(value["doubled"], np.array([2.0, 4.0]))


def test_functions_of_the_program_itself_can_be_called(executor: FarmExecutor) -> None:
    """Also those that no module has."""
    factor = 3
    assert executor.submit(lambda x: factor * x, 5).result() == 15


def test_calls_know_their_trial(executor: FarmExecutor) -> None:
    """Seed, progress and an own folder."""
    note, seed = executor.submit(called.scratch_and_seed).result()

    assert note == "here"
    assert 0 <= seed < 2**31
    with pytest.raises(LookupError):
        current_trial()


def test_call_that_raises_raises_in_its_future(executor: FarmExecutor) -> None:
    """The message names exception, file and line; the others are not disturbed."""
    bad, good = executor.submit(called.fail, "odd"), executor.submit(called.square, 2)

    with pytest.raises(EvaluationFailed, match=r"^failed: ValueError: odd \(called_functions.py, line \d+\)"):
        bad.result()
    assert good.result() == 4


def test_number_of_tries_can_be_chosen(tmp_path: Path) -> None:
    """One is enough for functions that always fail in the same way."""
    with open_executor(tmp_path, workers=2, failures_max=1) as executor:
        failed = executor.submit(called.fail, "odd")
        assert isinstance(failed.exception(), EvaluationFailed)
        (genome,) = executor.farm.scores().values()

    assert len(genome.attempts) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_call_that_crashes_its_process_fails_alone(executor: FarmExecutor) -> None:
    bad, *good = executor.submit(called.crash), *(executor.submit(called.square, x) for x in range(6))

    with pytest.raises(EvaluationFailed, match="evaluator process died"):
        bad.result()
    assert [future.result() for future in good] == [x * x for x in range(6)]


def test_call_over_its_time_limit_is_ended(tmp_path: Path) -> None:
    with open_executor(tmp_path, workers=2, time_limit_s=0.5 * PATIENCE**2) as executor:
        hanging, good = executor.submit(called.hang), executor.submit(called.square, 3)
        assert good.result() == 9
        with pytest.raises(EvaluationFailed, match="time limit"):
            hanging.result()


def test_failed_calls_may_have_a_value(tmp_path: Path) -> None:
    """What an optimiser takes for a failure: nan, infinity, None."""
    with open_executor(tmp_path, workers=2, failed=None) as executor:
        assert list(executor.map(called.call, [partial(called.square, 2), partial(called.fail, "x")])) == [4, None]


def test_value_that_cannot_come_back_is_named(executor: FarmExecutor) -> None:
    with pytest.raises(EvaluationFailed, match=r"type builtins\.object cannot be returned; return numbers"):
        executor.submit(called.return_object).result()


def test_call_that_cannot_be_pickled_is_refused_at_once(executor: FarmExecutor) -> None:
    with pytest.raises(InputError, match=r"a call cannot be pickled: cannot pickle .*lock. object; give functions"):
        executor.submit(called.call, threading.Lock())
    assert executor.submit(called.square, 2).result() == 4


def test_large_argument_is_read_once_in_each_process(executor: FarmExecutor) -> None:
    shared = executor.shared(called.Counted())

    assert set(executor.map(partial(called.loads_of, shared), range(12))) == {1}


def test_executor_in_an_argument_is_left_out(executor: FarmExecutor) -> None:
    """A library's toolbox holds its executor, `map` of it or the farm, and an evaluator the toolbox."""
    toolbox = {"pool": executor, "map": executor.map, "farm": executor.farm, "table": [1, 2]}
    assert executor.submit(called.sum_of_kit, toolbox, 3).result() == 6
    with pytest.raises(EvaluationFailed, match="a worker cannot use its own farm"):
        executor.submit(called.use, executor).result()


def test_values_are_told_in_the_order_of_completion(executor: FarmExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow, fast = executor.submit(called.wait_for, str(gate)), executor.submit(called.wait_for, str(tmp_path))
    told = as_completed([slow, fast])

    assert next(told) is fast
    gate.touch()
    assert next(told) is slow


def test_call_that_has_not_begun_can_be_cancelled(executor: FarmExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    futures = [executor.submit(called.wait_for, str(gate)) for _ in range(20)]

    assert futures[-1].cancel()
    assert not wait(futures, timeout=0.2).not_done - set(futures[:-1])
    gate.touch()
    with pytest.raises(CancelledError):
        futures[-1].result()
    assert {future.result() for future in futures[:-1]} == {str(gate)}


def test_event_loops_run_calls(executor: FarmExecutor) -> None:
    async def play() -> list[float]:
        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(loop.run_in_executor(executor, called.square, x) for x in range(4))))

    assert asyncio.run(play()) == [0, 1, 4, 9]


def test_nothing_is_called_after_shutdown(tmp_path: Path) -> None:
    """What was submitted before is completed at the end of the block."""
    with open_executor(tmp_path, workers=1) as executor:
        future = executor.submit(called.square, 3)
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(called.square, 4)
    assert future.result() == 9


def test_temporary_farm_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_executor(workers=1) as executor:
        assert executor.submit(called.square, 3).result() == 9
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ resume


def test_program_that_is_started_again_gets_its_values(tmp_path: Path) -> None:
    """What it called before is not called again."""
    with open_executor(tmp_path, workers=1, resume=True) as executor:
        before = list(executor.map(called.square, range(5)))
    with open_executor(tmp_path, workers=1, resume=True) as executor:
        again = list(executor.map(called.square, range(7)))
        attempts = executor.farm.progress().completed

    assert again[:5] == before
    assert attempts == 7
    assert len((tmp_path / "results/gen-0001/attempts.csv").read_text().splitlines()) == 1 + 7


def test_other_calls_than_before_are_refused(tmp_path: Path) -> None:
    """A program that does something else must not get the values of another call."""
    with open_executor(tmp_path, workers=1, resume=True) as executor:
        executor.submit(called.square, 1)
    with (
        pytest.raises(GenomeError, match="the generation has it with other bytes"),
        open_executor(tmp_path, workers=1, resume=True) as executor,
    ):
        executor.submit(called.square, 2)


def test_resume_needs_a_folder() -> None:
    with pytest.raises(InputError, match="resume needs a root"), open_executor(resume=True):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_killed_optimiser_goes_on(tmp_path: Path) -> None:
    """Killed three times and started again, it prints what it would have printed; at most two calls more each time."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import random, sys
            from pipeline import open_executor
            from tests.harness.called_functions import sleep

            if __name__ == "__main__":
                dice, best = random.Random(1), 1.0
                with open_executor({str(tmp_path / "farm")!r}, workers=2, resume=True) as executor:
                    for number in range(12):
                        best = min(executor.map(sleep, [best * dice.uniform(0.8, 1.1) * 0.2 for _ in range(3)])) * 5
                        print(number, flush=True)
                print(best)
            """
        )
    )
    for numbers in (2, 5, 8):
        run = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        assert run.stdout is not None
        while int(run.stdout.readline()) < numbers:
            pass
        run.kill()
        run.wait()
        run.stdout.close()
    last = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    attempts = (tmp_path / "farm/results/gen-0001/attempts.csv").read_text().splitlines()[1:]

    assert last.stdout.splitlines()[-1] == _undisturbed()
    assert 36 <= len(attempts) <= 36 + 3 * 2


def _undisturbed() -> str:
    import random

    dice, best = random.Random(1), 1.0
    for _ in range(12):
        best = min(best * dice.uniform(0.8, 1.1) * 0.2 for _ in range(3)) * 5
    return str(best)


def test_errors_of_calls_are_errors_of_the_pipeline() -> None:
    assert issubclass(EvaluationFailed, PipelineError)
