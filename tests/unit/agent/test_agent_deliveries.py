"""Damaged, late or missing deliveries: they are read again, then given up, and do not stop heartbeats."""

import pytest

from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import Outcome
from tests.fakes.memory_files import HELD
from tests.harness import records
from tests.harness.agent_harness import LIMITS, AgentHarness, answered, started
from tests.harness.records import FARM, GENOME, attempt, sha256


def seconds_until_answered(agent: AgentHarness) -> float:
    began = agent.time.now
    while answered() not in agent.outbox and agent.time.now < began + 600:
        rest = agent.step()
        if answered() not in agent.outbox:
            agent.agent.wait(rest)
    return agent.time.now - began


HOPE_S = (LIMITS.delivery_tries_max - 1) * LIMITS.delivery_pause_s


@pytest.mark.parametrize(
    ("genome", "complaint"), [(b"a henome", "digest"), (b"", "digest"), (GENOME + b"!", "digest"), (None, attempt(1))]
)
def test_damaged_genome_is_retried_then_undelivered(agent: AgentHarness, genome: bytes | None, complaint: str) -> None:
    """Wrong bytes, no bytes, or too many: five scans a second apart, then `undelivered`, and never a claim."""
    agent.publish_start()
    if genome is None:
        agent.files.remove([f"inbox/{attempt(1)}.genome"])
    else:
        agent.files.write(f"inbox/{attempt(1)}.genome", genome)

    assert HOPE_S <= seconds_until_answered(agent) <= HOPE_S + LIMITS.poll_s

    assert agent.result().outcome is Outcome.UNDELIVERED
    assert complaint in agent.result().reason
    assert agent.files.asked.count(f"inbox/{attempt(1)}.genome") == LIMITS.delivery_tries_max
    assert agent.result().genome_sha256 == sha256(GENOME)  # the start signal could be read, so it is echoed
    assert agent.outbox == {answered()}
    assert agent.evaluator.jobs == []


@pytest.mark.parametrize(
    "data",
    [b"", b'{"layout": 2', b"\xff", layout.encode(records.start(2)), b" " * 70_000, b'{"layout": 2, "farm": "f"}'],
    ids=["empty", "half", "binary", "of another attempt", "too large", "without fields"],
)
def test_damaged_start_signal_is_retried_then_undelivered(agent: AgentHarness, data: bytes) -> None:
    """An empty or partial record, or one under a wrong name, ends as `undelivered` without echoes."""
    agent.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    agent.publish_start_record(1, data)

    assert HOPE_S <= seconds_until_answered(agent) <= HOPE_S + LIMITS.poll_s

    assert agent.result().outcome is Outcome.UNDELIVERED
    assert agent.result().reason != ""
    assert agent.files.asked.count(f"inbox/{attempt(1)}.start.json") == LIMITS.delivery_tries_max
    assert (agent.result().trial, agent.result().seed, agent.result().genome_sha256) == (None, None, None)
    assert (agent.result().farm, agent.result().epoch) == (FARM, 1)
    assert agent.evaluator.jobs == []


def test_late_delivery_is_evaluated(agent: AgentHarness) -> None:
    """A record and a genome that become complete during the retries are evaluated normally."""
    agent.publish_start_record(1, b"")
    agent.run_for(2)
    agent.files.write(f"inbox/{attempt(1)}.start.json", layout.encode(records.start(1)))
    agent.run_for(3)
    assert agent.playing is None
    agent.files.write(f"inbox/{attempt(1)}.genome", GENOME)
    agent.run_for(1)

    assert agent.playing == attempt(1)
    assert agent.outbox == {started()}


def test_damaged_delivery_does_not_block_next_attempt(agent: AgentHarness) -> None:
    """While the agent waits for one genome, it evaluates the next attempt."""
    agent.publish_start(1)
    agent.files.write(f"inbox/{attempt(1)}.genome", b"damaged")
    agent.publish_start(2)

    agent.run_for(LIMITS.poll_s)

    assert agent.playing == attempt(2)


def test_undelivered_attempt_is_forgotten_with_its_start_signal(agent: AgentHarness) -> None:
    """The host removes the attempt, the agent removes its result, and both continue."""
    agent.publish_start_record(1, b"")
    seconds_until_answered(agent)
    agent.withdraw()
    agent.publish_start(2)
    agent.step()

    assert agent.outbox == {started(2)}


def test_unknown_layout_is_rejected_without_retry(agent: AgentHarness) -> None:
    """A complete record of another version is not damaged: the reason names both versions."""
    agent.publish_start_record(1, records.of_another_version(records.start(1)))
    agent.step()

    assert agent.result().outcome is Outcome.REJECTED
    assert "layout 1, this program uses layout 2" in agent.result().reason
    assert agent.outbox == {answered()}


def test_agent_survives_scratch_folder_that_cannot_be_cleaned(agent: AgentHarness) -> None:
    """On Windows a leftover may be held open: after some tries the attempt is undelivered; heartbeats continue."""
    agent.evaluator.broken = PermissionError(13, "a leftover is held open")
    agent.publish_start()

    seconds_until_answered(agent)

    assert agent.result().outcome is Outcome.UNDELIVERED
    assert "held open" in agent.result().reason


def test_local_write_error_closes_evaluator_and_retries(agent: AgentHarness) -> None:
    """On Windows a worker process may hold the last file open: it is closed, and heartbeats continue."""
    kept = agent.evaluator.folder
    agent.evaluator.folder = kept / "gone"
    agent.evaluator.on_stop = lambda: setattr(agent.evaluator, "folder", kept)
    agent.publish_start()

    agent.run_for(LIMITS.delivery_pause_s)

    assert agent.playing == attempt(1)


@pytest.mark.parametrize("kind", ["start.json", "genome"])
def test_refused_genome_is_undelivered_and_next_is_evaluated(agent: AgentHarness, kind: str) -> None:
    """A virus scanner may refuse a genome: that attempt is `undelivered`, and the next one is evaluated."""
    agent.publish_start(1)
    agent.publish_start(2)
    agent.files.held = {f"inbox/{attempt(1)}.{kind}"}
    beats = agent.counter

    agent.run_for(30)
    assert agent.playing == attempt(2)
    assert agent.counter > beats + 3
    agent.finish_evaluation()
    agent.run_for(30)

    assert agent.result(1).outcome is Outcome.UNDELIVERED
    assert HELD in agent.result(1).reason
    assert agent.result(2).outcome is Outcome.COMPLETED


def test_refused_start_signal_counts_as_present(agent: AgentHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """No listing shows it any more, and opening it by name is refused: it is present, and its evaluation continues."""
    agent.publish_start()
    agent.step()
    assert agent.playing == attempt(1)
    agent.files.held = {f"inbox/{attempt(1)}.start.json"}
    names = agent.files.names
    monkeypatch.setattr(agent.files, "names", lambda folder: [n for n in names(folder) if ".start." not in n])

    beats = agent.counter

    agent.run_for(30)

    assert agent.playing == attempt(1)
    assert agent.counter > beats + 3
