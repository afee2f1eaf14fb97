"""The model that measures what one host can carry."""

from pathlib import Path

from pipeline.core.requests import ScanRequest
from pipeline.shares.executor import THREADS_MAX
from tests.simulator.capacity import CapacityFarm


def test_threads_take_further_requests_while_a_tick_lasts(tmp_path: Path) -> None:
    """A tick of ten seconds, in which each of the threads executes several requests."""
    farm = CapacityFarm(tmp_path, workers=3 * THREADS_MAX, sites=1, game_s=60.0, trials=1)
    for name in farm.workers:
        farm.submit(ScanRequest(worker=name))

    farm.clock.now += 10.0
    farm._happen(farm.clock.now)

    assert len(farm.completed()) == len(farm.workers)
    assert farm.clock.now == 10.0
    farm.ledger.close()
