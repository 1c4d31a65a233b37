"""Taking erased events out of archived chunks, and telling whose an event is. Pure."""

from collections.abc import Iterator
from typing import Final

import msgspec

from processors.map_event import RequestContext, request_metadata
from processors.unit import STABLE_ID, USER_ID, Ids, ids_of
from schemas import chunk
from schemas.archive import ArchivedRecord
from schemas.avro import CUSTOM_EVENT, EXPOSURE, FRAME_BYTES
from schemas.dead_letter import Envelope
from schemas.erasures import ErasureList, Unit
from schemas.reasons import Stage
from schemas.wire import Event, RequestMetadata, User, text_of

_GONE: Final = msgspec.Raw(b"null")
_NOBODY: Final = msgspec.Raw(b"{}")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode_event: Final = msgspec.json.Decoder(Event).decode
_decode_user: Final = msgspec.json.Decoder(User).decode
_decode_part: Final = msgspec.json.Decoder(chunk.RequestPart).decode


def units_of(ids: Ids) -> list[Unit]:
    """Return every unit that an event is about."""
    return [(USER_ID, ids.user_id), (STABLE_ID, ids.stable_id), *ids.custom.items()]


def units_of_event(raw: bytes | msgspec.Raw, request_stable_id: str) -> list[Unit]:
    """Return the units of an event as it was sent; of what cannot be read, the device that sent it."""
    try:
        event = _decode_event(raw)
        user = _decode_user(event.user) if event.user else User()
    except _UNREADABLE:
        user = User()
    return units_of(ids_of(user, request_stable_id))


def is_erased(erasures: ErasureList, event: Event, context: RequestContext) -> bool:
    """Tell whether an event of a chunk was erased."""
    try:
        user = _decode_user(event.user) if event.user else User()
    except _UNREADABLE:
        user = User()
    part = context.part
    return erasures.covers(part.project, units_of(ids_of(user, context.stable_id)), part.received_at)


def is_erased_letter(erasures: ErasureList, letter: Envelope) -> bool:
    """Tell whether a dead letter is one of an erased unit; of what cannot be read only its sender's device tells."""
    return erasures.covers(letter.project, _units_of_letter(letter), letter.received_at)


def _units_of_letter(letter: Envelope) -> list[Unit]:
    for schema in (EXPOSURE, CUSTOM_EVENT):
        if letter.stage == Stage.LANDER and letter.original.startswith(schema.frame):
            body = letter.original[FRAME_BYTES:]
            if schema.flaw(body):
                return []
            row = schema.decode(body)
            return units_of(Ids(row["user_id"], row["stable_id"], row["custom_ids"]))
    try:
        sender = request_metadata(_decode_part(letter.request))
    except _UNREADABLE:
        sender = RequestMetadata()
    return units_of_event(letter.original, text_of(sender.stableID))


def without_erased(record: ArchivedRecord, erasures: ErasureList) -> ArchivedRecord:
    """Return a record in which `null` stands for each erased event, and whose `erased` names their places.

    The others keep their places, which are part of their origins. A request of which nothing is left says
    nothing of its sender either. What is no chunk stays as it is.
    """
    try:
        parts = chunk.decode(record.value or b"").requests
    except _UNREADABLE:
        return record
    gone = set(record.erased)
    before = len(gone)
    first = 0
    for part in parts:
        places = list(_erased_of(part, erasures))
        gone.update(first + place for place in places)
        for place in places:
            part.events[place] = _GONE
        if part.events and all(first + place in gone for place in range(len(part.events))):
            part.statsigMetadata, part.user_agent, part.ip = _NOBODY, "", ""
        first += len(part.events)
    if len(gone) == before:
        return record
    return record._replace(value=chunk.encode(chunk.Chunk(parts)), erased=sorted(gone))


def _erased_of(part: chunk.RequestPart, erasures: ErasureList) -> Iterator[int]:
    stable_id = text_of(request_metadata(part).stableID)
    for place, raw in enumerate(part.events):
        if bytes(raw) != b"null" and erasures.covers(part.project, units_of_event(raw, stable_id), part.received_at):
            yield place
