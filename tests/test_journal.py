"""The log: a line for each fact and each warning, that every tool can read and no share can spoil."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import facts as f
from pipeline.edges import journal as module
from pipeline.edges.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def lines(tmp_path: Path) -> list[dict[str, object]]:
    text = (tmp_path / "log/pipeline.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_facts_and_warnings_are_lines(journal: Journal, tmp_path: Path) -> None:
    """Each with its time; what is less than a warning is not kept."""
    journal.tell([f.WorkerRecovered(worker="w0"), f.RunFinished()], 1_700_000_000.25, 7)
    logging.getLogger("pipeline.somewhere").warning("%s is %s", "w0", "slow")
    logging.getLogger("pipeline.somewhere").info("nobody cares")
    journal.tell([], 0.0, 7)

    first, second, third = lines(tmp_path)
    assert first == {"at": "2023-11-14T22:13:20.250Z", "generation": 7, "fact": "worker_recovered", "worker": "w0"}
    assert second["fact"] == "run_finished"
    assert (third["level"], third["text"], third["by"]) == ("warning", "w0 is slow", "pipeline.somewhere")


@pytest.mark.parametrize("mean", ["\x1b[2J", "\n{}", "\x9b31m", "\u202egnp.exe", "\u2028", "\U000e0041", "ü is fine"])
def test_what_a_share_says_spoils_nothing(journal: Journal, tmp_path: Path, mean: str) -> None:
    """One line stays one line, of printable characters, and says the same."""
    journal.tell([f.WorkerOut(worker="w0", reason=mean)], 0.0, 1)
    logging.getLogger("pipeline").warning("%s", mean)

    text = (tmp_path / "log/pipeline.jsonl").read_text(encoding="utf-8")
    assert len(text.split("\n")) == 3
    assert all(character.isprintable() or character == "\n" for character in text)
    assert [line.get("reason", line.get("text")) for line in lines(tmp_path)] == [mean, mean]


def test_a_full_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only so many are kept."""
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 2000)
    monkeypatch.setattr(module, "FILES_KEPT", 2)
    journal = Journal(tmp_path)
    for _ in range(100):
        journal.tell([f.WorkerRecovered(worker="w0")], 0.0, 1)
    journal.close()

    sizes = {path.name: path.stat().st_size for path in (tmp_path / "log").iterdir()}
    assert sizes.keys() == {"pipeline.jsonl", "pipeline.jsonl.1", "pipeline.jsonl.2"}
    assert max(sizes.values()) <= 2000


def test_a_log_that_cannot_be_written_stops_nobody(
    journal: Journal, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even with a word: the ledger has it."""
    (tmp_path / "log/pipeline.jsonl").mkdir()  # as good as a full disk

    journal.tell([f.RunFinished()], 0.0, 1)
    logging.getLogger("pipeline").warning("of this as well")

    assert "Traceback" not in capfd.readouterr().err
