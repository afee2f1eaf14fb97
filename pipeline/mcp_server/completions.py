"""Completions of the arguments of prompts and of the variables in URIs: generations and names of genomes."""

from collections.abc import Mapping

from mcp_types import Completion

from inbox_agent.protocol.printable import escaped
from pipeline.control.operations import ReadOperations

_VALUES_MAX = 50
_LOOKED_AT_MAX = 1000


def completion(operations: ReadOperations, argument: str, begun: str, known: Mapping[str, str]) -> Completion:
    """Values of an argument that begin with what was typed. Blocks; raises PipelineError."""
    newest = operations.project().latest_generation
    if newest is None:
        return Completion(values=[])
    if argument == "generation":
        first = max(0, newest - _LOOKED_AT_MAX)
        values = [str(number) for number in range(newest, first, -1)]  # whether each was played costs too much to ask
    elif argument in ("genome", "name"):
        given = known.get("generation", "")
        number = int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else newest
        names = [genome.name for genome in operations.genomes(number, limit=_LOOKED_AT_MAX).items]
        values = [name for name in names if escaped(name) == name]  # another one could not be typed
    else:
        values = []
    fitting = [value for value in values if value.startswith(begun)]
    return Completion(values=fitting[:_VALUES_MAX], has_more=len(fitting) > _VALUES_MAX)
