"""One record of `events.raw`: what of it goes on, what is a copy, and what is rejected.

Pure: no clock, no I/O. Every event of the record comes out in exactly one of the three.
"""

from typing import Final

import msgspec

from processors.chunk_ledger import NOTHING, outcome_of_whole, outcomes
from processors.claims import ClaimsIndex
from processors.map_event import EventMapper, Rejected, RequestContext
from processors.process_replay import process_replay
from processors.processed import Processed, Read, SourceRecord, dead_letter_of, emit
from schemas import chunk
from schemas.dead_letter import DeadLetter
from schemas.ids import EVENT_ID_BYTES, EventIds, scope_of
from schemas.origin import Origin, RecordOrigins
from schemas.reasons import Reason, Stage
from schemas.wire import Event

_decode_event: Final = msgspec.json.Decoder(Event).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def process(record: SourceRecord, index: ClaimsIndex, mapper: EventMapper, now_ms: int) -> Processed:
    """Judge and map every event of `record`. Changes neither `index` nor anything else.

    Dead letters are claimed like all others, so that a copy of a dead event is a duplicate. A record
    that is no chunk is one dead letter and claims nothing. `now_ms` dates the dead letters.
    """
    version = record.headers.get(chunk.VERSION_HEADER)
    if version is not None and version != chunk.VERSION:
        return _whole(record, Reason.UNKNOWN_CHUNK_VERSION, f"chunk version {version!r}", now_ms)
    is_replay = chunk.REPLAY_HEADER in record.headers
    try:
        parts = chunk.decode(record.value, is_replay=is_replay).requests
    except _UNREADABLE as error:
        return _whole(record, Reason.UNDECODABLE_CHUNK, str(error), now_ms)
    if is_replay:
        return process_replay(record, parts, index, mapper, now_ms)
    read: list[Read] = []
    for part in parts:
        _read_part(part, record, read)
    ids = [item.event_id for item in read]
    copies = index.copies(record.offset, record.append_ms, ids)
    earlier = index.past.copies(record.append_ms, ids) if index.past else NOTHING
    if earlier:
        copies = {place: owner for place, owner in copies.items() if place not in earlier}
    gone = copies.keys() | earlier.keys() if earlier else copies
    claimed = [event_id for place, event_id in enumerate(ids) if place not in gone] if gone else ids
    done = Processed(events=len(read), duplicates=len(gone), claimed=claimed)
    to_map = mapper.map
    pack = RecordOrigins(record.log, record.partition, record.offset).pack
    for position, item in enumerate(read):
        if position in gone:
            continue
        try:
            if item.event is None:
                raise Rejected(Reason.INVALID_EVENT, item.error)  # noqa: TRY301 - one place makes dead letters
            emit(done, to_map(item.event, item.event_id, position, item.context), pack(position))
        except Exception as error:  # noqa: BLE001 - one event of ours to mend must not stop a partition
            rejected = error if isinstance(error, Rejected) else Rejected(Reason.UNEXPECTED_ERROR, repr(error))
            origin = Origin(record.log, record.partition, record.offset, position)
            done.dead.append(dead_letter_of(item, origin, record, rejected, now_ms))
    done.ledger = outcomes(record.offset, parts, ids, copies, claimed, done.dead, index, earlier)
    return done


def _read_part(part: chunk.RequestPart, record: SourceRecord, read: list[Read]) -> None:
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
        read.append(Read(content, event, error, event_id, occurrence, context))


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
