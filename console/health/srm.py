"""Sample ratio mismatch of one config version: both tests, and what they mean together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from console.health import chi_squared
from console.health.chi_squared import ChiSquared
from console.health.lights import GREEN, RED, UNKNOWN, YELLOW, Light, percent
from console.health.plan import Plan
from console.health.sequential import Look, boundary, looks

UNITS_MIN: Final = 100
"""Below so many units only what is red is said."""

_P_RED: Final = 0.001
_P_YELLOW: Final = 0.01
_DEVIATION_RED: Final = 0.001
_ALWAYS_YELLOW: Final = 2.0
"""log10 of the e-value at which the test that may be looked at any time turns yellow: p = 0.01."""


@dataclass(frozen=True)
class Split:
    """The units of one config version, or of a segment of them: (moment, units of each group that came)."""

    plan: Plan
    course: Sequence[tuple[int, Mapping[str, int]]]

    def counts(self) -> dict[str, int]:
        """Return the units of each group, those of the plan first."""
        total = dict.fromkeys(self.plan.shares, 0)
        for _, came in self.course:
            for group, units in came.items():
                total[group] = total.get(group, 0) + units
        return total


@dataclass(frozen=True)
class Verdict:
    """What the tests say of a split; `boundary` is the e-value at which it is red."""

    light: Light
    why: str
    counts: dict[str, int]
    units: int
    path: list[Look]
    boundary: float
    chi_squared: ChiSquared | None
    deviation: float
    """The largest relative difference of a planned group from what is expected."""


def judge(split: Split, position: int, segments: int = 0, *, where: str = "") -> Verdict:
    """Test a split; `position` and `segments` are those of `sequential.boundary`, `where` is put into the sentence.

    Units in a group that the plan does not have are not part of the test.
    """
    counts = split.counts()
    groups = list(split.plan.shares)
    shares = list(split.plan.shares.values())
    at = boundary(position, segments)
    if not groups:
        return Verdict(UNKNOWN, split.plan.why_not, counts, sum(counts.values()), [], at, None, 0.0)
    path = looks(shares, list(_cumulated(split, groups)))
    planned = [counts[group] for group in groups]
    units = sum(planned)
    test = chi_squared.fit(planned, shares)
    worst, deviation = _worst(planned, shares, groups)
    light = _light(path, at, units, test, deviation)
    return Verdict(light, _why(light, units, worst, deviation, where), counts, units, path, at, test, abs(deviation))


def chi_squared_light(test: ChiSquared | None, deviation: float) -> Light:
    """Return the light that the hosted product shows: yellow below p = 0.01, red below 0.001 if off by 0.1 %."""
    if test is None:
        return UNKNOWN
    if test.p < _P_RED and deviation >= _DEVIATION_RED:
        return RED
    return YELLOW if test.p < _P_YELLOW else GREEN


def _cumulated(split: Split, groups: Sequence[str]) -> list[tuple[int, list[int]]]:
    so_far = dict.fromkeys(groups, 0)
    course = []
    for at_ms, came in split.course:
        for group, units in came.items():
            if group in so_far:
                so_far[group] += units
        course.append((at_ms, list(so_far.values())))
    return course


def _worst(counts: Sequence[int], shares: Sequence[float], groups: Sequence[str]) -> tuple[str, float]:
    """Return the group that is off most by what chance would do to it, and its relative deviation."""
    total = sum(counts)
    if not total:
        return groups[0], 0.0
    expected = [total * share for share in shares]
    number = max(range(len(groups)), key=lambda each: (counts[each] - expected[each]) ** 2 / expected[each])
    return groups[number], (counts[number] - expected[number]) / expected[number]


def _light(path: Sequence[Look], at: float, units: int, test: ChiSquared | None, deviation: float) -> Light:
    # What the hosted test says is shown; alone it makes nothing red here, since it is looked at all the time.
    if path and 10 ** min(path[-1].log10_e_max, 300) >= at:
        return RED
    if units < UNITS_MIN:
        return UNKNOWN
    if path[-1].log10_e_max >= _ALWAYS_YELLOW or chi_squared_light(test, abs(deviation)) == RED:
        return YELLOW
    return GREEN


def _why(light: Light, units: int, worst: str, deviation: float, where: str) -> str:
    said = f"{where}{worst or 'a group'} has {percent(abs(deviation))} {'fewer' if deviation < 0 else 'more'} units"
    if light == RED:
        return f"{said} than planned: units are not split as they should be."
    if light == YELLOW:
        return f"{said} than planned. That may still be chance: wait for more units before you trust results."
    if light == UNKNOWN:
        return f"{units} units are too few to tell; at {UNITS_MIN} it is said."
    return f"The split of {units:,} units is as planned."
