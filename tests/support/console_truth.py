"""What the console's store holds in the tests, known beforehand."""

from collections import defaultdict
from typing import Any

UNITS = 300
HOSTILE_NAME = "<img src=x onerror=alert(1)>'\"; DROP TABLE exposures; --\u202e\u0000☃"


def truth() -> list[dict[str, Any]]:
    """Return the exposures: a three-arm experiment, a gate, a layer, and a name nobody wants."""
    fields: list[dict[str, Any]] = []
    for number in range(UNITS):
        unit = f"u{number:04d}"
        group = ("Blue", "Control", "Green")[number % 3]
        shared = {"unit_id": unit, "tier": "staging" if number % 10 == 0 else "production"}
        fields.append({"name": "checkout", "group_name": group, "rule_id": group.lower(), **shared})
        passed = str(number % 4 != 0).lower()
        fields.append({"name": "search", "kind": "gate", "group_name": "", "value": passed, **shared})
    fields += [{"name": "checkout", "unit_id": "u0000", "group_name": "Green", "rule_id": "green"}]  # in two arms
    fields += [{"name": "prices", "kind": "layer", "unit_id": "u1", "allocated_experiment": "price_test"}]
    fields += [{"name": HOSTILE_NAME, "unit_id": HOSTILE_NAME, "group_name": HOSTILE_NAME}]
    return [{**each, "origin_offset": offset} for offset, each in enumerate(fields)]


def arms(name: str, arm: str = "group_name", **only: str) -> dict[str, tuple[int, int]]:
    """Return (units, exposures) of each arm of an entity, counted from the truth."""
    units: dict[str, set[str]] = defaultdict(set)
    exposures: dict[str, int] = defaultdict(int)
    for each in truth():
        if each["name"] == name and all(each.get(field) == value for field, value in only.items()):
            units[each[arm]].add(each["unit_id"])
            exposures[each[arm]] += 1
    return {found: (len(units[found]), exposures[found]) for found in units}
