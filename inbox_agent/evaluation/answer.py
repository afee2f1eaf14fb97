"""An evaluator's answer: parsed, and validated for the result record. Pure."""

import json
import math

from inbox_agent.evaluation.scratch import InvalidAnswer
from inbox_agent.protocol.layout import LOG_BYTES_MAX, METRICS_MAX, VALUE_MAX, clean
from inbox_agent.system.text_encoding import ENCODINGS, decode_text

LINE_CHARS_MAX = 200


def parse_json(data: bytes, what: str) -> object:
    """Parses an evaluator's JSON, in any encoding of JSON; `what` names it in the message. Raises InvalidAnswer."""
    try:
        # json accepts NaN, so that `finite` can name the field that has it.
        return json.loads(decode_text(data))
    except UnicodeDecodeError as error:
        raise InvalidAnswer(clean(f"{what} is not text in {ENCODINGS}: {error}", LINE_CHARS_MAX)) from None
    except RecursionError:
        raise InvalidAnswer(f"{what} is nested too deep") from None
    except ValueError as error:  # JSONDecodeError, an integer of too many digits
        raise InvalidAnswer(clean(f"{what} is not valid JSON: {error}", LINE_CHARS_MAX)) from None


def read_answer(answer: object, what: str) -> tuple[float, dict[str, float]]:
    """Fitness and metrics of an answer.

    Raises:
        InvalidAnswer: anything else than an object with a finite `fitness` and, if any, finite `metrics`, none of them
            beyond `VALUE_MAX`.
    """
    if not isinstance(answer, dict):
        raise InvalidAnswer(f"{what} must be an object, not {type(answer).__name__}")
    if "fitness" not in answer:
        keys = f"; its keys are {', '.join(map(str, answer))}" if answer else ""
        raise InvalidAnswer(clean(f"{what} has no `fitness`{keys}", LINE_CHARS_MAX))
    try:
        return finite(answer["fitness"], "fitness"), finite_metrics(answer.get("metrics", {}))
    except ValueError as error:
        raise InvalidAnswer(clean(f"{what}: {error}", LINE_CHARS_MAX)) from None


def with_ignored_keys(log: bytes, answer: object, what: str) -> bytes:
    """The log of a game, with a line for the keys of its answer that are ignored: a number there may be a metric."""
    ignored = [key for key in answer if key not in ("fitness", "metrics")] if isinstance(answer, dict) else []
    if not ignored:
        return log
    keys = clean(", ".join(map(str, ignored)), LINE_CHARS_MAX)
    line = f"\n{what}: only `fitness` and `metrics` are read, these keys are ignored: {keys}\n"
    return (log + line.encode("utf-8", "replace"))[-LOG_BYTES_MAX:]


def finite_metrics(metrics: object) -> dict[str, float]:
    """An evaluator's metrics, validated for the record.

    Raises:
        ValueError: not a mapping of at most `METRICS_MAX` short names to finite numbers.
    """
    if not isinstance(metrics, dict) or len(metrics) > METRICS_MAX:
        raise ValueError(f"metrics must be an object of at most {METRICS_MAX} numbers")
    for name, value in metrics.items():
        if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
            raise ValueError(f"metric name {name!r:.80} is not 1 to 64 printable characters")
        finite(value, f"metric {name}")
    return {name: float(value) for name, value in metrics.items()}


def finite(value: object, what: str) -> float:
    """`value` as a float within `VALUE_MAX`. Raises ValueError for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, not {number}")
    if abs(number) > VALUE_MAX:
        raise ValueError(f"{what} must be at most {VALUE_MAX:g} of either sign, not {number:g}")
    return number
