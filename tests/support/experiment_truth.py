"""Exposures of experiments whose numbers are known beforehand: a generator that keeps its own books."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from support.exposures import exposure

Json = dict[str, Any]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NAME = "price_test"
LAYER = "pricing"
ARMS = {"6": {"A": 0.5, "B": 0.5}, "7": {"A": 0.4, "B": 0.4, "C": 0.2}}
"""The plan by version."""


def document(version: str, time_ms: int) -> Json:
    """Return a document in which the experiment has this version: its groups, a holdout and a targeting rule."""
    bound, groups = 0, []
    for arm, share in ARMS[version].items():
        bound += round(1000 * share)
        asks = _condition("user_bucket", operator="lt", targetValue=bound, additionalValues={"salt": "s"})
        groups.append(_rule(arm, asks) | {"isExperimentGroup": True})
    held = _rule("Held", _condition("pass_gate", targetValue="holdout"))
    germans = _rule("Germans", _condition("user_field", operator="any", targetValue=["DE"], field="country"))
    spec = {
        "name": NAME,
        "type": "dynamic_config",
        "salt": "salt",
        "enabled": True,
        "defaultValue": {},
        "idType": "userID",
        "entity": "experiment",
        "version": int(version),
        "rules": [held, germans, *groups],
    }
    return {
        "has_updates": True,
        "time": time_ms,
        "feature_gates": [],
        "dynamic_configs": [spec],
        "layer_configs": [],
        "layers": {},
        "id_lists": {},
    }


def _rule(name: str, condition: Json) -> Json:
    return {
        "name": name,
        "id": f"rule_{name}",
        "salt": "salt",
        "passPercentage": 100,
        "returnValue": {},
        "groupName": name,
        "idType": "userID",
        "conditions": [condition],
    }


def _condition(kind: str, **more: Any) -> Json:
    return {"type": kind, "operator": None, "targetValue": None, "field": None, "idType": "userID"} | more


@dataclass
class Books:
    """What was generated, and what must come out of it."""

    seed: int
    begins_ms: int
    rows: list[Json] = field(default_factory=list)
    counted: list[Json] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def version_time_ms(self, version: str) -> int:
        """Return the time of the document of a version."""
        return self.begins_ms - DAY_MS + (int(version) - 6) * 3 * DAY_MS

    def expose(self, unit: str, arm: str, day: int, *, counts: bool = True, why: str = "", **fields: Any) -> None:
        """Generate an exposure that is received at some moment of a day; `why` names what excludes it."""
        version = fields.pop("version", "6" if day < 2 else "7")
        received_ms = fields.pop("received_at", self.begins_ms + day * DAY_MS + self.rng.randrange(DAY_MS))
        late_ms = fields.pop("lateness_ms", self.rng.choice((5, 900, 61_000)))
        row = {
            "name": NAME,
            "unit_id": unit,
            "group_name": arm,
            "rule_id": f"rule_{arm}",
            "config_version": version,
            "config_time": self.version_time_ms(version),
            "received_at": received_ms,
            "corrected_time": received_ms - late_ms,
            "lateness_ms": late_ms,
            "sdk_version": "1.0",
            "origin_offset": len(self.rows),
            **fields,
        }
        self.rows.append(exposure(**row))
        if counts:
            self.counted.append(self.rows[-1])
        else:
            self.excluded[why] += 1

    def fill(self, units: int = 1_500, days: int = 4) -> "Books":
        """Generate units that come back, cross over, arrive late or through the layer, and much that does not count."""
        for number in range(units):
            unit, first_day = f"u{number:06d}", self.rng.randrange(days)
            bucket = self.rng.random()
            for day in range(first_day, days):
                plan = ARMS["6" if day < 2 else "7"]
                arm = next(arm for arm in plan if bucket < sum(list(plan.values())[: list(plan).index(arm) + 1]) + 1e-9)
                for _ in range(self.rng.randrange(3) if day > first_day else 1 + self.rng.randrange(2)):
                    self.expose(unit, arm, day, **self._flavour(unit))
                if self.rng.random() < 0.03:
                    self.expose(unit, self.rng.choice(list(plan)), day, **self._flavour(unit))
        for number in range(units // 5):
            self._expose_what_does_not_count(f"u{number:06d}", self.rng.randrange(days))
        return self

    def _flavour(self, unit: str) -> Json:
        flavour: Json = {"country": "CA" if int(unit[1:]) % 3 else "FR"}
        if self.rng.random() < 0.2:
            flavour |= {"kind": "layer", "name": LAYER, "allocated_experiment": NAME}
        if self.rng.random() < 0.05:
            flavour |= {"lateness_ms": self.rng.randrange(2, 40) * HOUR_MS}
        if self.rng.random() < 0.02:
            flavour |= {"config_match": "stale"}
        if self.rng.random() < 0.02:
            flavour |= {"assignment": "mismatch"}
        if self.rng.random() < 0.05:
            flavour |= {"is_bot": True}
        return flavour

    def _expose_what_does_not_count(self, unit: str, day: int) -> None:
        for why, fields in (
            ("non_production", {"tier": "staging"}),
            ("manual", {"is_manual": True}),
            ("override", {"rule_id": "rule_B:override"}),
            ("override", {"reason": "LocalOverride:Recognized"}),
            ("rule_default", {"rule_id": "default", "group_name": ""}),
            ("rule_prestart", {"rule_id": "prestart", "group_name": ""}),
            ("rule_disabled", {"rule_id": "disabled", "group_name": ""}),
            ("rule_layer_assignment", {"rule_id": "layerAssignment", "group_name": ""}),
            ("holdout", {"rule_id": "rule_Held", "group_name": "Held"}),
            ("not_by_chance", {"rule_id": "rule_Germans", "group_name": "Germans"}),
        ):
            self.expose(unit, "B", day, counts=False, why=why, **fields)
        self.expose("", "A", day, counts=False, why="no_unit")

    # --- what must come out --------------------------------------------------------------------

    def firsts(self) -> dict[tuple[str, str], Json]:
        """Return the first exposure of each (version, unit): of the day on which it was first received, by time."""
        first: dict[tuple[str, str], Json] = {}
        for row in sorted(self.counted, key=_order):
            first.setdefault((row["config_version"], row["unit_id"]), row)
        return first

    def newcomers(self) -> dict[str, Json]:
        """Return the first exposure of each unit in any version."""
        first: dict[str, Json] = {}
        for row in sorted(self.counted, key=_order):
            first.setdefault(row["unit_id"], row)
        return first

    def units_of_version(self) -> dict[str, Counter[str]]:
        """Return the units of each group by version."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for (version, _), row in self.firsts().items():
            found[version][row["group_name"]] += 1
        return dict(found)

    def crossed(self) -> int:
        """Return how many (version, unit) were in several groups."""
        groups: dict[tuple[str, str], set[str]] = defaultdict(set)
        for row in self.counted:
            groups[row["config_version"], row["unit_id"]].add(row["group_name"])
        return sum(len(each) > 1 for each in groups.values())


def _order(row: Json) -> tuple[int, int, int, int]:
    # A clock of the sender's that is ahead of ours says nothing.
    happened_ms = min(row["corrected_time"], row["received_at"])
    return row["received_at"] // DAY_MS, happened_ms, row["received_at"], row["origin_offset"]
