"""Claims: who owns an event id.

The first record of `events.raw` that holds an id owns it, and its origin is the event's origin. A
claim therefore names the record instead of saying "seen": after a crash the record meets its own
claims, and its events are emitted again rather than lost. One entry is written per record, to the
changelog of a Faust table, and the index in memory is rebuilt from the entries in record order.

Everything here is decided from the records alone (offsets, and append times given by the broker),
so any two workers that have the same entries below a record decide the same.
"""

import struct
import zlib
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from processors.id_table import NOBODY, IdTable, Places
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import PACKED_BYTES, Origin

_KEY: Final = struct.Struct(">BIQ")
_KEY_WITHOUT_LOG: Final = struct.Struct(">IQ")
_HEAD: Final = struct.Struct(">BQII")
_VERSION: Final = 1
_OF_REPLAY: Final = 2
"""Of the entry of a replayed chunk: behind the ids stand the origins under which they came first."""

TOMBSTONE_MARGIN_MS: Final = 3600 * 1000
"""How much longer than the window an entry is kept: a broker's clock may step back."""

_EMPTY_PLACES: Final = 1_000
"""Places of forgotten records that may stand empty; beyond, they go when they are the larger half."""

UNSETTLED_RECORDS: Final = 10_000
"""Records of a partition that may be read again after a kill: more than are read in some seconds."""


class CorruptClaimsError(Exception):
    """A claims entry cannot be what a worker wrote; processing on would land events twice."""


class Entry(NamedTuple):
    """What one record of `events.raw` claims. `append_ms` is the broker's clock at its append.

    `firsts` are the packed origins of a replay's events, one for each id; others have none.
    """

    offset: int
    append_ms: int
    ids: bytes
    firsts: bytes = b""


Place = tuple[int, int]
"""A log, and a partition of it."""


def entry_key(log: int, partition: int, offset: int) -> bytes:
    """Return the changelog key of a record's entry."""
    return _KEY.pack(log, partition, offset)


def named(key: bytes, first_log: int) -> bytes:
    """Return the key with its log: workers wrote none before a log could get more partitions. That is `first_log`."""
    if len(key) == _KEY_WITHOUT_LOG.size:
        return _KEY.pack(first_log, *_KEY_WITHOUT_LOG.unpack(key))
    return key


def without_log(key: bytes) -> bytes:
    """Return the key under which workers wrote that entry before a log could get more partitions."""
    return key[_KEY.size - _KEY_WITHOUT_LOG.size :]


def place_of(key: bytes) -> Place:
    """Return the log and the partition of an entry's record. Raises CorruptClaimsError."""
    if len(key) != _KEY.size:
        raise CorruptClaimsError(f"claims entry {key.hex()} names no record")
    log, partition, _ = _KEY.unpack(key)
    return log, partition


def encode_entry(append_ms: int, ids: Sequence[bytes], firsts: Sequence[bytes] = ()) -> bytes:
    """Return the changelog value of a record that claims `ids`; `firsts` are the origins of a replay's."""
    packed = b"".join(ids)
    if firsts:
        packed += b"".join(firsts)
        return _HEAD.pack(_OF_REPLAY, append_ms, len(ids), zlib.crc32(packed)) + packed
    return _HEAD.pack(_VERSION, append_ms, len(ids), zlib.crc32(packed)) + packed


def decode_entry(key: bytes, value: bytes) -> Entry:
    """Read an entry back. Raises CorruptClaimsError when count, checksum or version are wrong."""
    if len(key) != _KEY.size or len(value) < _HEAD.size:
        raise CorruptClaimsError(f"claims entry {key.hex()} is truncated")
    log, partition, offset = _KEY.unpack(key)
    version, append_ms, count, checksum = _HEAD.unpack_from(value)
    packed = value[_HEAD.size :]
    if version not in (_VERSION, _OF_REPLAY):
        raise CorruptClaimsError(
            f"claims entry {log}/{partition}/{offset} has version {version}, "
            f"this worker knows {_VERSION} and {_OF_REPLAY}"
        )
    size = EVENT_ID_BYTES if version == _VERSION else EVENT_ID_BYTES + PACKED_BYTES
    if len(packed) != count * size or zlib.crc32(packed) != checksum:
        raise CorruptClaimsError(f"claims entry {log}/{partition}/{offset} does not match its count and checksum")
    end = count * EVENT_ID_BYTES
    return Entry(offset, append_ms, packed[:end], packed[end:])


class Past(Protocol):
    """The owners of ids in earlier logs."""

    newest_ms: int

    def copies(self, append_ms: int, ids: Sequence[bytes]) -> dict[int, Origin]:
        """Return {place: the owner's first origin} of the ids that a record of an earlier log owns."""

    def copies_of_replayed(self, append_ms: int, ids: Sequence[bytes], firsts: Sequence[bytes]) -> dict[int, Origin]:
        """Do as `copies` for the events of a replay: what comes under the owner's origin is none."""


class ClaimsIndex:
    """The owners of the ids of one partition, exact, for `window_ms` of broker time.

    What a record claims is kept once, as it stands in the changelog (16 bytes an id), and the table
    beside it tells which record to look into. Records are numbered as they come.
    """

    def __init__(self, window_ms: int, unsettled: int = UNSETTLED_RECORDS) -> None:
        """`unsettled` is how many of the newest records may come again; entries that they meet are kept."""
        self._window_ms = window_ms
        self._newest_ms: deque[int] = deque(maxlen=unsettled)
        self._table = IdTable(self._claims)
        self._base = 0
        """Number minus this is a record's place in the three below."""
        self._first = 0
        """Number of the first record that is not forgotten; places before it are empty for a while."""
        self._ids: list[bytes] = []
        self._offsets = array("q")
        self._appends_ms = array("q")
        self._unowned: tuple[Sequence[bytes], Places] | None = None
        """Ids of which `copies` has just seen that nobody owns them, and their places."""
        self._late: dict[int, int] = {}
        """Numbers of records that came behind a later one, by offset: their places hold a neighbour's offset."""
        self._late_offsets: dict[int, int] = {}
        self._replays: dict[int, bytes] = {}
        """First origins that the record of a replay names, by its number."""
        self._firsts: dict[bytes, bytes] = {}
        """Of ids that a replay's record owns: the origin that it names."""

        self.past: Past | None = None
        """Claims of logs before this one, as long as any of them hold."""

    def __len__(self) -> int:
        return len(self._table)

    @classmethod
    def rebuild(cls, entries: Iterable[Entry], window_ms: int, unsettled: int = UNSETTLED_RECORDS) -> "ClaimsIndex":
        """Build the index from entries in any order; they are applied in record order."""
        in_order = sorted(entries)
        index = cls(window_ms, unsettled)
        if not in_order:
            return index
        owners = [index._append(entry) for entry in in_order]
        packed = b"".join([entry.ids for entry in in_order])
        numbers = np.repeat(owners, [len(entry.ids) // EVENT_ID_BYTES for entry in in_order])
        again = _met_again(packed)
        ids = np.frombuffer(packed, f"V{EVENT_ID_BYTES}")
        index._table.fill(ids[~again].tobytes(), numbers[~again])
        for event_id, number in zip(ids[again].tolist(), numbers[again].tolist(), strict=True):
            index._own([event_id], number, index._appends_ms[number])
        for number, entry in enumerate(in_order):
            if entry.firsts:
                index._replays[number] = entry.firsts
                index._name_firsts(entry, number, _split(entry.ids))
        return index

    def copies(self, offset: int, append_ms: int, ids: Sequence[bytes]) -> dict[int, int]:
        """Judge the events of one record; return {place: offset of the owner} of the copies. Changes nothing.

        An id that nobody owns, or that this very record owns, goes on; one that is repeated inside
        the record, or that another record owns and has not outlived, is a copy.
        """
        places = self._places_of_new(ids)
        if places is not None:
            self._unowned = (ids, places)
            return {}
        found = {}
        seen: set[bytes] = set()
        for place, event_id in enumerate(ids):
            number = self._table.get(event_id)
            owner = self._offset(number) if number != NOBODY else offset
            if owner != offset and self._holds(number, append_ms):
                found[place] = owner
            elif event_id in seen:
                found[place] = offset
            seen.add(event_id)
        return found

    def copies_of_replayed(
        self, at: tuple[int, int, int], append_ms: int, ids: Sequence[bytes], firsts: Sequence[bytes]
    ) -> dict[int, int]:
        """Judge the events of a replay's record, which stands `at` (log, partition, offset), as `copies` does.

        An event goes on where nobody owns its id, and where who owns it does so under the origin that
        the event came with first.
        """
        log, partition, offset = at
        found = {}
        seen: dict[bytes, bytes] = {}
        for place, (event_id, first) in enumerate(zip(ids, firsts, strict=True)):
            number = self._table.get(event_id)
            if number != NOBODY and self._holds(number, append_ms):
                owner = self._offset(number)
                if number in self._replays:
                    is_own = self._firsts[event_id] == first
                else:
                    is_own = Origin.unpack(first)[:3] == (log, partition, owner)
                if not is_own:
                    found[place] = owner
            elif seen.setdefault(event_id, first) != first:
                found[place] = offset
        return found

    def claimed_by(self, owner: int) -> bytes:
        """Return the ids that the record at `owner` claims, packed in its order. Raises KeyError."""
        number = self._number(owner)
        if number == NOBODY:
            raise KeyError(owner)
        return self._ids[number - self._base]

    def claim(self, offset: int, append_ms: int, ids: Sequence[bytes], firsts: Sequence[bytes] = ()) -> None:
        """Make the record at `offset` the owner of `ids`, which `copies` let through; `firsts` of a replay's."""
        self._claim(Entry(offset, append_ms, b"".join(ids), b"".join(firsts)), ids)

    def expire(self, append_ms: int) -> list[int]:
        """Forget entries that no record appended at `append_ms` or later can meet; return their offsets.

        Nor may a record meet them that is read again: after a pause of hours the one before this may
        be as old as that, and not committed yet.
        """
        horizon = self.horizon(append_ms)
        gone = []
        while (place := self._first - self._base) < len(self._ids) and self._appends_ms[place] < horizon:
            gone.append(self._forget_first(place))
        if gone and _EMPTY_PLACES < place > len(self._ids) // 2:
            del self._ids[:place], self._offsets[:place], self._appends_ms[:place]
            self._base = self._first
        return gone

    def horizon(self, append_ms: int) -> int:
        """Return since when entries may still be met, by ms of their append; 0 as long as that is not known."""
        newest = self._newest_ms
        if len(newest) != newest.maxlen:
            return 0
        return max(0, min(append_ms, newest[0]) - self._window_ms - TOMBSTONE_MARGIN_MS)

    def first_of_replay(self, offset: int, event_id: bytes) -> bytes | None:
        """Return the origin under which a replay's record at `offset` owns an id, None where it is no replay."""
        return self._firsts[event_id] if self._number(offset) in self._replays else None

    def _forget_first(self, place: int) -> int:
        number = self._first
        for event_id in _split(self._ids[place]):
            if self._table.get(event_id) == number:
                self._table.remove(event_id)
                self._firsts.pop(event_id, None)
        offset = self._offset(number)
        self._replays.pop(number, None)
        if self._late_offsets.pop(number, None) is not None:
            del self._late[offset]
        self._ids[place] = b""
        self._first += 1
        return offset

    def _claims(self, number: int, event_id: bytes) -> bool:
        ids = self._ids[number - self._base]
        at = ids.find(event_id)
        while at % EVENT_ID_BYTES and at >= 0:
            at = ids.find(event_id, at + 1)
        return at >= 0

    def _offset(self, number: int) -> int:
        late = self._late_offsets
        return late[number] if number in late else self._offsets[number - self._base]

    def _number(self, offset: int) -> int:
        """Return the number of the record at `offset`, or NOBODY. Offsets stand in order but for late ones."""
        offsets = self._offsets
        if not offsets or offset > offsets[-1]:
            return NOBODY
        if offset in self._late:
            return self._late[offset]
        place = bisect_left(offsets, offset, self._first - self._base)
        return place + self._base if place < len(offsets) and offsets[place] == offset else NOBODY

    def _holds(self, number: int, append_ms: int) -> bool:
        return append_ms - self._appends_ms[number - self._base] <= self._window_ms

    def _claim(self, entry: Entry, ids: Sequence[bytes]) -> None:
        number = self._number(entry.offset)
        if number == NOBODY:
            number = self._append(entry)
        else:
            self._ids[number - self._base] = entry.ids
            self._appends_ms[number - self._base] = entry.append_ms
        self._own(ids, number, entry.append_ms)
        if entry.firsts:
            self._replays[number] = entry.firsts
            self._name_firsts(entry, number, ids)

    def _own(self, ids: Sequence[bytes], number: int, append_ms: int) -> None:
        table = self._table
        unowned, self._unowned = self._unowned, None
        places = unowned[1] if unowned is not None and unowned[0] is ids else self._places_of_new(ids)
        if places is not None:
            table.put_at(places, number)
            return
        for event_id in ids:
            owner = table.get(event_id)
            if owner == NOBODY:
                table.put(event_id, number)
            elif owner != number and not self._holds(owner, append_ms):
                table.replace(event_id, number)

    def _places_of_new(self, ids: Sequence[bytes]) -> Places | None:
        """Return where the ids would stand, None unless each is there once and surely nobody owns any."""
        places = self._table.places_of_unowned(ids)
        return places if places is not None and len(set(ids)) == len(ids) else None

    def _append(self, entry: Entry) -> int:
        number = self._base + len(self._ids)
        last = self._offsets[-1] if self._offsets else entry.offset
        if entry.offset < last:
            self._late[entry.offset] = number
            self._late_offsets[number] = entry.offset
        self._ids.append(entry.ids)
        self._offsets.append(max(last, entry.offset))
        self._appends_ms.append(entry.append_ms)
        self._newest_ms.append(entry.append_ms)
        return number

    def _name_firsts(self, entry: Entry, number: int, ids: Sequence[bytes]) -> None:
        """Remember the origin of each id that a replay's entry owns now. Whose owner is no replay needs none."""
        for place, event_id in enumerate(ids):
            if self._table.get(event_id) == number:
                self._firsts[event_id] = entry.firsts[place * PACKED_BYTES : (place + 1) * PACKED_BYTES]


def _split(packed: bytes) -> list[bytes]:
    return [packed[i : i + EVENT_ID_BYTES] for i in range(0, len(packed), EVENT_ID_BYTES)]


def _met_again(packed: bytes) -> Any:
    """Return for each id whether another may be the same: eight of its bytes tell."""
    halves = np.frombuffer(packed, np.uint64)[::2]
    order = np.argsort(halves, kind="stable")
    in_order = halves[order]
    same = in_order[1:] == in_order[:-1]
    found = np.zeros(len(halves), np.bool_)
    found[order[1:][same]] = found[order[:-1][same]] = True
    return found
