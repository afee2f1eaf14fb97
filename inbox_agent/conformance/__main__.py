"""`python -m inbox_agent.conformance`: the command line of the conformance kit.

Exit codes: 0 all checks passed, 1 a check failed, 2 bad input.
"""

import argparse
import contextlib
import io
import logging
import shutil
import sys
from collections import Counter
from pathlib import Path

from inbox_agent.conformance.agent_process import PLACEHOLDERS
from inbox_agent.conformance.check import Check
from inbox_agent.conformance.checks import CHECKS
from inbox_agent.conformance.outcome import FAILED, LEFT_OUT, OK
from inbox_agent.conformance.runner import OWN_AGENT, RunOptions, run_checks

_TOTALS = {OK: "passed", LEFT_OUT: "left out"}
_CANCELLED = 130  #: as shells say of a program that Ctrl-C ended


def main(argv: list[str] | None = None) -> int:
    """Runs the checks and prints a line for each."""
    words = sys.argv[1:] if argv is None else argv
    cut = words.index("--") if "--" in words else len(words)
    args, command = kit_parser().parse_args(words[:cut]), words[cut + 1 :]
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it reports events that come while it ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Windows: a console's code page lacks some characters
    checks = [check for check in CHECKS if check.name not in args.skip]
    if args.only:
        checks = [check for check in CHECKS if check.name in args.only]
    if args.list:
        for check in checks:
            print(f"{check.name}: {check.behaviour} [{check.source}]")
        return 0
    if problem := _problem(command, args):
        print(f"conformance: {problem}", file=sys.stderr)
        return 2
    keep = Path(args.keep).resolve() if args.keep else None
    options = RunOptions(command=command or OWN_AGENT, patience_s=args.patience, jobs=args.jobs, keep=keep)
    try:
        return _report(checks, options)
    except KeyboardInterrupt:
        print("conformance: cancelled", file=sys.stderr)
        return _CANCELLED


def _report(checks: list[Check], options: RunOptions) -> int:
    words: Counter[str] = Counter()
    with contextlib.closing(run_checks(checks, options)) as outcomes:
        for outcome in outcomes:
            print(outcome, flush=True)
            words[outcome.word] += 1
    if failed := words.pop(FAILED, 0):
        print(f"{failed} of {len(checks)} checks failed")
    else:
        print(", ".join(f"{words[word]} checks {said}" for word, said in _TOTALS.items() if words[word]))
    return int(failed > 0)


def _problem(command: list[str], args: argparse.Namespace) -> str:
    """What is wrong with the arguments, in one line; the empty string if nothing is."""
    unknown = sorted({*args.only, *args.skip} - {check.name for check in CHECKS})
    if unknown:
        return f"no check is named {unknown[0]}; --list names them"
    if command and not any("{share}" in word for word in command):
        return "the command has no {share}: an agent must be given the folder that it plays"
    if command and "{" not in command[0] and shutil.which(command[0]) is None:
        return f"{command[0]}: no such program"
    if args.keep and Path(args.keep).exists():
        return f"--keep {args.keep}: this exists already; name a new folder"
    return ""


def kit_parser() -> argparse.ArgumentParser:
    """The argument parser of the kit; what follows `--` is not its own."""
    parser = argparse.ArgumentParser(
        prog="python -m inbox_agent.conformance",
        usage="%(prog)s [options] [-- COMMAND ...]",
        description="Plays the host against an agent and checks what share_layout.md asks of it. Without COMMAND, "
        "inbox-agent is tested. In COMMAND, "
        + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        + " stand for the share's folder, a folder for the agent's own notes, the Python interpreter, and the game "
        "that the agent must be set up to play: {python} {game} GENOME RESULT SEED TRIAL SETTINGS. "
        "Exit codes: 0 all passed, 1 a check failed, 2 bad input.",
        epilog="Example: python -m inbox_agent.conformance -- node agent.js {share} -- {python} {game} %g %r %s %t %o",
    )
    parser.add_argument("--list", action="store_true", help="name the checks, and run none")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this check; may be repeated")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave this one out; likewise")
    parser.add_argument("--keep", metavar="DIR", help="keep shares and output of the agents in this new folder")
    parser.add_argument("--jobs", type=_positive, default=6, metavar="N", help="checks at once (default: 6)")
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="S", help="seconds for each step of the agent (default: 30)"
    )
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
