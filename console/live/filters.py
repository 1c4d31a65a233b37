"""Which exposures a viewer wants."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

from console.answers import RefusedError
from console.live.decode import Exposure, Outcome

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "outcome": ("outcome",),
    "experiment": ("experiment",),
    "gate": ("gate",),
    "layer": ("layer",),
    "name": ("name", "allocated_experiment"),
    "kind": ("kind",),
    "environment": ("environment",),
    "project": ("project",),
    "tier": ("tier",),
    "group": ("group_name",),
    "rule": ("rule_id",),
    "value": ("value",),
    "unit": ("unit_id", "user_id", "stable_id", "canonical_id"),
    "sdk": ("sdk_type",),
    "config_match": ("config_match",),
    "reason": ("rejected_for",),
}
"""Name of a filter → the fields of an exposure it looks at; one that matches suffices."""

_PRODUCTION: Final = frozenset({"production", ""})
"""Tiers that are shown unless others are asked for; of what cannot be read no tier is known."""

_VALUES_MAX: Final = 50
_VALUE_CHARS_MAX: Final = 500


@dataclass(frozen=True)
class Filter:
    """All conditions must hold; of several values of one condition, one. Equal keys choose the same."""

    key: tuple[tuple[str, tuple[str, ...]], ...] = ()
    outcomes: frozenset[str] = frozenset(Outcome)
    conditions: tuple[tuple[tuple[str, ...], frozenset[str], Callable[[str], object] | None], ...] = ()

    def choose(self, exposures: Iterable[Exposure]) -> list[bytes]:
        """Return the frames of those that a viewer with this filter is shown."""
        return [each.frame for each in exposures if self.wants(each.fields)]

    def wants(self, exposure: Mapping[str, Any]) -> bool:
        """Whether a viewer with this filter is shown `exposure`."""
        for fields, values, matches in self.conditions:
            for field in fields:
                text = exposure[field]
                if text in values or (matches is not None and matches(text)):
                    break
            else:
                return False
        return True


def filter_from(parameters: Iterable[tuple[str, str]]) -> Filter:
    """Build a filter from the parameters of a request that name one; others are left alone.

    A value may stand several times or hold commas (any of them), and `*` and `?` stand for any
    text and any sign; letters count as written unless there is a `*`. Without a tier it is production's,
    `tier=*` is all. Raises RefusedError (400).
    """
    wanted: dict[str, set[str]] = {}
    for name, text in parameters:
        if name in FIELDS and text:
            wanted.setdefault(name, set()).update(part.strip() for part in text.split(",") if part.strip())
    if unknown := wanted.get("outcome", set()) - set(Outcome):
        message = f"There is no outcome {min(unknown)[:40]!r}."
        raise RefusedError(400, "unknown_outcome", message, f"There are {', '.join(Outcome)}.")
    conditions = []
    for name, values in wanted.items():
        if len(values) > _VALUES_MAX or any(len(value) > _VALUE_CHARS_MAX for value in values):
            raise RefusedError(
                400,
                "filter_too_long",
                f"The filter {name} has too many values.",
                f"Name {_VALUES_MAX} values of {_VALUE_CHARS_MAX} characters at the most, or use `*`.",
            )
        patterns = [value for value in values if "*" in value or "?" in value]
        matches = None
        if patterns:
            matches = re.compile("|".join(_pattern(value) for value in patterns), re.IGNORECASE).match
        conditions.append((FIELDS[name], frozenset(values.difference(patterns)), matches))
    if "tier" not in wanted:
        conditions.append((FIELDS["tier"], _PRODUCTION, None))
    key = tuple(sorted((name, tuple(sorted(values))) for name, values in wanted.items()))
    return Filter(key, frozenset(wanted.get("outcome", Outcome)), tuple(conditions))


def _pattern(value: str) -> str:
    # Brackets mean themselves: `fnmatch` would take them for a set.
    return translate(re.sub(r"\*+", "*", value).replace("[", "[[]"))
