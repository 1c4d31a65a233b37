"""The always-valid test of the split: seldom wrong however often one looks, and soon right."""

import math
import random

import numpy as np
import pytest

from console.health.sequential import ALPHA, PRIOR, SplitTest, boundary, looks

SEED = 20_261_122

EQUAL = (1 / 3, 1 / 3, 1 / 3)


def _rising(start: float, units: int) -> np.ndarray:
    """Return log Γ(start + n) − log Γ(start) for n = 0 … units, for which a million calls of `lgamma` take long."""
    return np.concatenate([[0.0], np.log(start + np.arange(units)).cumsum()])


def _log10_e(plan: tuple[float, ...], counts: np.ndarray) -> np.ndarray:
    """Return what `SplitTest` does, for many counts at once."""
    total = counts.sum(axis=-1)
    logs = [
        math.log(weight)
        - _rising(k, total.max())[total]
        + sum(_rising(k * share, counts[..., arm].max())[counts[..., arm]] for arm, share in enumerate(plan))
        for k, weight in PRIOR
    ]
    return (np.logaddexp.reduce(logs) - (counts * np.log(plan)).sum(axis=-1)) / math.log(10)


def _maxima(plan: tuple[float, ...], shares: tuple[float, ...], units: int, at: int, experiments: int) -> np.ndarray:
    """Simulate experiments looked at `at` times; return the largest log10 e of each until each look."""
    print(f"seed {SEED}")
    counts = np.random.default_rng(SEED).multinomial(units // at, shares, size=(experiments, at)).cumsum(axis=1)
    return np.maximum.accumulate(_log10_e(plan, counts), axis=1)


def test_what_the_simulations_reckon_is_what_the_console_does():
    counts = np.random.default_rng(SEED).multinomial(3_000, (0.9, 0.1), size=(1, 50)).cumsum(axis=1)
    path = looks((0.9, 0.1), [(n, each) for n, each in enumerate(counts[0].tolist())])
    assert [look.log10_e for look in path] == pytest.approx(_log10_e((0.9, 0.1), counts)[0], abs=1e-6)
    running = np.maximum(0, np.maximum.accumulate(_log10_e((0.9, 0.1), counts)[0]))
    assert [look.log10_e_max for look in path] == pytest.approx(running, abs=1e-6)


def test_of_a_thousand_clean_experiments_looked_at_a_thousand_times_each_at_most_four_are_red():
    largest = _maxima(EQUAL, EQUAL, units=500_000, at=1_000, experiments=1_000)[:, -1]
    # Against 1/α itself, which is less than any boundary that the console uses.
    assert (largest >= -math.log10(ALPHA)).sum() <= 4


@pytest.mark.parametrize("plan", [(0.9, 0.1), (0.98, 0.01, 0.01), (0.5, 0.5)])
def test_clean_experiments_with_any_allocation_are_hardly_ever_red(plan: tuple[float, ...]):
    largest = _maxima(plan, plan, units=100_000, at=250, experiments=500)[:, -1]
    assert (largest >= -math.log10(ALPHA)).sum() <= 2


def test_looking_after_every_single_unit_gives_no_more_false_alarms():
    largest = _maxima(EQUAL, EQUAL, units=500, at=500, experiments=300)[:, -1]
    assert (largest >= -math.log10(ALPHA)).sum() <= 2


def _losing(plan: tuple[float, ...], arm: int, lost: float) -> tuple[float, ...]:
    kept = [share * (1 - lost * (number == arm)) for number, share in enumerate(plan)]
    return tuple(share / sum(kept) for share in kept)


@pytest.mark.parametrize("arm", [0, 1, 2])
def test_an_arm_that_loses_a_fiftieth_of_its_units_is_red_after_half_a_million_first_exposures(arm: int):
    """Power at the boundary of an experiment's first config version: 97 % at least, half of them by 300,000 units."""
    largest = _maxima(EQUAL, _losing(EQUAL, arm, 0.02), units=500_000, at=100, experiments=400)
    red = largest >= math.log10(boundary(1))
    assert red[:, -1].mean() >= 0.97
    assert red[:, 59].mean() >= 0.5


@pytest.mark.parametrize(
    ("plan", "arm", "lost", "units"),
    [
        (EQUAL, 0, 0.5, 1_000),
        (EQUAL, 2, 0.1, 25_000),
        ((0.9, 0.1), 1, 0.1, 60_000),
        ((0.9, 0.1), 0, 0.02, 1_000_000),
        ((0.98, 0.01, 0.01), 1, 0.2, 200_000),
    ],
)
def test_a_greater_loss_is_red_sooner(plan: tuple[float, ...], arm: int, lost: float, units: int):
    largest = _maxima(plan, _losing(plan, arm, lost), units=units, at=50, experiments=200)
    assert (largest[:, -1] >= math.log10(boundary(1))).mean() >= 0.95


def test_one_unit_more_keeps_the_mean_under_the_plan():
    """The law that everything rests on: E is a martingale, so its mean over the next unit is what it is now."""
    rng = random.Random(SEED)
    for plan in (EQUAL, (0.9, 0.1), (0.98, 0.01, 0.01)):
        test = SplitTest(plan)
        counts = [rng.randrange(1, 5_000) for _ in plan]
        now = test.log_e(counts)
        after = [
            share * math.exp(test.log_e([*counts[:arm], counts[arm] + 1, *counts[arm + 1 :]]) - now)
            for arm, share in enumerate(plan)
        ]
        assert sum(after) == pytest.approx(1, abs=1e-9)


def test_nothing_seen_is_no_evidence():
    assert SplitTest(EQUAL).log_e([0, 0, 0]) == pytest.approx(0, abs=1e-9)


def test_it_is_exact_where_it_can_be_reckoned_by_hand():
    """One unit of the first group: the factor is (k·p)/k / p = 1, whatever k."""
    assert SplitTest((0.9, 0.1)).log_e([1, 0]) == pytest.approx(0, abs=1e-9)
    expected = sum(weight * (k * 0.1 + 1) / (k + 1) / 0.1 for k, weight in PRIOR)
    assert SplitTest((0.9, 0.1)).log_e([0, 2]) == pytest.approx(math.log(expected), abs=1e-9)


def test_it_is_stable_at_a_hundred_million_units():
    """As the plan has it there is evidence for the plan; the normal approximation says how much."""
    each = 100_000_000 // 3
    test = SplitTest(EQUAL)
    k, weight = PRIOR[-1]
    expected = math.log(weight) + math.log(k / (k + 3 * each))
    assert test.log_e([each, each, each]) == pytest.approx(expected, abs=0.01)
    shifted = test.log_e([each + 30_000, each - 30_000, each])
    assert shifted == pytest.approx(expected + 0.5 * (2 * 30_000**2 / each) * 3 * each / (3 * each + k), abs=0.05)
    assert math.isfinite(test.log_e([3 * each, 0, 0]))


def test_the_boundaries_of_all_versions_and_segments_together_spend_no_more_than_alpha():
    versions = sum(1 / boundary(position) for position in range(1, 10_000))
    # Segments come one after another: the r-th is never compared with less than the boundary for r of them.
    segments = sum(1 / boundary(1, count) for count in range(1, 100_000)) * sum(
        boundary(1, 1) / boundary(position, 1) for position in range(1, 10_000)
    )
    assert versions + segments <= ALPHA
    assert versions == pytest.approx(0.8 * ALPHA, rel=1e-3)


@pytest.mark.parametrize("plan", [(), (1.0,), (0.5, 0.4), (1.0, 0.0), (1.5, -0.5)])
def test_what_is_no_plan_is_refused(plan: tuple[float, ...]):
    with pytest.raises(ValueError, match="planned shares"):
        SplitTest(plan)
