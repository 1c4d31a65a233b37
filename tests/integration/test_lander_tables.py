"""The landing tables on the real engine: what is written, read back, refused, and hidden."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from support.landing import FakeRecord, MemoryTable, custom_event_at, exposure_at, id_of, record_at

from processors.landing.batch import ASTRAY, REPLAYED, Batch, Row, read
from processors.landing.insert import Inserter, RefusedError
from processors.landing.land import Table, TableLander
from processors.landing.store_table import StoreTable
from processors.landing.store_thread import StoreThread
from processors.landing.tables import BY_TOPIC, LANDINGS, Landing
from schemas import migrations
from schemas.avro import RecordSchema, unframe
from schemas.metrics import LanderMetrics
from schemas.origin import Origin
from schemas.reasons import Reason
from schemas.store import StoreAddress

EXPOSURES = BY_TOPIC["exposures"]
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> StoreAddress:
    return StoreAddress(path=tmp_path_factory.mktemp("tables") / "store")


@pytest.fixture(scope="module")
def client(address: StoreAddress) -> Iterator[Client]:
    client = address.connect()
    migrations.apply(client)
    yield client
    client.close()


@pytest.fixture
def store(client: Client) -> Client:
    for landing in LANDINGS:
        client.command(f"TRUNCATE TABLE {landing.table}")
    return client


@pytest.fixture(params=["memory", "store"])
def table(request: pytest.FixtureRequest) -> Table:
    """The seam between lander and store: both implementations must pass the same tests."""
    if request.param == "memory":
        return MemoryTable()
    return StoreTable(request.getfixturevalue("store"), Inserter(EXPOSURES, embedded=True))


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def row(origin: Origin, doubt: int = 0, received_at: datetime = NOON, **fields: Any) -> Row:
    value = exposure_at(origin, received_at=ms(received_at), **fields)
    return Row(origin.pack(), value, FakeRecord(value), doubt)


def rows_of_chunk(offset: int, count: int, partition: int = 0, received_at: datetime = NOON) -> list[Row]:
    return [row(Origin(1, partition, offset, index), received_at=received_at) for index in range(count)]


def count(client: Client, table: str = "exposures") -> int:
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])


# --- what the table holds ----------------------------------------------------------------------


@pytest.mark.parametrize("landing", LANDINGS, ids=lambda landing: landing.topic)
def test_the_columns_are_the_fields_of_the_avro_schema(client: Client, landing: Landing):
    described = client.query(f"DESCRIBE TABLE {landing.table}").result_rows
    kinds = {name: kind for name, _type, kind, *_ in described}
    assert [name for name, kind in kinds.items() if not kind] == landing.schema.columns
    computed = {name: kind for name, kind in kinds.items() if kind}
    assert computed.pop("parent_event_id", "ALIAS") == "ALIAS"
    assert computed == {"event_id": "ALIAS", "landed_at": "DEFAULT"}


@pytest.mark.parametrize("optional", [None, NOON])
def test_every_value_is_read_back_as_it_was_written(store: Client, optional: datetime | None):
    text = "naïve ' \\ \n \0 😀 \u202e"
    fields: dict[str, Any] = {
        "is_bot": True,
        "is_manual": True,
        "weight": 12.5,
        "custom_ids": {text: text, "b": ""},
        "metadata": text,
        "unit_id": text,
        "name": text,
        "event_time_ms": -(2**53),
        "lateness_ms": -5,
        "parent_event_id_bytes": b"\0p" * 8,
    }
    moment = None if optional is None else ms(optional)
    origin = Origin(254, 2**31 - 1, 2**62, 5_000, 300)
    one = row(origin, received_at=NOON, stamped_time=moment, config_time=moment, **fields)
    StoreTable(store, Inserter(EXPOSURES, embedded=True)).insert([one], "q")
    names = [*fields, "stamped_time", "config_time", "received_at", "event_id", "parent_event_id"]
    [found] = store.query(f"SELECT {', '.join(names)} FROM exposures").named_results()
    del fields["parent_event_id_bytes"]
    assert {name: found[name] for name in fields} == fields
    naive = None if optional is None else optional.replace(tzinfo=None)
    assert (found["stamped_time"], found["config_time"]) == (naive, naive)
    assert found["received_at"] == NOON.replace(tzinfo=None)
    assert (found["event_id"], found["parent_event_id"]) == (id_of(origin).hex(), "0070" * 8)


@pytest.mark.parametrize("number", [None, -0.5])
def test_custom_events_are_read_back_as_they_were_written(store: Client, number: float | None):
    value = custom_event_at(Origin(1, 0, 1, 0), value_number=number, value_string="7", event_name="purchase")
    inserter = Inserter(BY_TOPIC["custom_events"], embedded=True)
    inserter.insert(store, [Row(Origin(1, 0, 1, 0).pack(), value, None)], "q")
    answer = store.query("SELECT event_name, value_number, value_string, event_id FROM custom_events").result_rows
    assert answer == [("purchase", number, "7", id_of(Origin(1, 0, 1, 0)).hex())]


def test_the_parent_of_a_primary_exposure_is_empty(store: Client):
    StoreTable(store, Inserter(EXPOSURES, embedded=True)).insert([row(Origin(1, 0, 1, 0))], "q")
    assert store.query("SELECT parent_event_id FROM exposures").result_rows == [("",)]


def test_a_late_copy_is_a_row_of_the_table_and_hidden_by_the_view(store: Client):
    """What came after the claims window is visible to the audit and does not count twice."""
    first, copy = Origin(1, 0, 1, 0), Origin(1, 0, 900, 0)
    event_id = id_of(first)
    rows = [
        row(copy, received_at=NOON + timedelta(days=3), event_id_bytes=event_id),
        row(first, received_at=NOON, event_id_bytes=event_id),
    ]
    StoreTable(store, Inserter(EXPOSURES, embedded=True)).insert(rows, "q")
    assert count(store) == 2
    current = store.query("SELECT event_id, origin_offset, parent_event_id FROM exposures_current").result_rows
    assert current == [(event_id.hex(), 1, "")]
    assert count(store, "custom_events_current") == 0


# --- what the lander asks ----------------------------------------------------------------------


def test_nothing_landed_means_no_mark(table: Table):
    prefix = Origin(1, 0, 0, 0).pack()[:5]
    assert table.high_water([prefix]) == {prefix: b""}


def test_the_mark_is_the_highest_origin_of_its_log_and_partition_on_whatever_day(table: Table):
    old = row(Origin(1, 0, 77, 3), received_at=NOON - timedelta(days=40))
    newer = [row(Origin(1, 0, 9, 0)), row(Origin(1, 1, 5, 2)), row(Origin(2, 0, 1, 0))]
    table.insert([old, *newer], "q")
    marks = table.high_water([origin.pack()[:5] for origin in (Origin(1, 0, 0, 0), Origin(1, 1, 0, 0))])
    assert set(marks.values()) == {old.origin, newer[1].origin}


def test_of_the_suspects_exactly_what_landed_is_found(table: Table):
    landed = rows_of_chunk(5, 3) + rows_of_chunk(6, 2, partition=1, received_at=NOON + timedelta(days=1))
    table.insert(landed, "q")
    missing = [row(Origin(1, 0, 5, 3)), row(Origin(1, 1, 5, 0)), row(Origin(2, 0, 5, 0)), row(Origin(1, 0, 5, 0, 1))]
    found = table.landed([*missing, *landed])
    assert found.event_ids == {one.origin: one.event_id for one in landed}
    assert found.origins == {}


def test_a_replay_is_found_by_its_event_id_whenever_it_landed(table: Table):
    landed = row(Origin(1, 0, 5, 0), received_at=NOON - timedelta(days=200))
    table.insert([landed], "q")
    again = row(Origin(255, 0, 1, 0), REPLAYED, event_id_bytes=landed.event_id)
    unknown = row(Origin(255, 0, 2, 0), REPLAYED)
    assert table.landed([again, unknown]).origins == {landed.event_id: landed.origin}


def test_an_origin_is_found_whatever_the_doubt(table: Table):
    landed = row(Origin(1, 0, 5, 0), received_at=NOON)
    table.insert([landed], "q")
    for doubt in (0, ASTRAY, REPLAYED):
        assert table.landed([landed._replace(doubt=doubt)]).event_ids == {landed.origin: landed.event_id}


def test_more_suspects_than_one_query_can_name_are_all_found(store: Client):
    table = StoreTable(store, Inserter(EXPOSURES, embedded=True))
    landed = [row(Origin(1, 0, offset, 0)) for offset in range(10**15, 10**15 + 12_000)]
    table.insert(landed, "q")
    assert len(table.landed(landed).event_ids) == 12_000
    assert len(table.landed([one._replace(doubt=REPLAYED) for one in landed[:7_000]]).origins) == 7_000


def test_the_look_up_reads_only_granules_that_can_hold_the_origins(store: Client):
    table = StoreTable(store, Inserter(EXPOSURES, embedded=True))
    for offset in range(3):
        table.insert(rows_of_chunk(offset, 2, received_at=NOON + timedelta(minutes=offset)), "q")
    where = "origin_log = 1 AND origin_partition = 0 AND origin_offset IN (1)"
    plan = store.query(f"EXPLAIN indexes = 1 SELECT event_id_bytes FROM exposures WHERE {where}").result_rows
    text = "\n".join(line for (line,) in plan)
    assert "Name: by_origin" in text
    assert "Parts: 1/3" in text


# --- what is refused ---------------------------------------------------------------------------


def test_a_value_that_is_not_exactly_one_record_is_refused_wherever_it_stands(store: Client):
    table = StoreTable(store, Inserter(EXPOSURES, embedded=True))
    good = rows_of_chunk(1, 6)
    value, stowaway = good[0].value, exposure_at(Origin(1, 0, 99, 0))
    for broken in (value[:-1], value + b"x", value + stowaway, value + stowaway[5:], value[:21] + b"\xff" * 40):
        for position in (0, 3, 6):
            rows = [*good]
            rows.insert(position, good[0]._replace(value=broken))
            with pytest.raises(RefusedError):
                table.insert(rows, "q")
    assert count(store) == 0


def test_broken_values_are_dead_letters_and_all_others_land(store: Client):
    rows = rows_of_chunk(1, 40)
    broken = {3, 20, 39}
    for index in broken:
        value = rows[index].value
        rows[index] = rows[index]._replace(value=value + exposure_at(Origin(1, 0, 99, 0)), record=index)
    landed = TableLander(EXPOSURES, LanderMetrics()).land(
        StoreTable(store, Inserter(EXPOSURES, embedded=True)), rows, permit=str
    )
    assert {one.record for one in landed.rejected} == broken
    assert {one.reason for one in landed.rejected} == {Reason.UNDECODABLE_RECORD}
    offsets = store.query("SELECT origin_offset, count() FROM exposures GROUP BY 1").result_rows
    assert offsets == [(1, 37)]


def test_a_sound_copy_lands_instead_of_a_broken_one(store: Client):
    """A stranger wrote a broken record at an origin before the worker emitted the sound one again."""
    [sound] = rows_of_chunk(1, 1)
    broken = sound._replace(value=sound.value + b"x", record=FakeRecord(None))
    landed = TableLander(EXPOSURES, LanderMetrics()).land(
        StoreTable(store, Inserter(EXPOSURES, embedded=True)), [broken, sound, sound], permit=str
    )
    assert [one.record for one in landed.rejected] == [broken.record]
    assert (landed.inserted, len(landed.repeats), count(store)) == (1, 1, 1)


def test_a_batch_over_more_days_than_one_insert_may_touch_lands_whole(store: Client):
    days = [row(Origin(1, 0, day, 0), received_at=NOON - timedelta(days=day)) for day in range(250)]
    landed = TableLander(EXPOSURES, LanderMetrics()).land(
        StoreTable(store, Inserter(EXPOSURES, embedded=True)), days, permit=str
    )
    assert landed.rejected == []
    assert count(store) == 250


def test_after_an_upgrade_old_and_new_records_land_in_one_insert(store: Client):
    """R14: the new version has one more field, and its migration has added the column."""
    present = EXPOSURES.schema.json
    new = {"name": "note", "type": ["null", "string"], "default": None, "block": "new"}
    upgraded = Landing(
        EXPOSURES.topic, "exposures", RecordSchema({**present, "fields": [*present["fields"], new]}, [present])
    )
    origins = [Origin(1, 0, 1, index) for index in range(2)]
    old = exposure_at(origins[0])
    values = upgraded.schema.decode(unframe(upgraded.schema.modern(*unframe(exposure_at(origins[1]))) or b"")[1])
    written = [old, upgraded.schema.encode({**values, "note": "new"})]
    batch = Batch()
    read([record_at(at, value=value) for at, value in zip(origins, written, strict=True)], upgraded, into=batch)
    store.command("ALTER TABLE exposures ADD COLUMN note Nullable(String)")
    try:
        StoreTable(store, Inserter(upgraded, embedded=True)).insert(batch.rows, "q")
        rows = store.query("SELECT origin_index, note, name FROM exposures ORDER BY 1").result_rows
    finally:
        store.command("ALTER TABLE exposures DROP COLUMN note")
    assert rows == [(0, None, values["name"]), (1, "new", values["name"])]


@pytest.mark.usefixtures("client")
async def test_after_an_error_the_next_question_gets_its_own_answer(address: StoreAddress):
    """chDB 4.4 puts what a failed query had written in front of the next answer of the same client."""
    thread = StoreThread(address)
    with pytest.raises(DatabaseError, match="throwIf"):
        await thread.run(lambda own: own.command("SELECT throwIf(1)"))
    assert await thread.run(lambda own: own.query("SELECT 5").result_rows) == [(5,)]
    await thread.close()


# --- migrations, and who may open the store ----------------------------------------------------


def test_migrations_are_applied_once_each(client: Client):
    assert migrations.pending(client) == []
    assert migrations.apply(client) == []
    recorded = client.query("SELECT number, count() FROM schema_migrations GROUP BY number ORDER BY number").result_rows
    assert recorded == [(migration.number, 1) for migration in migrations.known()]


def test_a_migration_that_was_cut_short_is_applied_again(client: Client):
    client.command("CREATE DATABASE again")
    client.command("USE again")
    try:
        [first, *_] = migrations.known()[0].statements()
        client.command(first)
        assert migrations.pending(client) == migrations.known()
        assert migrations.apply(client) == migrations.known()
        assert migrations.pending(client) == []
    finally:
        client.command("USE default")


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch):
    changed = [migrations.Migration(m.number, m.name, m.text + "-- edited") for m in migrations.known()]
    monkeypatch.setattr(migrations, "known", lambda: changed)
    with pytest.raises(migrations.ChangedMigrationError, match="add a new one"):
        migrations.pending(client)


def test_a_second_process_is_told_that_the_store_is_in_use(address: StoreAddress, client: Client):
    script = "import sys, pathlib, schemas.store as s; s.StoreAddress(path=pathlib.Path(sys.argv[1])).connect()"
    other = subprocess.run(
        [sys.executable, "-c", script, str(address.path)], capture_output=True, text=True, check=False
    )
    assert other.returncode != 0
    assert f"another process has the store in {address.path} open" in other.stderr
    assert client.query("SELECT 1").result_rows == [(1,)]


def test_the_engine_leaves_room_for_its_neighbours(client: Client):
    changed = dict(client.query("SELECT name, value FROM system.server_settings WHERE changed").result_rows)
    assert changed["max_server_memory_usage_to_ram_ratio"] == "0.5"
    assert int(changed["background_pool_size"]) >= 1
    assert Path(str(changed["path"])).name == "store"
