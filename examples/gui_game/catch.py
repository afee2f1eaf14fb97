"""Catch: a real-time game in a window of its own. Balls fall, and the arrow keys move the paddle that catches them.

It is the game, not a part of the evaluator: nothing imports it. `python catch.py --seed 7` plays it by hand. The title
of the window has the score, as that of many games has; with `--fault` the game fails in one of four ways.
"""

import argparse
import faulthandler
import random
import sys
import time
from itertools import count

import pygame

WIDTH, HEIGHT = 320, 240
SKY, BALL, PADDLE = (16, 24, 56), (255, 200, 0), (80, 220, 120)
BALL_SIZE = 12
PADDLE_WIDTH, PADDLE_HEIGHT, PADDLE_TOP = 48, 8, HEIGHT - 16
PADDLE_SPEED = 420.0  # pixels per second
FRAMES_PER_SECOND = 60
STEP_MAX_S = 0.05  # a slow computer slows the game instead of letting a ball jump over the paddle
FAULTS = ("crash", "hang", "dialog", "stall")


def main() -> int:
    """Plays, then waits until the window is closed."""
    args = arguments()
    pygame.display.init()
    screen = pygame.display.set_mode((WIDTH, HEIGHT))
    score = play(screen, args)
    pygame.display.set_caption(f"Catch: over, score {score} of {args.balls}")
    while not is_closed():
        pygame.time.wait(20)
    return 0


def play(screen: pygame.Surface, args: argparse.Namespace) -> int:
    """Plays all balls; returns how many were caught."""
    dice, clock, score, paddle = random.Random(args.seed), pygame.time.Clock(), 0, (WIDTH - PADDLE_WIDTH) / 2
    for number in count(1):
        if number > args.balls:
            return score
        pygame.display.set_caption(f"Catch: ball {number} of {args.balls}, score {score}")
        x, y = float(dice.randrange(WIDTH - BALL_SIZE)), 0.0
        if number == 2 and args.fault != "stall":
            fail(args.fault)
        while y < HEIGHT - BALL_SIZE:
            step_s = min(clock.tick(FRAMES_PER_SECOND) / 1000, STEP_MAX_S)
            if is_closed():
                sys.exit(0)
            if number < 2 or args.fault != "stall":
                y += args.speed * step_s
            keys = pygame.key.get_pressed()
            paddle += (keys[pygame.K_RIGHT] - keys[pygame.K_LEFT]) * PADDLE_SPEED * step_s
            paddle = min(max(paddle, 0.0), WIDTH - PADDLE_WIDTH)
            draw(screen, x, y, paddle)
        score += paddle - BALL_SIZE < x < paddle + PADDLE_WIDTH
    raise AssertionError("the balls are counted")


def draw(screen: pygame.Surface, x: float, y: float, paddle: float) -> None:
    """Draws one frame."""
    screen.fill(SKY)
    screen.fill(PADDLE, (round(paddle), PADDLE_TOP, PADDLE_WIDTH, PADDLE_HEIGHT))
    screen.fill(BALL, (round(x), round(y), BALL_SIZE, BALL_SIZE))
    pygame.display.flip()


def is_closed() -> bool:
    """Handles what the system sent. Whether the window is to be closed."""
    return any(event.type == pygame.QUIT for event in pygame.event.get())


def fail(fault: str | None) -> None:
    """Fails as asked: ends by an invalid access, stops to handle messages, or shows a modal dialog."""
    if fault == "crash":
        faulthandler._sigsegv()
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "dialog":
        show_dialog("Catch has a problem", "The next ball cannot be loaded.")


def show_dialog(title: str, text: str) -> None:
    """Shows a dialog and waits for its answer; the game stands still until then."""
    if sys.platform == "win32":
        pygame.display.message_box(title, text, "error")
        return
    # SDL's own needs the fonts of the X server, which few systems have.
    dialog = pygame.Window(title, (280, 80))
    while not any(event.type == pygame.WINDOWCLOSE for event in pygame.event.get()):
        dialog.get_surface().fill((200, 200, 200))
        dialog.flip()
        pygame.time.wait(20)
    dialog.destroy()


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="where the balls fall")
    parser.add_argument("--balls", type=int, default=10)
    parser.add_argument("--speed", type=float, default=200.0, help="of a ball, in pixels per second")
    parser.add_argument("--fault", choices=FAULTS, help="how the game fails when the second ball falls")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
