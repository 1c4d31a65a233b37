"""A test of the split that may be looked at after every unit, for as long as anybody likes. Pure.

Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022, arXiv:2011.03567):
units come one by one, and under the null hypothesis each falls into group i with the planned share p_i.
For counts c (n in all) and a Dirichlet prior with the parameters k·p, the Bayes factor against the plan is

    E = Γ(k) / Γ(k + n) · ∏ Γ(k·p_i + c_i) / Γ(k·p_i) / ∏ p_i^c_i

Under the plan it is a martingale that begins at 1, after each unit, whatever the order of looking. By Ville's
inequality the chance that it is ever 1/α or more is at most α. So its running maximum decides, no look
costs anything, and 1/maximum is a p-value at all times (the paper's equation for sequential p-values).

Prior: a mixture of two such priors is one too (a mean of martingales is a martingale). k is how many units the
prior weighs: a share p_i varies by about √(p_i(1 − p_i)/k) under it. k = 300 finds what is grossly wrong after some
hundreds of units; k = 30,000 looks for a percent or two, and has most of the weight, since that is
what nobody sees with the naked eye. Measured in tests/unit/console/test_health_sequential.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ALPHA: Final = 0.001
"""Of the experiments in which nothing is wrong, at most so many are ever called red."""

PRIOR: Final = ((300.0, 0.15), (30_000.0, 0.85))
"""Concentration k (in units) and weight of each Dirichlet of the mixture."""


_OF_THE_WHOLE: Final = 0.8
"""What part of α the tests of all units spend; those of segments spend the rest."""


def boundary(position: int, segments: int = 0) -> float:
    """Return the e-value at which a test of an experiment is red.

    An experiment is tested anew for each config version, and in each segment (an SDK, a country), and nobody knows how
    many there will be. By the union bound all of them together are wrong with a chance of at most α:
    the tests in place j of the versions spend α·w / (j·(j + 1)), which over all places adds up to α·w, w being 0.8
    for all units and 0.2 for segments. Where m segments are tested, each of them spends a part of
    1 / (2·m·(1 + ln m)²): the one that came r-th was never compared with less than that for m = r, and
    over all r these add up to no more than 1 (the first is 1/2, the others less than ∫₁ dr / (2·r·(1 + ln r)²) = 1/2).
    """
    places = position * (position + 1)
    if not segments:
        return places / (ALPHA * _OF_THE_WHOLE)
    return places * 2 * segments * (1 + math.log(segments)) ** 2 / (ALPHA * (1 - _OF_THE_WHOLE))


class SplitTest:
    """The e-value of counts against planned shares, which are positive and add up to 1. Raises ValueError."""

    def __init__(self, plan: Sequence[float]) -> None:
        if len(plan) < 2 or min(plan) <= 0 or not math.isclose(sum(plan), 1.0, abs_tol=1e-9):
            raise ValueError(f"the planned shares {plan!r} are not positive, or do not add up to 1")
        self._log_plan = [math.log(share) for share in plan]
        self._parts = [
            (
                k,
                [k * share for share in plan],
                math.log(weight) + math.lgamma(k) - sum(math.lgamma(k * share) for share in plan),
            )
            for k, weight in PRIOR
        ]

    def log_e(self, counts: Sequence[int]) -> float:
        """Return the natural logarithm of the e-value; counts are of units, in the order of the plan.

        In logarithms, where neither 100 M units nor a share of 0.1 % overflow: the error of `lgamma` there
        is below 1e-6.
        """
        total = sum(counts)
        against = sum(count * log_share for count, log_share in zip(counts, self._log_plan, strict=True))
        logs = [
            constant
            - math.lgamma(k + total)
            + sum(math.lgamma(a + count) for a, count in zip(alphas, counts, strict=True))
            - against
            for k, alphas, constant in self._parts
        ]
        largest = max(logs)
        return largest + math.log(sum(math.exp(each - largest) for each in logs))


@dataclass(frozen=True)
class Look:
    """The state of the test at one of its looks; logarithms are to the base 10."""

    at_ms: int
    units: int
    log10_e: float
    log10_e_max: float


def looks(plan: Sequence[float], course: Sequence[tuple[int, Sequence[int]]]) -> list[Look]:
    """Follow the test along `course`: (moment, counts so far), in order. The running maximum begins at e = 1."""
    test = SplitTest(plan)
    path: list[Look] = []
    largest = 0.0
    for at_ms, counts in course:
        log10_e = test.log_e(counts) / math.log(10)
        largest = max(largest, log10_e)
        path.append(Look(at_ms, sum(counts), log10_e, largest))
    return path
