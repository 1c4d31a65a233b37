"""Logged against landed, event by event."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ops.demo.plan import EXPERIMENT, Item


@dataclass(frozen=True)
class Row:
    """One landed row of a run: which event it is, whose it is, and the rule it says was used."""

    item: Item
    user_id: str
    rule_id: str = ""


@dataclass
class Verdict:
    """What became of the logged events. Counts are of events, lists are of those that are wrong."""

    sent: int = 0
    landed: int = 0
    per_rule: Counter[str] = field(default_factory=Counter)
    missing: list[Item] = field(default_factory=list)
    doubled: list[Item] = field(default_factory=list)
    strange: list[Item] = field(default_factory=list)
    wrong_arm: list[Item] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether every logged event landed once, in the arm the SDK chose, and nothing else did."""
        return not (self.missing or self.doubled or self.strange or self.wrong_arm)

    def add(self, other: "Verdict") -> None:
        """Count another part of the same run in."""
        self.sent += other.sent
        self.landed += other.landed
        self.per_rule += other.per_rule
        self.missing += other.missing
        self.doubled += other.doubled
        self.strange += other.strange
        self.wrong_arm += other.wrong_arm


def compare(logged: Iterable[Item], arms: Mapping[str, str], rows: Iterable[Row]) -> Verdict:
    """Compare what was logged with what SQL found of it.

    `arms` is the rule that the SDK named for each unit of the demo's experiment. `landed` counts
    logged events with at least one row; rows of events that nobody logged are `strange`.
    """
    expected = Counter(logged)
    found: Counter[Item] = Counter()
    verdict = Verdict(sent=expected.total())
    for row in rows:
        found[row.item] += 1
        if row.item.name == EXPERIMENT and found[row.item] == 1:
            verdict.per_rule[row.rule_id] += 1
            if arms.get(row.item.unit, row.rule_id) != row.rule_id:
                verdict.wrong_arm.append(row.item)
    for item, times in expected.items():
        verdict.landed += min(times, found[item])
        if found[item] < times:
            verdict.missing.append(item)
        elif found[item] > times:
            verdict.doubled.append(item)
    verdict.strange = [item for item in found if item not in expected]
    return verdict
