"""What is said of a worker that is unknown, awaited, drained or no longer there: the same in all views."""

import pytest
from msgspec.structs import replace

from pipeline.core.facts import DatedFact, WorkerOut
from pipeline.core.worker_requests import WorkerRequests
from pipeline.ui.terminal import plain_line
from pipeline.views.explain import explain_attempt, explain_genome, explain_worker
from pipeline.views.metrics import WORKER_STATES
from pipeline.views.page_model import page_model
from pipeline.views.progress import Progress, WorkerRow, measure_progress
from pipeline.views.status import status_text
from pipeline.views.worker_state import WorkerStates
from tests.harness.core import CoreHarness

pytestmark = pytest.mark.rules

DEPTH = {"w0": 2, "w1": 2}
WHY = "site bob: the Dask scheduler knows no worker bob"


class Shown:
    """A farm as the commands show it, while a host plays it or after that."""

    def __init__(self, core: CoreHarness, *, played: bool = True) -> None:
        self.core = core
        self.live: Progress | None = measure_progress(core.farm, core.observed, core.now) if played else None
        self.history = [DatedFact(at, fact) for fact, at in core.facts]
        self.top = self.live or measure_progress(core.farm, None, core.now)

    def row(self, worker: str = "w0") -> WorkerRow:
        """What `top`, HTTP and MCP show."""
        return next(row for row in self.top.workers if row.name == worker)

    def status(self) -> list[str]:
        return status_text(self.core.farm, 0.0, self.live, self.history).splitlines()

    def listed(self) -> list[str]:
        """The workers that `status` lists."""
        return [line.partition(":")[0] for line in self.status() if ", epoch " in line]

    def explained(self, worker: str = "w0") -> list[str]:
        return explain_worker(self.core.farm, worker, self.history, self.live)

    def on_page(self, worker: str = "w0") -> tuple[str, str]:
        sheet = page_model(self.core.farm, self.history, DEPTH, direction="maximize", live=self.live)
        return next((one["state"], one["why"]) for one in sheet["workers"] if one["name"] == worker)

    def unknown(self) -> dict[str, str]:
        return WorkerStates(self.core.farm, self.history, self.live).unknown()


def playing(*, machines: bool = False) -> CoreHarness:
    """Two workers, of which `w0` plays."""
    core = CoreHarness("w0", "w1", genomes=4, machines=machines)
    core.run_until_ready()
    core.claim("w0")
    core.tick()
    return core


def test_worker_whose_share_cannot_be_read_is_unknown_everywhere() -> None:
    """Long before the silence limit; its game may still be played or not."""
    core = playing()
    core.shares["w0"].unknown = WHY
    core.tick()
    shown = Shown(core)

    assert (shown.row().state, shown.row().genome, shown.row().problem) == ("unknown", "g1", WHY)
    assert f"; w0 is unknown: {WHY}" in plain_line(shown.top)
    assert f"w0: unknown, epoch 1, holds 2; {WHY}" in shown.status()
    assert shown.explained()[0].startswith(f"w0 is unknown: {WHY}; it gets no work until its share can be read")
    assert any(line.startswith("It was playing trial 1 of g1") for line in shown.explained())
    assert shown.on_page() == ("unknown", WHY)
    assert shown.row().state in WORKER_STATES


def test_trial_on_an_unknown_worker_is_not_said_to_be_played() -> None:
    core = playing()
    core.shares["w0"].unknown = WHY
    core.tick()
    shown, genome = Shown(core), core.farm.genomes[0]
    attempt = genome.trials[0].attempts[0]

    assert f"g1 trial 1: was played on w0, which is unknown, as {attempt.id}" in shown.status()
    for text in (
        explain_genome(core.farm, genome, DEPTH, playing=True, unknown=shown.unknown()),
        explain_attempt(core.farm, attempt, DEPTH, playing=True, unknown=shown.unknown()),
    ):
        assert any(f"is open: it was given to w0, which is unknown: {WHY}. Next: w0 answers again" in t for t in text)


def test_progress_of_a_game_is_not_told_of_an_unknown_worker() -> None:
    """What the agent reported before hides the reason otherwise."""
    core = playing()
    (heartbeat,) = [seen.heartbeat for name, seen in core.observed.workers.items() if name == "w0"]
    assert heartbeat is not None
    attempt = next(iter(core.shares["w0"].claims))
    core.observed.workers["w0"].heartbeat = replace(heartbeat, attempt=attempt, progress="level 3")
    assert Shown(core).row().progress == "level 3"

    core.shares["w0"].unknown = WHY
    core.tick()

    assert (Shown(core).row().progress, Shown(core).row().problem) == ("", WHY)


def test_share_that_can_be_read_again_makes_the_worker_known() -> None:
    core = playing()
    core.outage("w0", 5)
    core.tick()

    shown = Shown(core)

    assert shown.row().state == "playing"
    assert "w0: ready, epoch 1, holds 2" in shown.status()
    assert shown.explained()[0] == "w0 is ready; it plays what it is given."


def test_finished_run_tells_of_what_was_given_up_on_an_unknown_worker() -> None:
    """It is played on if the share comes back, so its start signal stays; that is not work that the worker holds."""
    core = playing(machines=True)
    core.shares["w0"].unknown = WHY
    core.run(40)
    core.play_all()
    shown = Shown(core, played=False)

    (line,) = [line for line in shown.status() if line.startswith("w0: ")]
    assert line.startswith("w0: unknown, epoch 1, holds 0 and may still play 2 that were given up; the share could not")
    assert (shown.row().state, shown.row().genome) == ("unknown", "")
    assert shown.on_page()[0] == "unknown"
    first, _, *rest = shown.explained()
    assert first.startswith("w0 is unknown: the share could not be read for")
    assert "silence_limit_s" not in first
    assert any(line.startswith("It may still play trial 1 of g1 as ") for line in rest)


def test_worker_that_was_never_reached_is_not_ready() -> None:
    """As one on a site that was refused; also when the host is gone."""
    core = CoreHarness("w0", "w1", genomes=2)
    core.shares["w0"].unknown = "genome-pipeline 0.0.1 is installed there"
    core.run(2)

    live, later = Shown(core), Shown(core, played=False)

    assert "w0: unknown, epoch 0, holds 0; genome-pipeline 0.0.1 is installed there" in live.status()
    assert "w0: awaited, epoch 0, holds 0; its share was not reached yet" in later.status()
    assert (later.row().state, later.row().problem) == ("awaited", "its share was not reached yet")
    assert later.explained()[0].startswith("w0 is awaited: its share was not reached yet; it gets work once")
    assert later.on_page() == ("awaited", "its share was not reached yet")


@pytest.mark.parametrize("played", [True, False])
def test_worker_that_has_left_is_not_listed_and_is_explained_as_left(played: bool) -> None:
    """Also one that was drained before, as `pipeline worker remove` does. The page keeps it for its games."""
    core = playing()
    core.requests = WorkerRequests(drained={"w0"}, leaving={"w0": "its description was removed"})
    core.tick()
    shown = Shown(core, played=played)

    assert shown.listed() == ["w1"]
    assert [row.name for row in shown.top.workers] == ["w1"]
    first = shown.explained()[0]
    assert first.startswith("w0 has left on ") and first.endswith(
        ": its description was removed; it gets no more work."
    )
    assert shown.on_page() == ("left", "its description was removed")


def test_worker_that_has_joined_again_is_listed() -> None:
    core = playing()
    core.requests = WorkerRequests(leaving={"w0": "its description was replaced"})
    core.tick()
    core.requests = WorkerRequests()
    core.join("w0")
    core.run(2)
    shown = Shown(core)

    assert shown.listed() == ["w0", "w1"]
    assert shown.explained()[0].startswith("w0 is ready")


def test_departure_counts_although_the_words_of_the_host_are_older() -> None:
    """They are written once a second."""
    core = playing()
    before = Shown(core).live
    core.requests = WorkerRequests(leaving={"w0": "its description was removed"})
    core.tick()
    shown = Shown(core)
    shown.live = before

    assert shown.listed() == ["w1"]
    assert shown.explained()[0].startswith("w0 has left")


def test_worker_that_played_is_listed_although_it_is_not_configured() -> None:
    """A program named it, or it was removed while no host ran: no fact tells which."""
    core = playing()
    core.farm.retire_all_but(["w1"])
    shown = Shown(core, played=False)

    assert shown.listed() == ["w0", "w1"]
    assert shown.explained()[0] == "w0 is not in the configuration; only a program that names it gives it work."
    assert shown.on_page() == ("not configured", "")
    assert any("was played on w0, which is not in the configuration, as" in line for line in shown.status())


def test_workers_of_a_program_are_listed_while_it_plays() -> None:
    """The project's file does not tell of them, so to a reader of the ledger they look like earlier ones."""
    core = playing()
    shown = Shown(core)
    core.farm.retire_all_but(["w1"])

    assert shown.listed() == ["w0", "w1"]
    assert shown.explained()[0].startswith("w0 is ready")


def test_drained_worker_is_explained_without_contradiction() -> None:
    """It plays what it has begun, and nothing else."""
    core = playing()
    core.requests = WorkerRequests(drained={"w0"})
    core.run(2)
    draining = Shown(core)
    assert "w0: draining, epoch 1, holds 1" in draining.status()
    assert draining.explained()[0] == (
        "w0 is being drained: it plays what it has begun, and gets no more work until `pipeline worker return w0`."
    )

    core.publish_result(next(iter(core.shares["w0"].claims)))
    core.run(2)
    drained = Shown(core)
    assert "w0: drained, epoch 1, holds 0" in drained.status()
    assert drained.explained()[0] == "w0 is drained: it gets no more work until `pipeline worker return w0`."
    assert "ready" not in "\n".join(drained.explained())
    assert drained.on_page() == ("drained", "")


def test_drained_worker_that_is_out_is_both() -> None:
    """The next run finds it drained."""
    core = playing()
    core.requests = WorkerRequests(drained={"w0"})
    core.run(2)
    core.record(WorkerOut(worker="w0", reason="gone"))

    assert Shown(core).explained()[:2] == [
        "w0 is out for this run: gone; correct what is wrong and run the same command again: it starts fresh.",
        "It is drained: it gets no more work until `pipeline worker return w0`.",
    ]


def test_drained_worker_that_is_unknown_is_both() -> None:
    core = playing()
    core.requests = WorkerRequests(drained={"w0"})
    core.shares["w0"].unknown = WHY
    core.tick()
    shown = Shown(core)

    assert f"w0: draining, epoch 1, holds 2; {WHY}" in shown.status()
    assert shown.explained()[1] == f"It has a problem: {WHY}."
