"""The fuzz targets over their corpus, without a fuzzer: also where there is none. `make fuzz` searches further."""

import sys

import pytest

from tests.fuzz.target import NAMES, corpus, load

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]


@pytest.mark.parametrize("name", NAMES)
def test_decoder_raises_only_allowed_errors(name: str) -> None:
    """For each input of the target's corpus; at least one is valid, so that the fuzzer gets behind the first checks."""
    if load(name).needs_posix and sys.platform == "win32":
        pytest.skip("local sockets: QEMU machines run on Linux")
    inputs = list(corpus(name))
    assert len(inputs) >= 5
    accepted = [load(name).accepts(data) for data in inputs]
    assert any(accepted)
