"""The `result.json` of a game, in any encoding."""

import json
import math
from collections.abc import Iterator

from inbox_agent.evaluation.answer import parse_json, read_answer, with_ignored_keys
from inbox_agent.evaluation.scratch import InvalidAnswer
from inbox_agent.protocol.layout import LOG_BYTES_MAX, METRICS_MAX
from tests.fuzz.target import FuzzTarget


def _decode(data: bytes) -> None:
    answer = parse_json(data, "result.json")
    assert len(with_ignored_keys(data, answer, "result.json")) <= LOG_BYTES_MAX or len(data) > LOG_BYTES_MAX
    fitness, metrics = read_answer(answer, "result.json")
    assert len(metrics) <= METRICS_MAX
    assert all(map(math.isfinite, (fitness, *metrics.values())))
    assert all(name.isprintable() for name in metrics)


def _seeds() -> Iterator[bytes]:
    text = json.dumps({"fitness": 1.5, "metrics": {"x": 1, "größe": -2e3}, "moves": [1, None, True]})
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"):
        yield text.encode(encoding)
    for text in ("1", "[1]", "{}", '{"fitness": NaN}', '{"fitness": 1e999}', '{"fitness": true}', '{"fitness": "1"}'):
        yield text.encode()
    yield b'{"fitness": 1, "metrics": {"": 1}}'
    yield b'{"fitness": ' + b"9" * 5000 + b"}"
    yield b"[" * 3000


TARGET = FuzzTarget(_decode, (InvalidAnswer,), _seeds)
