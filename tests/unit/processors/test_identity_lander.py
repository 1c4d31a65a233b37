"""Links into the table and out of it again, however many and whatever they are called."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from clickhouse_connect.driver.client import Client

from processors.identity_lander import insert_links, runs
from schemas import migrations
from schemas.identity_links import IdentityLink, encode, key_fields, key_of
from schemas.store import StoreAddress

CLICKHOUSE_FIELD_BYTES = 128 * 1024
"""`http_max_field_value_size`: a longer parameter is refused by a server, and would be for ever."""

ODD = ("'", "\\", "\\'", "\0", "\n", "\t", "\\N", "NULL", "]", "({", "'); DROP TABLE identity_links", "ü😀", "😀" * 256)


class Record(NamedTuple):
    key: bytes
    value: bytes | None
    offset: int


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = StoreAddress(path=tmp_path / "store").connect()
    migrations.apply(client)
    yield client
    client.close()


def left(client: Client) -> list[Any]:
    return [row[0] for row in client.query("SELECT id FROM identity_links FINAL ORDER BY id").result_rows]


def links_of(ids: list[str]) -> list[IdentityLink]:
    return [IdentityLink("it's", "\\", "stableID", id_, f"user of {id_}"[:256], 5) for id_ in ids]


def test_links_that_are_taken_back_are_gone_and_no_others(client: Client):
    """Some thousand at once: an erasure of a user whom a thousand tills share."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    links = links_of([*ODD, *(f"device-{number}" for number in range(1_000))])
    random.Random(seed).shuffle(links)
    insert_links(client, [Record(key_of(link), encode(link), at) for at, link in enumerate(links)], 1)
    assert len(left(client)) == len(links)
    kept = links[::100]
    gone = [link for link in links if link not in kept]
    insert_links(client, [Record(key_of(link), None, 2_000 + at) for at, link in enumerate(gone)], 1)
    assert left(client) == sorted((link.id for link in kept), key=str.encode)


@pytest.mark.parametrize("id_", ["d", "'" * 256, "😀" * 256])
def test_no_statement_is_longer_than_a_server_takes(id_: str):
    keys = [key_fields(link) for link in links_of([id_] * 500)]
    cut = list(runs(keys))
    assert [key for some in cut for key in some] == keys
    for some in cut:
        assert len(quote(str(some))) < CLICKHOUSE_FIELD_BYTES
    assert list(runs([])) == []
