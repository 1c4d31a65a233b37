"""What of a range of chunks stands in the landing tables, asked in SQL."""

from typing import Any, Final

from console.ledger.balance import LARGEST_INDEX, Coordinate, Indexes, Landed
from console.questions import rows
from console.store_pool import StorePool

_TABLES: Final = (("exposures", 1), ("custom_events", 1), ("erased_origins", 0))
"""What holds origins that have landed, and whether they are rows."""

_RANGE: Final = (
    "origin_log = {log:UInt8} AND origin_partition = {partition:UInt32}"
    " AND origin_offset BETWEEN {first:UInt64} AND {last:UInt64}"
    " AND origin_part = 0 AND received_at >= fromUnixTimestamp64Milli({since_ms:Int64})"
)
# What was erased has landed, and is no row any more. While a unit is being erased it may be both.
_ROWS: Final = " UNION ALL ".join(
    f"SELECT origin_offset, least(origin_index, {LARGEST_INDEX}) AS event, {is_row} AS is_row "  # noqa: S608 - our own words
    f"FROM {table} WHERE {_RANGE}"
    for table, is_row in _TABLES
)

# An unbroken range is told by its ends, which saves the list: nearly every chunk is one.
_BY_CHUNK: Final = f"""
    SELECT origin_offset AS offset, countIf(is_row) AS found, groupBitmapIf(event, is_row) AS different,
        groupBitmap(event) AS events,
        min(event) AS lowest, max(event) AS highest,
        if(highest - lowest + 1 = events, [], bitmapToArray(groupBitmapState(event))) AS scattered
    FROM ({_ROWS}) GROUP BY offset
"""  # noqa: S608
_DOUBLED: Final = f"""
    SELECT origin_offset AS offset, event FROM ({_ROWS})
    GROUP BY offset, event HAVING countIf(is_row) > 1
"""  # noqa: S608


async def landed_of(store: StorePool, first: Coordinate, last_offset: int, since_ms: int) -> dict[int, Landed]:
    """Return, by offset, what has landed of the chunks from `first` to `last_offset` of one partition.

    Only rows received at `since_ms` or later. Raises RefusedError (503) when the store does not answer.
    """
    parameters = {
        "log": first.log,
        "partition": first.partition,
        "first": first.offset,
        "last": last_offset,
        "since_ms": since_ms,
    }
    found = await rows(store, _BY_CHUNK, parameters)
    doubled: dict[int, Indexes] = {}
    if any(int(row["found"]) != int(row["different"]) for row in found):
        for row in await rows(store, _DOUBLED, parameters):
            offset = int(row["offset"])
            doubled[offset] = doubled.get(offset, 0) | 1 << int(row["event"])
    return {int(row["offset"]): Landed(_indexes(row), doubled.get(int(row["offset"]), 0)) for row in found}


def _indexes(row: dict[str, Any]) -> Indexes:
    if row["scattered"]:
        return sum(1 << int(index) for index in row["scattered"])
    lowest, highest = int(row["lowest"]), int(row["highest"])
    return (1 << highest + 1) - (1 << lowest)
