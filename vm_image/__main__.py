"""`python -m vm_image`: builds the guest image, or finds it in the cache, and prints its disk's path."""

import argparse
import sys
from pathlib import Path

from vm_image.build import PROJECT, Game, build
from vm_image.cache import cache
from vm_image.steps import BuildError

LANDER = PROJECT / "examples/lunar_lander"
LANDER_NEEDS = ("gymnasium[box2d]>=1.2.3", "numpy>=1.26")


def main() -> int:
    """Exit code 0 with the path on standard output; 1 if it could not be built."""
    parser = argparse.ArgumentParser("python -m vm_image", description=__doc__)
    parser.add_argument("--game", type=Path, default=LANDER, metavar="DIR", help="the evaluator's folder")
    parser.add_argument("--python", default="evaluator:play", metavar="MODULE:FUNCTION")
    parser.add_argument("--requirement", action="append", metavar="PACKAGE", help="of the evaluator; may be repeated")
    args = parser.parse_args()
    requirements = args.requirement or (LANDER_NEEDS if args.game == LANDER else ())
    try:
        image = build(Game(folder=args.game.resolve(), python=args.python, requirements=requirements), cache())
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(image / "disk.raw")
    return 0


if __name__ == "__main__":
    sys.exit(main())
