"""Pearson's chi-squared tests: of counts against planned shares, and of independence. Pure.

They are right for one look at a time that was fixed before; who looks at every hour and stops at the first small
p is wrong more often than p says. `sequential` has the test for that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_STEPS: Final = 1000
_EPSILON: Final = 1e-15

EXPECTED_MIN: Final = 5.0
"""Below so many expected in a cell the approximation by chi-squared is not used (Cochran, 1954)."""


@dataclass(frozen=True)
class ChiSquared:
    """The statistic, its degrees of freedom, and how often chance alone gives one as large."""

    statistic: float
    degrees: int
    p: float


def survival(statistic: float, degrees: int) -> float:
    """Return the chance of a chi-squared variable to be `statistic` or more.

    The regularised upper incomplete gamma function Q(degrees/2, statistic/2), by its series below a + 1 and by its
    continued fraction above (NIST Digital Library of Mathematical Functions, 8.11.4 and 8.9.2).
    """
    a, x = degrees / 2, statistic / 2
    if x <= 0:
        return 1.0
    log_scale = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, _STEPS):
            term *= x / (a + n)
            total += term
            if term < total * _EPSILON:
                break
        return max(0.0, 1 - total * math.exp(log_scale))
    return min(1.0, math.exp(log_scale) * _fraction(a, x))


def _fraction(a: float, x: float) -> float:
    """Return the continued fraction of Γ(a, x) by Lentz's method."""
    b = x + 1 - a
    c, d = 1e300, 1 / b
    result = d
    for n in range(1, _STEPS):
        step = -n * (n - a)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        result *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return result


def fit(counts: Sequence[int], plan: Sequence[float]) -> ChiSquared | None:
    """Test counts against planned shares; None where too few are expected in a group."""
    total = sum(counts)
    expected = [total * share for share in plan]
    if min(expected) < EXPECTED_MIN:
        return None
    statistic = sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))
    return ChiSquared(statistic, len(counts) - 1, survival(statistic, len(counts) - 1))


def independence(hits: Sequence[int], totals: Sequence[int]) -> ChiSquared | None:
    """Test whether a rate is the same in every group: `hits` of `totals`; None where too few are expected.

    Groups in which there was nothing are left out.
    """
    pairs = [(hit, total) for hit, total in zip(hits, totals, strict=True) if total > 0]
    hit_all, total_all = sum(hit for hit, _ in pairs), sum(total for _, total in pairs)
    if len(pairs) < 2 or not 0 < hit_all < total_all:
        return None
    rate = hit_all / total_all
    if min(total for _, total in pairs) * min(rate, 1 - rate) < EXPECTED_MIN:
        return None
    statistic = sum((hit - total * rate) ** 2 / (total * rate * (1 - rate)) for hit, total in pairs)
    return ChiSquared(statistic, len(pairs) - 1, survival(statistic, len(pairs) - 1))
