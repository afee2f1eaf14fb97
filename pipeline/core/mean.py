"""The mean of numbers as people read them: in decimal. Pure.

The sum of binary numbers shows what no value had, such as 0.44250000000000006 as the mean of 0.44, 0.4425 and 0.445.
"""

from collections.abc import Sequence
from decimal import Context, Decimal

#: Digits of a sum. A float has at most 17, so that rounding a sum to 40 does not change the mean.
_EXACT = Context(prec=40)


def mean(values: Sequence[float]) -> float:
    """The float nearest to the mean of the values' shortest decimal forms; the sum may exceed what a float can hold."""
    if len(values) == 1:
        return values[0] + 0.0  # not -0.0, as the sum of several is not
    total = Decimal()
    for value in values:
        total = _EXACT.add(total, Decimal(repr(value)))
    return float(_EXACT.divide(total, Decimal(len(values))))
