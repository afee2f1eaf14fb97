"""The event log: a line for each fact and each warning, valid JSON whatever a share contains."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import facts as f
from pipeline.storage import event_log as module
from pipeline.storage.event_log import EventLog


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[EventLog]:
    journal = EventLog(tmp_path)
    yield journal
    journal.close()


def lines(tmp_path: Path) -> list[dict[str, object]]:
    text = (tmp_path / "log/pipeline.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_facts_and_warnings_are_logged_as_lines(journal: EventLog, tmp_path: Path) -> None:
    """Each with its time; records below a warning are left out."""
    journal.write([f.WorkerRecovered(worker="w0"), f.RunFinished()], 1_700_000_000.25, 7)
    logging.getLogger("pipeline.somewhere").warning("%s is %s", "w0", "slow")
    logging.getLogger("pipeline.somewhere").info("not important")
    journal.write([], 0.0, 7)

    first, second, third = lines(tmp_path)
    assert first == {"at": "2023-11-14T22:13:20.250Z", "generation": 7, "fact": "worker_recovered", "worker": "w0"}
    assert second["fact"] == "run_finished"
    assert (third["level"], third["text"], third["by"]) == ("warning", "w0 is slow", "pipeline.somewhere")


def test_traceback_is_part_of_line(journal: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an error that was logged with its exception, also one with invalid Unicode."""
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", False)  # pytest cannot send it to another process
    try:
        raise ValueError("not foreseen: \udce4")
    except ValueError:
        logging.getLogger("pipeline.somewhere").error("a defect", exc_info=True)

    (line,) = lines(tmp_path)
    assert line["text"] == "a defect"
    assert str(line["traceback"]).startswith("Traceback (most recent call last):\n")
    assert str(line["traceback"]).endswith("ValueError: not foreseen: \\udce4")


@pytest.mark.parametrize("mean", ["\x1b[2J", "\n{}", "\x9b31m", "\u202egnp.exe", "\u2028", "\U000e0041", "ü is fine"])
def test_share_text_is_escaped_in_log(journal: EventLog, tmp_path: Path, mean: str) -> None:
    """A line stays one line, has only printable characters, and keeps its meaning."""
    journal.write([f.WorkerOut(worker="w0", reason=mean)], 0.0, 1)
    logging.getLogger("pipeline").warning("%s", mean)

    text = (tmp_path / "log/pipeline.jsonl").read_text(encoding="utf-8")
    assert len(text.split("\n")) == 3
    assert all(character.isprintable() or character == "\n" for character in text)
    assert [line.get("reason", line.get("text")) for line in lines(tmp_path)] == [mean, mean]


def test_full_log_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files is limited."""
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 2000)
    monkeypatch.setattr(module, "FILES_KEPT", 2)
    journal = EventLog(tmp_path)
    for _ in range(100):
        journal.write([f.WorkerRecovered(worker="w0")], 0.0, 1)
    journal.close()

    sizes = {path.name: path.stat().st_size for path in (tmp_path / "log").iterdir()}
    assert sizes.keys() == {"pipeline.jsonl", "pipeline.jsonl.1", "pipeline.jsonl.2"}
    assert max(sizes.values()) <= 2000


def test_only_warnings_of_this_program_are_logged(journal: EventLog, tmp_path: Path) -> None:
    """Records of the embedding program or of a library are left out, and all records after closing."""
    for name in (None, "my_game", "smbprotocol.connection", "pipelines"):
        logging.getLogger(name).warning("not ours")
    for name in ("hyperv_ops.hyperv.machines", "inbox_agent.system.folder_watcher", "pipeline.host.control_loop"):
        logging.getLogger(name).warning("ours")
    journal.close()
    logging.getLogger("pipeline.host.control_loop").warning("too late")

    assert [(line["by"], line["text"]) for line in lines(tmp_path)] == [
        ("hyperv_ops.hyperv.machines", "ours"),
        ("inbox_agent.system.folder_watcher", "ours"),
        ("pipeline.host.control_loop", "ours"),
    ]


OPENS_A_FARM = """
import logging, sys
import apscheduler.schedulers.background, qemu.qmp, smbprotocol.connection, winrm

OURS = ("hyperv_ops", "inbox_agent", "pipeline")

def foreign():
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] not in OURS
    }

before = foreign()
import hyperv_ops.qemu.machines, hyperv_ops.hyperv.winrm, pipeline.cli.main, pipeline.ui.web_server
from pipeline import Evaluator, open_farm

def unchanged():
    now = foreign()
    new = {name: now[name] for name in now.keys() - before.keys()}
    return {n: now[n] for n in before} == before and all(v == (0, [], True, False) for v in new.values())

assert unchanged()
with open_farm(sys.argv[1], evaluator=Evaluator(python="game:play"), workers=1, trials_per_genome=1) as farm:
    farm.evaluate({"a": b"x"})
    assert unchanged()
    assert all(logging.getLogger(name).handlers for name in OURS)
    logging.getLogger().warning("of the root")
    logging.getLogger("my.game").warning("of the user")
    logging.getLogger("pipeline.host.control_loop").warning("of the host")
assert unchanged()
assert not any(logging.getLogger(name).handlers for name in OURS)
"""


@pytest.mark.processes
def test_farm_does_not_change_logging_of_user(tmp_path: Path) -> None:
    """No handler on the root logger, no level of a foreign logger; the user's records are not in the event log."""
    (tmp_path / "game.py").write_text("def play(genome, trial):\n    return 1.0\n")
    ran = subprocess.run(
        [sys.executable, "-c", OPENS_A_FARM, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr

    log = tmp_path / "state/log/pipeline.jsonl"
    warnings = [line for text in log.read_text(encoding="utf-8").splitlines() if "level" in (line := json.loads(text))]
    assert [(line["by"], line["text"]) for line in warnings] == [("pipeline.host.control_loop", "of the host")]


def test_unwritable_log_is_ignored(journal: EventLog, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a message: the ledger has the facts."""
    (tmp_path / "log/pipeline.jsonl").mkdir()  # has the effect of a full disk

    journal.write([f.RunFinished()], 0.0, 1)
    logging.getLogger("pipeline").warning("of this as well")

    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is full")
def test_log_is_closed_on_full_disk(tmp_path: Path) -> None:
    """A line that could not be written is still in its buffer then."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "pipeline.jsonl").symlink_to("/dev/full")
    journal = EventLog(tmp_path)
    journal.write([f.WorkerRecovered(worker="w0")], 0.0, 1)

    journal.close()
