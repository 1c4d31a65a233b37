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


def boundary(position: int, alpha: float = ALPHA) -> float:
    """Return the e-value at which the test in this place (from 1) of an experiment is red.

    An experiment is tested anew for each config version, and nobody knows how many there will be. The test in
    place j may spend α / (j·(j + 1)); over all places that adds up to α.
    """
    return position * (position + 1) / alpha


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
