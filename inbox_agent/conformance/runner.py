"""Runs checks, several at once, each in a share of its own.

Owns: the folders of the checks, and which exceptions mean what.
"""

import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from inbox_agent.conformance.check import Check
from inbox_agent.conformance.outcome import FAILED, LEFT_OUT, OK, CheckFailed, CheckOutcome, NotPossible
from inbox_agent.conformance.scenario import Cancelled, Scenario

#: How `inbox-agent` is tested: as a user starts it, but with a shorter time between heartbeats.
OWN_AGENT = (
    *("{python}", "-m", "inbox_agent", "--share", "{share}", "--state", "{state}", "--folder", "{state}"),
    *("--poll", "0.2", "--beat", "0.5", "--"),
    *("{python}", "{game}", "{genome}", "{result}", "{seed}", "{trial}", "{settings}"),
)


class RunOptions(Struct, frozen=True, kw_only=True):
    """How checks are run."""

    command: Sequence[str] = OWN_AGENT
    patience_s: float = 30.0  #: the longest wait for any one thing that the agent must do
    jobs: int = 6  #: checks at once
    keep: Path | None = None  #: where the folders of the checks stay; they are removed if None


def run_checks(checks: Sequence[Check], options: RunOptions) -> Generator[CheckOutcome]:
    """The outcomes, in the order of the checks. All agents have ended when it is exhausted or closed."""
    cancelled = threading.Event()
    # Windows: a file that a killed process has just closed may be in use for a moment.
    with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as temporary:
        folder = options.keep or Path(temporary).resolve()
        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                yield from pool.map(lambda one: _run(one, folder / one.name, options, cancelled), checks)
            finally:
                cancelled.set()
                pool.shutdown(cancel_futures=True)


def _run(check: Check, folder: Path, options: RunOptions, cancelled: threading.Event) -> CheckOutcome:
    word, text, started = OK, "", time.monotonic()
    folder.mkdir(parents=True)
    try:
        with Scenario(folder, options.command, patience_s=options.patience_s, cancelled=cancelled) as scenario:
            check.run(scenario)
    except CheckFailed as error:
        word, text = FAILED, f"{check.behaviour} Expected {error.expected}; seen: {error.seen} [{check.source}]"
    except NotPossible as reason:
        word, text = LEFT_OUT, str(reason)
    except Cancelled:
        word, text = LEFT_OUT, "cancelled"
    except OSError as error:
        word, text = FAILED, f"the agent cannot be started, or its share cannot be used: {error}"
    return CheckOutcome(check.name, word, text, time.monotonic() - started)
