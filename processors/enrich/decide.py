"""The columns of a decision: encoded once for all exposures that say the same of it.

Senders repeat a decision for every unit, so what it is matched with and how it is checked is kept by
what the exposure says. Per event there is left: is the answer of the time of this event, and is this
unit where it should be.
"""

from collections.abc import Callable
from typing import Final

from processors.enrich.audit_assignment import MATCH, MISMATCH, Audit, Plans, Skipped, audit_of
from processors.enrich.catalog import Enriching, Enrichment, hand_over
from processors.enrich.match_config import EVER_MS, ConfigMatch, Matched, Stamp, match
from processors.enrich.secondary import Secondaries
from processors.event_time import clamp
from processors.unit import Ids
from schemas import avro
from schemas.config_history import ConfigHistory
from schemas.limits import KIB
from schemas.specs import Section
from schemas.wire import ExposureMetadata, flag_text, text_of

DECISIONS_KEPT: Final = 50_000
_METADATA_KEPT_BYTES: Final = 2 * KIB
"""Metadata of a decision that is kept; senders decide how much theirs is."""

_ALL_EVENTS: Final = 1 << 32


class Decision:
    """What is the same for every exposure that says the same; it holds for events of some time."""

    __slots__ = (
        "by_group", "columns", "expected", "from_ms", "head", "id_type", "match", "other", "skipped", "tail",
        "until_ms",
    )  # fmt: skip

    def __init__(self, matched: Matched, head: bytes, tail: bytes, audit: "Audit | Skipped | None") -> None:
        self.match = matched.match.value  # an enum's hash costs more than the rest of counting
        self.id_type = matched.id_type
        self.from_ms = matched.from_ms
        self.until_ms = matched.until_ms
        self.head = head
        self.tail = tail
        self.expected = audit.expected if isinstance(audit, Audit) else None
        self.skipped = audit.value if isinstance(audit, Skipped) else None
        assignment = MATCH if self.expected is not None else self.skipped or ""
        self.columns = b"".join((head, avro.string(assignment), avro.string(""), tail))
        """With the assignment that is the same for all units, or else the one of those that are in their group."""
        self.by_group: dict[str, bytes] = {}
        self.other: Decision | None = None
        """The same decision at another time."""

    def mismatched(self, expected: str) -> bytes:
        """Return the columns of a unit that should be in another group."""
        columns = self.by_group.get(expected)
        if columns is None:
            columns = b"".join((self.head, avro.string(MISMATCH), avro.string(expected), self.tail))
            self.by_group[expected] = columns
        return columns


class Decider:
    """Enriches exposures with what the config registry knows; counts what came out."""

    def __init__(self, history: ConfigHistory, enriching: Enriching | None = None) -> None:
        self._history = history
        self._enriching = enriching or Enriching()
        self._matches_on = self._enriching.has(Enrichment.CONFIG_MATCH)
        self._audits_on = self._matches_on and self._enriching.has(Enrichment.ASSIGNMENT_AUDIT)
        self._audited_below = round(self._enriching.audit_rate * _ALL_EVENTS)
        self._audits_all = self._audited_below >= _ALL_EVENTS
        self._decisions: dict[tuple[str, str, ExposureMetadata], Decision] = {}
        self._kept = 0
        self._plans = Plans()
        self._revision = -1
        self.expands = self._enriching.has(Enrichment.SECONDARY_EXPOSURES)
        # Plain dictionaries with every outcome there is: a Counter takes three times as long to add one.
        self._matches = dict.fromkeys([each.value for each in ConfigMatch], 0)
        self._secondaries = {"expanded": 0, "left_out": 0}
        self._assignments = dict.fromkeys([MATCH, MISMATCH, *[each.value for each in Skipped]], 0)

    @property
    def kept(self) -> int:
        """How many decisions are in memory, those of one exposure's content at several times counted each."""
        return self._kept

    def decision(
        self, project: str, section: Section, shown: ExposureMetadata, size_bytes: int, moment_ms: int
    ) -> Decision:
        """Return the decision that an exposure of `moment_ms` is of; `size_bytes` is what it says of it.

        Raises NamelessError.
        """
        if self._history.revision != self._revision:
            self._forget()
        key = (project, section, shown)
        known = decision = self._decisions.get(key)
        while decision is not None:
            if decision.from_ms <= moment_ms < decision.until_ms:
                return decision
            decision = decision.other
        decision = self._decide(project, section, shown, moment_ms)
        if size_bytes <= _METADATA_KEPT_BYTES:
            if self._kept >= DECISIONS_KEPT:
                self._forget()
                known = None
            self._kept += 1
            decision.other = known
            self._decisions[key] = decision
        return decision

    def columns(self, decision: Decision, ids: Ids, event_id: bytes) -> bytes:
        """Return the columns of one exposure of a decision, encoded."""
        if self._matches_on:
            self._matches[decision.match] += 1
        check = decision.expected
        if check is None:
            if decision.skipped is not None:
                self._assignments[decision.skipped] += 1
            return decision.columns
        if not self._audits_all and int.from_bytes(event_id[:4], "big") >= self._audited_below:
            return b"".join((decision.head, b"\x00\x00", decision.tail))
        try:
            expected = check(ids)
        except UnicodeEncodeError:
            self._assignments[Skipped.NOT_AUDITABLE.value] += 1
            return b"".join((decision.head, avro.string(Skipped.NOT_AUDITABLE), b"\x00", decision.tail))
        if expected is None:
            self._assignments[MATCH] += 1
            return decision.columns
        self._assignments[MISMATCH] += 1
        return decision.mismatched(expected)

    def expanded(self, secondaries: Secondaries) -> None:
        """Count the secondary exposures of one event."""
        self._secondaries["expanded"] += len(secondaries.shown)
        self._secondaries["left_out"] += secondaries.left_out

    def report(self, count: Callable[[str, str, int], None]) -> None:
        """Hand over what was counted since the last time: enrichment, outcome, number."""
        for enrichment, counts in (
            (Enrichment.CONFIG_MATCH, self._matches),
            (Enrichment.ASSIGNMENT_AUDIT, self._assignments),
            (Enrichment.SECONDARY_EXPOSURES, self._secondaries),
        ):
            hand_over(enrichment, counts, count)

    def _forget(self) -> None:
        self._decisions.clear()
        self._kept = 0
        self._plans.forget()
        self._revision = self._history.revision

    def _decide(self, project: str, section: Section, shown: ExposureMetadata, moment_ms: int) -> Decision:
        is_gate = section == "gate"
        name = text_of(shown.gate if is_gate else shown.config)
        if not name:
            what = "gate" if is_gate else "config"
            raise NamelessError(f"a {section} exposure whose metadata names no {what}")
        value = flag_text(shown.gateValue if is_gate else shown.rulePassed)
        stamp = Stamp(
            section,
            text_of(shown.overrideConfigName) or name,
            text_of(shown.ruleID),
            text_of(shown.allocatedExperiment),
            text_of(shown.configVersion),
            stamped_ms(text_of(shown.lcut or shown.configSyncTime)),
        )
        configs = self._history.project(project)
        asked = stamp if self._matches_on else stamp._replace(version="", time_ms=None)
        matched = match(configs, asked, moment_ms if self._matches_on else EVER_MS - 1, self._enriching.stale_after_ms)
        reason = text_of(shown.reason)
        audit = None
        if self._audits_on:
            audit = audit_of(configs, self._plans, section, matched, stamp.rule_id, value, reason)
        version = matched.version if self._matches_on else None
        values = {
            "value": value,
            "kind": matched.kind,
            "name": matched.name,
            "rule_id": stamp.rule_id,
            "group_name": matched.group_name,
            "parameter": text_of(shown.parameterName),
            "allocated_experiment": matched.allocated,
            "wire_name": name,
            "stamped_version": stamp.version,
            "stamped_time": stamp.time_ms,
            "config_version": version.version if version is not None else "",
            "config_time": version.time if version is not None else None,
            "config_match": str(matched.match) if self._matches_on else "",
            "assignment": "",
            "expected_group": "",
            "reason": reason,
            "is_manual": flag_text(shown.isManualExposure) == "true",
        }
        if not self._matches_on:
            matched = matched._replace(from_ms=-EVER_MS, until_ms=EVER_MS)
        # The two columns between head and tail are empty here, a byte each.
        tail = avro.string(reason) + avro.boolean(bool(values["is_manual"]))
        whole = avro.EXPOSURE.block("decision", values)
        head = whole[: -len(tail) - 2]
        assert whole == b"".join((head, b"\x00\x00", tail))
        return Decision(matched, head, tail, audit)


class NamelessError(ValueError):
    """An exposure that names nothing."""


def stamped_ms(text: str) -> int | None:
    """Return the time that an SDK stamped on a decision, in ms; None for what is no time of a config.

    Some values that js-client starts from have the time 0, which is none.
    """
    try:
        moment_ms = int(float(text)) if text else None
    except (ValueError, OverflowError):
        return None
    # Beyond what the store can hold it is no time of a config, and beyond 64 bits no record.
    return moment_ms if moment_ms is not None and 0 < moment_ms == clamp(moment_ms) else None
