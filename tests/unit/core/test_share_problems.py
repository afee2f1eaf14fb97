"""What is said of a share that cannot be used."""

import pytest

from pipeline.core.share_problems import NO_HEARTBEAT, in_words, inbox_unwritable, record_unreadable

pytestmark = pytest.mark.rules


def test_problem_is_one_line_with_its_fix() -> None:
    assert in_words(NO_HEARTBEAT).startswith("no agent has ever written a heartbeat there; start `inbox-agent")


def test_unreadable_record_names_file_and_error() -> None:
    """The error comes from the guest: it is cleaned and cut."""
    found, fix = record_unreadable("agent.json", "Expected `str`,\n got `int`" + "x" * 1000)
    assert found.startswith("status/agent.json cannot be read (Expected `str`, got `int`x")
    assert len(found) < 300
    assert fix.startswith("install the same version on host and machine")


@pytest.mark.parametrize(("refused", "has_fix"), [(True, True), (False, False)])
def test_fix_of_unwritable_inbox_is_a_right_only_if_it_was_refused(refused: bool, has_fix: bool) -> None:
    """A share that does not answer needs no right."""
    problem = inbox_unwritable("Access is denied", refused=refused)
    assert problem[0] == "inbox/ cannot be written: Access is denied"
    assert bool(problem[1]) is has_fix
    assert in_words(problem).count("; ") == has_fix
