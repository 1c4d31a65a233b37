"""Reading the records of one batch: rows that can land, and records that cannot be read.

Pure. A record's body is never decoded here: the event id stands at a fixed place by contract, the
origin comes from the header, and the columns that repeat the origin are compared with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from processors.landing.tables import Landing
from schemas.avro import FRAME_BYTES, unframe, varint
from schemas.chunk import REPLAY_HEADER, SPILLED_HEADER
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import HEADER as ORIGIN_HEADER
from schemas.origin import PACKED_BYTES, Origin
from schemas.reasons import Reason

_ID_END: Final = FRAME_BYTES + EVENT_ID_BYTES
_CHUNK_BYTES: Final = 13
"""Log, partition and offset of a packed origin: what all events of one chunk share."""

_LOOKED_UP_BY_ID: Final = frozenset({REPLAY_HEADER, SPILLED_HEADER})


class Record(Protocol):
    """What of an aiokafka record is used here."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


# Why a row must be looked up in the store, wherever its origin stands in the log: bits of
# `Row.doubt`. Plain numbers, because an enum's `&` costs as much as reading the record.
REPLAYED: Final = 1
"""Replayed or spilled: it may have landed at any time, so its event id is looked up as well."""
ASTRAY: Final = 2
"""It stands in another partition than its origin, so another lander may have landed it."""


class Row(NamedTuple):
    """One record that can land. `origin` is packed: its byte order is the order of the log."""

    origin: bytes
    value: bytes
    record: Any
    doubt: int = 0

    @property
    def event_id(self) -> bytes:
        """The 16 bytes that identify the event."""
        return self.value[FRAME_BYTES:_ID_END]

    @property
    def body(self) -> bytes:
        """The Avro record, without its frame."""
        return self.value[FRAME_BYTES:]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot land, and why."""

    record: Any
    reason: Reason
    message: str


class UnknownSchema(NamedTuple):
    """A framed record of a schema that this code does not have."""

    record: Any
    schema_id: int


@dataclass(slots=True)
class Batch:
    """What the records of one topic turned out to be; together they are all that was given."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unknown: list[UnknownSchema] = field(default_factory=list)


class _Places:
    """How (index, part) of an origin are written in a record's body."""

    def __init__(self) -> None:
        self._written: dict[bytes, bytes] = {}

    def __getitem__(self, place: bytes) -> bytes:
        written = self._written.get(place)
        if written is None:
            index, part = int.from_bytes(place[:4], "big"), int.from_bytes(place[4:], "big")
            written = self._written[place] = varint(index) + varint(part)
        return written


def _chunk_columns(origin: bytes) -> bytes:
    log, partition, offset, _, _ = Origin.unpack(origin)
    return varint(log) + varint(partition) + varint(offset)


def read(records: Iterable[Record], landing: Landing, into: Batch) -> None:
    """Sort the records of one partition into rows, rejected ones, and ones of an unknown schema."""
    frame = landing.schema.frame
    add = into.rows.append
    new = tuple.__new__
    places = _Places()
    chunk, chunk_columns, doubt = b"", b"", 0
    for record in records:
        value, headers = record.value, record.headers
        # What the worker writes has one header; everything else takes the slow path.
        if value is not None and len(headers) == 1:
            name, origin = headers[0]
            if origin and len(origin) == PACKED_BYTES and name == ORIGIN_HEADER:
                if origin[:_CHUNK_BYTES] != chunk:
                    chunk, chunk_columns = origin[:_CHUNK_BYTES], _chunk_columns(origin)
                    doubt = _doubt(origin, record.partition)
                columns = places[origin[_CHUNK_BYTES:]] + chunk_columns
                if value[:FRAME_BYTES] == frame and value.startswith(columns, _ID_END):
                    add(new(Row, (origin, value, record, doubt)))
                    continue
        _read_slowly(record, landing, places, into)


def _doubt(origin: bytes, partition: int) -> int:
    return 0 if int.from_bytes(origin[1:5], "big") == partition else ASTRAY


def _read_slowly(record: Record, landing: Landing, places: _Places, into: Batch) -> None:
    value, headers = record.value, dict(record.headers)

    def reject(message: str) -> None:
        into.rejected.append(Rejected(record, Reason.UNDECODABLE_RECORD, message))

    if value is None:
        return reject("a tombstone: there is no value")
    try:
        schema_id, body = unframe(value)
        if schema_id != landing.schema.id:
            modern = landing.schema.modern(schema_id, body)
            if modern is None:
                into.unknown.append(UnknownSchema(record, schema_id))
                return None
            value = modern
    except ValueError as error:
        return reject(str(error))
    origin = headers.get(ORIGIN_HEADER)
    if origin is None:
        return reject(f"there is no header `{ORIGIN_HEADER}`")
    if len(origin) != PACKED_BYTES:
        return reject(f"the header `{ORIGIN_HEADER}` has {len(origin)} bytes, not {PACKED_BYTES}")
    if not value.startswith(places[origin[_CHUNK_BYTES:]] + _chunk_columns(origin), _ID_END):
        return reject(f"the record's own origin is not the {Origin.unpack(origin)} of its header")
    replayed = 0 if _LOOKED_UP_BY_ID.isdisjoint(headers) else REPLAYED
    into.rows.append(Row(origin, value, record, _doubt(origin, record.partition) | replayed))
    return None
