"""Claims of the logs before the present one, read-only.

When the log gets more partitions a unit's events go to another one, so that an event and its retry may
stand in different partitions of different logs. For one window the retry is still a copy: all partitions that its
first copy can stand in are known here, as one index.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Self

from processors.claims import ClaimsIndex, Entry, Place, entry_key
from schemas.ids import EVENT_ID_BYTES
from schemas.logs import LogRecord
from schemas.origin import Origin

_KEY_BYTES: Final = len(entry_key(0, 0, 0))
_GONE_AT_ONCE: Final = 50
"""Tombstones beside one chunk: a window's worth at once would hold up the events."""


def partitions_before(assigned: Collection[int], partitions: int, earlier: Iterable[LogRecord]) -> set[int]:
    """Return the partitions of earlier logs that hold what may come again in `assigned` ones of `partitions`.

    Where the count became a multiple, that is one each; else all of them.
    """
    found: set[int] = set()
    for record in earlier:
        if partitions % record.partitions == 0:
            found |= {number % record.partitions for number in assigned}
        else:
            found |= set(range(record.partitions))
    return found


class PastClaims:
    """The owners of ids in earlier logs, for `window_ms` of broker time."""

    def __init__(self, entries: Mapping[Place, Iterable[Entry]], window_ms: int) -> None:
        """Take the entries of each log and partition."""
        self._logs, self._partitions = array("B"), array("I")
        self._offsets = array("q")
        self.newest_ms = 0
        """The append of the last entry, ms by the broker's clock."""
        self._index = ClaimsIndex.rebuild(self._ranked(entries), window_ms)

    @classmethod
    def of(cls, entries: Mapping[Place, Iterable[Entry]], window_ms: int) -> Self | None:
        """Return the claims, None where there are none."""
        made = cls(entries, window_ms)
        return made if len(made) else None

    def __len__(self) -> int:
        return len(self._index)

    def _ranked(self, entries: Mapping[Place, Iterable[Entry]]) -> Iterable[Entry]:
        """Yield all entries in the order of their logs, each with its rank instead of its offset."""
        for (log, partition), some in sorted(entries.items()):
            for entry in sorted(some):
                yield entry._replace(offset=len(self._offsets))
                self._logs.append(log)
                self._partitions.append(partition)
                self._offsets.append(entry.offset)
                self.newest_ms = max(self.newest_ms, entry.append_ms)

    def copies(self, append_ms: int, ids: Sequence[bytes]) -> dict[int, Origin]:
        """Return {place: origin of the first} of the ids that an earlier log's record owns and has not outlived.

        The index of that origin is the place among what the record claimed.
        """
        nobody = -1
        found = self._index.copies(nobody, append_ms, ids)
        return {place: self._origin(rank, ids[place]) for place, rank in found.items() if rank != nobody}

    def copies_of_replayed(self, append_ms: int, ids: Sequence[bytes], firsts: Sequence[bytes]) -> dict[int, Origin]:
        """Do as `copies` for the events of a replay: what comes under its owner's own origin is none."""
        nobody = -1
        found = {}
        for place, rank in self._index.copies(nobody, append_ms, ids).items():
            if rank == nobody:
                continue
            owner = self._origin(rank, ids[place])
            named = self._index.first_of_replay(rank, ids[place])
            first = firsts[place]
            if first != named if named is not None else Origin.unpack(first)[:3] != owner[:3]:
                found[place] = owner
        return found

    def _origin(self, rank: int, event_id: bytes) -> Origin:
        packed = self._index.claimed_by(rank)
        at = packed.index(event_id)
        while at % EVENT_ID_BYTES:
            at = packed.index(event_id, at + 1)
        return Origin(self._logs[rank], self._partitions[rank], self._offsets[rank], at // EVENT_ID_BYTES)


class StaleEntries:
    """Entries of earlier logs in one partition of the changelog, until nothing can meet them."""

    def __init__(self, entries: Mapping[Place, Iterable[Entry]]) -> None:
        """Take the entries of every log in this partition."""
        in_order = sorted((entry.append_ms, *place, entry.offset) for place, some in entries.items() for entry in some)
        self._appends_ms = array("q", (append_ms for append_ms, *_ in in_order))
        self._keys = b"".join(entry_key(*coordinate) for _, *coordinate in in_order)
        self._at = 0

    def gone(self, horizon_ms: int) -> list[bytes]:
        """Return the keys of some entries that were appended before `horizon_ms`, each once."""
        end = min(bisect_left(self._appends_ms, horizon_ms), self._at + _GONE_AT_ONCE)
        keys = [self._keys[n * _KEY_BYTES : (n + 1) * _KEY_BYTES] for n in range(self._at, end)]
        self._at = max(self._at, end)
        return keys

    @property
    def are_gone(self) -> bool:
        """Whether all of them were returned."""
        return self._at == len(self._appends_ms)
