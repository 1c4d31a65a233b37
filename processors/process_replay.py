"""A chunk of dead letters that come again: each goes on under the origin and the id that it came with first.

Pure, as `process_chunk`. The chunk accepts nothing: what becomes of its events is told of their first
origins. Its claims hold for copies that come later, and name those origins too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from processors.chunk_ledger import NOTHING, outcomes_of_replay
from processors.claims import ClaimsIndex
from processors.map_event import EventMapper, Rejected, RequestContext
from processors.processed import Processed, Read, SourceRecord, dead_letter_of, emit
from schemas import chunk
from schemas.origin import Origin
from schemas.reasons import Reason
from schemas.wire import Event

_decode_event: Final = msgspec.json.Decoder(Event).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Again(msgspec.Struct, gc=False):
    """An event of a replay with where it came first, and when it failed first."""

    read: Read
    first: bytes
    failed_at: int


def process_replay(
    record: SourceRecord, parts: Sequence[chunk.RequestPart], index: ClaimsIndex, mapper: EventMapper, now_ms: int
) -> Processed:
    """Judge and map every event of a replayed chunk, as `process_chunk.process` does it for others.

    An event that another origin owns by now is a copy of that one. Of those that are emitted some may
    have landed before: the lander finds them.
    """
    events = [again for part in parts for again in _read(part)]
    ids = [again.read.event_id for again in events]
    firsts = [again.first for again in events]
    coordinate = (record.log, record.partition, record.offset)
    copies = index.copies_of_replayed(coordinate, record.append_ms, ids, firsts)
    earlier = index.past.copies_of_replayed(record.append_ms, ids, firsts) if index.past else NOTHING
    copies = {place: owner for place, owner in copies.items() if place not in earlier}
    mine = [place for place in range(len(events)) if place not in copies and place not in earlier]
    done = Processed(
        events=len(events),
        duplicates=len(copies) + len(earlier),
        claimed=[ids[place] for place in mine],
        firsts=[firsts[place] for place in mine],
    )
    attempt = chunk.attempt_of(record.headers.get(chunk.ATTEMPT_HEADER))
    replay = (record.headers[chunk.REPLAY_HEADER] or b"").decode("utf-8", "replace")
    dead: list[tuple[int, str]] = []
    for place in mine:
        again = events[place]
        origin = Origin.unpack(again.first)
        item = again.read
        try:
            if item.event is None:
                raise Rejected(Reason.INVALID_EVENT, item.error)  # noqa: TRY301 - one place makes dead letters
            emit(done, mapper.map(item.event, item.event_id, origin.index, item.context), again.first)
        except Exception as error:  # noqa: BLE001 - one event of ours to mend must not stop a partition
            rejected = error if isinstance(error, Rejected) else Rejected(Reason.UNEXPECTED_ERROR, repr(error))
            letter = dead_letter_of(item, origin, record, rejected, now_ms)
            letter = replace(letter, attempt=attempt, first_failed_at=again.failed_at, replay=replay)
            done.dead.append(letter)
            dead.append((place, rejected.reason.value))
    done.ledger = outcomes_of_replay(record.offset, ids, firsts, copies, done.claimed, dead, index, earlier)
    return done


def _read(part: chunk.RequestPart) -> list[_Again]:
    events = []
    contexts: dict[tuple[int, int, int], RequestContext] = {}
    for position, raw in enumerate(part.events):
        content = bytes(raw)
        first = part.firsts[position]
        packed = bytes.fromhex(first.origin)
        log, partition, offset, _, _ = Origin.unpack(packed)
        at = (log, partition, offset)
        context = contexts.get(at)
        if context is None:
            context = contexts[at] = RequestContext(part, *at)
        event: Event | None
        try:
            event, error = _decode_event(content), ""
        except _UNREADABLE as problem:
            event, error = None, str(problem)
        event_id = bytes.fromhex(part.ids[position])
        read = Read(content, event, error, event_id, part.occurrences.get(position, 0), context)
        events.append(_Again(read, packed, first.failed_at))
    return events
