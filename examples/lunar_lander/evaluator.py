"""The evaluator: a trial's fitness is the total reward of one episode of Gymnasium's LunarLander-v3.

The seed decides terrain, first push and the engines' scatter, so a trial played again has the same fitness.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from policy import Policy, load

if TYPE_CHECKING:
    from inbox_agent.evaluation.trial import EvaluatorTrial

MAX_STEPS = 400  # 8 s of the game; good landings take 5 to 6
PROGRESS_STEPS = 100


def play(genome_path: Path, trial: "EvaluatorTrial") -> dict[str, Any]:
    """What a worker calls for every trial."""
    max_steps = int(trial.settings.get("max_steps", MAX_STEPS))
    return episode(Policy(load(genome_path)), trial.seed, max_steps, trial.progress)


def episode(
    policy: Policy, seed: int, max_steps: int = MAX_STEPS, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Flies until the lander lies still, has crashed or is out of sight, or until `max_steps`."""
    env = environment()
    observation, _ = env.reset(seed=seed)
    fitness = last_reward = 0.0
    steps, over = 0, False
    while steps < max_steps and not over:
        observation, reward, over, _, _ = env.step(policy.act(observation))
        last_reward = float(reward)
        fitness += last_reward
        steps += 1
        if steps % PROGRESS_STEPS == 0:
            progress(f"step {steps}")
    # The game ends with +100 for a lander that lies still, and with -100 for every other end.
    return {"fitness": fitness, "metrics": {"steps": steps, "landed": int(over and last_reward > 0)}}


@cache
def environment() -> gymnasium.Env[Any, Any]:
    """The game without its own step limit, made once per process.

    Every reset builds its world anew and reseeds it, so no episode sees anything of an earlier one.
    """
    return gymnasium.make("LunarLander-v3", max_episode_steps=-1, disable_env_checker=True)
