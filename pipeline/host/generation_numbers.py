"""The number of the next generation of a project."""

from pipeline.host.host import Host
from pipeline.paths import GENERATION_FOLDER, GENERATION_GLOB


def next_generation(host: Host) -> int:
    """The number after all generations that were begun, and all that have a folder of genomes."""
    numbers = [0, *host.ledger.generations()]
    names = (path.name for path in host.paths.all_genomes.glob(GENERATION_GLOB))
    numbers += [int(match[1]) for match in map(GENERATION_FOLDER.fullmatch, names) if match is not None]
    return max(numbers) + 1
