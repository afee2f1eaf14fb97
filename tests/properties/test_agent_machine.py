"""A stateful property test of the agent: the shipped planner, scanner and loop under any sequence of events.

After every step no attempt was played twice, and the agent changed only its own folders. At the end all faults stop,
and every remaining start signal gets a result. `FARM_EXAMPLES=5000 pytest -k test_agent_machine.py` tries more
examples.
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inbox_agent.evaluation.protocol import EvaluationResult
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Kind, Outcome
from tests.harness import records
from tests.harness.agent_harness import COMPLETED, AgentHarness
from tests.harness.records import GENOME, attempt

pytestmark = pytest.mark.properties

EXAMPLES = int(os.environ.get("FARM_EXAMPLES", "60"))
NUMBERS = st.integers(1, 6)
TROUBLES = st.sampled_from(
    [(verb, folder) for verb in ("names", "read") for folder in ("inbox", "outbox")]
    + [("publish", "outbox"), ("remove", "outbox"), ("replace", "status")]
)


class AgentMachine(RuleBasedStateMachine):
    """One agent; the rules are the actions of its host, of its game and of faults."""

    agent: AgentHarness

    @initialize(owned=st.booleans())
    def begin(self, owned: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agent-machine-"))
        self.agent = AgentHarness(self.folder)
        self.published: set[int] = set()
        self.played: Counter[str] = Counter()
        self.seen_jobs = 0
        self.owned = owned
        if owned:
            self.agent.publish_owner()

    # ------------------------------------------------------------------------------------------------------ the host

    @rule()
    def share_gets_owner(self) -> None:
        if not self.owned:
            self.owned = True
            self.agent.publish_owner()

    @rule(
        number=NUMBERS, how=st.sampled_from(["complete", "complete", "torn", "no genome", "other genome", "other farm"])
    )
    def start_signal_is_published(self, number: int, how: str) -> None:
        """An id is published once; its record and genome may be damaged or foreign."""
        if number in self.published:
            return
        self.published.add(number)
        genome = {"no genome": b"", "other genome": b"other"}.get(how, GENOME)
        if genome:
            self.agent.files.write(f"inbox/{attempt(number)}.genome", genome)
        record = records.start(number, farm="other-farm") if how == "other farm" else records.start(number)
        data = layout.encode(record)
        self.agent.publish_start_record(number, data[: len(data) // 2] if how == "torn" else data)

    @rule(number=NUMBERS)
    def attempt_is_withdrawn(self, number: int) -> None:
        self.agent.withdraw(number)

    @rule(number=NUMBERS)
    def publication_is_completed(self, number: int) -> None:
        """A torn publication is completed later; a complete record never changes."""
        path, data = f"inbox/{attempt(number)}.start.json", layout.encode(records.start(number))
        if data.startswith(self.agent.files.files.get(path, b"none")):
            self.agent.files.files[path] = data
            self.agent.files.files[f"inbox/{attempt(number)}.genome"] = GENOME

    # ----------------------------------------------------------------------------------------------------- the agent

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.agent.run_for(seconds)
        self._count_games()

    @precondition(lambda self: self.agent.playing is not None)
    @rule(outcome=st.sampled_from([Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT]))
    def game_ends(self, outcome: Outcome) -> None:
        fitness = COMPLETED.fitness if outcome is Outcome.COMPLETED else None
        self.agent.finish_evaluation(EvaluationResult(outcome=outcome, fitness=fitness, seconds=1.0))

    @rule()
    def agent_is_killed(self) -> None:
        self._count_games()
        self.seen_jobs = len(self.agent.evaluator.jobs)
        self.agent.start_agent()

    @rule(trouble=TROUBLES)
    def operation_starts_failing(self, trouble: tuple[str, str]) -> None:
        self.agent.files.troubles.add(trouble)

    @rule()
    def operations_work_again(self) -> None:
        self.agent.files.troubles.clear()

    def _count_games(self) -> None:
        jobs = self.agent.evaluator.jobs
        for job in jobs[self.seen_jobs :]:
            self.played[job.attempt] += 1
        self.seen_jobs = len(jobs)

    # ------------------------------------------------------------------------------------------------------ invariants

    @invariant()
    def games_are_played_once_and_inbox_is_unchanged(self) -> None:
        if not hasattr(self, "agent"):
            return
        assert all(count == 1 for count in self.played.values()), self.played
        assert set(self.agent.evaluator.played) <= {GENOME}, "a genome with another digest was played"
        assert all(path.startswith(("outbox/", "status/")) for _verb, path in self.agent.files.journal)
        assert self.owned or not self.played, "played on a share without an owner"

    @invariant()
    def running_game_has_claim(self) -> None:
        """The claim precedes the game, and exists as long as the start signal."""
        if hasattr(self, "agent") and self.agent.playing is not None:
            name = f"outbox/{Kind.STARTED.of(self.agent.playing)}"
            wanted = f"inbox/{Kind.START.of(self.agent.playing)}" in self.agent.files.files
            assert name in self.agent.files.files or not wanted

    def teardown(self) -> None:
        """Without faults, every start signal of this farm gets a result, and files of other attempts are removed."""
        if not hasattr(self, "agent"):
            return
        agent = self.agent
        agent.files.troubles.clear()
        self.share_gets_owner()
        for _ in range(40):
            if agent.playing is not None:
                agent.finish_evaluation()
            agent.run_for(3.0)
            self._count_games()
        self.games_are_played_once_and_inbox_is_unchanged()
        starts = {path for path in agent.files.files if path.endswith(Kind.START.value)}
        for path in starts:
            name = path.removeprefix("inbox/").removesuffix(Kind.START.value)
            own = b"other-farm" not in agent.files.files[path]
            assert own == (f"outbox/{Kind.RESULT.of(name)}" in agent.files.files), name
        left = {known[0] for name in agent.outbox if (known := layout.attempt_of(name)) is not None}
        assert left <= {path.removeprefix("inbox/").removesuffix(Kind.START.value) for path in starts}
        shutil.rmtree(self.folder)


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
