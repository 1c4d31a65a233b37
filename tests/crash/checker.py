"""The verdict on what landed: lost, doubled, reordered within a unit, phantom. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crash.workload import ARMS, POISON_AT_WORKER, Expected, Run

Place = tuple[int, int, int, int]
"""Where the log has an event: log, partition, offset, index."""


class LandedRow(NamedTuple):
    """One row of a landing table, by what it says of itself. `arm` is "" for a custom event."""

    number: int
    arm: str
    user_id: str
    origin: Place


@dataclass
class Verdict:
    """What is wrong, by event number; nothing is, when all four are empty."""

    lost: list[int] = field(default_factory=list)
    """Acknowledged, and nowhere: neither landed nor, where it never can, among the dead letters."""
    doubled: list[int] = field(default_factory=list)
    """Landed more than once, or dead under more than one origin of the log."""
    reordered: list[int] = field(default_factory=list)
    """Sent after another event of the unit had been acknowledged, and standing before it in the log."""
    phantom: list[int] = field(default_factory=list)
    """Never sent, or not as it landed; or dead, though nothing is wrong with it."""
    arms: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Exposures of each arm: acknowledged, and landed."""
    landed: int = 0
    dead: int = 0
    unanswered: int = 0
    """Events that were sent and never acknowledged; they may have landed or not."""

    @property
    def is_green(self) -> bool:
        """Whether nothing is wrong."""
        exact = self.unanswered or all(expected == landed for expected, landed in self.arms.values())
        return bool(exact) and not (self.lost or self.doubled or self.reordered or self.phantom)

    def __str__(self) -> str:
        """Say it in one line, with some numbers of each kind."""
        kinds = {name: getattr(self, name) for name in ("lost", "doubled", "reordered", "phantom")}
        told = ", ".join(f"{len(found)} {name}{f' {found[:5]}' if found else ''}" for name, found in kinds.items())
        return f"{told}; arms {self.arms}; {self.landed} landed, {self.dead} dead, {self.unanswered} unanswered"


def judge(run: Run, expected: Expected, rows: Iterable[LandedRow], dead: Iterable[int]) -> Verdict:
    """Judge one workload by its ledger, all of its rows, and its dead letters: a number for each origin.

    The gateway knows no copies: each that it refuses is dead under an origin of its own.
    """
    found = list(rows)
    times = Counter(row.number for row in found)
    buried = Counter(dead)
    verdict = Verdict(landed=len(times), dead=len(buried))
    for number in expected.acked_at:
        if number not in (buried if run.poison_of(number) else times):
            verdict.lost.append(number)
    verdict.doubled = sorted(
        {number for number, count in times.items() if count > 1}
        | {n for n, count in buried.items() if count > 1 and run.poison_of(n) == POISON_AT_WORKER}
    )
    verdict.phantom = sorted(
        {row.number for row in found if not _is_as_sent(run, expected, row)}
        | {number for number in buried if number not in expected.times_sent or not run.poison_of(number)}
    )
    verdict.reordered = sorted(_reordered(expected, found))
    acked = Counter(run.arm_of(number) for number in expected.acked_at if not run.poison_of(number))
    landed = Counter(row.arm for row in found)
    verdict.arms = {arm: (acked[arm], landed[arm]) for arm in ARMS}
    verdict.unanswered = len(expected.times_sent.keys() - expected.acked_at.keys())
    return verdict


def _is_as_sent(run: Run, expected: Expected, row: LandedRow) -> bool:
    number = row.number
    return (
        number in expected.times_sent
        and not run.poison_of(number)
        and row.arm == expected.arms[number]
        and row.user_id == f"{run.name}-u{expected.units[number]}"
    )


def _reordered(expected: Expected, rows: Sequence[LandedRow]) -> Iterable[int]:
    """Yield events that stand before one that was acknowledged before they were first sent."""
    by_unit: dict[str, dict[int, Place]] = defaultdict(dict)
    for row in rows:
        places = by_unit[row.user_id]
        places[row.number] = min(row.origin, places.get(row.number, row.origin))
    for places in by_unit.values():
        sent = sorted((n for n in places if n in expected.sent_at), key=expected.sent_at.__getitem__)
        acked = sorted((n for n in places if n in expected.acked_at), key=expected.acked_at.__getitem__)
        settled, highest = 0, None
        for number in sent:
            while settled < len(acked) and expected.acked_at[acked[settled]] < expected.sent_at[number]:
                place = places[acked[settled]]
                highest = place if highest is None else max(highest, place)
                settled += 1
            if highest is not None and places[number] < highest:
                yield number


def returns_s(answers: Iterable[tuple[float, float]], outages: Iterable[tuple[float, float]]) -> list[float]:
    """Return how long after each start of the broker the first request sent since was answered with 202."""
    told = sorted(answered for _, answered in answers)
    return [next((answered - up for answered in told if answered > up), float("inf")) for _, up in outages]


def lies(answers: Iterable[tuple[float, float]], outages: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the 202s to requests that were sent and answered while there was no broker."""
    told = list(answers)
    return [(sent, answered) for down, up in outages for sent, answered in told if down < sent and answered < up]
