"""The fields of its start signal that a result must repeat: they tie it to one attempt. Pure."""

from typing import NamedTuple

from inbox_agent.protocol.layout import ResultRecord


class Echo(NamedTuple):
    """The fields of its start signal that a result must repeat to be accepted."""

    attempt: str
    trial: int
    seed: int
    genome_sha256: str
    evaluator: str | None  #: None: any may have played it


def echo_problem(result: ResultRecord, expected: Echo) -> str:
    """Why the result does not match its start signal; the empty string when it does.

    Echoes that the agent could not know are None; `ResultRecord` rejects that for `completed`.
    """
    for field, value in expected._asdict().items():
        said = getattr(result, field)
        if said != value and None not in (said, value):
            return f"{field} is {said!r}, expected {value!r}"
    return ""
