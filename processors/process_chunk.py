"""One record of `events.raw`: what of it goes on, what is a copy, and what is rejected.

Pure: no clock, no I/O. Every event of the record comes out in exactly one of the three.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from processors.chunk_ledger import outcome_of_whole, outcomes
from processors.claims import ClaimsIndex
from processors.map_event import EventMapper, Mapped, Rejected, RequestContext
from schemas import chunk
from schemas.dead_letter import DeadLetter
from schemas.ids import EVENT_ID_BYTES, EventIds, partition_key, scope_of
from schemas.origin import Origin, RecordOrigins
from schemas.reasons import Reason, Stage
from schemas.wire import Event, exposure_of, text_of

_decode_event: Final = msgspec.json.Decoder(Event).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class SourceRecord(NamedTuple):
    """A record of `events.raw` as it was read; `append_ms` is the broker's clock."""

    log: int
    partition: int
    offset: int
    append_ms: int
    headers: dict[str, bytes]
    value: bytes


@dataclass(slots=True)
class Processed:
    """Outcome of one record: `events` = len(emitted) + duplicates + len(dead)."""

    events: int = 0
    duplicates: int = 0
    emitted: list[tuple[Mapped, bytes]] = field(default_factory=list)
    """Records that go on, each with its packed origin."""
    dead: list[DeadLetter] = field(default_factory=list)
    claimed: list[bytes] = field(default_factory=list)
    ledger: bytes = b""
    """What the ledger says of the record."""


class _Read(msgspec.Struct, gc=False):
    """An event of the chunk, before it is known whether it is a copy."""

    raw: bytes
    event: Event | None
    error: str
    event_id: bytes
    occurrence: int
    context: RequestContext


def process(record: SourceRecord, index: ClaimsIndex, mapper: EventMapper, now_ms: int) -> Processed:
    """Judge and map every event of `record`. Changes neither `index` nor anything else.

    Dead letters are claimed like all others, so that a copy of a dead event is a duplicate. A record
    that is no chunk is one dead letter and claims nothing. `now_ms` dates the dead letters.
    """
    version = record.headers.get(chunk.VERSION_HEADER)
    if version is not None and version != chunk.VERSION:
        return _whole(record, Reason.UNKNOWN_CHUNK_VERSION, f"chunk version {version!r}", now_ms)
    try:
        parts = chunk.decode(record.value).requests
    except _UNREADABLE as error:
        return _whole(record, Reason.UNDECODABLE_CHUNK, str(error), now_ms)
    read: list[_Read] = []
    for part in parts:
        _read_part(part, record, read)
    ids = [item.event_id for item in read]
    copies = index.copies(record.offset, record.append_ms, ids)
    claimed = [event_id for place, event_id in enumerate(ids) if place not in copies] if copies else ids
    done = Processed(events=len(read), duplicates=len(copies), claimed=claimed)
    emit, to_map = done.emitted.append, mapper.map
    pack = RecordOrigins(record.log, record.partition, record.offset).pack
    for position, item in enumerate(read):
        if position in copies:
            continue
        try:
            if item.event is None:
                raise Rejected(Reason.INVALID_EVENT, item.error)  # noqa: TRY301 - one place makes dead letters
            emit((to_map(item.event, item.event_id, position, item.context), pack(position)))
        except Rejected as rejected:
            done.dead.append(_dead(item, position, record, rejected.reason, rejected.message, now_ms))
        except Exception as error:  # noqa: BLE001 - one event of ours to mend must not stop a partition
            done.dead.append(_dead(item, position, record, Reason.UNEXPECTED_ERROR, repr(error), now_ms))
    done.ledger = outcomes(record.offset, parts, ids, copies, claimed, done.dead, index)
    return done


def _read_part(part: chunk.RequestPart, record: SourceRecord, read: list[_Read]) -> None:
    context = RequestContext(part, record.log, record.partition, record.offset)
    scope = scope_of(context.sdk_type, context.stable_id, context.session_id)
    ids = EventIds(part.project, part.environment, scope, part.idempotency_key or part.request_id)
    id_of, occurrence_of, given_ids = ids.of, part.occurrences.get, part.ids
    for position, raw in enumerate(part.events):
        content = bytes(raw)
        occurrence = occurrence_of(position, 0)
        event: Event | None
        try:
            event, error = _decode_event(content), ""
        except _UNREADABLE as problem:
            event, error = None, str(problem)
        event_id = _given_id(given_ids[position]) if position in given_ids else None
        if event_id is None:
            event_id = id_of(content, occurrence, event is not None and event.time is not None)
        read.append(_Read(content, event, error, event_id, occurrence, context))


def _given_id(text: str) -> bytes | None:
    try:
        given = bytes.fromhex(text)
    except ValueError:
        return None
    return given if len(given) == EVENT_ID_BYTES else None


def _whole(record: SourceRecord, reason: Reason, message: str, now_ms: int) -> Processed:
    origin = Origin(record.log, record.partition, record.offset, 0)
    letter = DeadLetter(
        stage=Stage.WORKER,
        reason=reason,
        message=message,
        original=record.value,
        failed_at=now_ms,
        origin=origin,
        chunk_headers=record.headers,
    )
    return Processed(events=1, dead=[letter], ledger=outcome_of_whole(record.headers, record.append_ms, reason))


def _dead(item: _Read, position: int, record: SourceRecord, reason: Reason, message: str, now_ms: int) -> DeadLetter:
    part, context = item.context.part, item.context
    name, experiment, rule_id = _what_is_readable(item.event)
    return DeadLetter(
        stage=Stage.WORKER,
        reason=reason,
        message=message,
        original=item.raw,
        failed_at=now_ms,
        origin=Origin(record.log, record.partition, record.offset, position),
        event_id=item.event_id,
        occurrence=item.occurrence,
        request=msgspec.json.encode(msgspec.structs.replace(part, events=[], occurrences={}, ids={})),
        chunk_headers=record.headers,
        partition_key=partition_key(item.raw, context.stable_id),
        project=part.project,
        environment=part.environment,
        key_id=part.key_id,
        request_id=part.request_id,
        sdk_type=context.sdk_type,
        sdk_version=context.sdk_version,
        event_name=name,
        experiment=experiment,
        rule_id=rule_id,
        received_at=part.received_at,
    )


def _what_is_readable(event: Event | None) -> tuple[str, str, str]:
    if event is None:
        return "", "", ""
    try:
        shown = exposure_of(event.metadata)
    except _UNREADABLE:
        return text_of(event.eventName), "", ""
    return text_of(event.eventName), text_of(shown.gate) or text_of(shown.config), text_of(shown.ruleID)
