"""The params of genomes: which are refused, and how they are recorded and kept."""

import math
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest

from pipeline.core.facts import GenomeAdded, GenomeReopened, decode_fact, encode_fact
from pipeline.core.model import GenomeFile
from pipeline.core.params import NO_PARAMS, PARAM_CHARS_MAX, PARAM_NAME_CHARS_MAX, PARAMS_MAX, checked_params
from pipeline.core.runs import joining_facts, opening_facts, with_params
from pipeline.errors import GenomeError
from tests.harness.core import SETTINGS, CoreHarness, facts_of, replace_struct

pytestmark = pytest.mark.rules

GENOMES = ("a", "b")
#: A row of a ledger as it was before there were params.
ROW = b'{"fact":"genome_added","genome":1,"name":"a","suffix":".bin","size_bytes":9,"sha256":"00"}'


class Shaped:
    """Has a shape like a scalar of numpy, and no value."""

    ndim = 0


REFUSED: list[tuple[Any, str]] = [
    ([("a", {})], "params: expected a mapping of genome names to params, found list"),
    ({"c": {}}, "params of 'c': no genome of this name is submitted; submit it or leave them out"),
    ({"a": [1]}, "params of genome 'a': expected a mapping of names to values, found list"),
    ({"a": {1: 2}}, "params of genome 'a': name 1: expected a str, found int"),
    ({"a": {"": 2}}, "params of genome 'a': name '': expected 1 to 64 printable characters"),
    ({"a": {"x\n": 2}}, r"params of genome 'a': name 'x\n': expected 1 to 64 printable characters"),
    ({"a": {"\ud800": 2}}, r"params of genome 'a': name '\ud800': expected 1 to 64 printable characters"),
    ({"a": {"x" * 1000: 2}}, f"params of genome 'a': name '{'x' * 65}': expected 1 to 64 printable characters"),
    ({"a": {"x": None}}, "params of genome 'a': 'x': expected str, int, float or bool, found NoneType"),
    ({"a": {"x": [1]}}, "params of genome 'a': 'x': expected str, int, float or bool, found list"),
    ({"a": {"x": b"1"}}, "params of genome 'a': 'x': expected str, int, float or bool, found bytes"),
    ({"a": {"x": np.zeros(1)}}, "params of genome 'a': 'x': expected str, int, float or bool, found ndarray"),
    ({"a": {"x": np.complex128(1)}}, "params of genome 'a': 'x': expected str, int, float or bool, found complex"),
    ({"a": {"x": Shaped()}}, "params of genome 'a': 'x': expected str, int, float or bool, found Shaped"),
    ({"a": {"x": math.nan}}, "params of genome 'a': 'x': nan is no finite number; leave it out"),
    ({"a": {"x": np.float32("-inf")}}, "params of genome 'a': 'x': -inf is no finite number; leave it out"),
    ({"a": {"x": HTTPStatus.OK}}, "params of genome 'a': 'x': expected str, int, float or bool, found HTTPStatus"),
    ({"a": {"x": 10**400}}, "params of genome 'a': 'x': a whole number from -2**53 to 2**53 is needed"),
    ({"a": {"x": 2**53 + 1}}, "params of genome 'a': 'x': a whole number from -2**53 to 2**53 is needed"),
    ({"a": {"x": "y" * 1001}}, "params of genome 'a': 'x': 1001 characters, allowed are 1000"),
    ({"a": {"x": "\udfff"}}, "params of genome 'a': 'x': broken Unicode"),
    ({"a": {str(n): n for n in range(65)}}, "params of genome 'a': 65 params, allowed are 64"),
]


@pytest.mark.parametrize(("params", "words"), REFUSED)
def test_unusable_params_are_refused(params: Any, words: str) -> None:
    """In one line, which names genome, param and what was found."""
    with pytest.raises(GenomeError) as error:
        checked_params(params, GENOMES)

    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


def test_largest_params_are_accepted_and_recorded() -> None:
    """What is accepted can be read from the ledger again."""
    texts = {f"{n:0{PARAM_NAME_CHARS_MAX}}": "ü" * PARAM_CHARS_MAX for n in range(PARAMS_MAX - 6)}
    numbers = {"a": 2**53, "b": -(2**53), "c": 1e308, "d": -0.0, "e": 5e-324, "f": 1e16}

    (params,) = checked_params({"a": {**texts, **numbers}}, GENOMES).values()

    fact = GenomeAdded(genome=1, name="a", suffix="", size_bytes=1, sha256="0", params=dict(params))
    read = decode_fact(encode_fact(fact))
    assert read == fact
    assert isinstance(read, GenomeAdded)
    assert [type(value) for value in read.params.values()] == [type(value) for value in params.values()]


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (True, True),
        (1, 1),
        (1.0, 1.0),
        ("", ""),
    ],
)
def test_scalars_of_numpy_are_plain_values(given: Any, recorded: Any) -> None:
    """Of exactly that type: the ledger cannot have others."""
    params = checked_params({"a": {np.str_("x"): given}}, GENOMES)["a"]

    assert params == {"x": recorded}
    assert (type(params["x"]), type(next(iter(params)))) == (type(recorded), str)


def test_params_are_sorted_by_name() -> None:
    """The same params give the same row, in whatever order they are given."""
    assert list(checked_params({"a": {"z": 1, "b": 2}}, GENOMES)["a"]) == ["b", "z"]


def test_no_params_are_one_object() -> None:
    """A generation of many genomes without params needs no room for them."""
    core = CoreHarness(genomes=2)
    file = GenomeFile("late", "", 1, "0" * 64)
    core.record(*joining_facts(core.farm, [file]))

    assert checked_params(None, GENOMES) == {}
    assert checked_params({"a": {}}, GENOMES)["a"] is NO_PARAMS
    assert file.params is NO_PARAMS
    assert all(genome.params is NO_PARAMS for genome in core.farm.genomes)


# ---------------------------------------------------------------------------------------------------------- the ledger


def test_row_from_before_params_is_read_and_written_alike() -> None:
    """Byte for byte: earlier versions of this program read what is written without params."""
    fact = decode_fact(ROW)

    assert isinstance(fact, GenomeAdded)
    assert fact.params == {}
    assert encode_fact(fact) == ROW
    assert encode_fact(GenomeAdded(genome=1, name="a", suffix=".bin", size_bytes=9, sha256="00")) == ROW


def files(**params: Any) -> list[GenomeFile]:
    """Genomes of these names with their params."""
    found = [GenomeFile(name, "", 1, "0" * 64) for name in params]
    return with_params(found, checked_params({name: given for name, given in params.items() if given}, params))


def test_params_are_recorded_with_the_genome() -> None:
    """When it joins; the farm has them."""
    core = CoreHarness(genomes=0)
    core.record(*joining_facts(core.farm, files(a={"rate": 0.5}, b={})))

    assert [genome.params for genome in core.farm.genomes] == [{"rate": 0.5}, {}]
    assert list(core.farm.counts.params) == ["rate"]


def test_params_stay_those_of_the_first_time() -> None:
    """Resumed with other params: only a genome that is new has those that are given."""
    core = CoreHarness(genomes=0)
    core.record(*joining_facts(core.farm, files(a={"rate": 0.5}, b={})))

    opening = opening_facts(core.farm, 1, files(a={"rate": 9}, b={"rate": 9}, c={"rate": 9}), SETTINGS, fresh=False)

    assert [(fact.name, fact.params) for fact in facts_of(opening, GenomeAdded)] == [("c", {"rate": 9})]


@pytest.mark.parametrize("fresh", [True, False])
def test_params_are_kept_by_a_new_run(fresh: bool) -> None:
    """Begun afresh, also because the settings were changed before any fitness."""
    core = CoreHarness(genomes=0)
    core.record(*joining_facts(core.farm, files(a={"rate": 0.5})))

    opening = opening_facts(core.farm, 1, files(a={}, b={"x": 1}), replace_struct(SETTINGS, seed=9), fresh=fresh)

    assert [fact.params for fact in facts_of(opening, GenomeAdded)] == [{"rate": 0.5}, {"x": 1}]


def test_params_belong_to_their_generation() -> None:
    """A genome of the same name in the next one has none."""
    core = CoreHarness(genomes=0)
    core.record(*joining_facts(core.farm, files(a={"rate": 0.5})))

    opening = opening_facts(core.farm, 2, files(a={}), SETTINGS, fresh=False)

    assert [fact.params for fact in facts_of(opening, GenomeAdded)] == [{}]


def test_reopened_genome_keeps_its_params() -> None:
    """It is played again with other bytes."""
    core = CoreHarness(genomes=0)
    core.record(*joining_facts(core.farm, files(a={"rate": 0.5})))
    core.record(GenomeReopened(genome=1, size_bytes=2, sha256="1" * 64))

    assert (core.farm.genomes[0].sha256, core.farm.genomes[0].params) == ("1" * 64, {"rate": 0.5})
