"""The evaluator: plays Catch through its window, by its picture and the keyboard, and reads the score from its title.

Copy it for a game of your own: COMMAND, TITLE, what is seen in the picture, which keys are held, where the score is.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policy import Policy, load

from game_window import FaultKind, GameFault, GameLimits, GameProgram, virtual_display

if TYPE_CHECKING:
    from inbox_agent.evaluation.trial import EvaluatorTrial

COMMAND = (sys.executable, Path(__file__).with_name("catch.py"))
TITLE = "Catch: "
OVER = re.compile(r"Catch: over, score (\d+) of (\d+)")
BALL, PADDLE = (255, 200, 0), (80, 220, 120)  # their colours on the screen
LOOK_EVERY_S = 1 / 30
LIMITS = GameLimits(hang_s=4.0, stall_s=6.0, close_s=1.0)  # no ball takes longer than two seconds


def play(genome_path: Path, trial: "EvaluatorTrial") -> dict[str, Any]:
    """What a worker calls for every trial. A GameFault names what went wrong with the game."""
    policy = load(genome_path)
    arguments = [f"--{name}={value}" for name, value in trial.settings.items()]
    if policy.fault:
        arguments.append(f"--fault={policy.fault}")
    artifacts = trial.scratch / "artifacts"
    artifacts.mkdir(exist_ok=True)
    command = [*COMMAND, f"--seed={trial.seed}", *arguments]
    with (
        virtual_display(640, 480) as display,
        artifact_of_fault(artifacts / "screen.png"),
        GameProgram(command, TITLE, display=display, limits=LIMITS) as game,
    ):
        result = play_to_end(game, policy, trial, artifacts)
        (artifacts / "screen.png").write_bytes(game.screen().png())
        return result


@contextmanager
def artifact_of_fault(path: Path) -> Iterator[None]:
    """Keeps what the screen showed when something went wrong with the game, also at its start."""
    try:
        yield
    except GameFault as fault:
        if fault.screen is not None:
            path.write_bytes(fault.screen.png())
        raise


def play_to_end(game: GameProgram, policy: Policy, trial: "EvaluatorTrial", artifacts: Path) -> dict[str, Any]:
    """Looks and holds keys until the game is over."""
    title, looks, last = "", 0, None
    try:
        while (over := OVER.fullmatch(seen := game.title)) is None:
            game.check(progress=seen)
            if seen != title:
                title = seen
                trial.progress(title)
            picture = game.picture()
            ball, paddle = picture.find(BALL), picture.find(PADDLE)
            if ball is not None and paddle is not None:
                last = picture
                game.hold(policy.keys(ball[0], paddle[0]))
            looks += 1
            game.pause(LOOK_EVERY_S)
    except GameFault as fault:
        if fault.kind is FaultKind.CRASHED and last is not None:  # nothing of it is on the screen any more
            (artifacts / "before.png").write_bytes(last.png())
        raise
    caught, balls = int(over[1]), int(over[2])
    return {"fitness": caught / balls, "metrics": {"caught": caught, "looks": looks}}
