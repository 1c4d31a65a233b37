"""The records of the topic `ledger`: what became of each event of one record of `events.raw`.

The worker's names what arrived by runs, and then only what did not go on: whatever stands in a run
and in no outcome was emitted. So it costs nothing per event, and a record that is read again gives
the same. The lander's, under the packed origin of one event, names the origin under which that event
had landed already, so that the lander dropped it.

The worker's record of a replayed chunk has no runs, since it accepts nothing. It names the origins that
its events came with first, and what it says of an event is said of that origin.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from schemas.chunk import COUNT_HEADER, RequestPart
from schemas.limits import CHUNK_EVENTS, LEDGER_NAME_CHARS, TIME_MS
from schemas.origin import PACKED_BYTES, Origin

VERSION: Final = 1

MINUTE_MS: Final = 60_000

_KEY: Final = struct.Struct(">BIQ")
_MINUTES: Final = TIME_MS // MINUTE_MS


Count = Annotated[int, msgspec.Meta(ge=0, le=CHUNK_EVENTS)]
"""Checked when a record is read: sets of indexes are made of it."""


class LedgerError(Exception):
    """A record of the ledger is not one that this code can read; what it says must not be guessed."""


class Run(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Events that stand together in the chunk, of one key and one minute of receipt.

    `minute` counts from the epoch by the gateway's clock. Requests that follow each other with the
    same four are one run. A run begins where the one before ends.
    """

    project: str
    environment: str
    key_id: str
    minute: int
    events: Count


class Copies(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`count` events from index `first` on that another origin owns.

    The owners follow each other too: they stand `back` records before this one (0: in this one), and
    the first is at `place` among the events that their record emitted or dead-lettered.
    """

    first: Count
    count: Count
    back: int
    place: Count


class Dead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`count` events from index `first` on that wait in `dlq.worker`; `reason` is a `Reason`."""

    first: Count
    count: Count
    reason: str


class Earlier(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`count` events from index `first` on that a record of an earlier log owns: as `Copies`, with its coordinate."""

    first: Count
    count: Count
    log: int
    partition: int
    offset: int
    place: Count


class LedgerRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of one chunk. Later versions may add fields at the end, never change these.

    `firsts` are the packed origins of the events of a replay, in the order of the chunk.
    """

    version: int
    runs: list[Run]
    copies: list[Copies]
    dead: list[Dead]
    firsts: bytes = b""
    earlier: list[Earlier] = []

    @property
    def events(self) -> int:
        """How many events the chunk holds, those of a replay too, which were accepted elsewhere."""
        return sum(run.events for run in self.runs) + len(self.firsts) // PACKED_BYTES

    def copied(self) -> list[tuple[int, int]]:
        """Return first index and count of all runs of events that another origin owns."""
        return [(run.first, run.count) for run in self.copies] + [(run.first, run.count) for run in self.earlier]

    def copied_firsts(self) -> Iterator[bytes]:
        """Yield the packed origins of a replay's events that another origin owns."""
        for begin, count in self.copied():
            for index in range(begin, begin + count):
                if first := self.firsts[index * PACKED_BYTES : (index + 1) * PACKED_BYTES]:
                    yield first


class DroppedRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that was emitted and then dropped by the lander; `owner` is the packed origin that landed."""

    version: int
    owner: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_NO_RUNS: Final = bytes((VERSION, 0x90))  # MessagePack: a small number, an empty array
_decode: Final = msgspec.msgpack.Decoder(LedgerRecord).decode
_decode_dropped: Final = msgspec.msgpack.Decoder(DroppedRecord).decode


def key_of(log: int, partition: int, offset: int) -> bytes:
    """Return the record's key: the first bytes of the packed origins of the chunk's events."""
    return _KEY.pack(log, partition, offset)


def coordinate_of(key: bytes) -> tuple[int, int, int]:
    """Return (log, partition, offset). Raises LedgerError."""
    if len(key) != _KEY.size:
        raise LedgerError(f"the key {key.hex()} is not that of a chunk")
    log, partition, offset = _KEY.unpack(key)
    return log, partition, offset


def minute_of(received_at_ms: int) -> int:
    """Return the minute of receipt; 0 for what no clock of a gateway can have said."""
    minute = received_at_ms // MINUTE_MS
    return minute if 0 <= minute <= _MINUTES else 0


def encode(
    runs: Sequence[Run], copies: Sequence[Copies], dead: Sequence[Dead], earlier: Sequence[Earlier] = ()
) -> bytes:
    """Return the record's value."""
    # What a LedgerRecord encodes to, without making one: this is paid for every chunk.
    return _encode((VERSION, runs, copies, dead, b"", earlier) if earlier else (VERSION, runs, copies, dead))


def encode_replay(
    firsts: Sequence[bytes], copies: Sequence[Copies], dead: Sequence[Dead], earlier: Sequence[Earlier] = ()
) -> bytes:
    """Return the value of a replayed chunk's record."""
    return _encode((VERSION, (), copies, dead, b"".join(firsts), *([earlier] if earlier else ())))


def decode(value: bytes) -> LedgerRecord:
    """Read a record's value. Raises LedgerError."""
    try:
        record = _decode(value)
    except msgspec.MsgspecError as error:
        raise LedgerError(f"a ledger record cannot be read: {error}") from error
    if record.version != VERSION:
        raise LedgerError(f"a ledger record has version {record.version}, this code knows {VERSION}")
    if len(record.firsts) % PACKED_BYTES:
        raise LedgerError("a ledger record names first origins that are cut off")
    return record


def is_of_replay(value: bytes) -> bool:
    """Tell by its head whether a record is that of a replayed chunk: no other is without runs."""
    return value[1:3] == _NO_RUNS


def encode_dropped(owner: bytes) -> bytes:
    """Return the value of the lander's record, whose key is the packed origin of what it dropped."""
    return _encode(DroppedRecord(VERSION, owner))


def decode_dropped(value: bytes) -> bytes:
    """Return the owner's packed origin. Raises LedgerError."""
    try:
        record = _decode_dropped(value)
    except msgspec.MsgspecError as error:
        raise LedgerError(f"a ledger record of the lander cannot be read: {error}") from error
    if record.version != VERSION or len(record.owner) != PACKED_BYTES:
        raise LedgerError(f"a ledger record of the lander has version {record.version}, this code knows {VERSION}")
    return record.owner


def runs_of(parts: Iterable[RequestPart]) -> list[Run]:
    """Return the runs of a decoded chunk's requests, in its order."""
    runs: list[Run] = []
    last: RequestPart | None = None
    minute = begins_ms = ends_ms = count = 0
    for part in parts:
        received_at_ms = part.received_at
        if (
            last is not None
            and begins_ms <= received_at_ms < ends_ms
            and part.key_id == last.key_id
            and part.environment == last.environment
            and part.project == last.project
        ):
            count += len(part.events)
            continue
        if last is not None and count:
            runs.append(_run(last, minute, count))
        last, count, minute = part, len(part.events), received_at_ms // MINUTE_MS
        begins_ms = minute * MINUTE_MS
        ends_ms = begins_ms + MINUTE_MS
    if last is not None and count:
        runs.append(_run(last, minute, count))
    return runs


def _run(part: RequestPart, minute: int, events: int) -> Run:
    end = LEDGER_NAME_CHARS
    return Run(part.project[:end], part.environment[:end], part.key_id[:end], minute, events)


def earlier_of(owners: Mapping[int, Origin]) -> list[Earlier]:
    """Join copies of what earlier logs own; the index of an owner is the place among what its record claimed."""
    joined: list[Earlier] = []
    for index, owner in sorted(owners.items()):
        last = joined[-1] if joined else None
        if last is not None and _goes_on(last, index, owner):
            joined[-1] = msgspec.structs.replace(last, count=last.count + 1)
        else:
            joined.append(Earlier(index, 1, owner.log, owner.partition, owner.offset, owner.index))
    return joined


def _goes_on(last: Earlier, index: int, owner: Origin) -> bool:
    return (last.first + last.count, last.log, last.partition, last.offset, last.place + last.count) == (
        index,
        *owner[:4],
    )


def run_of_unreadable(headers: Mapping[str, bytes], append_ms: int) -> Run:
    """Return the one run of a record that is no chunk: as many events as its header says, else one.

    Nobody knows whose they are, and the broker's clock says when they came.
    """
    count = headers.get(COUNT_HEADER) or b""  # Kafka knows headers without a value
    said = int(count) if count.isdigit() and len(count) <= len(str(CHUNK_EVENTS)) else 0
    return Run("", "", "", minute_of(append_ms), said if 0 < said <= CHUNK_EVENTS else 1)


def dead_of(letters: Iterable[tuple[int, str]]) -> list[Dead]:
    """Join (index, reason) of a chunk's dead letters, in index order."""
    joined: list[Dead] = []
    for index, reason in letters:
        last = joined[-1] if joined else None
        if last is not None and last.first + last.count == index and last.reason == reason:
            joined[-1] = Dead(last.first, last.count + 1, reason)
        else:
            joined.append(Dead(index, 1, reason))
    return joined


def index_of_place(owner: LedgerRecord, place: int) -> int:
    """Return the index of the event that is at `place` of what its record emitted or dead-lettered.

    `owner` is the ledger record of the copies' owner. Raises LedgerError when it has no such place.
    """
    for index, at in enumerate(_not_copies(owner)):
        if index == place:
            return at
    raise LedgerError(f"no event of the owner stands at place {place}")


def _not_copies(record: LedgerRecord) -> Iterator[int]:
    copied = {index for first, count in record.copied() for index in range(first, first + count)}
    return (index for index in range(record.events) if index not in copied)
