"""What is wrong with a share or with the agent there: what was found, and how to fix it. Pure.

The rules give it as the reason of a quarantine, `pipeline doctor` as what it found.
"""

from inbox_agent.protocol.layout import INBOX, STATUS, clean

Problem = tuple[str, str]  #: what was found, and how to fix it; the latter may be empty

SAME_VERSION = "install the same version on host and machine"
NO_HEARTBEAT: Problem = (
    "no agent has ever written a heartbeat there",
    "start `inbox-agent --share …` in its machine (docs/how-to/smb.md)",
)
FLOODED: Problem = (
    "its share is flooded with results of attempts that were never issued",
    "further ones are ignored; a game or a program in its machine writes them",
)
_ERROR_CHARS_MAX = 200


def in_words(problem: Problem) -> str:
    """A problem in one line."""
    return "; ".join(filter(None, problem))


def record_unreadable(name: str, error: str) -> Problem:
    """A record in `status/` that cannot be used: damaged, invalid, too large or refused."""
    found = f"{STATUS}/{name} cannot be read ({clean(error, _ERROR_CHARS_MAX)})"
    return found, f"{SAME_VERSION}, and start `inbox-agent` again"


def inbox_unwritable(reason: str, *, refused: bool) -> Problem:
    """`inbox/` cannot be written; `refused`: the share answers, and does not allow it."""
    fix = f"give this host's account the right to modify {INBOX}/ and what is in it" if refused else ""
    return f"{INBOX}/ cannot be written: {clean(reason, _ERROR_CHARS_MAX)}", fix
