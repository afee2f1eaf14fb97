"""The audit log: a line for each change that was asked for, for this user alone, with a bounded size."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from pipeline.storage import audit_log as module
from pipeline.storage.audit_log import AuditLog, RequestedChange

CHANGE = RequestedChange(
    token="ci", client="192.0.2.7", operation="submit", generation=7, genomes=3, status=200, outcome="done"
)


def test_change_is_one_line_with_its_time(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.write(CHANGE, 1_700_000_000.25)
    log.close()
    AuditLog(tmp_path).close()

    (line,) = (tmp_path / "log/audit.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "at": "2023-11-14T22:13:20.250Z",
        "token": "ci",
        "client": "192.0.2.7",
        "operation": "submit",
        "generation": 7,
        "genomes": 3,
        "genome": "",
        "worker": "",
        "status": 200,
        "outcome": "done",
    }


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202egnp.exe", "\u2028", '"}'])
def test_name_of_genome_stays_text(tmp_path: Path, name: str) -> None:
    """No line is made up, and no terminal controlled."""
    log = AuditLog(tmp_path)
    log.write(
        RequestedChange(token="ci", client="", operation="put", generation=1, genome=name, status=400, outcome="x"), 0
    )
    log.close()

    text = (tmp_path / "log/audit.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == 1 and all(character.isprintable() or character == "\n" for character in text)
    assert json.loads(text)["genome"] == name


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files are removed; every file is for this user alone, whatever the umask is."""
    monkeypatch.setattr(module, "AUDIT_BYTES_MAX", 2000)
    monkeypatch.setattr(module, "FILES_KEPT", 2)
    before = os.umask(0)
    try:
        log = AuditLog(tmp_path)
        for _ in range(100):
            log.write(CHANGE, 0.0)
        log.close()
    finally:
        os.umask(before)

    files = {path.name: path.stat() for path in (tmp_path / "log").iterdir()}
    assert files.keys() == {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"}
    assert max(info.st_size for info in files.values()) <= 2000
    if sys.platform != "win32":
        assert {stat.S_IMODE(info.st_mode) for info in files.values()} == {0o600}


def test_log_that_cannot_be_written_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its folder's place is taken; nothing is printed."""
    (tmp_path / "log").write_text("a file")
    log = AuditLog(tmp_path)
    log.write(CHANGE, 0.0)
    log.close()
    assert capsys.readouterr() == ("", "")
