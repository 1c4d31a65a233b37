"""The origin: the one coordinate that an event gets when the log accepts it.

It names a place in `events.raw` (or in `dlq.ingest`), is given once by the broker and never changes:
re-emits and replays carry it on, and the lander recognises a repeat by it.
"""

import struct
from typing import Final, NamedTuple

HEADER: Final = "origin"
"""Name of the Kafka header that carries a packed origin."""

REFUSED_AT_GATEWAY_LOG: Final = 255
"""The `log` of events that never reached `events.raw`: partition and offset are `dlq.ingest`'s."""

_PACKED: Final = struct.Struct(">BIQIH")
_RECORD: Final = struct.Struct(">BIQ").pack
_IN_RECORD: Final = struct.Struct(">IH").pack

PACKED_BYTES: Final = _PACKED.size


class Origin(NamedTuple):
    """Where an event stands in the log. Ordered as the log is ordered within one partition.

    `log` counts re-creations and re-partitionings of `events.raw`; `index` counts the events of the
    chunk at `offset`; `part` is 0 for the event itself and 1… for its secondary exposures.
    """

    log: int
    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # the field's word; nobody searches an origin
    part: int = 0

    def pack(self) -> bytes:
        """Return 19 bytes whose byte order is the order of origins."""
        return _PACKED.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> "Origin":
        """Read what `pack` wrote. Raises ValueError when the length is not `PACKED_BYTES`."""
        if len(packed) != _PACKED.size:
            raise ValueError(f"a packed origin has {_PACKED.size} bytes, this has {len(packed)}")
        return cls(*_PACKED.unpack(packed))

    def __str__(self) -> str:
        part = f".{self.part}" if self.part else ""
        return f"{self.log}/{self.partition}/{self.offset}/{self.index}{part}"


class RecordOrigins:
    """Packs the origins of one record's events: log, partition and offset are packed once."""

    __slots__ = ("_record",)

    def __init__(self, log: int, partition: int, offset: int) -> None:
        self._record = _RECORD(log, partition, offset)

    def pack(self, index: int, part: int = 0) -> bytes:
        """Return what `Origin(log, partition, offset, index, part).pack()` returns."""
        return self._record + _IN_RECORD(index, part)
