"""Chunks that waited while the log was given more partitions: their events go to where they belong now. Pure."""

import msgspec

from ingest.durability import Record
from schemas import chunk
from schemas.ids import partition_key, partition_of
from schemas.wire import RequestMetadata, text_of

_decode_sender = msgspec.json.Decoder(RequestMetadata).decode


def repartitioned(records: list[Record], partitions: int) -> dict[int, list[Record]]:
    """Return the records that hold the events of `records`, in their order, by partition.

    Events keep their bytes and ids. One that has neither user nor device, and was masked, goes where its
    masked bytes belong.
    """
    found: dict[int, list[Record]] = {}
    for record in records:
        requests: dict[int, list[chunk.RequestPart]] = {}
        for part in chunk.decode(record.value).requests:
            for number, places in _places(part, partitions).items():
                requests.setdefault(number, []).append(_some(part, places))
        for number, parts in requests.items():
            events = sum(len(part.events) for part in parts)
            value = chunk.encode(chunk.Chunk(parts))
            found.setdefault(number, []).append(Record(value, events, record.spilled_ms))
    return found


def _places(part: chunk.RequestPart, partitions: int) -> dict[int, list[int]]:
    stable_id = text_of(_decode_sender(part.statsigMetadata).stableID)
    places: dict[int, list[int]] = {}
    for place, event in enumerate(part.events):
        places.setdefault(partition_of(partition_key(bytes(event), stable_id), partitions), []).append(place)
    return places


def _some(part: chunk.RequestPart, places: list[int]) -> chunk.RequestPart:
    return msgspec.structs.replace(
        part,
        events=[part.events[place] for place in places],
        occurrences={to: part.occurrences[place] for to, place in enumerate(places) if place in part.occurrences},
        ids={to: part.ids[place] for to, place in enumerate(places) if place in part.ids},
    )
