"""The params of genomes: named plain values that a program gives with its genomes, to find them in the results. Pure.

Owns: which names and values are refused. Params are recorded with a genome and stay as they were first recorded; no
worker is told of them.
"""

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from inbox_agent.protocol.layout import Setting
from pipeline.errors import GenomeError

Params = Mapping[str, Setting]

PARAMS_MAX = 64  #: of a genome
PARAM_NAME_CHARS_MAX = 64
PARAM_CHARS_MAX = 1000  #: of a text
_WHOLE_MAX = 2**53  # exact in every JSON reader
_PLAIN = (str, int, float, bool)

NO_PARAMS: Params = {}  #: of every genome without params: one object for all of them


def no_params() -> Params:
    """`NO_PARAMS`, as the default of a field."""
    return NO_PARAMS


def checked_params(given: object, genomes: Collection[object]) -> dict[str, Params]:
    """The params by genome, as they are recorded. `genomes`: the names that are submitted.

    Raises:
        GenomeError: a name or a value cannot be used, or there are params of a genome that is not submitted.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise GenomeError(f"params: expected a mapping of genome names to params, found {type(given).__name__}")
    names, found = set(genomes), dict[str, Params]()
    for genome, params in given.items():
        if genome not in names:
            raise GenomeError(f"params of {genome!r}: no genome of this name is submitted; submit it or leave them out")
        found[genome] = genome_params(genome, params)
    return found


def genome_params(genome: str, given: object) -> Params:
    """The params of one genome, by name, as they are recorded; a scalar of numpy is the plain value that it has.

    Raises:
        GenomeError: a name or a value cannot be used.
    """
    where = f"params of genome {genome!r}"
    if not isinstance(given, Mapping):
        raise GenomeError(f"{where}: expected a mapping of names to values, found {type(given).__name__}")
    if len(given) > PARAMS_MAX:
        raise GenomeError(f"{where}: {len(given)} params, allowed are {PARAMS_MAX}")
    for name in given:
        if not isinstance(name, str):
            raise GenomeError(f"{where}: name {name!r}: expected a str, found {type(name).__name__}")
        if not 1 <= len(name) <= PARAM_NAME_CHARS_MAX or not name.isprintable():
            reason = f"expected 1 to {PARAM_NAME_CHARS_MAX} printable characters"
            raise GenomeError(f"{where}: name {name[: PARAM_NAME_CHARS_MAX + 1]!r}: {reason}")
    return {str(name): _plain(given[name], f"{where}: {name!r}") for name in sorted(given)} or NO_PARAMS


def _plain(value: Any, where: str) -> Setting:
    """A value that JSON and every table can have. Raises GenomeError."""
    if type(value) not in _PLAIN and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a scalar of numpy
    if type(value) not in _PLAIN:  # the ledger cannot have those of derived classes
        raise GenomeError(f"{where}: expected str, int, float or bool, found {type(value).__name__}")
    if isinstance(value, str):
        if len(value) > PARAM_CHARS_MAX:
            raise GenomeError(f"{where}: {len(value)} characters, allowed are {PARAM_CHARS_MAX}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise GenomeError(f"{where}: broken Unicode, which no file can have")
    elif isinstance(value, int):
        if abs(value) > _WHOLE_MAX:
            raise GenomeError(f"{where}: a whole number from -2**53 to 2**53 is needed; give others as float or str")
    elif not isfinite(value):
        raise GenomeError(f"{where}: {value} is no finite number; leave it out")
    plain: Setting = value
    return plain
