"""Command-line arguments of `inbox-agent` and `inbox-agent doctor`: share, evaluator and state folder.

Owns: the options, and the default state folder.
"""

import argparse
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from inbox_agent.identity import agent_version
from inbox_agent.settings import EvaluatorTable, SettingsError, convert, read_settings, read_table
from inbox_agent.system.long_paths import IN_A_SHARE, too_long

LOCK = "agent.lock"  #: in the state folder: held while the agent runs
DEPLOYED, SCRATCH = "evaluators", "scratch"  #: folders in it
#: The variable that names the base of state folders, and the base in the home folder if it is not set.
_STATE_BASE = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_STATE_HOME", ".local/state")


_PROJECT_FILE = "pipeline.toml"  #: of the project that a pilot joins
_SHARE_HELP = "the worker's share: inbox/, outbox/, status/"


class AgentFile(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`agent.toml` or `agent.json`: the evaluator of an agent that is started by a program, e.g. in a VM."""

    evaluator: EvaluatorTable = EvaluatorTable()
    #: whether evaluators that the host deploys through the share are played; until then, `evaluator` is
    accept_evaluators: bool = False


class PlayedEvaluator(NamedTuple):
    """What the agent plays."""

    table: EvaluatorTable
    folder: Path  #: with its files
    accepts_others: bool  #: whether evaluators that the host deploys are played instead


def agent_parser() -> argparse.ArgumentParser:
    """The argument parser of the agent."""
    parser = argparse.ArgumentParser(
        prog="inbox-agent",
        description="Plays the genomes that arrive in a share and writes what came out.",
        epilog='Example: inbox-agent --share D:\\exchange -- python play.py "{genome}" --seed "{seed}" --result '
        '"{result}". The quotes keep the braces, which PowerShell removes otherwise. '
        "What is wrong with a machine: inbox-agent doctor --help",
    )
    _add_what_is_played(parser)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--share", metavar="DIR", help=_SHARE_HELP)
    place.add_argument("--join", metavar="DIR", help="join the project whose folder workers/ this is")
    parser.add_argument("--name", default="", help="with --join: the worker's name (default: a new one)")
    parser.add_argument("--poll", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    parser.add_argument("--beat", type=float, default=5.0, metavar="S", help="seconds between heartbeats (default: 5)")
    parser.add_argument(
        "--worker", type=_at_least(0), default=0, metavar="N", help="its number on this computer (default: 0)"
    )
    parser.add_argument(
        "--workers", type=_at_least(1), default=1, metavar="N", help="workers on this computer (default: 1)"
    )
    parser.add_argument("--foreign-disk", action="store_true", help="the share is not a disk of this machine")
    parser.add_argument(
        "--leave-with-parent",
        action="store_true",
        help="for a host on this system: end when standard input ends, flush only the claims that it asks for",
    )
    parser.add_argument(
        "--host-elsewhere",
        action="store_true",
        help="with --leave-with-parent: the parent is not the host, so flush every claim and report what a stop ends",
    )
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected a number from {least}")
        return int(text)

    return number


def doctor_parser() -> argparse.ArgumentParser:
    """The argument parser of the doctor: it takes the agent's arguments, to check the same things."""
    parser = argparse.ArgumentParser(
        prog="inbox-agent doctor",
        description="Says what keeps an agent from playing in this machine, and what to do about it. Run it as the "
        "user who plays, with the arguments of the agent; a running agent is not disturbed. "
        "Exit codes: 0 all is well, 1 something is not, 2 bad input.",
    )
    _add_what_is_played(parser)
    parser.add_argument("--share", required=True, metavar="DIR", help=_SHARE_HELP)
    parser.set_defaults(join=None)
    parser.add_argument("--genome", metavar="FILE", help="play this one too, once, outside of the share")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the seed to play it with (default: 1)")
    parser.add_argument("--json", action="store_true", help="for programs: every item as {item, ok, found, fix}")
    parser.add_argument("-v", "--verbose", action="store_true", help="name what is well, too")
    return parser


def _add_what_is_played(parser: argparse.ArgumentParser) -> None:
    # `pipeline --version` has the same form.
    parser.add_argument("--version", action="version", version=f"inbox-agent, version {agent_version()}")
    parser.add_argument("--config", metavar="FILE", help="a TOML or JSON file with an [evaluator] table")
    parser.add_argument("--python", metavar="MODULE:FUNCTION", help="play this callable in a warm child process")
    parser.add_argument("--folder", metavar="DIR", help="where the evaluator's files are (default: here)")
    parser.add_argument(
        "--accept-evaluators", action="store_true", help="play what `pipeline deploy` brings through the share"
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="this machine's own notes and scratch, not in the share",
    )
    parser.add_argument("command", nargs="*", help="after --: the program to play with, one argument each")


def played_evaluator(args: argparse.Namespace) -> PlayedEvaluator:
    """The evaluator; it need not be playable if the host may deploy one. Raises SettingsError."""
    accepts = args.accept_evaluators
    if args.config:
        if args.python or args.command:
            raise SettingsError("give either --config or an evaluator, not both")
        path = Path(args.config)
        settings = read_settings(path, AgentFile)
        table, folder = settings.evaluator, Path(args.folder or path.resolve().parent)
        accepts = accepts or settings.accept_evaluators
    elif args.join and not (args.python or args.command or accepts):
        path = Path(args.join).absolute().parent / _PROJECT_FILE
        table = convert(read_table(path).get("evaluator", {}), EvaluatorTable, f"{path}: [evaluator]")
        folder = Path(args.folder or path.parent)
    else:
        given = {"command": args.command or None, "python": args.python}
        table, folder = convert(given, EvaluatorTable, "arguments"), Path(args.folder or ".").resolve()
    if not table.is_playable and not accepts:
        raise SettingsError("nothing to play: give --config, --python, or a command after --")
    return PlayedEvaluator(table, _as_unicode(folder), accepts)


def share_folder(args: argparse.Namespace) -> Path:
    """The share. Raises SettingsError: it cannot be opened, or its path is too long for this system."""
    share = Path(args.share)
    try:
        is_folder = stat.S_ISDIR(os.stat(share).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError as error:
        raise SettingsError(f"{share}: {error.strerror}; give this user the right to it, or correct --share") from error
    if not is_folder:
        raise SettingsError(f"{share}: no such folder; create the share first")
    if problem := too_long(share, IN_A_SHARE):
        raise SettingsError(problem)
    return share


def state_folder(args: argparse.Namespace) -> Path:
    """The agent's state folder; by default one per share, so that two agents on one share use the same lock.

    Raises:
        SettingsError: there is none by default, because the environment names no home folder.
    """
    if args.state:
        return _as_unicode(Path(args.state))
    key = hashlib.sha256(os.fsencode(os.path.normcase(Path(args.share).resolve()))).hexdigest()[:16]
    return state_base() / "inbox-agent" / key


def _as_unicode(folder: Path) -> Path:
    """The folder. Raises SettingsError: its path has bytes that are no Unicode, which records cannot contain."""
    shown = str(folder).encode("utf-8", "backslashreplace").decode()
    if shown != str(folder):
        raise SettingsError(f"{shown}: broken Unicode in this path; rename the folder, or set a UTF-8 locale")
    return folder


def state_base() -> Path:
    """Where programs of this user keep their state. Relative paths are ignored, as the XDG specification says: the
    folder would depend on where the agent was started.
    """
    variable, in_home = _STATE_BASE
    if os.path.isabs(given := os.environ.get(variable, "")):
        return Path(given)
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise SettingsError("this user has no home folder for the agent's state; give a folder with --state")
    return Path(home, in_home)
