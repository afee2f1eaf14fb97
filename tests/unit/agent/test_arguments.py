"""The command line of `inbox-agent`."""

import pytest

from inbox_agent.arguments import agent_parser


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
