"""A run, and an agent, whose output has no reader or no room: they play the same, and end with the same exit code."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from pipeline.errors import ExitCode
from tests.harness.farm_project import FarmProject, games
from tests.harness.outputs import UselessOutput, closed_pipe, useless_outputs
from tests.harness.waiting import PATIENCE_S

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

any_output = pytest.mark.parametrize("output", useless_outputs(), ids=lambda output: output.__name__)
#: A hook that fails makes a warning, which is a line on standard error.
FAILING_HOOK = """
[hooks]
command = ["python", "-c", "raise SystemExit(1)"]
"""
RAISES = "aardvark.json"  #: a genome that fails, and is played first


def add_gated_genomes(project: FarmProject) -> frozenset[str]:
    """One genome fails, the next two play until `open_gate`; then another one fails, before others. Returns those that
    fail: each makes a line of output."""
    gate, late = {"until": str(project.root / "gate")}, "late.json"
    gated = {name: {**game, **gate} for name, game in games(2).items()}
    others = {f"other-{name}": game for name, game in games(6, 0.2).items()}
    project.add_genomes({RAISES: {"do": "raise"}, **gated, late: {"do": "raise"}, **others})
    return frozenset({RAISES, late})


def open_gate(project: FarmProject) -> None:
    (project.root / "gate").touch()


def logged(project: FarmProject) -> list[dict[str, Any]]:
    """The lines of the log."""
    return [json.loads(line) for line in (project.root / "state/log/pipeline.jsonl").read_bytes().splitlines()]


@any_output
@pytest.mark.parametrize(
    ("verbose", "fails"), [(False, False), (True, True)], ids=["facts only, all complete", "every record, one fails"]
)
def test_run_without_output_plays_everything(
    output: UselessOutput, verbose: bool, fails: bool, project: FarmProject
) -> None:
    """The exit code says whether a genome failed; the log has the failed genome, and the warning of the hook."""
    project.configure(extra=FAILING_HOOK)
    failed = frozenset({RAISES} if fails else ())
    project.add_genomes({**games(6), **{name: {"do": "raise"} for name in failed}})

    with output() as nowhere:
        host = project.start("run", "--gen", "1", *(["-v"] if verbose else []), stdout=nowhere, stderr=nowhere)

    assert host.wait(2 * PATIENCE_S) == (ExitCode.FAILED if fails else ExitCode.OK)
    project.assert_counted_once(failed=failed)
    lines = logged(project)
    assert any("the hook for finished" in line.get("text", "") for line in lines)
    assert any(line.get("outcome") == "failed" for line in lines) == fails


def test_warning_is_one_line_where_no_terminal_is(project: FarmProject) -> None:
    """However long it is: a log or a mail is searched by line."""
    project.configure(extra=FAILING_HOOK.replace("SystemExit(1)", "SystemExit('x' * 150)"))
    project.add_genomes(games(1))

    code, out = project.run()

    assert code == ExitCode.OK
    assert f"WARNING: the hook for finished ended with 1: {'x' * 150}" in out.splitlines()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes the descriptors")
def test_run_with_closed_descriptors_plays_everything(closed: str, project: FarmProject) -> None:
    """No file of the farm gets a descriptor that a child takes for its standard output."""
    project.configure()
    project.add_genomes({**games(4), RAISES: {"do": "raise"}})
    command = ["sh", "-c", f'exec "$0" -m pipeline run --gen 1 --root "$1" {closed}', sys.executable, str(project.root)]

    ran = subprocess.run(command, capture_output=True, timeout=2 * PATIENCE_S, check=False)

    assert (ran.returncode, b"Traceback" in ran.stdout + ran.stderr) == (ExitCode.FAILED, False)
    project.assert_counted_once(failed=frozenset({RAISES}))


def test_reader_leaves_in_the_middle_of_a_run(project: FarmProject) -> None:
    """As with `pipeline run 2>&1 | head -n 1`: the genomes that are left are played, and the exit code is 1."""
    project.configure()
    failed = add_gated_genomes(project)
    host = project.start()
    assert host.stdout is not None
    while RAISES.encode() not in host.stdout.readline():  # there may be lines of progress before
        pass

    host.stdout.close()
    open_gate(project)

    assert host.wait(2 * PATIENCE_S) == ExitCode.FAILED
    project.assert_counted_once(failed=failed)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_terminal_of_the_display_goes_away(project: FarmProject) -> None:
    """A run that outlives its terminal plays on without the live display."""
    project.configure()
    failed = add_gated_genomes(project)
    terminal, slave = os.openpty()
    host = project.start(stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while RAISES.encode() not in shown or b"utilisation" not in shown:
        shown += os.read(terminal, 4096)

    os.close(terminal)
    open_gate(project)

    assert host.wait(2 * PATIENCE_S) == ExitCode.FAILED
    project.assert_counted_once(failed=failed)


@any_output
def test_run_without_output_stops_and_resumes(output: UselessOutput, project: FarmProject) -> None:
    """Ctrl-C: exit code 3. The same command plays the rest."""
    project.configure()
    failed = add_gated_genomes(project)
    with output() as nowhere:
        host = project.start("run", "--gen", "1", stdout=nowhere, stderr=nowhere)
        project.wait_until(lambda: project.playing("local-0") and project.playing("local-1"))
        project.interrupt(host)
        assert host.wait(2 * PATIENCE_S) == ExitCode.STOPPED
        open_gate(project)

        host = project.start("run", "--gen", "1", stdout=nowhere, stderr=nowhere)
        assert host.wait(2 * PATIENCE_S) == ExitCode.FAILED
    project.assert_counted_once(failed=failed)


@any_output
def test_run_without_output_that_cannot_go_on(output: UselessOutput, project: FarmProject) -> None:
    """Exit code 4, as with a reader of the diagnosis."""
    project.configure(evaluator='python = "no_such_module:play"')
    project.add_genomes(games(2))
    with output() as nowhere:
        host = project.start("run", "--gen", "1", stdout=nowhere, stderr=nowhere)
        assert host.wait(2 * PATIENCE_S) == ExitCode.CANNOT_CONTINUE


@any_output
def test_agent_without_output_plays_on(output: UselessOutput, project: FarmProject) -> None:
    """It plays every genome, and ends as asked."""
    share = project.root / "share"
    project.configure(workers=0, extra=f"[[worker]]\nname = 'vm-0'\nshare = '{share.as_posix()}'")
    project.add_genomes({**games(4), RAISES: {"do": "raise"}})
    share.mkdir()
    with output() as nowhere:
        agent = project.start_agent(share, stderr=nowhere)

    code, out = project.run()

    assert code == ExitCode.FAILED, out
    assert agent.poll() is None
    if sys.platform != "win32":  # there no signal ends it in good order
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(2 * PATIENCE_S) == 0
    else:
        agent.kill()
    project.assert_counted_once(failed=frozenset({RAISES}))


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_top_ends_with_its_terminal(project: FarmProject) -> None:
    """Nothing else would end it."""
    project.configure()
    project.add_genomes(games(2))
    assert project.run()[0] == 0
    terminal, slave = os.openpty()
    top = project.start("top", stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while b"evaluator: version" not in shown:  # the last line: nothing is being drawn then
        shown += os.read(terminal, 4096)

    os.close(terminal)

    assert top.wait(2 * PATIENCE_S) == ExitCode.OK


def test_agent_whose_share_is_missing_says_so_with_its_exit_code(project: FarmProject) -> None:
    """2 also without a reader of the reason."""
    project.configure()
    with closed_pipe() as nowhere:
        agent = project.start_agent(project.root / "no such share", stderr=nowhere)
        assert agent.wait(2 * PATIENCE_S) == 2
