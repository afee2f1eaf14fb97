"""File names in a share."""

from collections.abc import Iterator

from inbox_agent.protocol.layout import Kind, attempt_of, epoch_of, host_name, is_artifact, safe_suffix
from tests.fuzz.target import FuzzTarget
from tests.harness.records import attempt


def _decode(data: bytes) -> None:
    name = data.decode("utf-8", "replace")
    if (found := attempt_of(name)) is not None:
        owner, kind = found
        assert kind.of(owner) == name
    if (epoch := epoch_of(name)) is not None:
        assert host_name(epoch) == name
    for safe in (name if found or epoch or is_artifact(name) else "", safe_suffix(name)):
        assert safe.isascii() and safe.isprintable() and not {*safe} & {*'/\\:*?"<>|'} and ".." not in (safe, safe[:2])


def _seeds() -> Iterator[bytes]:
    for kind in Kind:
        yield kind.of(attempt(1)).encode()
    for name in ("1.host.json", "0.host.json", "replay.zip", "con", "lpt1.txt", "..", "a.", "bot.JSON", "é.bin"):
        yield name.encode()


TARGET = FuzzTarget(_decode, (), _seeds)
