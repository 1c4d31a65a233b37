"""Which version of a config made a decision, and whether it should still have.

Pure. An exposure names the `time` of the document that its SDK had (`lcut`, `configSyncTime`) and the
entity's version, or only one of them, or neither. docs/config.md has the rules in a table.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from schemas.config_history import ProjectConfigs, in_force
from schemas.config_versions import VersionRecord
from schemas.specs import Section

EVER_MS: Final = 1 << 62
"""Beyond every time that an event can have, either way."""

SPECIAL_RULES: Final = frozenset(
    {"default", "disabled", "prestart", "layerAssignment", "targetingGate", "inlineTargetingRules"}
)
"""Rule ids that SDKs send without a rule of that id."""

_FACTS_KEPT: Final = 4_096

OVERRIDES: Final = (":override", ":id_override")
"""What rule ids end with when somebody was put there by hand."""


class ConfigMatch(StrEnum):
    """How sure it is that `config_version` made the decision."""

    EXACT = "exact"
    """The exposure says so, and that version was in force."""
    BY_TIME = "by_time"
    """The exposure does not say; this version was in force when it happened."""
    STALE = "stale"
    """This version decided although a newer one had been there for long enough."""
    UNKNOWN_CONFIG = "unknown_config"
    """Nothing of that name was pushed, or the SDK did not know it."""
    UNKNOWN_RULE = "unknown_rule"
    """The version that should have decided has no such rule."""


class Stamp(NamedTuple):
    """What an exposure says of the decision."""

    section: Section
    name: str
    """Of the config whose rule it is: another than the one asked for, where the SDK was told to decide under it."""
    rule_id: str
    allocated: str
    version: str
    time_ms: int | None


class Matched(NamedTuple):
    """What is known of a decision; it holds for events of `from_ms` up to before `until_ms`."""

    match: ConfigMatch
    version: VersionRecord | None
    """Of the entity that holds the rule: the allocated experiment of a layer, else the entity itself."""
    document_ms: int | None
    """The time of the document by which the SDK decided, where the exposure tells."""
    name: str
    allocated: str
    kind: str
    id_type: str
    group_name: str
    from_ms: int = -EVER_MS
    until_ms: int = EVER_MS


class _Rule(msgspec.Struct, gc=False):
    id: str
    groupName: Any = None
    configDelegate: str | None = None


class _Facts(msgspec.Struct, gc=False):
    idType: str
    rules: list[_Rule]

    def group_of(self, rule_id: str) -> str | None:
        """Return the group name of a rule, None where there is no such rule."""
        for rule in self.rules:
            if rule.id == rule_id:
                return str(rule.groupName or "")
        return None


_facts_of_json: Final = msgspec.json.Decoder(_Facts).decode


def match(configs: ProjectConfigs | None, stamp: Stamp, moment_ms: int, stale_after_ms: int) -> Matched:
    """Return what decided an exposure of `moment_ms`, as far as it is known."""
    kind = "experiment" if stamp.section == "config" else stamp.section
    if configs is None:
        return Matched(ConfigMatch.UNKNOWN_CONFIG, None, None, stamp.name, stamp.allocated, kind, "", "")
    return _Question(configs, stamp, moment_ms, stale_after_ms).answer(kind)


class _Question:
    """One exposure against the history of its project."""

    def __init__(self, configs: ProjectConfigs, stamp: Stamp, moment_ms: int, stale_after_ms: int) -> None:
        self.configs = configs
        self.stamp = stamp
        self.moment_ms = moment_ms
        self.stale_after_ms = stale_after_ms
        self.name = _plain(configs, stamp.section, stamp.name)
        self.allocated = _plain(configs, "config", stamp.allocated) if stamp.allocated else ""
        self.own = configs.timeline(stamp.section, self.name)
        self.decider = self._decider()

    def answer(self, default_kind: str) -> Matched:
        """Return the answer, with the time for which it holds."""
        match, version, document_ms = self._decide()
        # What an exposure is about is known even where the version is not.
        last = _last_known(self.own)
        facts = _facts(version or _last_known(self.decider) or last)
        from_ms, until_ms = self._holds_for()
        group = _group_of(_facts(version), self.stamp.rule_id) if version is not None else None
        return Matched(
            match,
            version,
            document_ms,
            self.name,
            self.allocated,
            last.kind if last is not None else default_kind,
            facts.idType if facts is not None else "",
            group or "",
            from_ms,
            until_ms,
        )

    def _decider(self) -> Sequence[VersionRecord]:
        """Return the timeline of the entity that holds the rule."""
        if self.stamp.section != "layer":
            return self.own
        if self.allocated:
            return self.configs.timeline("config", self.allocated)
        # A parameter that is not explicit names no experiment, and has the rule of one all the same.
        for delegate in _delegates(self.own):
            timeline = self.configs.timeline("config", delegate)
            if any(_has_rule(_facts(record), self.stamp.rule_id) for record in timeline):
                return timeline
        return self.own

    def _decide(self) -> tuple[ConfigMatch, VersionRecord | None, int | None]:
        stamp = self.stamp
        if not self.own or not self.decider:
            return ConfigMatch.UNKNOWN_CONFIG, None, None
        if not stamp.rule_id:
            return self._of_no_rule()
        document_ms = self._document_ms()
        if document_ms is None:
            return self._by_time()
        used = in_force(self.decider, document_ms)
        assert used is not None
        if not _knows(_facts(used), stamp.rule_id):
            return ConfigMatch.UNKNOWN_RULE, used, document_ms
        is_stale = self._superseded_ms(used, document_ms) <= self.moment_ms
        return (ConfigMatch.STALE if is_stale else ConfigMatch.EXACT), used, document_ms

    def _of_no_rule(self) -> tuple[ConfigMatch, VersionRecord | None, int | None]:
        """The SDK did not know the entity. It should have, if its document was too old."""
        time_ms = self.stamp.time_ms
        if time_ms is not None and time_ms in self.configs.documents:
            used = in_force(self.own, time_ms)
            later = [record for record in self.own if record.time > time_ms and record.spec]
            if (used is None or not used.spec) and later and self._since(later[0]) <= self.moment_ms:
                return ConfigMatch.STALE, None, time_ms
        return ConfigMatch.UNKNOWN_CONFIG, None, None

    def _document_ms(self) -> int | None:
        """Return the time of a document that had the version which the exposure names, None where it names none.

        Core SDKs and js stamp a layer's exposures with the layer's version, legacy SDKs with that of
        the experiment.
        """
        stamp = self.stamp
        if stamp.time_ms is not None and (stamp.version or stamp.time_ms in self.configs.documents):
            used = in_force(self.decider, stamp.time_ms)
            own = in_force(self.own, stamp.time_ms)
            versions = [record.version for record in (used, own) if record is not None and record.spec]
            if used is not None and used.spec and (not stamp.version or stamp.version in versions):
                return stamp.time_ms
        return self._document_of_version() if stamp.version else None

    def _document_of_version(self) -> int | None:
        """Return the time at which the stamped version was in force: the last before the event, else the first."""
        around_ms = self.moment_ms if self.stamp.time_ms is None else self.stamp.time_ms
        found = []
        for timeline in (self.decider,) if self.decider is self.own else (self.decider, self.own):
            for place, record in enumerate(timeline):
                if record.spec and record.version == self.stamp.version:
                    end_ms = timeline[place + 1].time - 1 if place + 1 < len(timeline) else EVER_MS
                    time_ms = min(max(record.time, around_ms), end_ms)
                    used = in_force(self.decider, time_ms)
                    if used is not None and used.spec:
                        is_later = record.time > around_ms
                        lacks_rule = not _knows(_facts(used), self.stamp.rule_id)
                        found.append((lacks_rule, is_later, abs(time_ms - around_ms), time_ms))
        return min(found)[3] if found else None

    def _by_time(self) -> tuple[ConfigMatch, VersionRecord | None, int | None]:
        around_ms = self.moment_ms if self.stamp.time_ms is None else self.stamp.time_ms
        place = max(bisect_right(self.decider, around_ms, key=lambda record: record.time) - 1, 0)
        base = self.decider[place]
        for used in (base, *reversed(self.decider[:place]), *self.decider[place + 1 :]):
            if used.spec and _knows(_facts(used), self.stamp.rule_id):
                is_stale = self._superseded_ms(used, used.time) <= self.moment_ms
                return (ConfigMatch.STALE if is_stale else ConfigMatch.BY_TIME), used, None
        return (ConfigMatch.UNKNOWN_RULE, base, None) if base.spec else (ConfigMatch.UNKNOWN_CONFIG, None, None)

    def _superseded_ms(self, used: VersionRecord, document_ms: int) -> int:
        """Return from when on a decision by `used`, as the document had it, is stale."""
        after = [record for record in self.decider if record.time > used.time][:1]
        if self.own is not self.decider:
            after += [record for record in self.own if record.time > document_ms][:1]
        return min((self._since(record) for record in after), default=EVER_MS)

    def _since(self, record: VersionRecord) -> int:
        """Return when every SDK must have a version: when it was in force and known, and some time later."""
        return max(record.time, record.pushed_at) + self.stale_after_ms

    def _holds_for(self) -> tuple[int, int]:
        edges = sorted(
            {
                edge
                for line in ((self.own,) if self.own is self.decider else (self.own, self.decider))
                for record in line
                for edge in (record.time, self._since(record))
            }
        )
        place = bisect_right(edges, self.moment_ms)
        return (edges[place - 1] if place else -EVER_MS), (edges[place] if place < len(edges) else EVER_MS)


def _plain(configs: ProjectConfigs, section: Section, name: str) -> str:
    """Return the name itself where it is sent as its hash."""
    if configs.timeline(section, name):
        return name
    return configs.name_of_hash(section, name) or name


def _facts(record: VersionRecord | None) -> _Facts | None:
    return _facts_of(record.spec) if record is not None and record.spec else None


@lru_cache(_FACTS_KEPT)
def _facts_of(spec: str) -> _Facts | None:
    """Read a spec. Kept, since whoever makes up rule ids would have every version read for each of them."""
    try:
        return _facts_of_json(spec)
    except (msgspec.MsgspecError, RecursionError):
        return None  # whatever somebody else wrote into the topic, an exposure of it lands


def _last_known(timeline: Sequence[VersionRecord]) -> VersionRecord | None:
    return next((record for record in reversed(timeline) if record.spec), None)


def _delegates(timeline: Sequence[VersionRecord]) -> Iterator[str]:
    seen = set()
    for record in reversed(timeline):
        facts = _facts(record)
        for rule in facts.rules if facts is not None else ():
            if rule.configDelegate and rule.configDelegate not in seen:
                seen.add(rule.configDelegate)
                yield rule.configDelegate


def _has_rule(facts: _Facts | None, rule_id: str) -> bool:
    return facts is not None and facts.group_of(_without_override(rule_id)) is not None


def _knows(facts: _Facts | None, rule_id: str) -> bool:
    return _group_of(facts, rule_id) is not None


def _group_of(facts: _Facts | None, rule_id: str) -> str | None:
    """Return the group of a rule, "" where a known rule has none, None where the rule is not known."""
    if facts is None:
        return None
    group = facts.group_of(rule_id)
    if group is None:
        plain = _without_override(rule_id)
        group = facts.group_of(plain)
        if group is None and (plain in SPECIAL_RULES or plain != rule_id):
            return ""
    return group


def _without_override(rule_id: str) -> str:
    for suffix in OVERRIDES:
        if rule_id.endswith(suffix):
            return rule_id.removesuffix(suffix)
    return rule_id
