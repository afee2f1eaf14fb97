"""The agent under random events in any order: `next_step`, the scanner and the loop as shipped.

After every step the tests check that nothing ran twice and that only the agent's own files changed. At the end the
faults are removed, and every start signal gets its result. `FARM_EXAMPLES=5000 pytest -k test_agent_machine.py` runs
more examples.
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
    """One agent, the host's writes, and random faults of both."""

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
    def it_becomes_ours(self) -> None:
        if not self.owned:
            self.owned = True
            self.agent.publish_owner()

    @rule(number=NUMBERS, how=st.sampled_from(["whole", "whole", "torn", "no genome", "other genome", "other farm"]))
    def a_start_signal_comes(self, number: int, how: str) -> None:
        """An id is published once, with any content."""
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
    def it_is_withdrawn(self, number: int) -> None:
        self.agent.withdraw(number)

    @rule(number=NUMBERS)
    def what_was_missing_arrives(self, number: int) -> None:
        """An incomplete delivery is completed late; a complete record never changes."""
        path, whole = f"inbox/{attempt(number)}.start.json", layout.encode(records.start(number))
        if whole.startswith(self.agent.files.files.get(path, b"none")):
            self.agent.files.files[path] = whole
            self.agent.files.files[f"inbox/{attempt(number)}.genome"] = GENOME

    # ----------------------------------------------------------------------------------------------------- the agent

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.agent.run_for(seconds)
        self._note()

    @precondition(lambda self: self.agent.playing is not None)
    @rule(outcome=st.sampled_from([Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT]))
    def the_game_ends(self, outcome: Outcome) -> None:
        fitness = COMPLETED.fitness if outcome is Outcome.COMPLETED else None
        self.agent.finish_evaluation(EvaluationResult(outcome=outcome, fitness=fitness, seconds=1.0))

    @rule()
    def the_agent_is_killed(self) -> None:
        self._note()
        self.seen_jobs = len(self.agent.evaluator.jobs)
        self.agent.start_agent()

    @rule(trouble=TROUBLES)
    def something_stops_working(self, trouble: tuple[str, str]) -> None:
        self.agent.files.troubles.add(trouble)

    @rule()
    def everything_works_again(self) -> None:
        self.agent.files.troubles.clear()

    def _note(self) -> None:
        jobs = self.agent.evaluator.jobs
        for job in jobs[self.seen_jobs :]:
            self.played[job.attempt] += 1
        self.seen_jobs = len(jobs)

    # ------------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def nothing_is_played_twice_or_untouched_ground_trodden(self) -> None:
        if not hasattr(self, "agent"):
            return
        assert all(count == 1 for count in self.played.values()), self.played
        assert set(self.agent.evaluator.played) <= {GENOME}, "a genome that is not the announced one was played"
        assert all(path.startswith(("outbox/", "status/")) for _verb, path in self.agent.files.journal)
        assert self.owned or not self.played, "an evaluation on a share without owner"

    @invariant()
    def a_game_has_its_claim(self) -> None:
        """A game is claimed before it runs, and as long as it is wanted."""
        if hasattr(self, "agent") and self.agent.playing is not None:
            name = f"outbox/{Kind.STARTED.of(self.agent.playing)}"
            wanted = f"inbox/{Kind.START.of(self.agent.playing)}" in self.agent.files.files
            assert name in self.agent.files.files or not wanted

    def teardown(self) -> None:
        """Removes all faults: every start signal of the owner gets a result, and no other file is left."""
        if not hasattr(self, "agent"):
            return
        guest = self.agent
        guest.files.troubles.clear()
        self.it_becomes_ours()
        for _ in range(40):
            if guest.playing is not None:
                guest.finish_evaluation()
            guest.run_for(3.0)
            self._note()
        self.nothing_is_played_twice_or_untouched_ground_trodden()
        starts = {path for path in guest.files.files if path.endswith(Kind.START.value)}
        for path in starts:
            name = path.removeprefix("inbox/").removesuffix(Kind.START.value)
            ours = b"other-farm" not in guest.files.files[path]
            assert ours == (f"outbox/{Kind.RESULT.of(name)}" in guest.files.files), name
        left = {known[0] for name in guest.outbox if (known := layout.attempt_of(name)) is not None}
        assert left <= {path.removeprefix("inbox/").removesuffix(Kind.START.value) for path in starts}
        shutil.rmtree(self.folder)


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
