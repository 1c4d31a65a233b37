"""Which record owns an id: 13 bytes an id, for tens of millions of them in one process.

A dict of `bytes` to `int` takes 130. Here an id is six of its bytes and the number of its record, in
small buckets that are searched by the C library; the id itself stands in the record's claim, which
says whether it is the one. The table grows one bucket at a time (linear hashing, Litwin 1980), so
that no insert waits for a copy of everything: a dict of ten million stops the worker for a second.
Buckets are `bytes`, made anew when they change: a `bytearray` is larger, and slower to search.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

_KEY_BYTES: Final = 6
_NUMBER_BYTES: Final = 4
_SIZE: Final = _KEY_BYTES + _NUMBER_BYTES
_RECORD: Final = struct.Struct(f"{_KEY_BYTES}s{_NUMBER_BYTES}s")
_IDS_A_BUCKET: Final = 16
"""On average: a bucket costs 41 bytes beside its ids, and a change of it grows with them."""

NOBODY: Final = -1

Place = tuple[int, bytes]
"""A bucket, and the part of an id that stands in it."""


class IdTable:
    """From id to the number of a record, as long as `is_of(number, id)` says that it holds it.

    Python's hash is keyed, so that nobody can make ids that fall into one bucket.
    """

    def __init__(self, is_of: Callable[[int, bytes], bool], expected: int = 0) -> None:
        """`expected` is how many ids will be put soon: half the room for them, or more, is made at once."""
        buckets = 1 << max(0, (expected // _IDS_A_BUCKET).bit_length() - 1)
        self._is_of = is_of
        self._buckets = [b""] * buckets
        self._low = buckets - 1
        self._high = 2 * buckets - 1
        """Masks of a hash: the wider one tells the bucket, unless that is not made yet."""
        self._next = 0
        """The bucket to split next."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def places_of_unowned(self, ids: Sequence[bytes]) -> list[Place] | None:
        """Return where `put_at` would put the ids, None unless surely nobody owns any of them.

        That is nearly always so, and told quickly. Places are good until the table changes.
        """
        buckets, low, high = self._buckets, self._low, self._high
        size = len(buckets)
        places: list[Place] = []
        for event_id in ids:
            key = event_id[:_KEY_BYTES]
            number = hash(key) & high
            if number >= size:
                number &= low
            if key in buckets[number]:
                return None
            places.append((number, key))
        return places

    def get(self, event_id: bytes) -> int:
        """Return the number of the record that owns an id, or NOBODY."""
        return self._find(event_id)[1]

    def put(self, event_id: bytes, number: int) -> None:
        """Let a record own an id that nobody owns."""
        self.put_at([(self._find(event_id)[0], event_id[:_KEY_BYTES])], number)

    def put_at(self, places: Sequence[Place], number: int) -> None:
        """Let a record own the ids, each once, that `places_of_unowned` was asked for."""
        buckets = self._buckets
        tail = number.to_bytes(_NUMBER_BYTES, "little")
        for place, key in places:
            buckets[place] += key + tail
        self._count += len(places)
        while self._count > _IDS_A_BUCKET * len(buckets):
            self._split_one()

    def replace(self, event_id: bytes, number: int) -> None:
        """Let a record own an id that another owns."""
        place, _, at = self._find(event_id)
        bucket = self._buckets[place]
        self._buckets[place] = (
            bucket[: at + _KEY_BYTES] + number.to_bytes(_NUMBER_BYTES, "little") + bucket[at + _SIZE :]
        )

    def remove(self, event_id: bytes) -> None:
        """Let nobody own an id that somebody owns."""
        place, _, at = self._find(event_id)
        bucket = self._buckets[place]
        self._buckets[place] = bucket[:at] + bucket[at + _SIZE :]
        self._count -= 1

    def _find(self, event_id: bytes) -> tuple[int, int, int]:
        """Return the place of the id's bucket, its record's number, and where in the bucket it is."""
        key = event_id[:_KEY_BYTES]
        place = hash(key) & self._high
        if place >= len(self._buckets):
            place &= self._low
        bucket = self._buckets[place]
        at = bucket.find(key)
        while at >= 0:
            if at % _SIZE == 0:
                number = int.from_bytes(bucket[at + _KEY_BYTES : at + _SIZE], "little")
                if self._is_of(number, event_id):
                    return place, number, at
            at = bucket.find(key, at + 1)
        return place, NOBODY, at

    def _split_one(self) -> None:
        place, high = self._next, self._high
        stay: list[bytes] = []
        move: list[bytes] = []
        for key, tail in _RECORD.iter_unpack(self._buckets[place]):
            (stay if hash(key) & high == place else move).append(key + tail)
        self._buckets[place] = b"".join(stay)
        self._buckets.append(b"".join(move))
        self._next += 1
        if self._next > self._low:
            self._low, self._high, self._next = high, 2 * high + 1, 0
