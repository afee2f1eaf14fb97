"""The values of calls: they come back equal and of the same type, and nothing in their files is ever unpickled."""

import json
import math
import pickle
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.calls.values import (
    ARRAYS_MAX,
    DEPTH_MAX,
    VALUE_FILE,
    UnsupportedValue,
    read_value,
    shown_number,
    write_value,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.just("$")
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


def there_and_back(value: Any, folder: Path) -> Any:
    write_value(value, folder)
    return read_value(folder)


@given(value=VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plain_values_come_back(tmp_path: Path, value: Any) -> None:
    """With the types of all their parts; `repr` also tells apart 1 and True, 0.0 and -0.0."""
    assert repr(there_and_back(value, tmp_path)) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.array([1.5, np.nan, -np.inf]),
        np.zeros((0, 4), dtype=np.float32),
        np.array(["a", "bc"]),
        np.array([1 + 2j]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    """With type and form."""
    found = there_and_back({"x": (array, 1)}, tmp_path)

    assert found["x"][1] == 1
    assert found["x"][0].dtype == array.dtype
    assert np.array_equal(found["x"][0], array, equal_nan=array.dtype.kind in "fc")


@pytest.mark.parametrize("scalar", [np.float64(0.1), np.float32(0.1), np.int64(7), np.bool_(True)])
def test_scalars_of_numpy_come_back(tmp_path: Path, scalar: Any) -> None:
    found = there_and_back([scalar], tmp_path)[0]

    assert type(found) is type(scalar)
    assert found == scalar


class Odd:
    pass


@pytest.mark.parametrize("value", [Odd(), {1, 2}, Fraction(1, 3), OrderedDict(a=1), np.array([None]), [(Odd(),)]])
def test_other_values_are_refused_by_name(tmp_path: Path, value: Any) -> None:
    """Also inside of others; a subclass would come back as something else."""
    with pytest.raises(UnsupportedValue, match=r"a value of type \S+ cannot be returned; return numbers"):
        write_value(value, tmp_path)


def test_value_that_contains_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedValue, match=f"more than {DEPTH_MAX} deep"):
        write_value(endless, tmp_path)


def test_too_many_arrays_are_refused(tmp_path: Path) -> None:
    """A result has no room for more files."""
    there_and_back([np.zeros(1)] * ARRAYS_MAX, tmp_path)
    with pytest.raises(UnsupportedValue, match=f"more than {ARRAYS_MAX} arrays"):
        write_value([np.zeros(1)] * (ARRAYS_MAX + 1), tmp_path)


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise AssertionError('was unpickled')",)


def test_array_file_with_a_pickle_is_refused(tmp_path: Path) -> None:
    """A hostile worker can make a host read numbers, and nothing else."""
    write_value(np.zeros(1), tmp_path)
    np.save(tmp_path / "array-00.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects in dtype"):
        read_value(tmp_path)
    (tmp_path / "array-00.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_value(tmp_path)


def test_array_file_that_claims_more_than_it_has_takes_no_memory(tmp_path: Path) -> None:
    write_value(np.zeros(8), tmp_path)
    path = tmp_path / "array-00.npy"
    path.write_bytes(path.read_bytes().replace(b"(8,), }            ", b"(800000000000,), } "))
    with pytest.raises((ValueError, OSError)):
        read_value(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$": "pickle", "of": "x"}',
        '{"$": "array", "of": "../secret"}',
        '{"$": "array", "of": 3}',
        '{"$": "bytes", "of": "é"}',
        '{"$": "pairs", "of": [[1]]}',
        '{"$": "pairs", "of": [[[1], 2]]}',
        '{"$": "complex", "of": ["a", 1]}',
        "[" * 100_000,
    ],
)
def test_damaged_value_is_an_error_that_callers_expect(tmp_path: Path, text: str) -> None:
    (tmp_path / VALUE_FILE).write_text(text, encoding="utf-8")
    with pytest.raises((ValueError, OSError)):
        read_value(tmp_path)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((1, 1.0), (True, 1.0), (0.5, 0.5), ((0.5, 2), 0.5), ([[3]], 3.0), (np.float32(2), 2.0), (np.array(4.0), 4.0)),
        *(
            (None, 0.0),
            ("x", 0.0),
            ({}, 0.0),
            ([], 0.0),
            (math.nan, 0.0),
            (10**400, 0.0),
            (np.zeros(3), 0.0),
            (b"1", 0.0),
        ),
    ],
)
def test_tables_show_a_number_of_each_value(value: Any, number: float) -> None:
    assert shown_number(value) == number


def test_value_is_json(tmp_path: Path) -> None:
    """So that people and other programs can read it."""
    write_value({"score": 1.5, "moves": [1, 2]}, tmp_path)
    assert json.loads((tmp_path / VALUE_FILE).read_text()) == {"score": 1.5, "moves": [1, 2]}
