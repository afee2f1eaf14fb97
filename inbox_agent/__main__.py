"""`inbox-agent`: arguments, logging, exit codes. Puts the parts together and runs the loop until told to stop.

Exit codes: 0 told to stop, 2 bad input, 3 another agent has this share.
"""

import argparse
import hashlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from msgspec import Struct

from inbox_agent.agent import Agent, SecondAgent
from inbox_agent.callable import CallableEvaluator
from inbox_agent.doorbell import Bell, Doorbell
from inbox_agent.evaluator import CommandEvaluator, Evaluator
from inbox_agent.identity import identify
from inbox_agent.leash import Leash, LeashTaken
from inbox_agent.lock import Held, Lock
from inbox_agent.long_paths import IN_A_SHARE, too_long
from inbox_agent.look import AgentLimits
from inbox_agent.session import look_at_session
from inbox_agent.settings_file import EvaluatorTable, SettingsError, convert, read_settings
from inbox_agent.share_files import LocalFiles, ShareError
from inbox_agent.share_layout import INBOX, ORDERS

log = logging.getLogger("inbox_agent")
_LAST_WORDS_S = 5.0  # how long a wedged loop may take to notice that its parent has gone


class AgentFile(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`agent.toml`: the evaluator of an agent that nobody starts by hand, e.g. in a VM."""

    evaluator: EvaluatorTable


def main(argv: list[str] | None = None) -> int:
    """Runs the agent until SIGINT, SIGTERM or, with `--leave-with-parent`, the end of standard input."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        table, folder = _evaluator_table(args)
        if not table.is_playable:
            raise SettingsError("nothing to play: give --config, --python, or a command after --")
        share = Path(args.share)
        if not share.is_dir():
            raise SettingsError(f"{share}: no such folder; create the share first")
        if problem := too_long(share, IN_A_SHARE):
            raise SettingsError(problem)
        state = Path(args.state) if args.state else _default_state(share)
        lock = Lock(state / "agent.lock")
    except SettingsError as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 2
    except Held as error:
        print(f"inbox-agent: another agent plays this share: {error}", file=sys.stderr)
        return 3
    try:
        return _run(args, table, folder, share, state)
    except LeashTaken as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 3
    finally:
        lock.release()


def _run(args: argparse.Namespace, table: EvaluatorTable, folder: Path, share: Path, state: Path) -> int:
    # The sweep of what a predecessor left comes first: nothing is claimed while an old game may still run.
    leash = Leash(state / "leash")
    evaluator = _evaluator(table, folder, state / "scratch", leash)
    bell, stop = Bell(), threading.Event()
    files = LocalFiles(share)
    doorbell = Doorbell({"inbox": share / INBOX}, bell.press, endings=ORDERS)
    agent = Agent(
        files,
        evaluator,
        identify(),
        bell,
        clock=time.monotonic,
        session=look_at_session,
        own_disk=not args.foreign_disk,
        limits=AgentLimits(poll_s=args.poll, beat_s=args.beat),
    )
    _stop_on_signals(stop, bell)
    if args.leave_with_parent:
        _stop_with_parent(stop, bell, leash)
    try:
        files.make_folders()
        while not stop.is_set():
            doorbell.supervise()
            agent.rest(agent.step())
    except SecondAgent as error:
        print(f"inbox-agent: {error}; this one ends", file=sys.stderr)
        return 3
    except ShareError as error:
        print(f"inbox-agent: {share}: {error}", file=sys.stderr)
        return 2
    finally:
        doorbell.close()
        evaluator.close()
        leash.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inbox-agent",
        description="Plays the genomes that arrive in a share and writes what came out.",
        epilog="Example: inbox-agent --share D:\\exchange -- python play.py {genome} --seed {seed} --result {result}",
    )
    parser.add_argument("--share", required=True, metavar="DIR", help="the worker's share: inbox/, outbox/, status/")
    parser.add_argument("--config", metavar="FILE", help="a TOML file with an [evaluator] table")
    parser.add_argument("--python", metavar="MODULE:FUNCTION", help="play this callable in a warm child process")
    parser.add_argument("--folder", metavar="DIR", help="where the evaluator's files are (default: here)")
    parser.add_argument("--state", metavar="DIR", help="this machine's own notes and scratch, not in the share")
    parser.add_argument("--poll", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    parser.add_argument("--beat", type=float, default=5.0, metavar="S", help="seconds between heartbeats (default: 5)")
    parser.add_argument("--foreign-disk", action="store_true", help="the share is not a disk of this machine")
    parser.add_argument("--leave-with-parent", action="store_true", help="end when standard input ends")
    parser.add_argument("command", nargs="*", help="after --: the program to play with, one argument each")
    return parser


def _evaluator_table(args: argparse.Namespace) -> tuple[EvaluatorTable, Path]:
    if args.config:
        if args.python or args.command:
            raise SettingsError("give either --config or an evaluator, not both")
        path = Path(args.config)
        return read_settings(path, AgentFile).evaluator, Path(args.folder or path.resolve().parent)
    given = {"command": args.command or None, "python": args.python}
    return convert(given, EvaluatorTable, "arguments"), Path(args.folder or ".").resolve()


def _evaluator(table: EvaluatorTable, folder: Path, scratch: Path, leash: Leash) -> Evaluator:
    if table.python is not None:
        return CallableEvaluator(table.python, folder, scratch, leash)
    assert table.command is not None
    return CommandEvaluator(table.command, folder, scratch, leash)


def _default_state(share: Path) -> Path:
    """A folder of this machine for this share, so that two agents on one share meet at one lock."""
    key = hashlib.sha256(os.path.normcase(share.resolve()).encode()).hexdigest()[:16]
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    else:
        base = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    return base / "inbox-agent" / key


def _stop_on_signals(stop: threading.Event, bell: Bell) -> None:
    def handle(_signal: int, _frame: object) -> None:
        stop.set()
        bell.press()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _stop_with_parent(stop: threading.Event, bell: Bell, leash: Leash) -> None:
    """The parent holds the other end of standard input; when it dies, however it dies, that end closes."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop.set()
        bell.press()
        time.sleep(_LAST_WORDS_S)  # a loop that is well has ended the process by now, and this thread with it
        leash.close()
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
