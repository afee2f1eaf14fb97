"""`python -m tests.programs.power_cuts --cuts N`: a QEMU guest with host and local workers is reset while it plays.

Each time the same command is given again. In the end every fitness is computed a second time, and `pipeline verify`
must find nothing. The guest's disk keeps what was written to it; what its kernel had not written yet is lost.
"""

import argparse
import random
import sys
import time
from collections import Counter
from functools import partial

from tests.harness.farm_project import games
from tests.harness.guest_farm import GuestFarm, guest_farm
from tests.harness.waiting import eventually

RESULTS_PER_CUT_MAX, GAMES_PER_CUT = 8, 25
STARTS_WITHIN_S, ENDS_WITHIN_S = 300.0, 1800.0
_LOOK_S = 2.0  # each look starts three processes in the guest, whose processor is emulated


def play(farm: GuestFarm, *, cuts: int, dice: random.Random) -> Counter[str]:
    """Plays one generation with this number of power cuts; returns the outcomes of its attempts.

    Raises AssertionError: a check failed.
    """
    farm.set_up(games(GAMES_PER_CUT * (cuts + 1), seconds=0.5))
    for number in range(1, cuts + 1):
        before = farm.lines_archived()
        farm.start_run()
        wanted = before + dice.randint(1, RESULTS_PER_CUT_MAX)
        assert eventually(partial(_has_archived, farm, wanted), STARTS_WITHIN_S, every_s=_LOOK_S), farm.last_words()
        time.sleep(dice.uniform(0.0, 1.0))  # so that the cut falls at any moment of a game
        shown = farm.lines_archived()
        assert farm.exit_code() is None, "the generation was over too soon"
        farm.cut_power()
        print(f"cut {number}: {shown} results before, {farm.lines_archived()} on the disk afterwards", flush=True)
    farm.start_run()
    assert eventually(lambda: farm.exit_code() is not None, ENDS_WITHIN_S, every_s=_LOOK_S), farm.last_words()
    assert farm.exit_code() == 0, farm.last_words()
    farm.copy_out()
    farm.assert_counted_once()
    code, out = farm.run("verify", "--gen", "1")
    assert code == 0, out
    return Counter({outcome: count for outcome, count in farm.summary()["attempts"].items() if count})


def _has_archived(farm: GuestFarm, results: int) -> bool:
    return farm.lines_archived() >= results or farm.exit_code() is not None


def main() -> int:
    """Exit code 1 if a check failed."""
    parser = argparse.ArgumentParser("python -m tests.programs.power_cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with guest_farm() as farm:
        try:
            outcomes = play(farm, cuts=args.cuts, dice=random.Random(args.seed))
        except AssertionError as error:
            print(f"broken: {error}")
            return 1
        genomes = len(farm.results())
    print(f"{args.cuts} power cuts, {genomes} genomes, each counted once")
    print("attempts: " + ", ".join(f"{name} {count}" for name, count in outcomes.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
