"""Identity links from their topic into the table `identity_links`."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
import structlog
from clickhouse_connect.driver.client import Client

from processors.landing.moments import moment
from processors.topic_lander import Found, Landing, TopicLander
from schemas.identity_links import IdentityLink, Key, LinkError, decode, decode_key, key_fields
from schemas.kafka import KafkaConnection
from schemas.limits import KIB
from schemas.metrics import IdentityLanderMetrics
from schemas.store import StoreAddress
from schemas.topics import IDENTITY_GROUP, IDENTITY_LINKS

logger = structlog.get_logger()

_POSITION: Final = "SELECT max(link_offset), count() FROM identity_links WHERE log = {log:UInt8}"
_FORGET: Final = (
    "DELETE FROM identity_links WHERE (project, environment, id_type, id, user_id) IN "
    "{keys:Array(Tuple(String, String, String, String, String))}"
)
_FORGOTTEN_BYTES: Final = 16 * KIB
"""Keys of one statement: they stand in its address, three times as long, and ClickHouse takes values of 128 KiB."""


class IdentityLander(TopicLander):
    """Lands identity links beside the lander."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: IdentityLanderMetrics) -> None:
        super().__init__(
            kafka, store, metrics, Landing("identity_links", (IDENTITY_LINKS,), IDENTITY_GROUP, _positions, _insert)
        )


def _positions(client: Client, log: int) -> dict[tuple[str, int], int]:
    ((offset, rows),) = client.query(_POSITION, {"log": log}).result_rows
    return {(IDENTITY_LINKS, 0): offset} if rows else {}


def _insert(client: Client, found: Found, log: int) -> None:
    insert_links(client, [record for records in found.values() for record in records], log)


def insert_links(client: Client, records: Sequence[Any], log: int) -> None:
    """Put links into the table. Those that were taken back are deleted from it first."""
    forgotten: list[Key] = []
    rows: list[tuple[Key, bytes]] = []
    for record in records:
        try:
            if record.value is None:
                key = decode_key(record.key or b"")
                forgotten.append(key)
                rows = [row for row in rows if row[0] != key]
            else:
                link = decode(record.value)
                rows.append((key_fields(link), _row(link, log, record.offset)))
        except LinkError as error:
            logger.warning("identity_link_unreadable", offset=record.offset, error=str(error))
    for some in runs(forgotten):
        client.command(_FORGET, {"keys": some})
    if rows:
        client.raw_insert("identity_links", insert_block=b"\n".join(row for _, row in rows), fmt="JSONEachRow")


def runs(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Cut keys into as many as one statement takes, at least one each."""
    start = size = 0
    for position, key in enumerate(keys):
        size_of_key = sum(len(field.encode()) for field in key)
        if position > start and size + size_of_key > _FORGOTTEN_BYTES:
            yield keys[start:position]
            start, size = position, 0
        size += size_of_key
    if start < len(keys):
        yield keys[start:]


def _row(link: IdentityLink, log: int, offset: int) -> bytes:
    fields = {name: getattr(link, name) for name in link.__struct_fields__}
    return orjson.dumps({**fields, "first_seen": moment(link.first_seen), "log": log, "link_offset": offset})
