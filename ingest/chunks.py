"""From a request's events to the parts of chunks, one or more for each partition.

The JSON of a part is joined by hand around the bytes that were received: encoding it again would
cost more than all else the gateway does with an event. `schemas.chunk.RequestPart` is its shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from ingest.mask import mask
from ingest.split import Split
from schemas.ids import EventIds, occurrences, scope_of
from schemas.limits import CHUNK_BYTES, CHUNK_EVENTS
from schemas.wire import text_of

_encode: Final = msgspec.json.Encoder().encode


class RequestHead(NamedTuple):
    """What all parts of one request say of it. Times are ms since the epoch; 0: not told."""

    key_head: bytes
    project: str
    environment: str
    request_id: str
    received_at: int
    client_time: int = 0
    idempotency_key: str = ""
    user_agent: str = ""

    def json(self, metadata: bytes) -> bytes:
        """Return the beginning of a part's JSON object, open at its end."""
        text = b'%b,"request_id":"%b","received_at":%d,"client_time":%d,"statsigMetadata":%b' % (
            self.key_head,
            self.request_id.encode(),
            self.received_at,
            self.client_time,
            metadata,
        )
        if self.idempotency_key:
            text += b',"idempotency_key":' + _encode(self.idempotency_key)
        if self.user_agent:
            text += b',"user_agent":' + _encode(self.user_agent)
        return text


class Part(NamedTuple):
    """What one request contributes to one chunk."""

    partition: int
    events: int
    json: bytes


def event_ids_of(head: RequestHead, split: Split) -> EventIds:
    """Return what computes the ids of a request's events, as the worker does it."""
    sender = split.sender
    scope = scope_of(text_of(sender.sdkType), text_of(sender.stableID), text_of(sender.sessionID))
    return EventIds(head.project, head.environment, scope, head.idempotency_key or head.request_id)


def parts_of(head: RequestHead, split: Split, partitions: int, key: bytes, body_bytes: int) -> list[Part]:
    """Return the parts that hold all accepted events of a request.

    `key` is what the request came with, which diagnostics may repeat; `body_bytes` is the size of its
    JSON. Within a partition events keep their order.
    """
    opening = head.json(split.metadata)
    events, keys = split.events, split.keys
    # Events with different keys are different; to see that is seven times as fast as to hash them.
    repeats = occurrences(events) if len(set(keys)) < len(keys) else {}
    if repeats or split.needs_masking:
        return _special_parts(opening, head, split, partitions, key, repeats)
    buckets: list[list[bytes]] = [[] for _ in range(partitions)]
    for event, number in zip(events, map(crc32, keys), strict=True):
        buckets[number % partitions].append(event)
    if body_bytes <= CHUNK_BYTES and len(events) <= CHUNK_EVENTS:
        return [Part(number, len(run), _part(opening, run)) for number, run in enumerate(buckets) if run]
    return [
        Part(number, len(run), _part(opening, run))
        for number, bucket in enumerate(buckets)
        if bucket
        for run in _runs(bucket)
    ]


def _part(opening: bytes, events: Sequence[bytes], extra: bytes = b"") -> bytes:
    return b'%b%b,"events":[%b]}' % (opening, extra, b",".join(events))


def _runs(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a list of events where a chunk is full."""
    start = size = 0
    for position, event in enumerate(events):
        if position > start and (size + len(event) > CHUNK_BYTES or position - start == CHUNK_EVENTS):
            yield events[start:position]
            start, size = position, 0
        size += len(event)
    yield events[start:]


class _Placed(NamedTuple):
    event: bytes
    occurrence: int
    event_id: str


def _special_parts(
    opening: bytes, head: RequestHead, split: Split, partitions: int, key: bytes, repeats: Mapping[int, int]
) -> list[Part]:
    """Do as `parts_of` for a request with repeated events, or with events that have to be changed."""
    ids = event_ids_of(head, split)
    buckets: dict[int, list[_Placed]] = {}
    for index, (event, event_key) in enumerate(zip(split.events, split.keys, strict=True)):
        occurrence = repeats.get(index, 0)
        masked = mask(event, key)
        event_id = "" if masked is event or masked == event else ids.of(event, occurrence, has_time(event)).hex()
        buckets.setdefault(crc32(event_key) % partitions, []).append(_Placed(masked, occurrence, event_id))
    parts = []
    for partition, placed in buckets.items():
        start = 0
        for run in _runs([item.event for item in placed]):
            items = placed[start : start + len(run)]
            start += len(run)
            parts.append(Part(partition, len(run), _part(opening, run, _extra(items))))
    return parts


def _extra(items: Sequence[_Placed]) -> bytes:
    numbered = {index: item.occurrence for index, item in enumerate(items) if item.occurrence}
    named = {index: item.event_id for index, item in enumerate(items) if item.event_id}
    text = b',"occurrences":' + _encode(numbered) if numbered else b""
    return text + b',"ids":' + _encode(named) if named else text


class _Time(msgspec.Struct):
    time: msgspec.Raw | None = None


_decode_time: Final = msgspec.json.Decoder(_Time).decode


def has_time(event: bytes) -> bool:
    """Tell whether an event has a `time` of its own, as the worker sees it; by its text if unreadable."""
    try:
        time = _decode_time(event).time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b'"time":' in event
    return time is not None and bytes(time) != b"null"
