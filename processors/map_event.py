"""From an SDK's event to the record of a public topic.

Pure: the same event, request and knowledge of configs give the same bytes. Records are joined from
blocks (`schemas/avro.py`): what is the same for a request or for all exposures of one rule is
encoded once.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from processors.enrich import secondary
from processors.enrich.bots import Bots
from processors.enrich.catalog import Enriching, Enrichment, hand_over
from processors.enrich.decide import Decider, Decision, NamelessError
from processors.enrich.identity import Identities, Links, Scope
from processors.enrich.privacy import Privacy
from processors.event_time import EventTime, InvalidTimeError, judge
from processors.unit import STABLE_ID, Ids, ids_of, unit_of
from schemas import avro
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory
from schemas.ids import secondary_id
from schemas.limits import RECORD_BYTES
from schemas.reasons import Reason
from schemas.specs import Section
from schemas.topics import CUSTOM_EVENTS, EXPOSURES
from schemas.wire import Event, ExposureMetadata, RequestMetadata, User, exposure_of, flag_text, text_of

_EXPOSURE_OF: Final[dict[str, Section]] = {
    "statsig::gate_exposure": "gate",
    "statsig::config_exposure": "config",
    "statsig::layer_exposure": "layer",
}
_NO_PARENT: Final = bytes(16)
_NO_LINKS: Final[Links] = ()
_ABSENT: Final = (b"", b"null")

_vocabulary: Final = avro.Vocabulary()
_decode_user: Final = msgspec.json.Decoder(User).decode
_decode_metadata: Final = msgspec.json.Decoder(RequestMetadata).decode


class Rejected(Exception):  # noqa: N818 - an outcome, not an error of ours
    """An event that cannot become a record, and why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Mapped(msgspec.Struct, frozen=True, gc=False):
    """An event as it goes on: topic, key (the unit id) and framed Avro value.

    `parts` are its secondary exposures, `links` what it shows of identities that nobody knew.
    """

    topic: str
    key: bytes
    value: bytes
    parts: tuple["Mapped", ...] = ()
    links: Links = ()


class Who(msgspec.Struct, frozen=True, gc=False):
    """Whom an event is about, as it may be stored; `json` is the user, `decided_on` the ids as the SDK had them."""

    user: User
    json: bytes
    ids: Ids
    decided_on: Ids
    canonical_id: str
    bot: bytes


class RequestContext:
    """What is the same for all events of a request part; `block` is its columns, encoded."""

    def __init__(self, part: RequestPart, log: int, partition: int, offset: int) -> None:
        sender = request_metadata(part)
        self.part = part
        self.sdk_type = text_of(sender.sdkType)
        self.sdk_version = text_of(sender.sdkVersion)
        self.session_id = text_of(sender.sessionID)
        self.stable_id = text_of(sender.stableID)
        self.scope = Scope(part.project, part.environment)
        string, often, varint = avro.string, _vocabulary.string, avro.varint
        self.block = b"".join(
            (
                varint(log),
                varint(partition),
                varint(offset),
                often(part.project),
                often(part.environment),
                often(part.key_id),
                string(part.request_id),
                varint(part.received_at),
                often(self.sdk_type),
                often(self.sdk_version),
                string(self.session_id),
            )
        )


def request_metadata(part: RequestPart) -> RequestMetadata:
    """Read who sent a request; metadata that is not an object says nothing."""
    try:
        return _decode_metadata(part.statsigMetadata)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return RequestMetadata()


class EventMapper:
    """Maps events of any request."""

    def __init__(
        self, configs: ConfigHistory, enriching: Enriching | None = None, identities: Identities | None = None
    ) -> None:
        enriching = enriching or Enriching()
        self.decider = Decider(configs, enriching)
        self._tags_bots = enriching.has(Enrichment.BOTS)
        self._bots = Bots()
        self._tagged = {"tagged": 0}
        self._privacy = Privacy(enriching.privacy) if enriching.has(Enrichment.PRIVACY) else None
        self._read_user = _decode_user if self._privacy is None else self._privacy.read
        self._identifies = enriching.has(Enrichment.IDENTITY)
        self._identities = identities if identities is not None else Identities()

    def map(self, event: Event, event_id: bytes, index: int, context: RequestContext) -> Mapped:
        """Return the record of `event`. Raises Rejected."""
        name = event.eventName
        if type(name) is not str or not name:
            raise Rejected(Reason.MISSING_EVENT_NAME, f"eventName is {name!r}; a text is needed")
        try:
            time = judge(event.time, context.part.received_at, context.part.client_time)
        except InvalidTimeError as error:
            raise Rejected(Reason.INVALID_TIME, str(error)) from error
        raw_metadata = bytes(event.metadata)
        who, links = self._who(bytes(event.user), time, context)
        ids = who.ids
        parts: tuple[Mapped, ...] = ()
        section = _EXPOSURE_OF.get(name)
        if section is None:
            topic, frame = CUSTOM_EVENTS, avro.CUSTOM_EVENT.frame
            unit = unit_of(ids, "")
            own_columns = (_vocabulary.string(name), _value(event.value))
        else:
            topic, frame = EXPOSURES, avro.EXPOSURE.frame
            decision = self._decision(context, section, raw_metadata, time.corrected_ms)
            unit = unit_of(ids, decision.id_type)
            own_columns = (_NO_PARENT, self.decider.columns(decision, who.decided_on, event_id))
            if len(event.secondaryExposures) > secondary.NOTHING_BYTES and self.decider.expands:
                parts = self._parts(event, event_id, index, context, raw_metadata, time, who)
        columns = _common(event, who.json, raw_metadata, time, who, unit)
        # Joined once: each concatenation on the way would copy the whole record.
        value = b"".join((frame, event_id, avro.varint(index), b"\x00", context.block, *columns, *own_columns))
        key = unit[1].encode("utf-8", "replace")
        if len(key) + len(value) > RECORD_BYTES:
            message = f"its record has {len(key) + len(value)} bytes, since it repeats ids; the limit is {RECORD_BYTES}"
            raise Rejected(Reason.EVENT_TOO_LARGE, message)
        return Mapped(topic, key, value, parts, links)

    def _who(self, raw_user: bytes, time: EventTime, context: RequestContext) -> tuple[Who, Links]:
        """Return whom an event is about, as it may be stored, and the links that it shows."""
        privacy = self._privacy
        user = _user_of(raw_user, self._read_user)
        ids = decided_on = ids_of(user, context.stable_id)
        bot = self._bot(user, context)
        if privacy is not None and (privacy.has_met or privacy.is_always_met):
            if raw_user not in _ABSENT:
                raw_user = privacy.user(raw_user)
            if privacy.is_always_met:
                user = _user_of(raw_user, _decode_user)
                ids = ids_of(user, privacy.device(context.stable_id))
        if not self._identifies:
            return Who(user, raw_user, ids, decided_on, "", bot), _NO_LINKS
        canonical_id, links = self._identities.of(context.scope, ids, time, context.part.received_at)
        return Who(user, raw_user, ids, decided_on, canonical_id, bot), links

    def _parts(
        self, event: Event, event_id: bytes, index: int, context: RequestContext, raw_metadata: bytes,
        time: EventTime, who: Who,
    ) -> tuple[Mapped, ...]:  # fmt: skip
        """Return the secondary exposures; the user's JSON stands in the parent only."""
        listed = secondary.read(bytes(event.secondaryExposures), _exposure_of(raw_metadata))
        parts = []
        for part, (own_metadata, shown) in enumerate(listed.shown, 1):
            part_id = secondary_id(event_id, part)
            decision = self.decider.decision(context.part.project, "gate", shown, len(raw_metadata), time.corrected_ms)
            unit = unit_of(who.ids, decision.id_type)
            columns = _common(event, b"", own_metadata, time, who, unit)
            place = avro.varint(index) + avro.varint(part)
            own = (event_id, self.decider.columns(decision, who.decided_on, part_id))
            value = b"".join((avro.EXPOSURE.frame, part_id, place, context.block, *columns, *own))
            key = unit[1].encode("utf-8", "replace")
            # Its ids are the parent's, which is refused where they make a record too large.
            if len(key) + len(value) <= RECORD_BYTES:
                parts.append(Mapped(EXPOSURES, key, value))
        self.decider.expanded(listed)
        return tuple(parts)

    def report(self, count: Callable[[str, str, int], None]) -> None:
        """Hand over what every enrichment counted since the last time: enrichment, outcome, number."""
        self.decider.report(count)
        hand_over(Enrichment.BOTS, self._tagged, count)
        hand_over(Enrichment.IDENTITY, self._identities.outcomes, count)
        if self._privacy is not None:
            hand_over(Enrichment.PRIVACY, self._privacy.outcomes, count)

    def _bot(self, user: User, context: RequestContext) -> bytes:
        """Return the column `is_bot`. A browser's user agent is the connection's, a server tells its users'."""
        agent = user.userAgent or context.part.user_agent
        if not agent or not self._tags_bots:
            return b"\x00"
        if not self._bots.has(agent if type(agent) is str else text_of(agent)):
            return b"\x00"
        self._tagged["tagged"] += 1
        return b"\x01"

    def _decision(self, context: RequestContext, section: Section, raw_metadata: bytes, moment_ms: int) -> Decision:
        shown = _exposure_of(raw_metadata)
        try:
            return self.decider.decision(context.part.project, section, shown, len(raw_metadata), moment_ms)
        except NamelessError as error:
            raise Rejected(Reason.INVALID_EXPOSURE, str(error)) from error


def _user_of(raw: bytes, read: Callable[[bytes], User]) -> User:
    if raw in _ABSENT:
        return User()
    try:
        return read(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected(Reason.INVALID_EVENT, f"user: {error}") from error


def _exposure_of(raw: bytes) -> ExposureMetadata:
    if raw in _ABSENT:
        raise Rejected(Reason.INVALID_EXPOSURE, "an exposure without metadata names nothing")
    try:
        return exposure_of(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected(Reason.INVALID_EXPOSURE, f"metadata: {error}") from error


def _common(
    event: Event, raw_user: bytes, raw_metadata: bytes, time: EventTime, who: Who, unit: tuple[str, str]
) -> tuple[bytes, ...]:
    # The hottest code of the worker: one pass, few calls, nothing encoded twice.
    varint, string, often = avro.varint, avro.string, _vocabulary.string
    user, ids, canonical_id = who.user, who.ids, who.canonical_id
    user_id = string(ids.user_id)
    stable_id = string(ids.stable_id)
    unit_id = unit[1]
    event_ms = time.event_ms
    event_time = varint(event_ms)
    own: Any = event.statsigMetadata
    country, version, environment = user.country, user.appVersion, user.statsigEnvironment
    return (
        _PRODUCTION if environment is None or environment == _IN_PRODUCTION else often(_tier(environment)),
        event_time if time.clamped_ms == event_ms else varint(time.clamped_ms),
        event_time,
        event_time if time.corrected_ms == event_ms else varint(time.corrected_ms),
        often(time.flag),
        varint(time.lateness_ms),
        often(unit[0]),
        user_id if unit_id is ids.user_id else stable_id if unit_id is ids.stable_id else string(unit_id),
        user_id,
        stable_id,
        _custom_ids(ids, stable_id) if ids.custom else b"\x00",
        user_id if canonical_id is ids.user_id else string(canonical_id),
        b"\x00" if country is None else often(country if type(country) is str else text_of(country)),
        b"\x00" if version is None else often(version if type(version) is str else text_of(version)),
        who.bot,
        avro.double(_weight(own)) if own else _WEIGHT_ONE,
        b"\x00" if raw_metadata in _ABSENT else avro.utf8(raw_metadata),
        b"\x00" if raw_user in _ABSENT else avro.utf8(raw_user),
    )


def _custom_ids(ids: Ids, stable_id: bytes) -> bytes:
    own_stable_id = ids.stable_id
    if len(ids.custom) == 1 and ids.custom.get(STABLE_ID) is own_stable_id:
        return b"".join((_ONLY_STABLE_ID, stable_id, b"\x00"))  # nearly all there are
    pieces = [avro.varint(len(ids.custom))]
    for name, value in ids.custom.items():
        pieces += (_vocabulary.string(name), stable_id if value is own_stable_id else avro.string(value))
    pieces.append(b"\x00")
    return b"".join(pieces)


_ONLY_STABLE_ID: Final = avro.varint(1) + avro.string(STABLE_ID)
_IN_PRODUCTION: Final = {"tier": "production"}
_PRODUCTION: Final = avro.string("production")
_WEIGHT_ONE: Final = avro.double(1.0)


def _tier(environment: object) -> str:
    tier = environment.get("tier") if isinstance(environment, dict) else None
    return tier if isinstance(tier, str) and tier else "production"


def _weight(own: object) -> float:
    rate = own.get("samplingRate") if isinstance(own, dict) else None
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0 else 1.0


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return b"\x00" + avro.string(value)
    if isinstance(value, bool):
        return b"\x00" + avro.string(flag_text(value))
    if isinstance(value, int | float):
        return b"\x02" + avro.double(value) + b"\x00"
    return b"\x00\x00"
