"""The planned split of an experiment, as one version of its config has it. Pure.

Nothing is invented: where the groups are not made by one bucket condition each, on one salt, the plan is not known
and the answer says why.
"""

from dataclasses import dataclass
from typing import Any, Final

_BUCKETS: Final = 1000


@dataclass(frozen=True)
class Plan:
    """Groups and their shares of the units in the experiment, which add up to 1; or why they are not known."""

    shares: dict[str, float]
    why_not: str = ""


def unknown(why: str) -> Plan:
    """Return a plan that is not known."""
    return Plan({}, why)


def plan_of(spec: dict[str, Any]) -> Plan:
    """Read the split from the entity's JSON (dcs v1, as `config_versions.spec` has it).

    Groups are the rules with `isExperimentGroup`, or where no rule has it those that look at a bucket. Each takes the
    buckets below its bound that the one before has left; a unit's bucket is a hash of it, so that
    the buckets of a group over those of all groups are its share.
    """
    rules = [rule for rule in spec.get("rules", []) if isinstance(rule, dict)]
    groups = [rule for rule in rules if rule.get("isExperimentGroup")] or [rule for rule in rules if _bucket(rule)]
    if len(groups) < 2:
        return unknown("Its config has fewer than two groups that are split by chance.")
    widths: dict[str, int] = {}
    salts = set()
    below = 0
    for rule in groups:
        name = str(rule.get("groupName") or rule.get("id") or "")
        found = _bucket(rule)
        if found is None:
            return unknown(f"The group {name!r} is not chosen by one bucket condition.")
        if rule.get("passPercentage") != 100:
            return unknown(f"The group {name!r} passes {rule.get('passPercentage')} % and not all of its units.")
        salt, id_type, bound = found
        salts.add((salt, id_type))
        if not below <= bound <= _BUCKETS:
            return unknown(f"The bound {bound} of the group {name!r} is not above that of the group before it.")
        widths[name] = widths.get(name, 0) + bound - below
        below = bound
    if len(salts) > 1:
        return unknown("Its groups are split by different salts or kinds of unit.")
    taken = {name: width for name, width in widths.items() if width}
    if len(taken) < 2:
        return unknown("All of its units go to one group.")
    return Plan({name: width / below for name, width in taken.items()})


def _bucket(rule: dict[str, Any]) -> tuple[str, str, int] | None:
    """Return (salt, id type, bound) of a rule whose only condition is that the bucket is below a bound."""
    conditions = rule.get("conditions") or []
    if len(conditions) != 1 or not isinstance(conditions[0], dict):
        return None
    condition = conditions[0]
    bound = condition.get("targetValue")
    if str(condition.get("type", "")).lower() != "user_bucket" or condition.get("operator") not in ("lt", "lte"):
        return None
    if isinstance(bound, bool) or not isinstance(bound, int):
        return None
    more = condition.get("additionalValues") or {}
    if not isinstance(more, dict):
        return None
    return str(more.get("salt")), str(condition.get("idType") or ""), bound + (condition["operator"] == "lte")
