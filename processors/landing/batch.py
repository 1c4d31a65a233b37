"""Reading the records of one batch: rows that can land, and records that cannot be read.

Pure. A record's body is never decoded here: the event id stands at a fixed place by contract, the
origin comes from the header, and the columns that repeat the origin are compared with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from processors.landing.tables import Landing
from schemas.avro import FRAME_BYTES, NotFramedError, unframe, varint
from schemas.chunk import REPLAY_HEADER, SPILLED_HEADER
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import HEADER as ORIGIN_HEADER
from schemas.origin import PACKED_BYTES, Origin
from schemas.reasons import Reason

_ID_END: Final = FRAME_BYTES + EVENT_ID_BYTES
_LOOKED_UP_BY_ID: Final = frozenset({REPLAY_HEADER, SPILLED_HEADER})


class Record(Protocol):
    """What of an aiokafka record is used here."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Row(NamedTuple):
    """One record that can land. `origin` is packed: its byte order is the order of the log."""

    origin: bytes
    event_id: bytes
    body: bytes
    by_event_id: bool
    """Replayed or spilled: it may have landed at any time, so its event id is looked up as well."""
    astray: bool
    """It stands in another partition than its origin, so another lander may have landed it."""
    record: Any


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


class _OriginColumns:
    """The bytes with which a body must go on after its event id, given its origin."""

    __slots__ = ("_chunk", "_indexes", "_tail")

    def __init__(self) -> None:
        self._chunk = b""
        self._tail = b""
        self._indexes: dict[bytes, bytes] = {}

    def of(self, origin: bytes) -> bytes:
        # The offset changes once a chunk, index and part repeat in every chunk.
        if origin[:13] != self._chunk:
            log, partition, offset, _, _ = Origin.unpack(origin)
            self._chunk = origin[:13]
            self._tail = varint(log) + varint(partition) + varint(offset)
        place = origin[13:]
        head = self._indexes.get(place)
        if head is None:
            _, _, _, index, part = Origin.unpack(origin)
            head = self._indexes[place] = varint(index) + varint(part)
        return head + self._tail


def read(records: Iterable[Record], landing: Landing) -> Batch:
    """Sort the records of one topic into rows, rejected ones, and ones of an unknown schema."""
    batch = Batch()
    frame = landing.schema.frame
    add = batch.rows.append
    columns = _OriginColumns()
    for record in records:
        value, headers = record.value, record.headers
        # What the worker writes has one header; everything else takes the slow path.
        if len(headers) == 1 and value is not None and value.startswith(frame):
            name, origin = headers[0]
            if name == ORIGIN_HEADER and len(origin) == PACKED_BYTES and value.startswith(columns.of(origin), _ID_END):
                astray = int.from_bytes(origin[1:5], "big") != record.partition
                add(Row(origin, value[FRAME_BYTES:_ID_END], value[FRAME_BYTES:], False, astray, record))
                continue
        _read_slowly(record, landing, columns, batch)
    return batch


def _read_slowly(record: Record, landing: Landing, columns: _OriginColumns, batch: Batch) -> None:
    value, headers = record.value, dict(record.headers)

    def reject(message: str) -> None:
        batch.rejected.append(Rejected(record, Reason.UNDECODABLE_RECORD, message))

    if value is None:
        return reject("a tombstone: there is no value")
    try:
        schema_id, body = unframe(value)
    except NotFramedError as error:
        return reject(str(error))
    if schema_id != landing.schema.id:
        batch.unknown.append(UnknownSchema(record, schema_id))
        return None
    origin = headers.get(ORIGIN_HEADER)
    if origin is None:
        return reject(f"there is no header `{ORIGIN_HEADER}`")
    if len(origin) != PACKED_BYTES:
        return reject(f"the header `{ORIGIN_HEADER}` has {len(origin)} bytes, not {PACKED_BYTES}")
    if not value.startswith(columns.of(origin), _ID_END):
        return reject(f"the record's own origin is not the {Origin.unpack(origin)} of its header")
    batch.rows.append(
        Row(
            origin,
            body[:EVENT_ID_BYTES],
            body,
            by_event_id=not _LOOKED_UP_BY_ID.isdisjoint(headers),
            astray=Origin.unpack(origin).partition != record.partition,
            record=record,
        )
    )
    return None
