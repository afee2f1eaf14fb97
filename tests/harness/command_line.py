"""The command line without a process: what a command prints and returns."""

import pytest

from pipeline.cli import main


def pipeline(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Runs a command in this process. Returns exit code, standard output and standard error."""
    code = main.run_commands([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
