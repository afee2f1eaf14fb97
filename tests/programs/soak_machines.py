"""`python -m tests.programs.soak_machines --hours H`: real virtual machines with one random fault after the other.

The faults come from a seed.
The fitness of every generation is computed independently and checked by `pipeline verify`; the first loss ends the
program with exit code 1. Figures are printed as they come: boots, recovery from each fault, evaluations, losses.
"""

import argparse
import random
import sys
import time

from tests.harness.vm_farm import NOTHING_LOST, Figures, draw_faults, measure_boots, play_round, vm_farm


def main() -> int:
    """Runs generations until the time is up."""
    parser = argparse.ArgumentParser("python -m tests.programs.soak_machines", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice, figures = random.Random(args.seed), Figures()
    names = tuple(f"vm-{number}" for number in range(1, args.machines + 1))
    ends_at, generation = time.monotonic() + args.hours * 3600, 1
    with vm_farm(*names) as farm:
        measure_boots(farm, figures)
        play_round(farm, generation, {}, figures)
        while time.monotonic() < ends_at:
            generation += 1
            before = len(figures.stories)
            try:
                play_round(farm, generation, draw_faults(dice, names), figures)
            except AssertionError as error:
                print(f"generation {generation}: {error}\n{figures}", flush=True)
                return 1
            for story in figures.stories[before:]:
                print(f"generation {generation}: {story}", flush=True)
    print(f"\n{generation} generations on {args.machines} machines, seed {args.seed}\n{figures}\n{NOTHING_LOST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
