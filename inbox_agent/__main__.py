"""`inbox-agent`: arguments, logging, exit codes. Assembles the agent and runs its loop until a stop request.

Exit codes: 0 stopped on request, 2 bad input, 3 another agent has this share; of `inbox-agent doctor`: 0 all checks
passed, 1 a check failed, 2 bad input.
"""

import argparse
import io
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from msgspec.structs import asdict

from inbox_agent.agent import Agent, OtherAgentActive
from inbox_agent.arguments import LOCK, agent_parser, doctor_parser, evaluator_table, state_folder
from inbox_agent.doctor import CheckTarget, check_agent
from inbox_agent.evaluation.versioned import VersionedEvaluator
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.evaluators import WorkerPlace, make_evaluator
from inbox_agent.identity import make_identity
from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import INBOX, ORDERS
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable, SettingsError
from inbox_agent.share_scanner import AgentLimits
from inbox_agent.system.desktop import look_at_session
from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from inbox_agent.system.folder_watcher import FolderWatcher, Wakeup
from inbox_agent.system.long_paths import IN_A_SHARE, too_long
from inbox_agent.system.process_tree import PROCESSES_FILE, AgentAlreadyRunning, ProcessTree

log = logging.getLogger(__name__)

_QUOTES = "if you wrote it, put quotes around it: PowerShell removes the braces otherwise"
_LAST_WORDS_S = 5.0  # how long the loop may take to end after its parent has exited


def main(argv: list[str] | None = None) -> int:
    """Runs the agent until SIGINT, SIGTERM or, with `--leave-with-parent`, the end of standard input."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["doctor"]:
        return _diagnose(words[1:])
    args = agent_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        table, folder = evaluator_table(args)
        share = Path(args.share)
        if not share.is_dir():
            raise SettingsError(f"{share}: no such folder; create the share first")
        if problem := too_long(share, IN_A_SHARE):
            raise SettingsError(problem)
        state = state_folder(args)
        lock = FileLock(state / LOCK)
    except SettingsError as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 2
    except AlreadyLocked as error:
        print(f"inbox-agent: another agent plays this share: {error}", file=sys.stderr)
        return 3
    try:
        return _run(args, table, folder, share, state)
    except AgentAlreadyRunning as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 3
    finally:
        lock.release()


def _run(args: argparse.Namespace, table: EvaluatorTable, folder: Path, share: Path, state: Path) -> int:
    # Kill leftover processes of a previous agent first: nothing is claimed while an old evaluation may still run.
    tree = ProcessTree(state / PROCESSES_FILE)
    log.info("watches %s, plays %s of %s", os.path.abspath(share), table, folder)
    if table.command is not None and not any("{genome}" in argument for argument in table.command):
        log.warning('no argument of the command is "{genome}", so the program must find its genome itself; %s', _QUOTES)
    evaluator = VersionedEvaluator(
        make_evaluator(table, folder, state / "scratch", tree, WorkerPlace(args.worker, args.workers)),
        EvaluatorFiles(table, folder).look,
        str(table),
    )
    wakeup, stop = Wakeup(), threading.Event()
    files = LocalFiles(share)
    watcher = FolderWatcher({"inbox": share / INBOX}, wakeup.set, suffixes=ORDERS)
    agent = Agent(
        files,
        evaluator,
        make_identity(),
        wakeup,
        clock=time.monotonic,
        session=look_at_session,
        share_is_local=not args.foreign_disk,
        limits=AgentLimits(poll_s=args.poll, beat_s=args.beat),
    )
    _stop_on_signals(stop, wakeup)
    if args.leave_with_parent:
        _stop_with_parent(stop, wakeup, tree)
    try:
        files.make_folders()
        while not stop.is_set():
            watcher.rearm()
            agent.wait(agent.step())
    except OtherAgentActive as error:
        print(f"inbox-agent: {error}; this one ends", file=sys.stderr)
        return 3
    except ShareError as error:
        print(f"inbox-agent: {share}: {error}", file=sys.stderr)
        return 2
    finally:
        watcher.close()
        evaluator.close()
        tree.close()
    return 0


def _diagnose(argv: list[str]) -> int:
    """Runs `inbox-agent doctor`."""
    args = doctor_parser().parse_args(argv)
    try:
        table, folder = evaluator_table(args)
        genome = Path(args.genome) if args.genome else None
        if genome is not None and not genome.is_file():
            raise SettingsError(f"--genome {genome}: no such file")
    except SettingsError as error:
        print(f"inbox-agent doctor: {error}", file=sys.stderr)
        return 2
    target = CheckTarget(
        share=Path(args.share),
        state=state_folder(args),
        table=table,
        folder=folder,
        genome=genome,
        seed=args.seed,
    )
    items = []
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows: a console's code page lacks some characters
    for item in check_agent(target):
        items.append(item)
        if not args.json and (args.verbose or not item.ok):
            print(item, flush=True)
    if args.json:
        print(json.dumps([asdict(item) for item in items], indent=2))
    return int(not all(item.ok for item in items))


def _stop_on_signals(stop: threading.Event, wakeup: Wakeup) -> None:
    def handle(_signal: int, _frame: object) -> None:
        stop.set()
        wakeup.set()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _stop_with_parent(stop: threading.Event, wakeup: Wakeup, tree: ProcessTree) -> None:
    """Stops at the end of standard input: the parent holds the other end, which closes however the parent dies."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop.set()
        wakeup.set()
        time.sleep(_LAST_WORDS_S)  # a responsive loop has ended the process by now, and this thread with it
        tree.close()
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
