"""The command line: each error is one line with problem, place and fix."""

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.core.runs import parse_generation
from pipeline.errors import ExitCode
from tests.harness.command_line import pipeline

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("gen-7", 7), ("gen-0007", 7), ("genomes/gen-0007", 7), ("genomes\\gen-0007\\", 7)]
)
def test_generation_argument_spellings(text: str, number: int) -> None:
    """A number, a folder name, or a path from the shell's completion."""
    assert parse_generation(text) == number


@pytest.mark.parametrize("text", ["", "seven", "gen-", "0", "-1", "7/8/x", "gen-99999999999"])
def test_invalid_generation_is_bad_input(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the accepted spellings."""
    code, _, err = pipeline(capsys, "run", f"--gen={text}", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert err.count("\n") == 1
    assert "gen-0007" in err


def test_init_creates_runnable_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`init`, `run`, `status`: three commands from an empty folder to results."""
    assert pipeline(capsys, "init", tmp_path)[0] == 0
    code, out, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == 0, err
    assert "4 genomes, 4 completed, 0 failed" in out
    assert "best: weasel.txt" in out
    summary = json.loads((tmp_path / "results/gen-0001/summary.json").read_text())
    assert summary["finished"]
    code, out, _ = pipeline(capsys, "status", "--root", tmp_path)
    assert code == 0
    assert "generation 1, run 1: finished" in out


def test_verbose_shows_every_log_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with the logger's name; without the option only warnings are shown."""
    record = re.compile(r"pipeline\.machines\.local_workers: local-\d: start, process \d+")
    pipeline(capsys, "init", tmp_path)
    shutil.copytree(tmp_path / "genomes/gen-0001", tmp_path / "genomes/gen-0002")

    code, out, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path, "-v")
    assert (code, len(record.findall(err))) == (0, 2), err
    assert "process" not in out
    code, _, err = pipeline(capsys, "run", "--gen", "2", "--root", tmp_path)
    assert (code, record.findall(err)) == (0, [])


def test_commands_silence_loggers_of_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only in commands: a program that uses the package configures logging itself."""
    libraries = [logging.getLogger(name) for name in ("qemu.qmp", "smbprotocol")]
    levels = [library.level for library in libraries]
    try:
        for library in libraries:
            library.setLevel(logging.NOTSET)
        pipeline(capsys, "status", "--root", tmp_path)
        assert [library.level for library in libraries] == [logging.CRITICAL] * 2
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)


def test_init_does_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second `init` in the same folder names the existing file and changes nothing."""
    pipeline(capsys, "init", tmp_path)
    (tmp_path / "pipeline.toml").write_text("# mine\n")
    code, _, err = pipeline(capsys, "init", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert "exists already" in err
    assert (tmp_path / "pipeline.toml").read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[generation]\ntrails_per_genome = 3", "the nearest valid key is `trials_per_genome`"),
        ("[evaluator]\ncommand = 'python play.py'", '`evaluator.command` must be a list; write ["python", "play.py"]'),
        ("[evaluator]\npython = 'play'", "expected module:function"),
        ("[evaluator]\ncommand = ['play', '{reslut}']", "the nearest is {result}"),
        ("[local]\nworkers = 2", "[evaluator] does not say what the local workers play"),
        ("[local]\nworkers = 0", "no worker at all"),
        ("[[worker]]\nname = 'a b'\nshare = '/x'", "worker name 'a b'"),
        ("[[worker]]\nname = 'a'\nshare = '/x'\n[[worker]]\nname = 'b'\nshare = '/x/../x'", "have the same share"),
        ("not toml", "not valid TOML"),
    ],
)
def test_bad_configuration_is_one_line(
    toml: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line has the problem and the file; nothing is started."""
    (tmp_path / "pipeline.toml").write_text(toml)
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert words in err
    assert "pipeline.toml" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "state").exists()


HYPERV = "[hyperv]\nhost = 'hv1'\naccount = 'a'\nsecret = 'file:there'\n"


@pytest.mark.parametrize(
    ("toml", "whose"),
    [
        ("[[worker]]\nname = 'a'\nshare = '//h/s'\naccount = 'x'\nsecret = 'env:NO_SUCH_VARIABLE'", "worker 'a'"),
        (HYPERV.replace("file:there", "env:NO_SUCH_VARIABLE"), "[hyperv] secret"),
        (f"{HYPERV}guest_account = 'p'\nguest_secret = 'env:NO_SUCH_VARIABLE'", "[hyperv] guest_secret"),
    ],
)
def test_missing_secret_is_reported_before_start(
    toml: str, whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not only when the worker has been silent; the next run starts as if it were the first."""
    pipeline(capsys, "init", tmp_path)
    (tmp_path / "there").write_text("hunter2")
    (tmp_path / "there").chmod(0o600)
    if "hyperv" in toml:
        toml += "\n[[worker]]\nname = 'a'\nmachine = 'vm-a'\nshare = 'share'"
    with (tmp_path / "pipeline.toml").open("a") as file:
        file.write(f"\n{toml}\n")
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)

    assert code == ExitCode.BAD_INPUT
    assert f"{whose}: env:NO_SUCH_VARIABLE: the environment variable NO_SUCH_VARIABLE is not set" in err
    assert err.count("\n") == 1
    assert "nothing was run here yet" in pipeline(capsys, "status", "--root", tmp_path)[2]


def test_all_bad_genomes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each file that cannot be a genome; the ledger stays empty, so nothing must be undone."""
    pipeline(capsys, "init", tmp_path)
    folder = tmp_path / "genomes/gen-0001"
    (folder / "empty.txt").touch()
    (folder / "inner").mkdir()
    (folder / "link.txt").symlink_to(folder / "camel.txt")
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert [name for name in ("empty.txt", "inner", "link.txt") if name in err] == ["empty.txt", "inner", "link.txt"]
    for name in ("empty.txt", "link.txt"):
        (folder / name).unlink()
    (folder / "inner").rmdir()
    assert pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)[0] == 0


def test_unusual_genome_names_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spaces, Unicode, reserved names, names that differ only in case, 200 characters: all are valid names."""
    pipeline(capsys, "init", tmp_path)
    folder = tmp_path / "genomes/gen-0002"
    folder.mkdir()
    names = [
        "two words.txt",
        "größe-漢字.bin",
        "con.txt",
        "AUX",
        "Name.txt",
        "name.txt",
        "x" * 200,
        "=1+1.csv",
        "no.such.suffix!",
    ]
    for name in names:
        (folder / name).write_text(name)
    code, _, err = pipeline(capsys, "run", "--gen", "2", "--root", tmp_path)
    assert code == 0, err
    with open(tmp_path / "results/gen-0002/results.csv", newline="", encoding="utf-8-sig") as table:
        cells = {row["genome"] for row in csv.DictReader(table)}
    assert "'=1+1.csv" in cells, "no spreadsheet takes a name for a formula"
    assert {cell.removeprefix("'") for cell in cells} == set(names)
    attempts = (tmp_path / "results/gen-0002/attempts.csv").read_bytes()
    assert attempts.startswith(b"\xef\xbb\xbfattempt,"), "Excel shows umlauts rightly"


def test_missing_configuration_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says that the file does not exist, and nothing about its content."""
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert "there is none; `pipeline init` makes one" in err


def test_corrected_configuration_runs_without_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong program in the configuration is replaced: the same command runs the generation."""
    pipeline(capsys, "init", tmp_path)
    config = tmp_path / "pipeline.toml"
    config.write_text(config.read_text().replace('"play.py"', '"plya.py"'))
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == ExitCode.CANNOT_CONTINUE
    assert "its evaluator cannot be loaded: plya.py: no such file" in err
    config.write_text(config.read_text().replace('"plya.py"', '"play.py"'))
    code, out, _ = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == 0
    assert "4 completed" in out


def test_missing_genome_refuses_changed_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of genomes is fixed: if a file is missing, changed settings are refused even before any result."""
    pipeline(capsys, "init", tmp_path)
    config = tmp_path / "pipeline.toml"
    config.write_text(config.read_text().replace('"play.py"', '"plya.py"'))
    pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    config.write_text(config.read_text().replace('"plya.py"', '"play.py"'))
    (tmp_path / "genomes/gen-0001/camel.txt").unlink()
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert "begun with other settings" in err


def test_finished_generation_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run evaluates nothing, and says so."""
    pipeline(capsys, "init", tmp_path)
    pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    _, out, _ = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert "finished already; nothing is played" in out


def test_status_before_first_run_tells_how_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the next command: first `init`, then `run`."""
    code, _, err = pipeline(capsys, "status", "--root", tmp_path)
    assert (code, "pipeline init" in err) == (ExitCode.BAD_INPUT, True)
    pipeline(capsys, "init", tmp_path)
    code, _, err = pipeline(capsys, "status", "--root", tmp_path)
    assert (code, "pipeline run --gen 1" in err) == (ExitCode.BAD_INPUT, True)


def test_unencodable_names_are_escaped_in_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe on Windows has the characters of its code page; other names do not end a command."""
    pipeline(capsys, "init", tmp_path)
    folder = tmp_path / "genomes/gen-0002"
    folder.mkdir()
    (folder / "größe-漢字.txt").write_text("x = 1", encoding="utf-8")
    pipeline(capsys, "run", "--gen", "2", "--root", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "results", "--gen", "2", "--root", tmp_path],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"gr\xf6\xdfe-\\u6f22\\u5b57.txt" in ran.stdout


def test_damaged_ledger_is_reported_with_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the fix, and the exit code of a farm that cannot continue."""
    pipeline(capsys, "init", tmp_path)
    pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    ledger = tmp_path / "state/ledger.db"
    data = ledger.read_bytes()
    assert b"trial_settled" in data
    ledger.write_bytes(data.replace(b"trial_settled", b"urial_settled"))  # all of them: free pages keep old copies, too
    code, _, err = pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)
    assert code == 4
    assert "move it away" in err


def test_take_over_refuses_unknown_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the known names."""
    pipeline(capsys, "init", tmp_path)
    code, _, err = pipeline(capsys, "take-over", "vm-9", "--root", tmp_path)
    assert code == ExitCode.BAD_INPUT
    assert "vm-9" in err


def test_deleted_local_share_is_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The farm reports that the share was replaced, and names this command; it works for local workers, too."""
    pipeline(capsys, "init", tmp_path)
    assert pipeline(capsys, "run", "--gen", "1", "--root", tmp_path)[0] == 0
    shutil.rmtree(tmp_path / "state" / "shares")
    shutil.copytree(tmp_path / "genomes/gen-0001", tmp_path / "genomes/gen-0002")

    for worker in load_config(tmp_path).local_names():
        code, out, err = pipeline(capsys, "take-over", worker, "--root", tmp_path)
        assert (code, "this farm's now" in out) == (0, True), err

    assert pipeline(capsys, "run", "--gen", "2", "--root", tmp_path)[0] == 0


def test_relative_share_is_below_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like every other path in pipeline.toml, in whichever folder the command runs."""
    root = tmp_path / "project"
    (root / "shares/vm-0").mkdir(parents=True)
    (root / "pipeline.toml").write_text("[[worker]]\nname = 'vm-0'\nshare = 'shares/vm-0'\n")
    monkeypatch.chdir(tmp_path)

    assert "mount it" not in pipeline(capsys, "doctor", "--root", root)[1]
    pipeline(capsys, "take-over", "vm-0", "--root", root)

    assert (root / "shares/vm-0/inbox/1.host.json").exists()
