"""The value of a call, as files: one of JSON, and one `.npy` for each NumPy array in it.

Owns: which values can travel, and that they come back equal and of the same type. A host reads what workers write, so
nothing in these files is ever unpickled. Used by both sides; NumPy is imported only if it is needed.
"""

import base64
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VALUE_FILE = "value.json"
ARRAYS_MAX = 15  #: with `VALUE_FILE` as many files as a result may have
DEPTH_MAX = 100
#: How each type that JSON lacks is marked; a dict with such a key is written as pairs.
_TUPLE, _PAIRS, _BYTES, _COMPLEX, _ARRAY = "tuple", "pairs", "bytes", "complex", "array"
_MARK = "$"


class UnsupportedValue(ValueError):
    """A value cannot travel; says which part of it, and what can."""


def write_value(value: Any, folder: Path) -> None:
    """Writes a value into a folder. Raises UnsupportedValue."""
    arrays = list[Any]()
    text = json.dumps(_encoded(value, arrays, 0))
    for number, array in enumerate(arrays):
        with open(folder / _array_file(number), "wb") as file:
            sys.modules["numpy"].lib.format.write_array(file, array, allow_pickle=False)
    (folder / VALUE_FILE).write_text(text, encoding="utf-8")


def read_value(folder: Path) -> Any:
    """The value in a folder. Raises ValueError or OSError: there is none, or it is damaged."""
    try:
        return _decoded(json.loads((folder / VALUE_FILE).read_text(encoding="utf-8")), folder)
    except (TypeError, RecursionError, EOFError, MemoryError) as error:  # of what no worker of this program writes
        raise ValueError(f"{VALUE_FILE}: {type(error).__name__}: {error}") from error


def shown_number(value: Any) -> float:
    """What tables show of a value as its fitness: the number, the first number of several, or 0."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, int | float) or hasattr(value, "__float__"):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return 0.0
        return number if math.isfinite(number) else 0.0
    return 0.0


def _encoded(value: Any, arrays: list[Any], depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise UnsupportedValue(f"a value that is nested more than {DEPTH_MAX} deep cannot be returned")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encoded(part, arrays, depth + 1) for part in value]
    if type(value) is tuple:
        return {_MARK: _TUPLE, "of": [_encoded(part, arrays, depth + 1) for part in value]}
    if type(value) is dict:
        return _encoded_dict(value, arrays, depth)
    if type(value) in (bytes, bytearray):
        return {_MARK: _BYTES, "of": base64.b64encode(value).decode()}
    if type(value) is complex:
        return {_MARK: _COMPLEX, "of": [value.real, value.imag]}
    return _encoded_array(value, arrays, depth)


def _encoded_dict(value: Mapping[Any, Any], arrays: list[Any], depth: int) -> Any:
    if all(type(key) is str for key in value) and _MARK not in value:
        return {key: _encoded(part, arrays, depth + 1) for key, part in value.items()}
    pairs = [[_encoded(key, arrays, depth + 1), _encoded(part, arrays, depth + 1)] for key, part in value.items()]
    return {_MARK: _PAIRS, "of": pairs}


def _encoded_array(value: Any, arrays: list[Any], depth: int) -> Any:
    numpy = sys.modules.get("numpy")  # a value of NumPy exists only if it was imported
    if numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject:
        return _encoded(numpy.asarray(value), arrays, depth)
    if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject:
        what = f"{type(value).__module__}.{type(value).__qualname__}"
        raise UnsupportedValue(
            f"a value of type {what} cannot be returned; return numbers, texts, bytes, lists, tuples, dicts and NumPy "
            "arrays of these"
        )
    if len(arrays) >= ARRAYS_MAX:
        raise UnsupportedValue(f"more than {ARRAYS_MAX} arrays cannot be returned; return one array of them")
    arrays.append(value)
    return {_MARK: _ARRAY, "of": len(arrays) - 1}


def _decoded(text: Any, folder: Path) -> Any:
    if isinstance(text, list):
        return [_decoded(part, folder) for part in text]
    if not isinstance(text, dict):
        return text
    if _MARK not in text:
        return {key: _decoded(part, folder) for key, part in text.items()}
    match text:
        case {"$": "tuple", "of": list(parts)}:
            return tuple(_decoded(part, folder) for part in parts)
        case {"$": "pairs", "of": list(pairs)}:
            return {_decoded(key, folder): _decoded(part, folder) for key, part in pairs}
        case {"$": "bytes", "of": str(coded)}:
            return base64.b64decode(coded, validate=True)
        case {"$": "complex", "of": [real, imag]}:
            return complex(real, imag)
        case {"$": "array", "of": int(number)}:
            return _read_array(folder / _array_file(number))
    raise ValueError(f"{VALUE_FILE}: an unknown mark: {text[_MARK]!r:.80}")


def _read_array(path: Path) -> Any:
    import numpy

    # Mapped first: the file must be as large as its head says before there is memory for it.
    array = numpy.array(numpy.load(path, mmap_mode="r", allow_pickle=False))
    return array[()] if array.ndim == 0 else array  # a scalar of NumPy travels as an array without dimensions


def _array_file(number: int) -> str:
    return f"array-{number:02d}.npy"
