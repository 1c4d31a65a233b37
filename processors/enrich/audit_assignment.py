"""Whether the SDK put the unit where the config says: the bucket is computed again and compared.

Pure. A mismatch is a broken SDK, a wrong salt, a unit id that was changed on the way, or a cache that
mixes documents. What cannot be checked says why, and is never called a match.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from processors.enrich.bucket import NotAuditableError, Plan, compile_plan, passes_when_true
from processors.enrich.match_config import OVERRIDES, ConfigMatch, Matched
from processors.unit import Ids
from schemas.config_history import ProjectConfigs, in_force, spec_of
from schemas.specs import Section

MATCH: Final = "match"
MISMATCH: Final = "mismatch"


class Skipped(StrEnum):
    """Why an assignment is not checked; the value is what stands in the column."""

    NOT_STAMPED = "skipped:not_stamped"
    """The exposure does not say which version decided; one that is guessed proves nothing."""
    NO_VERSION = "skipped:no_version"
    """The version that decided is not known, or has no such rule."""
    OVERRIDE = "skipped:override"
    """Somebody was put there by hand."""
    PERSISTED = "skipped:persisted"
    """The SDK kept an earlier assignment on purpose."""
    BOOTSTRAP = "skipped:bootstrap"
    """Somebody else decided, and gave the SDK the result."""
    CACHE = "skipped:cache"
    """Decided earlier, maybe for another user."""
    CONDITION = "skipped:condition"
    """Decided by what no exposure tells: country, time, id lists, private attributes …"""
    NOT_AUDITABLE = "skipped:not_auditable"
    """The config is of a kind that is not evaluated here."""


_BY_REASON: Final = {
    "LocalOverride": Skipped.OVERRIDE,
    "Persisted": Skipped.PERSISTED,
    "Bootstrap": Skipped.BOOTSTRAP,
    "Cache": Skipped.CACHE,
}


class Audit(NamedTuple):
    """How the exposures of one decision are checked."""

    expected: Callable[[Ids], str | None]
    """The group that a unit must be in, None where it is.

    A group without a name is told by its rule; for one rule that passes or fails, true or false; ""
    where the unit cannot be where it is, and what no exposure tells decides where it must be. Raises
    UnicodeEncodeError for a unit that no SDK can have hashed.
    """


def _audit(plan: Plan, rule_id: str, passes: bool | None) -> Audit:
    """Return how a claim is checked; `passes` is what it says of the percentage, None where it says nothing."""
    decide = plan.decide

    def expected(ids: Ids) -> str | None:
        decided = decide(ids, rule_id)
        other, group, does_pass = decided
        if other == rule_id:
            if passes is None or passes is does_pass:
                return None
            return "true" if does_pass else "false"
        return "" if plan.rules[other].believes else group or other

    return Audit(expected)


class Plans:
    """Compiled configs by the time of their document; a document is compiled entity by entity, when asked for."""

    def __init__(self, kept: int = 5_000) -> None:
        self._kept = kept
        self._plans: dict[tuple[int, Section, str, int], Plan | Skipped | None] = {}

    def forget(self) -> None:
        """Drop all: what is known has changed."""
        self._plans.clear()

    def of(self, configs: ProjectConfigs, section: Section, name: str, document_ms: int) -> Plan | Skipped | None:
        """Return the plan of an entity as a document has it, or why there is none."""
        key = (id(configs), section, name, document_ms)
        if key not in self._plans:
            if len(self._plans) >= self._kept:
                self._plans.clear()
            self._plans[key] = _compiled(configs, section, name, document_ms)
        return self._plans[key]


def _compiled(configs: ProjectConfigs, section: Section, name: str, document_ms: int) -> Plan | Skipped | None:
    def find(of: Section, entity: str) -> dict[str, object] | None:
        record = in_force(configs.timeline(of, entity), document_ms)
        return spec_of(record) if record is not None and record.spec else None

    try:
        return compile_plan(find, section, name)
    except NotAuditableError:
        return Skipped.NOT_AUDITABLE
    except Exception:  # noqa: BLE001 - whatever stands in a document, an exposure of it lands
        return Skipped.NOT_AUDITABLE


def audit_of(
    configs: ProjectConfigs | None,
    plans: Plans,
    section: Section,
    matched: Matched,
    rule_id: str,
    value: str,
    reason: str,
) -> Audit | Skipped:
    """Return how exposures of a decision are checked, or why they are not."""
    if matched.match is ConfigMatch.BY_TIME or (matched.version is not None and matched.document_ms is None):
        return Skipped.NOT_STAMPED
    if configs is None or matched.version is None or matched.match is ConfigMatch.UNKNOWN_RULE:
        return Skipped.NO_VERSION
    if rule_id.endswith(OVERRIDES):
        return Skipped.OVERRIDE
    for prefix, skipped in _BY_REASON.items():
        if reason.startswith(prefix):
            return skipped
    assert matched.document_ms is not None
    plan = plans.of(configs, section, matched.name, matched.document_ms)
    if plan is None or isinstance(plan, Skipped):
        return plan or Skipped.NO_VERSION
    certainty = plan.rules.get(rule_id)
    if certainty is not None and not certainty.is_checkable:
        return Skipped.CONDITION
    if certainty is None and rule_id not in {rule["id"] for rule in _rules(matched)}:
        return Skipped.NOT_AUDITABLE
    tells_percentage = section == "config" or (section == "gate" and passes_when_true(spec_of(matched.version)))
    return _audit(plan, rule_id, {"true": True, "false": False}.get(value) if tells_percentage else None)


def _rules(matched: Matched) -> list[dict[str, str]]:
    assert matched.version is not None
    rules = spec_of(matched.version)["rules"]
    assert isinstance(rules, list)
    return rules
