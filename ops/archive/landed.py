"""Which of the events that a replay comes by have landed, asked of the console by their origins."""

from collections.abc import Iterable, Sequence
from typing import Final

from ops.dlq.landed import Store
from processors.reprocess import Emitted, Span
from schemas.origin import Origin
from schemas.topics import CUSTOM_EVENTS, EXPOSURES

_PARTS: Final = 1 << 16

_LANDED: Final = (
    "SELECT origin_offset, groupUniqArray(toUInt64(origin_index) * {parts} + origin_part) FROM {table} "
    "WHERE origin_log = {log} AND origin_partition = {partition} AND origin_offset BETWEEN {first} AND {last} "
    "AND received_at >= fromUnixTimestamp64Milli({since}) AND received_at < fromUnixTimestamp64Milli({until}) "
    "GROUP BY origin_offset"
)


def missing(store: Store, span: Span, emitted: Sequence[Emitted]) -> list[Emitted]:
    """Return those that have no row of theirs. Of one that a copy landed for it is the lander that knows."""
    landed: set[bytes] = set()
    for (log, partition), offsets in _by_partition(emitted).items():
        for topic in (EXPOSURES, CUSTOM_EVENTS):
            landed |= _landed(store, span, topic, Origin(log, partition, min(offsets), 0), max(offsets))
    # What a replay brought came first at any place; the range of those would be the whole log.
    late = store.landed([one.event_id for one in emitted if one.is_late])
    return [one for one in emitted if one.origin not in landed and one.event_id not in late]


def _by_partition(emitted: Iterable[Emitted]) -> dict[tuple[int, int], set[int]]:
    offsets: dict[tuple[int, int], set[int]] = {}
    for one in emitted:
        if not one.is_late:
            origin = Origin.unpack(one.origin)
            offsets.setdefault((origin.log, origin.partition), set()).add(origin.offset)
    return offsets


def _landed(store: Store, span: Span, table: str, first: Origin, last: int) -> set[bytes]:
    statement = _LANDED.format(
        parts=_PARTS,
        table=table,
        log=first.log,
        partition=first.partition,
        first=first.offset,
        last=last,
        since=span.since,
        until=span.until,
    )
    found = set()
    for offset, places in store.rows(statement):
        at = int(str(offset))
        assert isinstance(places, list)
        for place in places:
            index, part = divmod(int(str(place)), _PARTS)
            found.add(Origin(first.log, first.partition, at, index, part).pack())
    return found
