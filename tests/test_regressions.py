"""What a review found: every test here failed once, and each states what the design promises."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.agent import Agent
from inbox_agent.evaluator import Finished, Job
from inbox_agent.identity import Identity
from inbox_agent.settings_file import SettingsError
from inbox_agent.share_files import AlreadyThere, LocalFiles
from inbox_agent.share_layout import (
    HEARTBEAT,
    INBOX,
    OUTBOX,
    SETTINGS_BYTES_MAX,
    SETTINGS_MAX,
    STAGING,
    STATUS,
    AgentRecord,
    AgentState,
    HostRecord,
    Kind,
    LayoutError,
    Outcome,
    ResultRecord,
    StartRecord,
    attempt_id,
    decode,
    encode,
    epoch_of,
    host_name,
)
from pipeline.config import load_config
from pipeline.core.dispatcher import Queues, ShareAct, decide, plan, standstill
from pipeline.core.facts import (
    AttemptEnded,
    AttemptIssued,
    EpochOpened,
    EpochRaised,
    Fact,
    GenomeAdded,
    GenomeCharged,
    ResultLate,
    Rung,
    RunOpened,
    RunSettings,
    WorkerOut,
    decode_fact,
    encode_fact,
)
from pipeline.core.farm import Farm
from pipeline.core.limits import Limits
from pipeline.core.view import Look, MachineSeen, MachineState, ResultSeen, View
from pipeline.core.watch import Watch
from pipeline.edges.shares import Order, Share
from tests import records
from tests.records import FARM, GENOME, WORKER, attempt, of_another_version

LIMITS = Limits()
RUNNING = {WORKER: MachineSeen(MachineState.RUNNING, (Rung.RESTART_AGENT,))}
REVERTED = {WORKER: MachineSeen(MachineState.RUNNING, reverted=True)}
NEIGHBOUR = "vm-1"
OTHER_FARM = "farm-2"
STRANGER = attempt_id(1, 1, 1, 1, "z" * 12)


# ------------------------------------------------------------------------------------------------------- the core


class Core:
    """A farm whose shares are known to be its own, and its watch; the test says what each look shows."""

    def __init__(self, *workers: str, genomes: int = 1, depth: int = 0) -> None:
        names = workers or (WORKER, NEIGHBOUR)
        self.farm = Farm(FARM, list(names))
        self.queues = Queues(depth=dict.fromkeys(names, depth), local=frozenset())
        for name in names:
            self._state(EpochRaised(worker=name, epoch=1, reason=""), EpochOpened(worker=name, epoch=1))
        settings = RunSettings(trials_per_genome=1, seed=1, settings={}, evaluator="test", time_limit_s=100.0)
        self._state(RunOpened(generation=1, run=1, settings=settings))
        digest = records.sha256(GENOME)
        for number in range(1, genomes + 1):
            self._state(GenomeAdded(genome=number, name=f"g{number}", suffix="", size_bytes=1, sha256=digest))
        self.watch = Watch(self.farm, LIMITS, 0.0)

    def _state(self, *facts: Fact) -> None:
        for fact in facts:
            self.farm.evolve(fact, 0.0)

    def issue(self, worker: str) -> str:
        """The first genome's first attempt, on that worker."""
        name = attempt_id(1, 1, 1, 1, "0" * 12)
        self._state(AttemptIssued(attempt=name, genome=1, trial=1, number=1, worker=worker, epoch=1, publication=1))
        return name

    def lose(self, name: str) -> None:
        """That attempt is lost, and nobody knows by whose fault."""
        self._state(AttemptEnded(attempt=name, outcome=Outcome.LOST, reason="silence", isolate=True))

    def tick(self, now: float, *looks: Look, machines: Mapping[str, MachineSeen] | None = None) -> list[Fact]:
        """One tick without its acts; returns what was decided."""
        view = View(now=now, wall=now, nonce=f"{int(now):08d}", sweep=True, looks=looks, machines=machines or {})
        return decide(self.farm, self.watch, view, LIMITS, self.queues).facts

    def act(self) -> None:
        """Whatever is planned is done, and succeeds."""
        for act in plan(self.farm, self.watch, list(self.farm.workers)):
            if isinstance(act, ShareAct):
                for sent in act.publish:
                    self.watch.note_sent(act.worker, sent.id, surely=True)
                self.watch.note_removed(act.worker, frozenset(act.remove))

    def answer(self, name: str, outcome: Outcome = Outcome.COMPLETED) -> ResultSeen:
        """An honest result for an attempt of this farm."""
        issued, echo = self.farm.attempts[name], self.farm.echo(self.farm.attempts[name])
        fitness = 1.0 if outcome is Outcome.COMPLETED else None
        told = {**echo._asdict(), "worker": issued.worker, "outcome": outcome, "fitness": fitness}
        return ResultSeen(attempt=name, record=records.result(**told))


def full_look(
    owner: HostRecord | None, starts: Iterable[str] = (), results: Iterable[ResultSeen] = (), *, beats: int = 1
) -> Look:
    """A full look at the first worker's share, with what lies there, after so many beats of its agent."""
    found = tuple(results)
    answers = frozenset(result.attempt for result in found)
    there = frozenset(starts)
    beat = records.beat(counter=beats, farm=FARM, worker=WORKER, epoch=1)
    return Look(
        worker=WORKER,
        full=True,
        owner=owner,
        starts=there,
        payloads=there,
        beat=beat,
        claims=answers,
        answers=answers,
        results=found,
    )


def kinds(facts: Iterable[Fact]) -> set[type[Fact]]:
    """What sorts of facts were stated."""
    return {type(fact) for fact in facts}


def test_a_worker_whose_share_came_back_gets_work_again() -> None:
    """01: what was kept while the share was unreadable is released by whatever result comes back."""
    core = Core(WORKER, genomes=2, depth=2)
    core.tick(1.0, full_look(records.host()), machines=RUNNING)
    core.act()
    worker, watched = core.farm.workers[WORKER], core.watch.workers[WORKER]
    held = set(worker.wanted)
    for now in range(2, 60):
        core.tick(now, Look(worker=WORKER, full=True, unknown="gone"), machines=RUNNING)
        core.act()
    kept = set(worker.kept)
    for now in range(60, 600, 5):
        failed = [core.answer(name, Outcome.FAILED) for name in sorted(held & watched.starts)]
        core.tick(now, full_look(records.host(), set(watched.starts), failed, beats=now), machines=RUNNING)
        core.act()

    assert len(held) == 2
    assert kept == held
    assert not worker.kept, standstill(core.farm, 1)


def test_a_confirmed_revert_is_acted_upon_at_the_next_look() -> None:
    """02: machines are asked more often than shares, and a revert is said once."""
    core = Core(WORKER)
    core.tick(1.0, machines=REVERTED)

    facts = core.tick(2.0, full_look(None), machines=RUNNING)

    assert EpochRaised in kinds(facts), core.watch.workers[WORKER].unknown


def test_results_in_the_wrong_share_are_ignored() -> None:
    """05b: two shares are mounted the wrong way round, and what lies in them is still wanted."""
    core = Core()
    name = core.issue(NEIGHBOUR)

    core.tick(1.0, full_look(records.host(worker=NEIGHBOUR), [name], [core.answer(name)]))

    assert core.farm.attempts[name].outcome is None


def test_results_in_another_farms_share_are_not_noted() -> None:
    """05c: hands off means not to take down what lies there, either."""
    core = Core()
    foreign = ResultSeen(attempt=STRANGER, record=records.result(farm=OTHER_FARM, attempt=STRANGER))

    facts = core.tick(1.0, full_look(records.host(farm=OTHER_FARM), results=[foreign]))

    assert [type(fact) for fact in facts] == [WorkerOut]


def test_half_cleaned_files_charge_nobody() -> None:
    """06: a claim that is still there after its result was collected and removed is no unfinished game."""
    core = Core()
    name = core.issue(WORKER)
    core.lose(name)
    late = core.answer(name, Outcome.FAILED)
    facts = core.tick(1.0, Look(worker=WORKER, claims=frozenset({name}), answers=frozenset({name}), results=(late,)))
    assert ResultLate in kinds(facts)

    facts = core.tick(2.0, Look(worker=WORKER, claims=frozenset({name})))

    assert GenomeCharged not in kinds(facts)


def test_one_stale_listing_does_not_end_an_epoch() -> None:
    """07: a listing may be older than the publication that it does not show."""
    core = Core(WORKER)
    name = core.issue(WORKER)
    core.watch.note_sent(WORKER, name, surely=True)

    assert EpochRaised not in kinds(core.tick(1.0, full_look(records.host())))


def test_a_start_signal_that_was_listed_and_is_missing_ends_an_epoch() -> None:
    """07, the other side: once a listing has shown it, its absence is a share that went back in time."""
    core = Core(WORKER)
    name = core.issue(WORKER)
    core.watch.note_sent(WORKER, name, surely=True)
    core.tick(1.0, full_look(records.host(), [name]))

    assert EpochRaised in kinds(core.tick(2.0, full_look(records.host())))


# -------------------------------------------------------------------------------------------------- the configuration


def write_settings(root: Path, table: str) -> None:
    (root / "pipeline.toml").write_text(f"[evaluator]\ncommand = ['play']\n[settings]\n{table}\n", encoding="utf-8")


UNFIT_SETTINGS = {
    "no number": "x = nan",
    "no finite number": "x = inf",
    "a number beyond 64 bits": "x = 1180591620717411303424",
    "a number beyond a double's precision": f"x = {2**53 + 1}",
    "a long name": "y" * 65 + " = 1",
    "an empty name": '"" = 1',
    "a long text": f'x = "{"z" * 1001}"',
    "a text beyond a record": f'x = "{"z" * 70_000}"',
    "too many": "\n".join(f"s{number} = 1" for number in range(SETTINGS_MAX + 1)),
    "too much together": "\n".join(f's{number} = "{"z" * 1000}"' for number in range(33)),
}


@pytest.mark.parametrize("table", UNFIT_SETTINGS.values(), ids=UNFIT_SETTINGS)
def test_settings_that_no_start_signal_can_carry_are_refused_by_the_configuration(tmp_path: Path, table: str) -> None:
    """03: before anything is recorded that could never be published."""
    write_settings(tmp_path, table)

    with pytest.raises(SettingsError):
        load_config(tmp_path)


def test_a_ledger_and_an_agent_read_what_the_configuration_accepts(tmp_path: Path) -> None:
    """03b: settings at all their limits survive the ledger and fit into a start signal."""
    texts = [f'{"n" * 62}{number:02d} = "{"é" * 72}"' for number in range(60)]
    write_settings(tmp_path, "\n".join([f"x = {2**53}", f"y = -{2**53}", "z = 1e308", f'w = "{"z" * 1000}"', *texts]))
    settings = load_config(tmp_path).run_settings()
    fact = RunOpened(generation=1, run=1, settings=settings)
    start = records.start(settings=dict(settings.settings))

    assert SETTINGS_BYTES_MAX * 3 / 4 < len(json.dumps(settings.settings)) <= SETTINGS_BYTES_MAX
    assert decode_fact(encode_fact(fact)) == fact
    assert decode(StartRecord, encode(start), "its name") == start


# ---------------------------------------------------------------------------------------------------------- the agent


class FinishedGame:
    """An evaluator whose games are over as soon as they have begun."""

    fingerprint, progress = "0123456789abcdef", ""

    def __init__(self, folder: Path, finished: Finished) -> None:
        self._folder, self._finished = folder, finished

    def prepare(self, suffix: str) -> Path:
        return self._folder / f"genome{suffix}"

    def start(self, job: Job) -> None: ...

    def wait(self, timeout_s: float) -> Finished | None:
        return self._finished

    def stop(self) -> None: ...

    def close(self) -> None: ...


class SilentBell:
    """A doorbell that nobody rings."""

    def wait(self, timeout_s: float) -> bool:
        return False


@dataclass
class Guest:
    """An agent on a share of real files, and a clock that the test moves."""

    root: Path
    files: LocalFiles
    agent: Agent
    clock: list[float]

    def rounds(self, count: int) -> None:
        """So many rounds of the agent's loop, a second apart."""
        for _ in range(count):
            self.agent.step()
            self.agent.rest(0.0)
            self.clock[0] += 1.0

    def result(self) -> ResultRecord:
        """The result of the first attempt."""
        name = Kind.RESULT.of(attempt(1))
        return decode(ResultRecord, (self.root / OUTBOX / name).read_bytes(), name)


def guest_on(root: Path, *artifacts: Path) -> Guest:
    """An agent whose games are completed and leave those artifacts."""
    share = root / "share"
    share.mkdir(exist_ok=True)
    files = LocalFiles(share)
    files.make_folders()
    clock = [0.0]
    finished = Finished(outcome=Outcome.COMPLETED, fitness=1.0, seconds=1.0, artifacts=list(artifacts))
    identity = Identity(boot_id="boot", run_id="run")
    evaluator = FinishedGame(root, finished)
    return Guest(share, files, Agent(files, evaluator, identity, SilentBell(), clock=lambda: clock[0]), clock)


def publish_start(files: LocalFiles) -> None:
    """As a host does it: whose share it is, the genome, the start signal."""
    files.publish(f"{INBOX}/{host_name(1)}", encode(records.host()))
    files.write(f"{INBOX}/{Kind.GENOME.of(attempt(1))}", GENOME)
    files.publish(f"{INBOX}/{Kind.START.of(attempt(1))}", encode(records.start()))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_agent_beats_on_the_share_of_a_host_of_another_layout(tmp_path: Path) -> None:
    """04: it says that it lives and does not know whose the share is, and it touches nothing else."""
    guest = guest_on(tmp_path)
    (guest.root / INBOX / host_name(1)).write_bytes(of_another_version(records.host()))
    (guest.root / INBOX / Kind.START.of(attempt(1))).write_bytes(of_another_version(records.start()))
    (guest.root / OUTBOX / Kind.LOG.of(attempt(2))).write_bytes(b"of a predecessor")
    before = contents(guest.root)

    guest.rounds(100)

    after = contents(guest.root)
    beat = decode(AgentRecord, after.pop(f"{STATUS}/{HEARTBEAT}"), HEARTBEAT)
    assert (beat.farm, beat.worker, beat.epoch, beat.state) == (None, None, None, AgentState.UNOWNED)
    assert beat.counter > 1
    assert after == before


def test_artifacts_stored_by_number_do_not_collide(tmp_path: Path) -> None:
    """08: `BAD` is stored as `artifact-0`, which is what the next one is called already."""
    names = ("BAD", "artifact-0", "artifact-0-1")
    for name in names:
        (tmp_path / name).write_text(name)
    guest = guest_on(tmp_path, *(tmp_path / name for name in names))
    publish_start(guest.files)

    guest.rounds(2)

    refs = guest.result().artifacts
    folder = guest.root / OUTBOX / Kind.FILES.of(attempt(1))
    assert [(folder / ref.name).read_text() for ref in refs] == list(names)


def test_an_artifact_that_cannot_be_read_does_not_void_a_fitness(tmp_path: Path) -> None:
    """08b: it vanished between the listing and the copy, and is left out."""
    (tmp_path / "kept.txt").write_text("kept")
    guest = guest_on(tmp_path, tmp_path / "vanished.txt", tmp_path / "kept.txt")
    publish_start(guest.files)

    guest.rounds(30)

    result = guest.result()
    assert (result.outcome, result.fitness) == (Outcome.COMPLETED, 1.0)
    assert [ref.name for ref in result.artifacts] == ["kept.txt"]


# ---------------------------------------------------------------------------------------------------------- the share


def share_on(root: Path) -> tuple[LocalFiles, Share]:
    """An empty share with its folders, and the host's side of it."""
    (root / "share").mkdir(parents=True, exist_ok=True)
    files = LocalFiles(root / "share")
    files.make_folders()
    return files, Share(WORKER, FARM, files, root / "incoming")


def look_at(share: Share) -> Look:
    """A full look through the host's eyes."""
    look = share.carry_out(Order(worker=WORKER, look=True, full=True)).look
    assert look is not None
    return look


@pytest.mark.parametrize("owner", [records.host(farm=OTHER_FARM), records.host(worker=NEIGHBOUR)], ids=repr)
def test_what_another_host_stages_is_left_alone(tmp_path: Path, owner: HostRecord) -> None:
    """05: it is about to be moved up, by whoever the share belongs to."""
    files, share = share_on(tmp_path)
    files.publish(f"{INBOX}/{host_name(1)}", encode(owner))
    staged = files.root / INBOX / STAGING / Kind.START.of(attempt(1))
    staged.write_bytes(encode(records.start()))

    look = look_at(share)

    assert look.owner == owner
    assert staged.exists()


def test_a_result_of_another_layout_is_rejected_at_once(tmp_path: Path) -> None:
    """04b: the agent was replaced by one of another version, and the worker is out with the cure in one line."""
    files, share = share_on(tmp_path)
    core = Core()
    name = core.issue(WORKER)
    files.publish(f"{INBOX}/{host_name(1)}", encode(records.host()))
    files.publish(f"{OUTBOX}/{Kind.RESULT.of(name)}", of_another_version(records.result(attempt=name)))

    facts = core.tick(1.0, look_at(share))

    (reason,) = (fact.reason for fact in facts if isinstance(fact, WorkerOut))
    assert core.farm.attempts[name].outcome is Outcome.REJECTED
    assert "layout 2" in reason


def test_a_record_is_never_changed(tmp_path: Path) -> None:
    """09: the record was moved up, its staged name stayed, and a second one of that name is published."""
    LocalFiles(tmp_path).make_folders()
    path = f"{OUTBOX}/{Kind.RESULT.of(attempt(1))}"
    LocalFiles(tmp_path).publish(path, b"first")

    with pytest.raises(AlreadyThere):
        LocalFiles(tmp_path).publish(path, b"second")

    assert (tmp_path / path).read_bytes() == b"first"


@pytest.mark.parametrize("litter", ["x/y", "x"])
def test_a_folder_in_a_staging_folder_does_not_make_a_share_unreadable(tmp_path: Path, litter: str) -> None:
    """10: what cannot be tidied may stay."""
    files, share = share_on(tmp_path)
    files.publish(f"{INBOX}/{host_name(1)}", encode(records.host()))
    (files.root / INBOX / STAGING / litter).mkdir(parents=True)

    looks = [look_at(share) for _ in range(3)]

    assert [look.unknown for look in looks] == ["", "", ""]
    assert looks[-1].owner == records.host()


def test_a_folder_in_an_agents_staging_folder_does_not_keep_it_from_playing(tmp_path: Path) -> None:
    """10, on the other side: the agent's own staging folder is tidied as well as that goes."""
    guest = guest_on(tmp_path)
    (guest.root / OUTBOX / STAGING / "x/y").mkdir(parents=True)
    publish_start(guest.files)

    guest.rounds(2)

    assert guest.result().outcome is Outcome.COMPLETED


# -------------------------------------------------------------------------------------------------------- the records


@pytest.mark.parametrize("name", ["fitness", "seconds", "score"])
def test_a_metric_must_be_finite_whatever_it_is_called(name: str) -> None:
    """11: also if it bears the name of a field."""
    with pytest.raises(ValueError, match="not finite"):
        records.result(metrics={name: math.inf})


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_what_cannot_be_decoded_is_never_encoded(seconds: float) -> None:
    """11b: JSON has no such number, so the record refuses it."""
    with pytest.raises(ValueError, match="not finite"):
        records.result(seconds=seconds)


def start_as_json(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode(records.start())), **changes}).encode()


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, -(2**63) - 1])
def test_what_cannot_be_encoded_is_never_decoded(number: int) -> None:
    """11c: a whole number that the writer has not is refused by the reader."""
    with pytest.raises(LayoutError):
        decode(StartRecord, start_as_json(settings={"x": number}), "its name")


def test_every_epoch_that_a_record_may_have_has_a_file_name() -> None:
    """11d: the last one within the limit has a name, and the first one beyond it is in no record."""
    last = 10**9 - 1

    assert epoch_of(host_name(last)) == decode(HostRecord, encode(records.host(last)), "its name").epoch == last
    for data, kind in ((encode(records.host(last + 1)), HostRecord), (start_as_json(epoch=last + 1), StartRecord)):
        with pytest.raises(LayoutError):
            decode(kind, data, "its name")
