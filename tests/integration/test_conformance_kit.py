"""The conformance kit passes correct agents, and names the right check for each of many faults."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from inbox_agent.conformance.__main__ import main
from inbox_agent.conformance.checks import CHECKS
from inbox_agent.conformance.outcome import LEFT_OUT, CheckOutcome
from inbox_agent.conformance.runner import RunOptions, run_checks
from tests.harness.minimal_agent import FAULTS
from tests.harness.source_tree import ROOT
from tests.harness.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240 * PATIENCE)]

MINIMAL = str(ROOT / "tests" / "harness" / "minimal_agent.py")

#: A fault, the check that finds it, and a part of what it says.
FOUND_BY = {
    "any_version": ("signal-for-another-evaluator-stays-unclaimed", "no claim and no result"),
    "late_claim": ("claim-precedes-game", "a claim that the game sees"),
    "wrong_seed": ("result-repeats-start-signal", "`seed` as in the start signal"),
    "never_cleans": ("files-are-removed-in-order", "nothing of game 1 in outbox/"),
    "cleans_result_first": ("files-are-removed-in-order", "the claim removed first"),
    "ignores_withdrawal": ("withdrawn-game-is-stopped", "no process of game 1"),
    "any_worker": ("signals-of-others-are-left-alone", "nothing written for farm"),
    "no_digest": ("wrong-digest-is-undelivered", "undelivered of game 1; seen: completed"),
    "half_written": ("records-are-published-whole", ""),
    "foreign_farm": ("heartbeat-names-owner", "my-own-farm"),
    "second_agent": ("second-agent-ends", "the second agent to end"),
    "plays_twice": ("finished-game-is-not-played-again", "played once; seen: 2 times"),
    "never_interrupted": ("killed-agent-leaves-interrupted", "`interrupted` before anything else"),
    "interrupted_late": ("damaged-signal-does-not-delay-interrupted", "`interrupted` before anything else"),
    "removes_unknown": ("unknown-names-are-left-alone", "notes.txt removed"),
    "newest_first": ("lowest-publication-is-played-first", "[200, 30, 9]"),
    "no_time_limit": ("hanging-game-is-timed-out", "a result of game 2"),
    "cuts_in_utf_16": ("odd-texts-of-games-stay-valid-records", "a valid result"),
    "claims_unowned": ("without-owner-nothing-is-touched", ""),
    "trusts_signals": ("start-signals-are-judged-as-documented", "undelivered for records/start/"),
    "keeps_last_owner": ("damaged-host-record-stops-everything", "no claim"),
    "leaves_processes": ("processes-of-predecessor-are-ended", "no process of game 1"),
    "ignores_end": ("idle-agent-ends-when-asked", "the agent to end"),
}
#: Faults that show only in what does not happen: the kit waits for it as long as this, and nothing else takes long.
SILENT = {"never_cleans", "ignores_withdrawal", "second_agent", "no_time_limit", "ignores_end"}
SILENT_S = 8.0 * PATIENCE


def minimal_agent(*fault: str) -> list[str]:
    return ["{python}", MINIMAL, "{share}", "{state}", *fault, "--", "{python}", "{game}"]


def test_correct_agent_passes_all_checks(tmp_path: Path) -> None:
    """And leaves nothing running."""
    options = RunOptions(command=minimal_agent(), patience_s=30.0 * PATIENCE, keep=tmp_path / "kept")

    outcomes = list(run_checks(CHECKS, options))

    assert [str(outcome) for outcome in outcomes if outcome.failed] == []
    assert still_running(tmp_path) == []


def test_inbox_agent_passes(tmp_path: Path) -> None:
    """Without a command the kit tests the agent of this project, in shares that it keeps on request."""
    ran = kit("--keep", str(tmp_path / "kept"), "--patience", str(30 * PATIENCE))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == len(CHECKS) + 1
    assert " checks passed" in lines[-1]
    assert [line for line in lines[:-1] if not line.startswith(("ok ", "left out "))] == []
    assert (tmp_path / "kept/failing-game-is-failed/share/outbox").is_dir()
    assert still_running(tmp_path) == []


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, CheckOutcome]]:
    """The outcome of the check that must find it, for each fault."""
    folder = tmp_path_factory.mktemp("faults")
    checks = {check.name: check for check in CHECKS}

    def find(fault: str) -> CheckOutcome:
        options = RunOptions(
            command=minimal_agent("--fault", fault),
            patience_s=SILENT_S if fault in SILENT else 30.0 * PATIENCE,
            keep=folder / fault,
        )
        (outcome,) = run_checks([checks[FOUND_BY[fault][0]]], options)
        return outcome

    with ThreadPoolExecutor(6) as pool:
        yield dict(zip(FOUND_BY, pool.map(find, FOUND_BY), strict=True))
    assert still_running(folder) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(outcomes: dict[str, CheckOutcome], fault: str) -> None:
    """The check fails with one line that says what was expected and seen, and where it is documented."""
    outcome = outcomes[fault]
    _name, words = FOUND_BY[fault]
    if outcome.word == LEFT_OUT:
        pytest.skip(outcome.text)

    assert outcome.failed
    assert words in outcome.text
    assert "Expected " in outcome.text
    assert "; seen: " in outcome.text
    assert outcome.text.endswith("]")
    assert len(str(outcome).splitlines()) == 1


def test_failed_check_is_exit_code_1(capfd: pytest.CaptureFixture[str]) -> None:
    """An agent that ends at once fails the check."""
    ends_at_once = ["{python}", "-c", "print('no such share')", "{share}"]

    assert main(["--only", "lock-of-another-make-is-respected", "--", *ends_at_once]) == 1

    line, total = capfd.readouterr().out.splitlines()
    assert line.startswith("FAILED    lock-of-another-make-is-respected (")
    assert "the agent ended with exit code 0: no such share" in line
    assert total == "1 of 1 checks failed"


def test_list_names_all_checks(capfd: pytest.CaptureFixture[str]) -> None:
    """Each with a sentence and its source; those that are left out are not named."""
    left_out = CHECKS[0].name

    assert main(["--list", "--skip", left_out]) == 0

    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [check.name for check in CHECKS if check.name != left_out]
    assert all(line.endswith("]") for line in lines)
    assert len({check.name for check in CHECKS}) == len(CHECKS) >= 49


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "no-such-check"], "no check is named no-such-check; --list names them"),
        (["--skip", "no-such-check"], "no check is named no-such-check; --list names them"),
        (["--", "agent", "--share", "here"], "the command has no {share}: an agent must be given the folder"),
        (["--", "no-such-agent", "{share}"], "no-such-agent: no such program"),
        (["--keep", "."], "--keep .: this exists already; name a new folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2

    error = capfd.readouterr().err
    assert error.startswith(f"conformance: {message}")
    assert error.count("\n") == 1


def kit(*words: str) -> "subprocess.CompletedProcess[str]":
    """Runs the kit as a user does."""
    command = [sys.executable, "-m", "inbox_agent.conformance", *words]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT)


def still_running(folder: Path) -> list[str]:
    """The command lines of processes that have a path below a folder in them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != psutil.Process().pid and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found
