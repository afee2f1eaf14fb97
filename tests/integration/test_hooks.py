"""The hook: it gets events on standard input only; no failure of it affects the farm."""

import json
import re
import sys
from pathlib import Path

import pytest

from pipeline.config import HooksTable
from pipeline.core import facts as f
from pipeline.host.hooks import Hooks
from tests.harness.core import CoreHarness
from tests.harness.farm_project import FarmProject

pytestmark = pytest.mark.timeout(60)
WRITES = (
    "import json, sys; event = json.load(sys.stdin); open('event-' + sys.argv[1], 'a').write(json.dumps(event) + '\\n')"
)


def hooks(root: Path, code: str = WRITES, timeout_s: float = 20.0) -> Hooks:
    return Hooks(HooksTable(command=[sys.executable, "-c", code, "{event}"], timeout_s=timeout_s), root)


def test_hook_runs_for_important_events(tmp_path: Path) -> None:
    """The end of a generation, quarantine, an excluded worker, a farm that cannot continue; nothing else."""
    table = CoreHarness("w0", genomes=1)
    hook = hooks(tmp_path)
    quarantined = f.WorkerQuarantined(worker="w0", back_off_s=15, reason='lost; rm -rf "$HOME" `x`')
    hook.notify([quarantined, f.ProbationBegan(worker="w0"), f.WorkerOut(worker="w0", reason="gone")], table.farm)
    hook.notify([f.RunFinished()], table.farm)
    hook.notify_stuck(table.farm, "every worker is out")
    hook.close()

    events = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("event-*")}
    assert set(events) == {"event-quarantined", "event-out", "event-finished", "event-stuck"}
    assert events["event-quarantined"]["worker"] == "w0"
    assert 'rm -rf "$HOME" `x`' in events["event-quarantined"]["text"]
    assert events["event-finished"]["summary"]["submitted"] == 1
    assert events["event-stuck"]["text"] == "every worker is out"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit('no network')", "the hook for finished ended with 1: no network"),
        ("import time; time.sleep(60)", "timed out after"),
    ],
)
def test_failing_hook_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, expected: str) -> None:
    """The next event is passed all the same."""
    hook = hooks(tmp_path, code, timeout_s=0.5)
    hook.notify([f.RunFinished()], CoreHarness("w0").farm)
    hook.close()

    assert expected in caplog.text


def test_missing_hook_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = Hooks(HooksTable(command=[str(tmp_path / "nothing")]), tmp_path)
    hook.notify([f.RunFinished()], CoreHarness("w0").farm)
    hook.close()

    assert "the hook for finished" in caplog.text


def test_no_hook_starts_no_thread(tmp_path: Path) -> None:
    """No thread, no waiting."""
    hook = Hooks(HooksTable(), tmp_path)
    hook.notify([f.RunFinished()], CoreHarness("w0").farm)
    hook.notify_stuck(CoreHarness("w0").farm, "x")
    hook.close()


@pytest.mark.processes
def test_run_calls_hook_and_writes_event_log(project: FarmProject) -> None:
    """Once, when the generation is finished; the event log has a line for every fact of the ledger."""
    (project.root / "hook.py").parent.mkdir(parents=True)
    (project.root / "hook.py").write_text(WRITES)
    project.configure(workers=1, extra=f"[hooks]\ncommand = [{sys.executable!r}, 'hook.py', '{{event}}']")
    project.add_genomes({"a.json": {"n": 1}, "b.json": {"n": 2}})
    code, out = project.run()

    assert code == 0, out
    assert json.loads((project.root / "event-finished").read_text())["summary"]["completed"] == 2
    lines = [json.loads(line) for line in (project.root / "state/log/pipeline.jsonl").read_text().splitlines()]
    facts = [line["fact"] for line in lines if "fact" in line]
    assert facts.count("trial_settled") == 2 and facts[0] == "host_started"


def test_hook_python_is_interpreter_of_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an evaluator's command: Debian has no `python`, and another one lacks the user's packages."""
    monkeypatch.setenv("PATH", "")
    hook = Hooks(HooksTable(command=["python", "-c", WRITES, "{event}"]), tmp_path)
    hook.notify([f.RunFinished()], CoreHarness("w0").farm)
    hook.close()

    assert (tmp_path / "event-finished").exists()


def test_results_are_written_before_hook(project: FarmProject) -> None:
    """Most hooks send the results."""
    copies = "import shutil, sys; shutil.copy('results/gen-0001/summary.json', 'seen-' + sys.argv[1])"
    project.configure(extra=f"[hooks]\ncommand = {json.dumps(['python', '-c', copies, '{event}'])}")
    project.add_genomes({f"g{n:03d}.json": {"n": n} for n in range(100)})

    code, out = project.run()

    assert code == 0, out
    seen = json.loads((project.root / "seen-finished").read_text())
    assert (seen["finished"], seen["completed"]) == (True, 100)


@pytest.mark.processes
def test_run_calls_hook_once_if_no_result_comes(project: FarmProject) -> None:
    """While a game goes on for longer than was expected; the run goes on, and its end is told."""
    project.configure(workers=1, extra=f"[hooks]\ncommand = {json.dumps(['python', '-c', WRITES, '{event}'])}\n")
    config = project.root / "pipeline.toml"
    config.write_text(config.read_text() + "silent_after_s = 1.0\n")
    project.add_genomes({"a.json": {"n": 1, "seconds": 3.5}})

    code, out = project.run()

    assert code == 0, out
    (told,) = [json.loads(line) for line in (project.root / "event-silent").read_text().splitlines()]
    assert told["silent_s"] >= 1.0
    assert re.fullmatch(r"generation 1: no result for \d+ s; 1 trial open", told["text"])
    assert (project.root / "event-finished").exists()


def test_silent_farm_is_told_in_one_line(tmp_path: Path) -> None:
    hook = hooks(tmp_path)
    hook.notify_silent(CoreHarness("w0", genomes=2).farm, 1800.4)
    hook.close()

    told = json.loads((tmp_path / "event-silent").read_text())
    assert (told["text"], told["silent_s"]) == ("generation 1: no result for 1800 s; 2 trials open", 1800.4)
    assert told["summary"]["submitted"] == 2
