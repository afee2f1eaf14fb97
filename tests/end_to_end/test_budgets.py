"""What a worker sends has budgets: artifacts, results under made-up ids, metrics. The run ends, and all is counted.

Hosts and honest agents are processes; the hostile agent is a thread of the test, on the share of a worker of its own.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import (
    AgentRecord,
    AgentState,
    HostRecord,
    Kind,
    LayoutError,
    Outcome,
    PayloadRef,
    ResultRecord,
    StartRecord,
    attempt_of,
    encode,
)
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.readers import read_owner, read_record
from pipeline.core.facts import ResultUnexpected
from pipeline.core.limits import Limits
from pipeline.storage.ledger import Ledger
from tests.harness.farm_project import FarmProject, games

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

MIB = 1024**2
VERSION = "v1"
EVALUATOR = f'python = "game:play"\nversion = "{VERSION}"'
ZEROS = hashlib.sha256(bytes(MIB)).hexdigest()
GENOMES = 30
RESERVE = 5 * MIB  #: of a disk of 8 MiB, for records and the ledger


class HostileAgent:
    """Beats, and answers each start signal as soon as it `may_answer`; what else it writes is up to the test."""

    def __init__(self, share: Path, *, artifacts: int = 0, may_answer: Callable[[], bool] = lambda: True) -> None:
        share.mkdir()
        self.files, self._share, self._artifacts = LocalFiles(share), share, artifacts
        self._may_answer = may_answer
        self.files.make_folders()
        self.answered: set[str] = set()  #: attempts that it published a result of
        self._beats = 0
        self._farm = HostRecord(farm="none", worker="vm-0", epoch=1)

    def step(self) -> None:
        """One round of a loop."""
        self._beats += 1
        owner = read_owner(self.files, self.files.names("inbox"))
        if not isinstance(owner, HostRecord):
            return
        self._farm = owner
        beat = AgentRecord(
            **{name: getattr(owner, name) for name in ("farm", "worker", "epoch")},
            boot_id="boot",
            run_id="run",
            counter=self._beats,
            state=AgentState.IDLE,
            evaluator=VERSION,
        )
        self.files.replace("status/agent.json", encode(beat))
        for name in self.files.names("inbox") if self._may_answer() else ():
            known = attempt_of(name)
            if known is not None and known[1] is Kind.START and known[0] not in self.answered:
                self.answer(read_record(self.files, StartRecord, "inbox", name), artifacts=self._artifacts)

    def answer(self, start: StartRecord, *, artifacts: int) -> None:
        """Publishes a result for a start signal, also for that of another worker."""
        self.answered.add(start.attempt)
        result = ResultRecord(
            **{name: getattr(self._farm, name) for name in ("farm", "worker", "epoch")},
            **{name: getattr(start, name) for name in ("attempt", "trial", "seed", "genome_sha256", "evaluator")},
            outcome=Outcome.COMPLETED,
            fitness=1.0,
            boot_id="boot",
            run_id="run",
        )
        data = encode(msgspec.structs.replace(result, artifacts=self._bombs(start.attempt, artifacts)))
        self.files.publish(f"outbox/{Kind.RESULT.of(start.attempt)}", data)

    def _bombs(self, attempt: str, artifacts: int) -> list[PayloadRef]:
        """Artifacts that take no space in the share: nothing is ever written to them."""
        folder = self._share / "outbox" / Kind.FILES.of(attempt)
        found = []
        for number in range(artifacts):
            folder.mkdir(exist_ok=True)
            with open(folder / f"bomb-{number}", "wb") as file:
                file.truncate(MIB)
            found.append(PayloadRef(name=f"bomb-{number}", size_bytes=MIB, sha256=ZEROS))
        return found

    def bomb(self, attempt: str) -> None:
        """Publishes a result with artifacts under the id of an attempt that this worker was not issued."""
        self.answer(
            StartRecord(
                farm="f",
                worker="vm-0",
                epoch=1,
                publication=1,
                attempt=attempt,
                trial=1,
                seed=1,
                time_limit_s=1,
                genome_name="",
                genome_suffix="",
                genome_bytes=1,
                genome_sha256="0" * 64,
                evaluator=VERSION,
            ),
            artifacts=4,
        )


@contextlib.contextmanager
def playing(agent: HostileAgent, project: FarmProject, *, bombs_neighbours: bool = False) -> Iterator[None]:
    """For the duration of the block the agent runs; on request it only answers the start signals of its neighbour."""
    stop = threading.Event()

    def neighbours() -> list[str]:
        with contextlib.suppress(OSError):
            names = os.listdir(project.root / "state/shares/local-0/inbox")
            return [name.removesuffix(Kind.START.value) for name in names if name.endswith(Kind.START.value)]
        return []

    def work() -> None:
        done: set[str] = set()
        while not stop.wait(0.02):
            with contextlib.suppress(ShareError, LayoutError):
                if not bombs_neighbours:
                    agent.step()
                for attempt in set(neighbours()) - done if bombs_neighbours else ():
                    done.add(attempt)
                    agent.bomb(attempt)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def with_hostile_worker(project: FarmProject, share: Path, **limits: Any) -> None:
    project.configure(
        workers=1, evaluator=EVALUATOR, extra=f"[[worker]]\nname = 'vm-0'\nshare = '{share.as_posix()}'", **limits
    )


def unknown(number: int) -> str:
    """An attempt id that was never issued; it comes before all that are."""
    return f"g0000-0001-t1-a1-{number:012d}"


# ------------------------------------------------------------------------------------------------------- artifact bombs


@pytest.mark.parametrize("whose", ["never issued", "wanted", "of a neighbour"])
def test_artifact_bombs_cost_the_guest_its_artifacts(tiny_disk: Path, tmp_path: Path, whose: str) -> None:
    """8 MiB of disk, 4 MiB of artifacts in each result, which are free for the guest: every genome is counted."""
    agent = HostileAgent(tmp_path / "share", artifacts=4 if whose == "wanted" else 0)
    with closing(FarmProject(tiny_disk / "farm")) as project:
        with_hostile_worker(project, tmp_path / "share", disk_reserve_bytes=RESERVE)
        project.add_genomes(games(GENOMES, seconds=0.05))
        if whose == "never issued":
            for number in range(40):
                agent.bomb(unknown(number))
        with playing(agent, project, bombs_neighbours=whose == "of a neighbour"):
            code, said = project.run()

        assert code == 0, said
        issued = {row["attempt"]: row["worker"] for row in project.attempts()}
        bombed = {issued.get(attempt) for attempt in agent.answered}
        assert bombed >= {{"wanted": "vm-0", "of a neighbour": "local-0"}.get(whose)}
        summary = project.summary()
        assert (summary["completed"], summary["lost"]) == (GENOMES, 0)
        assert not any(path.is_file() for path in (project.root / "state/incoming").rglob("*"))
        taken = sum(path.stat().st_size for path in (project.root / "results").rglob("bomb-*"))
        assert taken <= 8 * MIB - RESERVE if whose == "wanted" else taken == 0
        left_out = [row["worker"] for row in project.attempts() if "no room on the host" in row["reason"]]
        assert set(left_out) == ({"vm-0"} if whose == "wanted" else set())
        assert said.count("artifacts are left out: no room on the host") == bool(left_out)


# --------------------------------------------------------------------------------------------------------------- floods


def test_flood_of_unknown_results_is_bounded(project: FarmProject, tmp_path: Path) -> None:
    """2,000 of them: the first 100 are kept as evidence, the share is named once, and every genome is counted."""
    limits, aside = Limits(), project.root / "results/gen-0001/set-aside"

    def is_flooded() -> bool:
        return aside.exists() and len(os.listdir(aside)) >= limits.unknown_results_max

    agent = HostileAgent(tmp_path / "share", may_answer=is_flooded)  # or the run could end before the flood was read
    with_hostile_worker(project, tmp_path / "share")
    project.add_genomes(games(GENOMES, seconds=0.05))
    outbox = tmp_path / "share/outbox"
    agent.bomb(unknown(0))
    first = outbox / Kind.RESULT.of(unknown(0))
    first.write_bytes(first.read_bytes().ljust(60 * 1024))
    for number in range(1, 2000):
        os.link(first, outbox / Kind.RESULT.of(unknown(number)))
    with playing(agent, project):
        code, said = project.run()

    assert code == 0, said
    assert (project.summary()["completed"], project.summary()["lost"]) == (GENOMES, 0)
    assert said.count("its share is flooded") == 1
    assert said.count("which was never issued") <= limits.unknown_results_max
    assert len(os.listdir(aside)) == limits.unknown_results_max
    with closing(Ledger(project.root / "state", read_only=True)) as ledger:
        kinds = Counter(type(entry.fact) for entry in ledger.entries())
    assert kinds[ResultUnexpected] == limits.unknown_results_max


def test_new_metrics_in_every_game_are_bounded(project: FarmProject) -> None:
    """64 of them, and a fitness at the limit: the table has 256 columns for metrics, and the report can be written."""
    project.configure(workers=2, evaluator='python = "columns:play"')
    (project.root / "columns.py").write_text(
        "import json, pathlib\n"
        "def play(genome, trial):\n"
        "    n = json.loads(pathlib.Path(genome).read_text())['n']\n"
        "    metrics = {f'm-{n}-{k}': (-1) ** k * 1e300 for k in range(64)}\n"
        "    return {'fitness': (-1) ** n * 1e300, 'metrics': metrics}\n"
    )
    project.add_genomes(games(100))
    code, said = project.run()

    assert code == 0, said
    header = (project.root / "results/gen-0001/results.csv").read_text(encoding="utf-8-sig").partition("\n")[0]
    assert sum(name.startswith("m-") for name in header.split(",")) == 256
    assert project.summary()["metrics_left_out"] == 100 * 64 - 256
    for command in (("report",), ("results", "--gen", "1"), ("verify",)):
        code, said = project.run(*command)
        assert code == 0, said
        assert "inf" not in json.dumps(said.split())


def test_fitness_beyond_the_limit_fails_its_genome(project: FarmProject) -> None:
    """Two of 1.7e308 would have a sum that is no number; the genome has no fitness, and says why."""
    project.configure(workers=1, trials=2, failures_max=1, evaluator='python = "huge:play"')
    (project.root / "huge.py").write_text(
        "import json, pathlib\n"
        "def play(genome, trial):\n"
        "    return 1.7e308 if json.loads(pathlib.Path(genome).read_text())['n'] == 1 else 1.0\n"
    )
    project.add_genomes(games(3))
    code, said = project.run()

    assert code == 1, said
    rows = project.results()
    assert [row["fitness"] for row in rows.values()] == ["1.0", "", "1.0"]
    assert "fitness must be at most 1e+300" in rows["g001.json"]["reason"]
    assert project.run("report")[0] == 0
