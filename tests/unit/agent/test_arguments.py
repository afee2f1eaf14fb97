"""The command line of `inbox-agent`."""

import sys
from pathlib import Path

import pytest

from inbox_agent.arguments import agent_parser, share_folder
from inbox_agent.settings import SettingsError
from tests.harness.other_user import allow_traversal, as_unprivileged_user


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "argument --workers: 0: expected a number from 1"),
        (["--worker", "-1"], "argument --worker: -1: expected a number from 0"),
        (["--worker", "one"], "argument --worker: invalid number value: 'one'"),
    ],
)
def test_number_out_of_range_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the option, the value and what is expected; exit code 2."""
    with pytest.raises(SystemExit) as ended:
        agent_parser().parse_args(["--share", "x", *words, "--", "game"])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="rights of POSIX")
def test_forbidden_share_is_refused(tmp_path: Path) -> None:
    """It is there, so the message does not say to create it."""
    share = tmp_path / "locked" / "share"
    share.mkdir(parents=True)
    allow_traversal(tmp_path)
    share.parent.chmod(0o000)
    args = agent_parser().parse_args(["--share", str(share), "--", "game"])

    try:
        with as_unprivileged_user(), pytest.raises(SettingsError) as refused:
            share_folder(args)
    finally:
        share.parent.chmod(0o700)

    assert str(refused.value) == f"{share}: Permission denied; give this user the right to it, or correct --share"
