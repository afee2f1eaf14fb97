"""`pipeline results --unpack`: a folder for each archived result, for people who want to look at single ones."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.errors import InputError
from pipeline.paths import ATTEMPT_RESULT, ATTEMPTS, PRUNED_JSON, RESULTS_JSONL
from pipeline.storage.disk_use import is_folder
from pipeline.storage.result_lines import ResultLine, read_result_lines


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was written."""

    results: int
    damaged_lines: int


def unpack(results: Path, target: Path) -> Unpacked:
    """Writes `<attempt>/result.json` below `target`, indented, for each line of a results folder.

    Logs and artifacts are there already if `target` is its folder of attempts; they are copied to any other, unless a
    link is in place of an attempt's folder.

    Raises:
        InputError: there are no lines, or a file cannot be read or written.
    """
    attempts, damaged = set[str](), 0
    try:
        for line in read_result_lines(results / RESULTS_JSONL):
            if line.attempt:
                attempts.add(line.attempt)
                _write(line, results / ATTEMPTS / line.attempt, target / line.attempt)
            else:
                damaged += 1
    except FileNotFoundError as error:
        if error.filename != str(results / RESULTS_JSONL):
            raise InputError(f"{error.filename}: {error.strerror}") from error
        reason = f"no result was accepted by this version, or {PRUNED_JSON} says that they were removed"
        raise InputError(f"{results}: there is no {RESULTS_JSONL}; {reason}") from error
    except OSError as error:
        raise InputError(f"{error.filename or target}: {error.strerror}; give another place with --unpack") from error
    return Unpacked(len(attempts), damaged)


def _write(line: ResultLine, files: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if is_folder(files) and files.resolve() != folder.resolve():
        shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)
    is_json = line.record.startswith(b"{")
    text = msgspec.json.format(line.record, indent=2) + b"\n" if is_json else line.record
    (folder / ATTEMPT_RESULT).write_bytes(text)
