"""What a run of the demo came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ops.demo.compare import Verdict
from ops.demo.plan import EXPERIMENT, SPECS_FILE, Item

_NAMED: Final = 10
"""How many wrong events are named."""


@dataclass(frozen=True)
class Summary:
    """Counts of events, but `dead` of dead letters; seconds from the start of the command."""

    run: str
    sent: int
    landed: int
    duplicates: int
    dead: int
    internal: int
    seconds_to_first_queryable: float | None
    seconds: float
    per_arm: Mapping[str, int]
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    wrong_arm: list[str] = field(default_factory=list)
    dead_reasons: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether everything that was sent landed exactly once and nothing went wrong on the way."""
        wrong = self.missing or self.doubled or self.strange or self.wrong_arm or self.trouble
        return self.sent == self.landed and not wrong

    def as_json(self) -> dict[str, Any]:
        """Return the summary for machines."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return result | {"exact": self.is_exact}


def groups() -> dict[str, str]:
    """Return the group name of each rule of the demo's experiment."""
    specs = msgspec.json.decode(SPECS_FILE.read_bytes())
    [experiment] = [spec for spec in specs["dynamic_configs"] if spec["name"] == EXPERIMENT]
    return {rule["id"]: rule["groupName"] for rule in experiment["rules"]}


def per_arm(verdict: Verdict) -> dict[str, int]:
    """Return how many units landed in each group; a rule that is in no group keeps its own name."""
    names = groups()
    counts = dict.fromkeys(names.values(), 0)
    for rule_id, count in sorted(verdict.per_rule.items()):
        name = names.get(rule_id, rule_id)
        counts[name] = counts.get(name, 0) + count
    return counts


def named(items: list[Item]) -> list[str]:
    """Return the first few of the items, each as one line."""
    return [" ".join(filter(None, item)) for item in items[:_NAMED]]
