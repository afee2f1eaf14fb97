"""`inbox-agent`: arguments, logging, exit codes. Assembles the agent and runs its loop until a stop request.

Exit codes: 0 stopped on request, 2 bad input, 3 another agent has this share; of `inbox-agent doctor`: 0 all checks
passed, 1 a check failed, 2 bad input.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import asdict

from inbox_agent.agent import Agent
from inbox_agent.arguments import (
    DEPLOYED,
    LOCK,
    SCRATCH,
    PlayedEvaluator,
    agent_parser,
    doctor_parser,
    played_evaluator,
    share_folder,
    state_folder,
)
from inbox_agent.deployments import DeployedEvaluators, DeploymentIntake, DeploymentRefused, no_evaluator
from inbox_agent.doctor import CheckTarget, check_agent
from inbox_agent.evaluation.versioned import EvaluatorSource, VersionedEvaluator
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.evaluators import WorkerPlace, make_evaluator
from inbox_agent.identity import make_identity
from inbox_agent.other_agents import OtherAgentActive
from inbox_agent.pilot import Pilot
from inbox_agent.protocol.files import ShareError
from inbox_agent.protocol.layout import AGENT_LOCK, INBOX, ORDERS, STATUS
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable, SettingsError
from inbox_agent.share_scanner import AgentLimits
from inbox_agent.system.crash_dialogs import suppress_crash_dialogs
from inbox_agent.system.desktop import look_at_session
from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from inbox_agent.system.folder_watcher import FolderWatcher, Wakeup
from inbox_agent.system.process_tree import PROCESSES_FILE, AgentAlreadyRunning, ProcessTree
from inbox_agent.system.standard_output import drop_failed_writes, lost_output

log = logging.getLogger(__name__)

_QUOTES = "if you wrote it, put quotes around it: PowerShell removes the braces otherwise"
_LAST_WORDS_S = 5.0  # how long the loop may take to end after its parent has exited


def main(argv: list[str] | None = None) -> int:
    """Runs the agent until SIGINT, SIGTERM or, with `--leave-with-parent`, the end of standard input."""
    suppress_crash_dialogs()
    drop_failed_writes()  # also of the log: an agent plays on when its reader has ended or its disk is full
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["doctor"]:
        return _diagnose(words[1:])
    args = agent_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        played = played_evaluator(args)
        if args.name and args.join is None:
            raise SettingsError("--name belongs to --join")
        with contextlib.ExitStack() as ending:
            pilot = _pilot(args, ending) if args.join is not None else None
            share, state = share_folder(args), state_folder(args)
            files = LocalFiles(share)
            ending.enter_context(_locked(share, files, state, share_is_local=not args.foreign_disk))
            return _run(args, played, files, state, pilot)
    except SettingsError as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 2
    except ShareError as error:
        print(f"inbox-agent: {args.share}: {error}", file=sys.stderr)
        return 2
    except AlreadyLocked as error:
        print(f"inbox-agent: another agent plays this share: {error}", file=sys.stderr)
        return 3
    except AgentAlreadyRunning as error:
        print(f"inbox-agent: {error}", file=sys.stderr)
        return 3


def _pilot(args: argparse.Namespace, ending: contextlib.ExitStack) -> Pilot:
    """Makes the share of a worker that joins, and sets the arguments as if it had been given. Raises SettingsError."""
    pilot = Pilot(Path(args.join), args.name)
    args.share, args.foreign_disk = str(pilot.share), True
    if not args.state:
        args.state = ending.enter_context(
            tempfile.TemporaryDirectory(prefix="inbox-agent-", ignore_cleanup_errors=True)
        )
    return pilot


@contextlib.contextmanager
def _locked(share: Path, files: LocalFiles, state: Path, *, share_is_local: bool) -> Iterator[None]:
    """Holds the locks that keep a second agent out: of the state folder, and on an own disk of the share.

    Raises:
        AlreadyLocked, SettingsError, ShareError
    """
    with contextlib.ExitStack() as locks:
        with _state_errors():
            locks.callback(FileLock(state / LOCK).release)
        files.make_folders()
        if share_is_local:
            path = share / STATUS / AGENT_LOCK
            try:
                locks.callback(FileLock(path).release)
            except OSError as error:
                raise SettingsError(
                    f"{path} cannot be locked: {error.strerror}; start the agent as the user who may write there, "
                    "or with --foreign-disk if the share is not on a disk of this machine"
                ) from error
        yield


def _run(args: argparse.Namespace, played: PlayedEvaluator, files: LocalFiles, state: Path, pilot: Pilot | None) -> int:
    log.info("watches %s, plays %s of %s", os.path.abspath(files.root), played.table, played.folder)
    command = played.table.command
    if command is not None and not any("{genome}" in argument for argument in command):
        log.warning('no argument of the command is "{genome}", so the program must find its genome itself; %s', _QUOTES)
    with _state_errors():
        # Kills leftover processes of a previous agent: nothing is claimed while an old evaluation may still run.
        tree = ProcessTree(state / PROCESSES_FILE)

    def make(table: EvaluatorTable, folder: Path) -> EvaluatorSource:
        in_scratch = make_evaluator(table, folder, state / SCRATCH, tree, WorkerPlace(args.worker, args.workers))
        return EvaluatorSource(in_scratch, EvaluatorFiles(table, folder).look, str(table))

    deployed = DeployedEvaluators(state / DEPLOYED, played.table) if played.accepts_others else None
    with _state_errors():
        evaluator = VersionedEvaluator(_first_evaluator(played, deployed, make))
    wakeup, stop, parent_ended = Wakeup(), threading.Event(), threading.Event()
    watcher = FolderWatcher({"inbox": files.root / INBOX}, wakeup.set, suffixes=ORDERS)
    agent = Agent(
        files,
        evaluator,
        make_identity(),
        wakeup,
        clock=time.monotonic,
        session=look_at_session,
        share_is_local=not args.foreign_disk,
        host_is_local=args.leave_with_parent and not args.host_elsewhere,
        deployments=DeploymentIntake(files, deployed, make, time.monotonic) if deployed is not None else None,
        limits=AgentLimits(poll_s=args.poll, beat_s=args.beat),
    )
    _stop_on_signals(stop, wakeup)
    if args.leave_with_parent:
        _stop_with_parent(stop, parent_ended, wakeup, tree)
    try:
        if pilot is not None:
            pilot.announce()
        while not stop.is_set() and (pilot is None or pilot.is_wanted()):
            watcher.rearm()
            agent.wait(agent.step())
        is_ended_by_host = parent_ended.is_set() and not args.host_elsewhere
        if not is_ended_by_host:  # a host that ends takes back itself what its agents play
            agent.report_stop()
        if pilot is not None:
            pilot.leave()
    except OtherAgentActive as error:
        print(f"inbox-agent: {error}; this one ends", file=sys.stderr)
        return 3
    finally:
        watcher.close()
        evaluator.close()
        tree.close()
    return 0


def _first_evaluator(
    played: PlayedEvaluator,
    deployed: DeployedEvaluators | None,
    make: Callable[[EvaluatorTable, Path], EvaluatorSource],
) -> EvaluatorSource:
    """The evaluator that was deployed last, else the agent's own."""
    if deployed is not None and (record := deployed.current()) is not None:
        try:
            return make(deployed.table_of(record), deployed.folder_of(record))
        except DeploymentRefused as error:
            log.warning("the deployed evaluator cannot be played: %s", error)
    return make(played.table, played.folder) if played.table.is_playable else no_evaluator()


@contextlib.contextmanager
def _state_errors() -> Iterator[None]:
    """Raises SettingsError for a state folder that cannot be made or written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # not of a file: Windows refuses to make a job
            raise
        raise SettingsError(f"{error.filename}: {error.strerror}; give another folder with --state") from error


def _diagnose(argv: list[str]) -> int:
    """Runs `inbox-agent doctor`."""
    args = doctor_parser().parse_args(argv)
    try:
        played = played_evaluator(args)
        genome = Path(args.genome) if args.genome else None
        if genome is not None and not genome.is_file():
            raise SettingsError(f"--genome {genome}: no such file")
        state = state_folder(args)
        table, folder = _checked_evaluator(played, state)
    except SettingsError as error:
        print(f"inbox-agent doctor: {error}", file=sys.stderr)
        return 2
    target = CheckTarget(
        share=Path(args.share),
        state=state,
        table=table,
        folder=folder,
        genome=genome,
        seed=args.seed,
    )
    items = []
    for item in check_agent(target):
        items.append(item)
        if not args.json and (args.verbose or not item.ok):
            print(item, flush=True)
    if args.json:
        print(json.dumps([asdict(item) for item in items], indent=2))
    if reason := lost_output():
        print(f"inbox-agent doctor: standard output: {reason}; what was printed is incomplete", file=sys.stderr)
        return 1
    return int(not all(item.ok for item in items))


def _checked_evaluator(played: PlayedEvaluator, state: Path) -> tuple[EvaluatorTable, Path]:
    """Table and folder of the evaluator that the agent plays: the one that was deployed last, if there is one."""
    deployed = DeployedEvaluators(state / DEPLOYED, played.table)
    if played.accepts_others and (record := deployed.current()) is not None:
        with contextlib.suppress(DeploymentRefused):
            return deployed.table_of(record), deployed.folder_of(record)
    return played.table, played.folder


def _stop_on_signals(stop: threading.Event, wakeup: Wakeup) -> None:
    def handle(_signal: int, _frame: object) -> None:
        stop.set()
        wakeup.set()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _stop_with_parent(stop: threading.Event, parent_ended: threading.Event, wakeup: Wakeup, tree: ProcessTree) -> None:
    """Stops at the end of standard input: the parent holds the other end, which closes however the parent dies."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        parent_ended.set()
        stop.set()
        wakeup.set()
        time.sleep(_LAST_WORDS_S)  # a responsive loop has ended the process by now, and this thread with it
        tree.close()
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
