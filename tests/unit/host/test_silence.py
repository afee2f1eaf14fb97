"""When a farm counts as silent: no result for so long while trials are open, said once until the next result."""

import pytest

from inbox_agent.protocol.layout import Outcome
from pipeline.core.facts import AttemptEnded, AttemptIssued
from pipeline.host.silence import Silence

pytestmark = pytest.mark.rules
RESULT = AttemptEnded(attempt="a", outcome=Outcome.FAILED, has_result=True)
LOSS = AttemptEnded(attempt="a", outcome=Outcome.LOST)
ISSUED = AttemptIssued(attempt="b", genome=1, trial=1, number=1, worker="w0", epoch=1, publication=1)


def test_silence_is_said_once_until_the_next_result() -> None:
    silence = Silence(10.0)

    assert [silence.note([], 3, now) for now in (0.0, 9.9, 10.0, 11.0, 500.0)] == [0.0, 0.0, 10.0, 0.0, 0.0]
    assert silence.note([RESULT], 2, 600.0) == 0.0
    assert silence.note([], 2, 609.0) == 0.0
    assert silence.note([], 2, 611.0) == 11.0


def test_what_is_no_result_does_not_end_the_silence() -> None:
    """Work goes out, and workers are lost: nothing comes back."""
    silence = Silence(10.0)
    silence.note([], 3, 0.0)

    assert silence.note([LOSS, ISSUED], 3, 9.0) == 0.0
    assert silence.note([ISSUED], 3, 10.0) == 10.0


def test_time_without_open_trials_is_no_silence() -> None:
    """An open generation may wait for genomes for as long as it likes."""
    silence = Silence(10.0)
    silence.note([RESULT], 0, 0.0)

    assert silence.note([], 0, 100.0) == 0.0
    assert silence.note([], 1, 101.0) == 0.0
    assert silence.note([], 1, 110.0) == 0.0
    assert silence.note([], 1, 111.0) == 10.0


def test_next_generation_begins_anew() -> None:
    silence = Silence(10.0)
    silence.note([], 1, 0.0)
    silence.begin()

    assert silence.note([], 1, 1000.0) == 0.0
    assert silence.note([], 1, 1010.0) == 10.0


def test_nothing_is_said_if_no_time_is_set() -> None:
    assert Silence(None).note([], 3, 1e9) == 0.0
