"""Asking the store what of a batch it holds already."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from clickhouse_connect.driver.client import Client

from processors.landing.batch import REPLAYED, Row
from processors.landing.suspects import PREFIX_BYTES, Landed, Prefix
from schemas.origin import Origin

_T = TypeVar("_T")

_COORDINATE: Final = "origin_log, origin_partition, origin_offset, origin_index, origin_part"

# A query's text may have 256 KiB; an offset has up to 20 digits and an id 32.
_OFFSETS_A_QUERY: Final = 5_000
_IDS_A_QUERY: Final = 3_000


def high_water(client: Client, table: str, prefixes: Iterable[Prefix]) -> dict[Prefix, bytes]:
    """Return the highest landed origin of each log and partition, packed; empty where none landed."""
    return {prefix: _highest(client, table, prefix) for prefix in prefixes}


def _highest(client: Client, table: str, prefix: Prefix) -> bytes:
    log, partition = prefix[0], int.from_bytes(prefix[1:PREFIX_BYTES], "big")
    rows = client.query(
        f"SELECT max((origin_offset, origin_index, origin_part)) FROM {table} "  # noqa: S608
        f"WHERE origin_log = {log} AND origin_partition = {partition} HAVING count() > 0"
    ).result_rows
    return Origin(log, partition, *rows[0][0]).pack() if rows else b""


def landed(client: Client, table: str, suspects: Sequence[Row]) -> Landed:
    """Look up suspects: by origin all of them, by event id those that may have landed at any time."""
    if not suspects:
        return Landed()
    event_ids: dict[bytes, bytes] = {}
    wanted = {row.origin for row in suspects}
    for (log, partition), offsets in _offsets_by_partition(suspects).items():
        for some in _pieces(sorted(offsets), _OFFSETS_A_QUERY):
            where = (
                f"origin_log = {log} AND origin_partition = {partition} "
                f"AND origin_offset IN ({', '.join(map(str, some))})"
            )
            found = _query(client, table, where)
            event_ids.update((origin, event_id) for origin, event_id in found if origin in wanted)
    origins: dict[bytes, bytes] = {}
    for some_ids in _pieces(sorted({row.event_id for row in suspects if row.doubt & REPLAYED}), _IDS_A_QUERY):
        literals = ", ".join(f"unhex('{event_id.hex()}')" for event_id in some_ids)
        found = _query(client, table, f"event_id_bytes IN ({literals})")
        origins.update((event_id, origin) for origin, event_id in found)
    return Landed(event_ids, origins)


def _offsets_by_partition(rows: Iterable[Row]) -> dict[tuple[int, int], set[int]]:
    offsets: dict[tuple[int, int], set[int]] = {}
    for row in rows:
        origin = Origin.unpack(row.origin)
        offsets.setdefault((origin.log, origin.partition), set()).add(origin.offset)
    return offsets


def _query(client: Client, table: str, where: str) -> Iterator[tuple[bytes, bytes]]:
    sql = f"SELECT {_COORDINATE}, lower(hex(event_id_bytes)) FROM {table} WHERE {where}"  # noqa: S608
    for *coordinate, event_id in client.query(sql).result_rows:
        yield Origin(*coordinate).pack(), bytes.fromhex(event_id)


def _pieces(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece
