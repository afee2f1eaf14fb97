"""Names in a share: valid names, hostile names, and replacements for unsafe names of artifacts."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox_agent.protocol.layout import (
    Kind,
    StartRecord,
    attempt_id,
    attempt_of,
    epoch_of,
    host_name,
    is_artifact,
    is_attempt,
    safe_suffix,
)
from tests.harness.layout_document import GRAMMAR, blocks, example, quick, section, survives

pytestmark = pytest.mark.rules

ATTEMPT = "g0007-0042-t1-a2-4kq7zt0m0003"
NONCES = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=12, max_size=12)


@given(
    generation=st.integers(0, 999_999_999),
    genome=st.integers(1, 999_999_999),
    trial=st.integers(1, 999_999),
    number=st.integers(1, 999_999),
    nonce=NONCES,
    kind=st.sampled_from(Kind),
)
@quick
def test_attempt_id_is_parsed_from_file_names(
    generation: int, genome: int, trial: int, number: int, nonce: str, kind: Kind
) -> None:
    """For all numbers; an id alone is never the name of a file."""
    attempt = attempt_id(generation, genome, trial, number, nonce)

    assert attempt_of(kind.of(attempt)) == (attempt, kind)
    assert attempt_of(attempt) is None


def test_attempt_id_is_padded_and_documented() -> None:
    """Generation and genome are padded, so that a listing is in their order; the document has the same example."""
    assert blocks(section("Names"), "")[0].splitlines()[0] == ATTEMPT
    assert attempt_id(7, 42, 1, 2, "4kq7zt0m0003") == ATTEMPT
    assert attempt_id(12345, 67890, 10, 11, "000000000000") == "g12345-67890-t10-a11-000000000000"


@pytest.mark.parametrize(
    ("numbers", "nonce"),
    [
        ((-1, 1, 1, 1), "0" * 12),
        ((1, 10**9, 1, 1), "0" * 12),
        ((1, 1, 10**6, 1), "0" * 12),
        ((1, 1, 1, 1), "0" * 11),
        ((1, 1, 1, 1), "A" * 12),
        ((1, 1, 1, 1), "../../../etc"),
    ],
)
def test_invalid_attempt_id_is_not_built(numbers: tuple[int, int, int, int], nonce: str) -> None:
    """Numbers beyond the grammar and invalid nonces are defects of the caller."""
    with pytest.raises(AssertionError):
        attempt_id(*numbers, nonce)


HOSTILE_STEMS = [
    "",
    ".",
    "..",
    "../" + ATTEMPT,
    "..\\" + ATTEMPT,
    "/" + ATTEMPT,
    "/etc/passwd",
    "C:x",
    "C:" + ATTEMPT,
    "a:b",
    "\\\\host\\share",
    "con",
    "nul",
    "LPT1",
    ATTEMPT.upper(),
    ATTEMPT.replace("g", "G", 1),
    ATTEMPT[:-1] + "K",
    ATTEMPT + "\n",
    "\n" + ATTEMPT,
    ATTEMPT + " ",
    " " + ATTEMPT,
    ATTEMPT + ".",
    ATTEMPT + "\0",
    ATTEMPT + "0",
    ATTEMPT[:-1],
    ATTEMPT + ":stream",
    ATTEMPT + "/..",
    ATTEMPT.replace("0007", "٠٠٠٧"),
    ATTEMPT.replace("0007", "000７"),
    ATTEMPT.replace("-", "–"),
    ATTEMPT.replace("0042", "-042"),
    ATTEMPT.replace("0042", "42"),
    ATTEMPT.replace("t1", "t"),
    ATTEMPT.replace("t1", "t1234567"),
    "\udc80" + ATTEMPT[1:],
]


@pytest.mark.parametrize("stem", HOSTILE_STEMS)
def test_hostile_name_is_not_an_attempt(stem: str) -> None:
    """Only a canonical attempt id becomes part of a path."""
    assert not is_attempt(stem)
    for kind in Kind:
        assert attempt_of(kind.of(stem)) is None


@pytest.mark.parametrize(
    "tail",
    [
        "",
        ".",
        ".json",
        ".start",
        ".START.JSON",
        ".start.json\n",
        ".start.json ",
        ".start.json.",
        ".start.json:x",
        ".start.json.new",
        "..start.json",
        ".genome/..",
        "/.genome",
        ".ｇenome",
        ".log\0",
        ".genome~",
        "start.json",
    ],
)
def test_unknown_suffix_is_not_an_attempt(tail: str) -> None:
    """A suffix counts only in its exact spelling, at the end."""
    assert attempt_of(ATTEMPT + tail) is None


@given(epoch=st.integers(1, 999_999_999))
@quick
def test_epoch_is_parsed_from_file_name(epoch: int) -> None:
    assert epoch_of(host_name(epoch)) == epoch


@pytest.mark.parametrize(
    "name",
    [
        "0.host.json",
        "01.host.json",
        "-1.host.json",
        "+1.host.json",
        "1.0.host.json",
        "1e3.host.json",
        ".host.json",
        "1.host.json\n",
        "1.host.json ",
        "1.host.json.",
        "1.HOST.JSON",
        "1_0.host.json",
        "٣.host.json",
        "1٣.host.json",
        "².host.json",
        "1234567890.host.json",
        "host.json",
        "1host.json",
        "../1.host.json",
        "1.host.json:x",
        f"{ATTEMPT}.start.json",
    ],
)
def test_invalid_host_record_name_has_no_epoch(name: str) -> None:
    assert epoch_of(name) is None


@pytest.mark.parametrize(
    "name", ["a", "7", "replay.rep", "screen-01_final.png", "x" * 64, "a..b", "console", "com", "com10.x"]
)
def test_safe_artifact_name_is_kept(name: str) -> None:
    assert is_artifact(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "_x",
        "a/b",
        "a\\b",
        "../a",
        "/a",
        "c:x",
        "a:b",
        "A",
        "Replay.rep",
        "a b",
        " a",
        "a ",
        "a.",
        "a\n",
        "a\0",
        "é",
        "٣",
        "x" * 65,
        "con",
        "nul.txt",
        "aux.tar.gz",
        "com0",
        "com1",
        "lpt9.log",
        "prn.",
    ],
)
def test_unsafe_artifact_name_is_refused(name: str) -> None:
    """Every name that is a path, a device, ambiguous on another system, or not printable."""
    assert not is_artifact(name)


@given(st.text())
@quick
def test_accepted_artifact_name_is_safe(name: str) -> None:
    """Every accepted name is a plain lower-case name without a path, and matches the document's grammar."""
    if is_artifact(name):
        assert GRAMMAR["artifact"].fullmatch(name)
        assert os.path.basename(name) == name.lower() == name.strip(" .") == name
        assert name.split(".", maxsplit=1)[0] not in {"con", "prn", "aux", "nul"}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("elite.json", ".json"),
        ("ELITE.JSON", ".json"),
        ("a.tar.gz", ".gz"),
        ("a.", ""),
        ("noext", ""),
        (".json", ""),
        ("", ""),
        ("a.b c", ""),
        ("a.json\n", ""),
        ("a.json ", ""),
        ("a.é", ""),
        ("a.٣", ""),
        ("a./../x", ""),
        ("a.x:y", ""),
        ("a." + "x" * 16, "." + "x" * 16),
        ("a." + "x" * 17, ""),
    ],
)
def test_genome_keeps_only_safe_suffix(name: str, suffix: str) -> None:
    assert safe_suffix(name) == suffix


@given(st.text())
@quick
def test_safe_suffix_is_valid_in_start_signal(name: str) -> None:
    assert survives(StartRecord, example(StartRecord, genome_suffix=safe_suffix(name)))
