"""Pearson's tests give what tables of chi-squared have."""

import math

import pytest

from console.health.chi_squared import fit, independence, survival


@pytest.mark.parametrize(
    ("statistic", "degrees", "p"),
    [
        (3.841, 1, 0.05),
        (6.635, 1, 0.01),
        (10.828, 1, 0.001),
        (5.991, 2, 0.05),
        (13.816, 2, 0.001),
        (29.588, 10, 0.001),
        (2.558, 10, 0.99),
        (149.449, 100, 0.001),
    ],
)
def test_critical_values_are_those_of_the_tables(statistic: float, degrees: int, p: float):
    assert survival(statistic, degrees) == pytest.approx(p, rel=1e-3)


def test_two_degrees_are_an_exponential():
    for statistic in (0.0, 0.1, 1.0, 4.0, 50.0, 600.0):
        assert survival(statistic, 2) == pytest.approx(math.exp(-statistic / 2), rel=1e-9)


def test_a_split_as_planned_fits_and_another_does_not():
    good = fit([5_000, 5_000], [0.5, 0.5])
    bad = fit([5_200, 4_800], [0.5, 0.5])
    assert good is not None
    assert good.p == 1
    assert bad is not None
    assert bad.statistic == pytest.approx(16)
    assert bad.p == pytest.approx(6.33e-5, rel=1e-2)


def test_where_too_few_are_expected_nothing_is_said():
    assert fit([9, 0], [0.5, 0.5]) is None
    assert fit([0, 0], [0.5, 0.5]) is None
    assert independence([1, 0], [100, 100]) is None
    assert independence([0, 0], [1_000, 1_000]) is None
    assert independence([10, 0], [1_000, 0]) is None


def test_a_rate_that_differs_between_groups_is_found():
    same = independence([100, 100], [10_000, 10_000])
    other = independence([100, 200], [10_000, 10_000])
    assert same is not None
    assert same.p == 1
    assert other is not None
    assert other.statistic == pytest.approx(33.84, rel=1e-3)
    assert other.p < 1e-8
