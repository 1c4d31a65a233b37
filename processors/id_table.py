"""Which record owns an id: 13 bytes an id, for tens of millions of them in one process.

A dict of `bytes` to `int` takes 130. Here an id is five of its bytes and the number of its record, in
small buckets that are searched by the C library; the id itself stands in the record's claim, which
says whether it is the one. The table grows some buckets at a time (linear hashing, Litwin 1980), so
that no insert waits for a copy of everything: a dict of ten million stops the worker for a second.
Buckets are `str`, a character for a byte, made anew when they change: `in` takes a quarter of the time
that it takes on `bytes`, where Python first tries the key as a number (docs/decisions/0013-claims-in-buckets.md).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from schemas.ids import EVENT_ID_BYTES

_KEY_BYTES: Final = 5
_NUMBER_BYTES: Final = 4
_SIZE: Final = _KEY_BYTES + _NUMBER_BYTES
_IDS_A_BUCKET: Final = 20
"""On average: a bucket costs 80 bytes beside its ids, and a change of it grows with them."""
_SPLIT_AT_ONCE: Final = 128
"""Buckets: some thousand ids, for which numpy takes a third of the time that Python does; two milliseconds."""
_HASHED_AT_ONCE: Final = 1 << 16
_AS_TEXT: Final = "latin-1"

NOBODY: Final = -1


class Places(NamedTuple):
    """Buckets, and beside each the part of an id that stands in it."""

    buckets: list[int]
    keys: list[str]


class IdTable:
    """From id to the number of a record, as long as `is_of(number, id)` says that it holds it.

    Python's hash is keyed, so that nobody can make ids that fall into one bucket.
    """

    def __init__(self, is_of: Callable[[int, bytes], bool]) -> None:
        self._is_of = is_of
        self._buckets = [""]
        self._low = 0
        self._high = 1
        """Masks of a hash: the wider one tells the bucket, unless that is not made yet."""
        self._next = 0
        """The bucket to split next."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def fill(self, packed: bytes, numbers: Any) -> None:
        """Let an empty table know ids, none of which may be there twice, each owned by the record beside it.

        `packed` are the ids, `numbers` an array of numpy. A third of the time that putting them takes.
        """
        self._count = len(numbers)
        size = max(1, -(-self._count // _IDS_A_BUCKET))
        full = 1 << (size.bit_length() - 1)
        self._low, self._high, self._next = full - 1, 2 * full - 1, size - full
        ids = np.frombuffer(packed, np.uint8).reshape(-1, EVENT_ID_BYTES)
        places = _hashes(packed, EVENT_ID_BYTES) & self._high
        places[places >= size] &= self._low
        records = np.empty((self._count, _SIZE), np.uint8)
        records[:, :_KEY_BYTES] = ids[:, :_KEY_BYTES]
        records[:, _KEY_BYTES:] = numbers.astype("<u4").view(np.uint8).reshape(-1, _NUMBER_BYTES)
        self._buckets = _sorted_into(records, places, size)

    def places_of_unowned(self, ids: Sequence[bytes]) -> Places | None:
        """Return where `put_at` would put the ids, None unless surely nobody owns any of them.

        That is nearly always so, and told quickly. Places are good until the table changes.
        """
        buckets, low, high = self._buckets, self._low, self._high
        size = len(buckets)
        text = b"".join(ids).decode(_AS_TEXT)
        keys = [text[at : at + _KEY_BYTES] for at in range(0, len(text), EVENT_ID_BYTES)]
        places = []
        for key in keys:
            number = hash(key) & high
            if number >= size:
                number &= low
            if key in buckets[number]:
                return None
            places.append(number)
        return Places(places, keys)

    def get(self, event_id: bytes) -> int:
        """Return the number of the record that owns an id, or NOBODY."""
        return self._find(event_id)[1]

    def put(self, event_id: bytes, number: int) -> None:
        """Let a record own an id that nobody owns."""
        self.put_at(Places([self._find(event_id)[0]], [_key_of(event_id)]), number)

    def put_at(self, places: Places, number: int) -> None:
        """Let a record own the ids, each once, that `places_of_unowned` was asked for."""
        buckets = self._buckets
        tail = _text_of(number)
        for place, key in zip(*places, strict=True):
            buckets[place] += key + tail
        self._count += len(places.keys)
        while self._count > _IDS_A_BUCKET * len(buckets):
            self._split_some()

    def replace(self, event_id: bytes, number: int) -> None:
        """Let a record own an id that another owns."""
        place, _, at = self._find(event_id)
        bucket = self._buckets[place]
        self._buckets[place] = bucket[: at + _KEY_BYTES] + _text_of(number) + bucket[at + _SIZE :]

    def remove(self, event_id: bytes) -> None:
        """Let nobody own an id that somebody owns."""
        place, _, at = self._find(event_id)
        bucket = self._buckets[place]
        self._buckets[place] = bucket[:at] + bucket[at + _SIZE :]
        self._count -= 1

    def _find(self, event_id: bytes) -> tuple[int, int, int]:
        """Return the place of the id's bucket, its record's number, and where in the bucket it is."""
        key = _key_of(event_id)
        place = hash(key) & self._high
        if place >= len(self._buckets):
            place &= self._low
        bucket = self._buckets[place]
        at = bucket.find(key)
        while at >= 0:
            if at % _SIZE == 0:
                number = int.from_bytes(bucket[at + _KEY_BYTES : at + _SIZE].encode(_AS_TEXT), "little")
                if self._is_of(number, event_id):
                    return place, number, at
            at = bucket.find(key, at + 1)
        return place, NOBODY, at

    def _split_some(self) -> None:
        """Split the next buckets, each into itself and one at the end of the list."""
        begin, full = self._next, self._low + 1
        count = min(_SPLIT_AT_ONCE, full - begin, len(self._buckets))
        texts = self._buckets[begin : begin + count]
        content = "".join(texts).encode(_AS_TEXT)
        records = np.frombuffer(content, np.uint8).reshape(-1, _SIZE)
        origins = np.repeat(np.arange(count), [len(text) // _SIZE for text in texts])
        moves = (_hashes(content, _SIZE) & self._high) != origins + begin
        split = _sorted_into(records, origins + count * moves, 2 * count)
        self._buckets[begin : begin + count] = split[:count]
        self._buckets += split[count:]
        self._next += count
        if self._next == full:
            self._low, self._high, self._next = self._high, 2 * self._high + 1, 0


def _key_of(event_id: bytes) -> str:
    return event_id[:_KEY_BYTES].decode(_AS_TEXT)


def _text_of(number: int) -> str:
    return number.to_bytes(_NUMBER_BYTES, "little").decode(_AS_TEXT)


def _sorted_into(records: Any, places: Any, count: int) -> list[str]:
    """Return `count` buckets that hold the records, each in that of its place."""
    content = records[np.argsort(places, kind="stable")].tobytes().decode(_AS_TEXT)
    ends = np.cumsum(np.bincount(places, minlength=count)) * _SIZE
    return [content[begin:end] for begin, end in pairwise([0, *ends.tolist()])]


def _hashes(content: bytes, size: int) -> Any:
    """Return the hash of the key with which each `size` bytes begin."""
    found = np.empty(len(content) // size, np.int64)
    for first in range(0, len(found), _HASHED_AT_ONCE):
        last = min(first + _HASHED_AT_ONCE, len(found))
        text = content[first * size : last * size].decode(_AS_TEXT)
        keys = [text[at : at + _KEY_BYTES] for at in range(0, len(text), size)]
        found[first:last] = np.fromiter(map(hash, keys), np.int64, len(keys))
    return found
